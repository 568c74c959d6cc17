"""Policies on a running data plane: who is let in by certificate, what a denial says to whom, what is counted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from agent.codec.http2 import NO_ERROR
from mesh import config
from tests.h2_rig import http2_connected
from tests.rig import (
    LOOPBACK,
    Message,
    ScriptedUpstream,
    Serving,
    http_listener,
    mesh_identity,
    mirror,
    serving,
    until,
    web,
)

pytestmark = pytest.mark.usefixtures("engine")


def condition(attribute: str, *values: str, **more: Any) -> config.AuthzCondition:
    return config.AuthzCondition(attribute, values, **more)


def policy(name: str, action: Any, *conditions: config.AuthzCondition) -> config.AuthzPolicy:
    return config.AuthzPolicy(name, "default", action, (config.AuthzRule(conditions=conditions),))


FRONT = policy("front-only", "ALLOW", condition("source.principal", "cluster.local/ns/default/sa/front"))
NO_ADMIN = policy("no-admin", "DENY", condition("request.path", "/admin*"))


def sidecar(*policies: config.AuthzPolicy, tcp: bool = False) -> config.Listener:
    """An inbound port that takes mutual TLS and plaintext."""
    http = None if tcp else config.HttpChain("web", server_name="istio-envoy")
    opaque = config.TcpChain((("app", 1),)) if tcp else None
    tls = config.DownstreamTls()
    chains = (
        config.FilterChain("mtls", "mtls", tls=tls, http=http, tcp=opaque, policies=policies, destination_port=9080),
        config.FilterChain("raw", "any", http=http, tcp=opaque, policies=policies, destination_port=9080),
    )
    return config.Listener("in", "inbound", LOOPBACK, 0, chains)


@asynccontextmanager
async def app(listener: config.Listener, upstream: ScriptedUpstream | None = None) -> AsyncIterator[Serving]:
    with trio.fail_after(60):
        upstream = upstream or ScriptedUpstream()
        async with upstream.running():
            given = web(upstream.port, listener=listener)
            async with serving(given, identity=mesh_identity("app"), role="sidecar") as served:
                yield served


async def ask(served: Serving, account: str = "", path: bytes = b"/", extra: bytes = b"") -> Message:
    identity = mesh_identity(account) if account else None
    async with served.connect(identity) as wire:
        answer: Message = await wire.ask(path, extra=extra)
        return answer


def counted(served: Serving, name: str) -> int:
    stats = served.stats.downstream("inbound")
    return int(getattr(stats, name).value)


async def test_who_may_come_in_is_told_by_the_certificate() -> None:
    async with app(sidecar(FRONT, NO_ADMIN)) as served:
        assert (await ask(served, "front", b"/x")).status == 200
        assert (await ask(served, "stranger", b"/x")).status == 403
        assert (await ask(served, "", b"/x")).status == 403
        assert (await ask(served, "front", b"/admin/x")).status == 403
        await until(lambda: len(served.records) == 4)
        assert (counted(served, "rbac_allowed"), counted(served, "rbac_denied")) == (1, 3)
        assert served.refused()["http", "rbac_denied"] == 3


async def test_a_denial_names_the_policy_in_the_access_log_alone() -> None:
    async with app(sidecar(NO_ADMIN)) as served:
        answer = await ask(served, "front", b"/admin")
        assert (answer.status, answer.body) == (403, b"RBAC: access denied")
        assert answer.headers[b"content-type"] == b"text/plain"
        assert answer.headers[b"x-mesh-reply"] == b"- rbac_access_denied_matched_policy"
        assert not any(b"no-admin" in value for value in answer.headers.values())
        await until(lambda: served.records)
        (record,) = served.records
        assert record.details == "rbac_access_denied_matched_policy[ns[default]-policy[no-admin]-rule[0]]"
        assert record.flags == ()
        assert b"no-admin" not in served.registry.exposition()


async def test_grpc_is_denied_in_its_own_words() -> None:
    async with app(sidecar(NO_ADMIN)) as served:
        answer = await ask(served, "front", b"/admin", b"content-type: application/grpc\r\n")
        assert (answer.status, answer.headers[b"grpc-status"]) == (200, b"7")
        assert answer.headers[b"grpc-message"] == b"RBAC: access denied"


# The same by HTTP/2


async def test_a_stream_is_denied_and_its_connection_goes_on() -> None:
    async with (
        app(sidecar(FRONT, NO_ADMIN)) as served,
        http2_connected(served.port(), mesh_identity("front")) as client,
    ):
        denied = await client.ask(b"/admin")
        assert (denied.status, bytes(denied.body)) == (403, b"RBAC: access denied")
        assert denied.head[b"content-type"] == b"text/plain"
        assert (await client.ask(b"/x")).status == 200
        await until(lambda: len(served.records) == 2)
        assert served.records[0].details == "rbac_access_denied_matched_policy[ns[default]-policy[no-admin]-rule[0]]"
        assert (counted(served, "rbac_allowed"), counted(served, "rbac_denied")) == (1, 1)


async def test_a_certificate_is_asked_for_every_stream() -> None:
    async with app(sidecar(FRONT)) as served:
        for account in ("stranger", ""):
            async with http2_connected(served.port(), mesh_identity(account) if account else None) as client:
                assert [(await client.ask()).status for _ in range(2)] == [403, 403]


@pytest.mark.parametrize("length", [b"", b"100000"])
async def test_a_denial_does_not_wait_for_the_body(length: bytes) -> None:
    """And what of the body had been sent costs the connection no window (RFC 9113 8.1: answered, then reset)."""
    upstream = ScriptedUpstream()
    async with app(sidecar(NO_ADMIN), upstream) as served, http2_connected(served.port(), mesh_identity("x")) as client:
        extra = [(b"content-length", length)] if length else []
        for _ in range(20):  # more in all than the connection's window
            stream = await client.begin(b"/admin", method=b"POST", extra=extra, end=False)
            await client.send_data(stream, b"x" * 60_000)
            await client.until(lambda stream=stream: stream.reset is not None)
            assert (stream.status, bytes(stream.body), stream.ended) == (403, b"RBAC: access denied", True)
            assert stream.reset == NO_ERROR
        assert (await client.ask(b"/x", b"y" * 100_000)).status == 200
        assert upstream.accepted == 1
        assert not client.goaways


@pytest.mark.parametrize("end", [True, False])
async def test_a_denied_call_gets_trailers_only(end: bool) -> None:
    async with app(sidecar(NO_ADMIN)) as served, http2_connected(served.port(), mesh_identity("front")) as client:
        extra = [(b"content-type", b"application/grpc"), (b"te", b"trailers")]
        call = await client.begin(b"/admin", method=b"POST", extra=extra, end=end)
        await client.answer(call)
        [head] = call.heads
        assert (head[b":status"], head[b"grpc-status"], head[b"grpc-message"]) == (b"200", b"7", b"RBAC: access denied")
        assert (head[b"content-type"], bytes(call.body), call.ended) == (b"application/grpc", b"", True)
        await until(lambda: served.records)
        assert served.records[0].grpc_status == "7"


@pytest.mark.parametrize("path", [b"/x/../admin", b"/%61dmin", b"/./admin?x"])
async def test_the_path_that_is_judged_is_the_one_that_is_forwarded(path: bytes) -> None:
    async with app(sidecar(NO_ADMIN)) as served:
        assert (await ask(served, "front", path)).status == 403


async def test_a_push_reaches_a_connection_that_is_open() -> None:
    async with app(sidecar()) as served, served.connect(mesh_identity("front")) as wire:
        assert (await wire.ask(b"/admin")).status == 200
        snapshot = served.dataplane.plan.snapshot
        served.apply(config.Snapshot({"in": sidecar(NO_ADMIN)}, snapshot.routes, snapshot.clusters, snapshot.endpoints))
        assert (await wire.ask(b"/admin")).status == 403
        assert (await wire.ask(b"/x")).status == 200


async def test_a_gateway_knows_its_client_by_the_connection_and_not_by_its_word() -> None:
    remote = policy("inside", "ALLOW", condition("remote.ip", "10.0.0.0/8"))
    listener = http_listener(use_remote_address=True)
    chain = config.FilterChain("http", http=listener.chains[0].http, policies=(remote,))
    guarded = config.Listener("web", "gateway", LOOPBACK, 0, (chain,))
    async with app(guarded) as served:
        assert (await ask(served, extra=b"x-forwarded-for: 10.1.1.1\r\n")).status == 403


@pytest.mark.parametrize(
    ("policies", "account", "served_bytes"),
    [
        ((FRONT,), "front", b"hello"),
        ((FRONT,), "stranger", b""),
        ((FRONT,), "", b""),
        ((NO_ADMIN,), "front", b""),
        ((policy("get", "ALLOW", condition("request.method", "GET")),), "front", b""),
        ((policy("port", "ALLOW", condition("destination.port", "9080")),), "", b"hello"),
    ],
)
async def test_opaque_connections_are_closed(
    policies: tuple[config.AuthzPolicy, ...], account: str, served_bytes: bytes
) -> None:
    async with app(sidecar(*policies, tcp=True), ScriptedUpstream(mirror)) as served:
        async with served.connect(mesh_identity(account) if account else None) as wire:
            got = b""
            try:
                await wire.send(b"hello")
                await wire.transport.send_eof()
                got = await wire.rest()
            except trio.BrokenResourceError:
                pass
            assert got == served_bytes
        await until(lambda: served.records)
        (record,) = served.records
        if not served_bytes:
            assert record.details.startswith("rbac_access_denied_matched_policy[")
            assert record.flags == ()
            assert served.refused()["tcp", "rbac_denied"] == 1
