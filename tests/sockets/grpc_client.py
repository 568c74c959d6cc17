"""Calls as grpcio makes them: `python grpc_client.py TARGET`, one JSON request a line in, one JSON answer a line out.

They go by CONNECT through the proxy that the environment names in `grpc_proxy`, if it does.

A request is {"kind": …, "method": …} and what the kind takes; an answer has `code` (the status' name), `details`,
`initial` and `trailing` metadata, and what the kind adds. Bodies are `size` letters, or `text`.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import grpc

OPTIONS = (
    ("grpc.enable_http_proxy", int("grpc_proxy" in os.environ)),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_retries", 0),
)
WAIT = 30.0  # seconds: the caller's patience where a request names none


def body(ask: dict[str, Any], seed: int = 0) -> bytes:
    if "text" in ask:
        return str(ask["text"]).encode()
    return bytes((seed + each) % 251 for each in range(1000)) * (ask.get("size", 0) // 1000)


def digest(data: bytes) -> list[int]:
    return [len(data), zlib.crc32(data)]


def outcome(call: Any) -> dict[str, Any]:
    """Status and metadata of a call that is over."""
    return {
        "code": call.code().name,
        "details": call.details(),
        "initial": readable(call.initial_metadata()),
        "trailing": readable(call.trailing_metadata()),
    }


def readable(metadata: Any) -> dict[str, str]:
    pairs = ((key, value if isinstance(value, str) else value.hex()) for key, value in metadata or ())
    return dict(pairs)


def how(ask: dict[str, Any]) -> dict[str, Any]:
    return {"timeout": ask.get("timeout", WAIT), "metadata": tuple(ask.get("metadata", {}).items())}


def unary(channel: grpc.Channel, ask: dict[str, Any]) -> dict[str, Any]:
    data = body(ask)
    call: Any = channel.unary_unary(ask["method"]).future(data, **how(ask))
    try:
        answer = call.result()
    except grpc.RpcError:
        return outcome(call)
    text = answer.decode() if len(answer) < 10_000 and answer.isascii() else ""
    return {**outcome(call), "same": answer == data, "text": text}


def send(channel: grpc.Channel, ask: dict[str, Any]) -> dict[str, Any]:
    """Client streaming: `count` messages."""
    messages = [body(ask, seed) for seed in range(ask["count"])]
    call: Any = channel.stream_unary(ask["method"]).future(iter(messages), **how(ask))
    try:
        answer = call.result()
    except grpc.RpcError:
        return outcome(call)
    return {**outcome(call), "same": answer == b"".join(messages)}


def receive(channel: grpc.Channel, ask: dict[str, Any]) -> dict[str, Any]:
    """Server streaming."""
    data = body(ask)
    call: Any = channel.unary_stream(ask["method"])(data, **how(ask))
    got = []
    try:
        got.extend(answer == data for answer in call)
    except grpc.RpcError:
        pass
    return {**outcome(call), "same": all(got), "count": len(got)}


def chat(channel: grpc.Channel, ask: dict[str, Any]) -> dict[str, Any]:
    """Bidirectional: each message is sent when the answer to the one before has come."""
    turns: queue.Queue[bytes | None] = queue.Queue()
    call: Any = channel.stream_stream(ask["method"])(iter(turns.get, None), **how(ask))
    got = []
    try:
        for number in range(ask["count"]):
            data = body(ask, number)
            turns.put(data)
            got.append(next(call) == data)
        turns.put(None)
        rest = len(list(call))
    except grpc.RpcError:
        turns.put(None)
        return {**outcome(call), "same": False, "count": len(got)}
    return {**outcome(call), "same": all(got), "count": len(got) + rest}


def flood(channel: grpc.Channel, ask: dict[str, Any]) -> dict[str, Any]:
    """Bidirectional: everything is sent as fast as it goes, whatever comes back."""

    def messages() -> Iterator[bytes]:
        for number in range(ask["count"]):
            yield body(ask, number)

    call: Any = channel.stream_stream(ask["method"])(messages(), **how(ask))
    got = []
    try:
        got.extend(answer == body(ask, number) for number, answer in enumerate(call))
    except grpc.RpcError:
        pass
    return {**outcome(call), "same": all(got), "count": len(got)}


def cancel(channel: grpc.Channel, ask: dict[str, Any]) -> dict[str, Any]:
    """Cancel a call once its first answer is here."""
    call: Any = channel.unary_stream(ask["method"])(body(ask), **how(ask))
    next(call)
    call.cancel()
    return outcome(call)


KINDS: dict[str, Callable[[grpc.Channel, dict[str, Any]], dict[str, Any]]] = {
    each.__name__: each for each in (unary, send, receive, chat, flood, cancel)
}


def main() -> None:
    with grpc.insecure_channel(sys.argv[1], options=OPTIONS) as channel:
        for line in sys.stdin:
            ask = json.loads(line)
            print(json.dumps(KINDS[ask["kind"]](channel, ask)), flush=True)


if __name__ == "__main__":
    main()
