"""The wording of the proxy's own answers, for HTTP and for gRPC clients."""

from __future__ import annotations

import pytest

from agent.codec.headers import Headers
from agent.exchange import faults, reply
from agent.exchange.faults import ProxyFault
from agent.exchange.record import Record
from tests.rig import http_listener, serving, snapshot


def call() -> Record:
    """The record of a gRPC call."""
    record = Record(0.0)
    record.grpc = True
    return record


@pytest.mark.parametrize(
    ("status", "body", "fields"),
    [
        (200, b"text", {b"content-type": b"text/plain", b"content-length": b"4"}),
        (404, b"", {b"content-length": b"0"}),
        (204, b"", {}),
        (304, b"", {}),
    ],
)
async def test_a_local_response(status: int, body: bytes, fields: dict[bytes, bytes]) -> None:
    async with serving(snapshot(http_listener())) as proxy:
        head, given = reply.local_response(status, body, Headers(), proxy.dataplane, keep_alive=False)
        assert head.headers.index.pop(b"date") == proxy.dataplane.http_date()
    assert (head.status, given, head.headers.index, head.keep_alive) == (status, body, fields, False)


async def test_a_content_type_that_is_given_stays() -> None:
    async with serving(snapshot(http_listener())) as proxy:
        given = Headers([(b"Content-Type", b"text/html")])
        head, _ = reply.local_response(200, b"x", given, proxy.dataplane)
    assert head.headers.get(b"content-type") == b"text/html"


@pytest.mark.parametrize(
    ("status", "grpc"),
    [(400, 13), (401, 16), (403, 7), (404, 12), (429, 14), (502, 14), (503, 14), (504, 14), (500, 2)],
)
async def test_a_grpc_client_gets_the_status_in_its_own_words(status: int, grpc: int) -> None:
    record = call()
    fault = ProxyFault("proxy", "UO", "why", status=status, body=b"50% \xc3\xa9")
    async with serving(snapshot(http_listener())) as proxy:
        head, body = reply.fault_response(fault, record, proxy.dataplane, keep_alive=True)
    assert (head.status, body) == (200, b"")
    assert head.headers.get(b"grpc-status") == b"%d" % grpc
    assert head.headers.get(b"grpc-message") == b"50%25 %C3%A9"
    assert head.headers.get(b"x-envoy-overloaded") == b"true"
    assert record.grpc_status == str(grpc)


async def test_a_fault_may_have_a_grpc_status_of_its_own() -> None:
    record = call()
    async with serving(snapshot(http_listener())) as proxy:
        head, _ = reply.fault_response(faults.deadline_exceeded(), record, proxy.dataplane, keep_alive=True)
    assert (head.headers.get(b"grpc-status"), record.grpc_status) == (b"4", "4")


async def test_a_fault_without_words_has_no_grpc_message() -> None:
    async with serving(snapshot(http_listener())) as proxy:
        head, _ = reply.fault_response(faults.no_route(), call(), proxy.dataplane, keep_alive=True)
    assert b"grpc-message" not in head.headers


async def test_bytes_that_are_no_request_are_answered_and_recorded() -> None:
    async with serving(snapshot(http_listener())) as proxy, proxy.connect() as wire:
        await wire.send(b"what is this\r\n\r\n")
        assert (await wire.message()).status == 400
        await proxy.settled()
    (record,) = proxy.records
    assert (record.flags, record.response_code) == (("DPE",), 400)
    assert record.details.startswith("http1.codec_error:")
    assert record.downstream_local == f"127.0.0.1:{record.downstream_local.rpartition(':')[2]}"
