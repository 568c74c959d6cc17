"""A gRPC server as grpcio makes it: `python grpc_app.py NAME`, on PORT (0: a free one). Messages are bytes.

/test.App/Unary      the message back; metadata `fail: 14 words` aborts (`|` is a line end), `fail-first: K N` aborts
                     the first N calls of key K as UNAVAILABLE; `echo-…` comes back in head and trailers
/test.App/Facts      JSON: metadata, authority, seconds left
/test.App/Collect    all messages of the caller, joined
/test.App/Repeat     the message, as often as metadata `times` says
/test.App/Chat       each message back, at once
/test.App/Die        the first message back; the second one ends the process
/test.App/Hang       one message, and then nothing until the call is over
/test.App/Counts     JSON: calls begun, by method; calls that were ended from outside, with the seconds they had left
/test.App/Be         SERVING or NOT_SERVING: what grpc.health.v1 answers from then on

Says `port N` when it serves.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

NAME = sys.argv[1]
begun: Counter[str] = Counter()
cancelled: list[float | None] = []
failures: Counter[str] = Counter()
health_service = health.HealthServicer()


def metadata(context: Any) -> dict[str, str]:
    return {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}


def unary(request: bytes, context: Any) -> bytes:
    begun["Unary"] += 1
    said = metadata(context)
    if "fail" in said:
        code, _, words = said["fail"].partition(" ")
        context.set_trailing_metadata((("x-why", "asked to"),))
        context.abort(next(each for each in grpc.StatusCode if each.value[0] == int(code)), words.replace("|", "\n"))
    if "fail-first" in said:
        key, times = said["fail-first"].split()
        failures[key] += 1
        if failures[key] <= int(times):
            context.abort(grpc.StatusCode.UNAVAILABLE, f"failure {failures[key]}")
    echoed = tuple((key, value) for key, value in said.items() if key.startswith("echo-"))
    if echoed:
        context.send_initial_metadata((("x-name", NAME), *echoed))
        context.set_trailing_metadata((("x-end", NAME), *echoed, ("x-raw-bin", b"\x00\xff")))
    return request


def facts(request: bytes, context: Any) -> bytes:
    begun["Facts"] += 1
    found = {"metadata": metadata(context), "left": context.time_remaining(), "name": NAME}
    return json.dumps({**found, "messages": len(request)}).encode()


def collect(requests: Iterator[bytes], context: Any) -> bytes:
    begun["Collect"] += 1
    return b"".join(requests)


def repeat(request: bytes, context: Any) -> Iterator[bytes]:
    begun["Repeat"] += 1
    for _ in range(int(metadata(context)["times"])):
        yield request
    context.set_trailing_metadata((("x-end", NAME),))


def chat(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
    begun["Chat"] += 1
    yield from requests


def die(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
    yield next(requests)
    next(requests)
    os._exit(1)


def hang(request: bytes, context: Any) -> Iterator[bytes]:
    over = threading.Event()

    def end() -> None:
        cancelled.append(context.time_remaining())
        over.set()

    begun["Hang"] += 1
    # told by the callback: a call that ends while its message is sent does not come back from the yield
    if not context.add_callback(end):
        end()
    yield request
    over.wait()


def counts(request: bytes, context: Any) -> bytes:
    return json.dumps({"begun": begun, "cancelled": cancelled}).encode()


def be(request: bytes, context: Any) -> bytes:
    status = health_pb2.HealthCheckResponse.ServingStatus.Value(request.decode())
    for service in ("", "test.App"):
        health_service.set(service, status)
    return b""


def main() -> None:
    server = grpc.server(
        futures.ThreadPoolExecutor(16),
        options=(
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
        ),
    )
    handlers = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Facts": grpc.unary_unary_rpc_method_handler(facts),
        "Collect": grpc.stream_unary_rpc_method_handler(collect),
        "Repeat": grpc.unary_stream_rpc_method_handler(repeat),
        "Chat": grpc.stream_stream_rpc_method_handler(chat),
        "Die": grpc.stream_stream_rpc_method_handler(die),
        "Hang": grpc.unary_stream_rpc_method_handler(hang),
        "Counts": grpc.unary_unary_rpc_method_handler(counts),
        "Be": grpc.unary_unary_rpc_method_handler(be),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.App", handlers),))
    health_pb2_grpc.add_HealthServicer_to_server(health_service, server)
    health_service.set("test.App", health_pb2.HealthCheckResponse.SERVING)
    port = server.add_insecure_port(f"127.0.0.1:{os.environ.get('PORT', '0')}")
    server.start()
    print(f"port {port}", flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main()
