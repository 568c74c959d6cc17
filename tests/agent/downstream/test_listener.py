"""A connection from accept to its chain: sniffing, mesh TLS, limits, and faults that cost one connection."""

from __future__ import annotations

import errno
import ssl
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from agent.bootstrap import Settings
from agent.dataplane import Downstream
from agent.downstream import listener as module
from agent.downstream.listener import Listener
from agent.identity import Identity
from mesh import config
from mesh.net.tcp import TcpTransport, connect
from mesh.net.tls import TlsTransport
from tests.rig import (
    LOOPBACK,
    HungUp,
    ScriptedUpstream,
    Wire,
    connected,
    http_listener,
    mesh_identity,
    mirror,
    serving,
    settle,
    snapshot,
    tcp_pair,
    until,
    web,
)

TLS = config.DownstreamTls()


def inbound(*chains: config.FilterChain) -> config.Listener:
    return config.Listener("in", "inbound", LOOPBACK, 0, chains)


def http_chain(transport: Any, tls: config.DownstreamTls | None = None) -> config.FilterChain:
    return config.FilterChain(f"http-{transport}", transport, tls=tls, http=config.HttpChain("web"))


def tcp_chain(transport: Any, tls: config.DownstreamTls | None = None) -> config.FilterChain:
    return config.FilterChain(f"tcp-{transport}", transport, tls=tls, tcp=config.TcpChain((("app", 1),)))


STRICT = inbound(http_chain("mtls", TLS))
PERMISSIVE = inbound(http_chain("mtls", TLS), http_chain("raw"))
PERMISSIVE_TCP = inbound(tcp_chain("mtls", TLS), tcp_chain("raw"))


def served_app(upstream: ScriptedUpstream, listener: config.Listener, **how: Any) -> Any:
    """The app's sidecar."""
    how.setdefault("identity", mesh_identity("app"))
    return serving(web(upstream.port, listener=listener), role="sidecar", **how)


async def closed(wire: Wire) -> bool:
    """Whether the peer hung up without a word."""
    with trio.fail_after(5):
        try:
            return await wire.rest() == b""
        except trio.BrokenResourceError:
            return True


async def refused(listener: config.Listener, client: Any, **how: Any) -> dict[tuple[str, str], int]:
    """What is counted when `client(transport)` does its part and is hung up on."""
    upstream = ScriptedUpstream()
    async with upstream.running(), served_app(upstream, listener, **how) as served:
        async with connected(served.port()) as wire:
            await client(wire.transport)
            assert await closed(wire)
        await served.settled()
        assert upstream.accepted == 0
        counted: dict[tuple[str, str], int] = served.refused()
        return counted


async def handshake(transport: TcpTransport, context: ssl.SSLContext) -> None:
    tls = TlsTransport(transport, context, server_side=False)
    try:
        await tls.handshake()
        await tls.receive()
    except (ssl.SSLError, trio.BrokenResourceError):
        pass


def anonymous(*alpn: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(list(alpn))
    return context


# Chains


async def test_strict_serves_the_mesh() -> None:
    upstream = ScriptedUpstream()
    async with upstream.running(), served_app(upstream, STRICT) as served:
        async with served.connect(mesh_identity("client")) as wire:
            assert (await wire.ask(b"/a")).body == b"/a"
        await served.settled()
        assert served.refused() == {}
        [record] = served.records
        assert record.mtls
        assert record.inbound
        assert record.peer_principal == "spiffe://cluster.local/ns/default/sa/client"
        assert record.source is not None
        assert record.source.service_account == "client"
    assert (
        b"URI=spiffe://cluster.local/ns/default/sa/client" in upstream.requests[0].headers[b"x-forwarded-client-cert"]
    )


async def test_strict_closes_plaintext() -> None:
    async def plain(transport: TcpTransport) -> None:
        await transport.send(b"GET / HTTP/1.1\r\nhost: app\r\n\r\n")

    assert await refused(STRICT, plain) == {("listener", "filter_chain_not_found"): 1}


async def test_strict_refuses_tls_without_a_certificate() -> None:
    async def come(transport: TcpTransport) -> None:
        await handshake(transport, anonymous("istio"))

    assert await refused(STRICT, come) == {("tls", "peer_did_not_return_a_certificate"): 1}


async def test_strict_refuses_a_foreign_trust_domain() -> None:
    listener = inbound(http_chain("mtls", config.DownstreamTls(trust_domains=("elsewhere",))))

    async def come(transport: TcpTransport) -> None:
        await handshake(transport, mesh_identity("client").client_context)

    assert await refused(listener, come) == {("tls", "foreign_trust_domain"): 1}


async def test_nobody_is_served_before_the_own_certificate() -> None:
    async def come(transport: TcpTransport) -> None:
        await handshake(transport, mesh_identity("client").client_context)

    assert await refused(STRICT, come, identity=None) == {("tls", "no_certificate_yet"): 1}


@pytest.mark.parametrize("client", [None, mesh_identity("client")])
async def test_permissive_serves_both(client: Identity | None) -> None:
    upstream = ScriptedUpstream()
    async with upstream.running(), served_app(upstream, PERMISSIVE) as served:
        async with served.connect(client) as wire:
            assert (await wire.ask(b"/a")).body == b"/a"
        await served.settled()
        assert [record.mtls for record in served.records] == [client is not None]


async def test_permissive_http_closes_tls_that_is_not_the_meshs() -> None:
    async def come(transport: TcpTransport) -> None:
        await handshake(transport, anonymous("h2", "http/1.1"))

    assert await refused(PERMISSIVE, come) == {("listener", "filter_chain_not_found"): 1}


@pytest.mark.parametrize("client", [None, mesh_identity("client")])
async def test_permissive_tcp_half_closes_both_ways(client: Identity | None) -> None:
    upstream = ScriptedUpstream(mirror)
    with trio.fail_after(5):
        async with upstream.running(), served_app(upstream, PERMISSIVE_TCP) as served:
            async with served.connect(client) as wire:
                await wire.send(b"x" * 100_000)
                await wire.transport.send_eof()
                assert await wire.rest() == b"x" * 100_000
            await served.settled()
            [record] = served.records
            assert (record.bytes_received, record.bytes_sent, record.flags) == (100_000, 100_000, ())


# PROXY headers

HEADER = b"PROXY TCP4 192.0.2.1 198.51.100.7 1234 443\r\n"


@pytest.mark.parametrize("client", [None, mesh_identity("client")])
async def test_a_proxy_header_goes_before_tls_and_tells_the_client(client: Identity | None) -> None:
    listener = msgspec.structs.replace(PERMISSIVE, proxy_protocol="require")
    upstream = ScriptedUpstream()
    async with upstream.running(), served_app(upstream, listener) as served:
        async with connected(served.port()) as wire:
            await wire.send(HEADER)
            if client is not None:
                secured = TlsTransport(wire.transport, client.client_context, server_side=False)
                await secured.handshake()
                wire.transport = secured
            assert (await wire.ask(b"/a")).body == b"/a"
        await served.settled()
        [record] = served.records
        assert (record.downstream_remote, record.downstream_local) == ("192.0.2.1:1234", "198.51.100.7:443")
        assert record.mtls is (client is not None)


async def test_a_gateway_forwards_for_the_client_of_a_proxy_header() -> None:
    listener = msgspec.structs.replace(http_listener(use_remote_address=True), proxy_protocol="accept")
    upstream = ScriptedUpstream()
    async with upstream.running(), serving(web(upstream.port, listener=listener)) as served:
        async with served.connect() as wire:
            await wire.send(HEADER)
            assert (await wire.ask()).status == 200
        async with served.connect() as wire:
            assert (await wire.ask()).status == 200
    told = [request.headers[b"x-forwarded-for"] for request in upstream.requests]
    assert told == [b"192.0.2.1", LOOPBACK.encode()]


async def test_policies_tell_the_client_from_the_peer() -> None:
    def rule(key: str) -> config.AuthzRule:
        return config.AuthzRule(conditions=(config.AuthzCondition(key, ("192.0.2.0/24",)),))

    policies = [config.AuthzPolicy(key, "default", "ALLOW", (rule(key),)) for key in ("remote.ip", "source.ip")]
    upstream = ScriptedUpstream()
    for policy, status in zip(policies, (200, 403), strict=True):
        chain = config.FilterChain("http", http=config.HttpChain("web"), policies=(policy,))
        listener = msgspec.structs.replace(inbound(chain), proxy_protocol="require")
        async with upstream.running(), served_app(upstream, listener) as served, served.connect() as wire:
            await wire.send(HEADER)
            assert (await wire.ask()).status == status


@pytest.mark.parametrize(
    ("setting", "configured", "counted"),
    [
        ("", "require", {("proxy_protocol", "not_proxy_protocol"): 1}),
        ("require", "off", {("proxy_protocol", "not_proxy_protocol"): 1}),
        ("off", "require", None),
        ("accept", "require", None),
    ],
)
async def test_the_agents_setting_goes_before_the_meshs(
    setting: str, configured: Any, counted: dict[tuple[str, str], int] | None
) -> None:
    listener = msgspec.structs.replace(http_listener(), proxy_protocol=configured)
    upstream = ScriptedUpstream()
    settings = Settings(proxy_protocol=setting)
    async with (
        upstream.running(),
        serving(web(upstream.port, listener=listener), settings=settings) as served,
        served.connect() as wire,
    ):
        if counted is None:
            assert (await wire.ask()).status == 200
            return
        await wire.send(b"GET / HTTP/1.1\r\nhost: app\r\n\r\n")
        assert await closed(wire)
        await served.settled()
        assert served.refused() == counted


async def test_an_app_says_no_proxy_header_to_its_own_sidecar() -> None:
    listener = msgspec.structs.replace(http_listener(), direction="outbound")
    upstream = ScriptedUpstream()
    settings = Settings(proxy_protocol="require")
    async with upstream.running(), serving(web(upstream.port, listener=listener), settings=settings) as served:
        async with served.connect() as wire:
            assert (await wire.ask()).status == 200


# What an undeclared port carries


def auto(*, detection_timeout: float = 0.0) -> config.Listener:
    """A port that declares no protocol, PERMISSIVE."""
    chains = (
        config.FilterChain("mtls-http", "mtls", tls=TLS, http=config.HttpChain("web"), application="http"),
        config.FilterChain("mtls-tcp", "mtls", tls=TLS, tcp=config.TcpChain((("app", 1),))),
        config.FilterChain("raw-http", "raw", http=config.HttpChain("web"), application="http"),
        config.FilterChain("raw-tcp", tcp=config.TcpChain((("app", 1),))),
    )
    return config.Listener("in", "inbound", LOOPBACK, 0, chains, detection_timeout=detection_timeout)


async def greet(up: ScriptedUpstream, wire: Wire) -> None:
    """A server that speaks first."""
    await wire.send(b"greetings")
    await mirror(up, wire)


@pytest.mark.parametrize("client", [None, mesh_identity("client")])
async def test_requests_on_an_undeclared_port_are_routed(client: Identity | None) -> None:
    upstream = ScriptedUpstream()
    async with upstream.running(), served_app(upstream, auto()) as served:
        async with served.connect(client) as wire:
            assert (await wire.ask(b"/a")).body == b"/a"
        await served.settled()
        [record] = served.records
        assert (record.protocol, record.mtls) == ("HTTP/1.1", client is not None)


@pytest.mark.parametrize("client", [None, mesh_identity("client"), mesh_identity("client", alpn=("istio",))])
@pytest.mark.parametrize("piece", [b"\x00\x01binary", b"EHLO a\r\n", b"G"])
async def test_other_bytes_on_an_undeclared_port_are_relayed(client: Identity | None, piece: bytes) -> None:
    upstream = ScriptedUpstream(mirror)
    async with upstream.running(), served_app(upstream, auto()) as served:
        async with served.connect(client) as wire:
            await wire.send(piece)
            await wire.transport.send_eof()
            assert await wire.rest() == piece
        await served.settled()
        [record] = served.records
        assert (record.protocol, record.mtls, record.bytes_received) == ("TCP", client is not None, len(piece))


async def test_a_request_in_many_pieces_is_a_request() -> None:
    upstream = ScriptedUpstream()
    async with upstream.running(), served_app(upstream, auto()) as served:
        async with served.connect() as wire:
            for byte in b"GET /a HTTP/1.1\r\nhost: app\r\n\r\n":
                await wire.send(bytes([byte]))
                await settle()
            assert (await wire.message()).body == b"/a"


async def test_tls_that_is_not_the_meshs_passes_an_undeclared_port_untouched() -> None:
    upstream = ScriptedUpstream(mirror)
    async with upstream.running(), served_app(upstream, auto()) as served:
        async with connected(served.port()) as wire:
            hello = b"\x16\x03\x01\x00\x04\x01\x00\x00\x00"
            await wire.send(hello)
            await wire.transport.send_eof()
            assert await wire.rest() == hello


@pytest.mark.parametrize("client", [None, mesh_identity("client")])
async def test_a_server_that_speaks_first_is_heard_after_the_detection_timeout(
    client: Identity | None, autojump_clock: trio.testing.MockClock
) -> None:
    upstream = ScriptedUpstream(greet)
    async with upstream.running(), served_app(upstream, auto(detection_timeout=3)) as served:
        started = trio.current_time()
        async with served.connect(client) as wire:
            assert await wire.transport.receive() == b"greetings"
            assert trio.current_time() - started == pytest.approx(3, abs=0.5)
            await wire.send(b"hello")
            await wire.transport.send_eof()
            assert await wire.rest() == b"hello"
        await served.settled()
        assert served.refused() == {("connection", "no_first_byte"): 1}


async def test_a_server_that_speaks_first_is_heard_at_once_by_a_peer_that_offers_no_http() -> None:
    upstream = ScriptedUpstream(greet)
    async with upstream.running(), served_app(upstream, auto()) as served:
        async with served.connect(mesh_identity("client", alpn=("istio-peer-exchange", "istio"))) as wire:
            assert await wire.transport.receive() == b"greetings"


async def test_half_a_request_line_is_opaque_after_the_detection_timeout(
    autojump_clock: trio.testing.MockClock,
) -> None:
    upstream = ScriptedUpstream(mirror)
    async with upstream.running(), served_app(upstream, auto(detection_timeout=3)) as served:
        async with served.connect() as wire:
            await wire.send(b"GET /")
            assert await wire.transport.receive() == b"GET /"
        await served.settled()
        assert served.refused() == {("connection", "detection_timeout"): 1}


async def test_half_a_request_line_is_refused_without_a_detection_timeout(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def stall(transport: TcpTransport) -> None:
        await transport.send(b"GET /")
        await trio.sleep(61)

    assert await refused(auto(), stall) == {("connection", "detection_timeout"): 1}


async def test_a_hello_in_many_pieces_is_put_together() -> None:
    class FakeSlow(TcpTransport):
        """Sends byte by byte."""

        async def send(self, data: bytes) -> None:
            for byte in data:
                await super().send(bytes([byte]))
                await trio.lowlevel.checkpoint()

    upstream = ScriptedUpstream()
    async with upstream.running(), served_app(upstream, STRICT) as served:
        tcp = await connect(LOOPBACK, served.port())
        slow = FakeSlow(tcp.sock, tcp.local, tcp.remote)
        tls = TlsTransport(slow, mesh_identity("client").client_context, server_side=False)
        await tls.handshake()
        assert (await Wire(tls).ask(b"/a")).body == b"/a"
        tls.close()


async def test_a_hello_cut_short_is_refused() -> None:
    async def come(transport: TcpTransport) -> None:
        await transport.send(b"\x16\x03\x01\x02\x00half")
        await transport.send_eof()

    assert await refused(STRICT, come) == {("listener", "filter_chain_not_found"): 1}


async def test_a_client_that_says_nothing_is_dropped(autojump_clock: trio.testing.MockClock) -> None:
    upstream = ScriptedUpstream()
    async with upstream.running(), served_app(upstream, PERMISSIVE) as served, connected(served.port()) as wire:
        started = trio.current_time()
        with trio.fail_after(100):
            assert await wire.rest() == b""
        assert trio.current_time() - started == 60
        await served.settled()
        assert served.refused() == {("connection", "no_first_byte"): 1}


async def test_a_listener_without_chains_closes() -> None:
    async def come(transport: TcpTransport) -> None:
        pass

    assert await refused(inbound(), come) == {("listener", "filter_chain_not_found"): 1}


async def test_a_chain_without_a_protocol_closes() -> None:
    async def come(transport: TcpTransport) -> None:
        pass

    assert await refused(inbound(config.FilterChain("nothing")), come) == {}


# Limits and faults


async def test_connections_beyond_the_limit_are_reset() -> None:
    upstream = ScriptedUpstream()
    settings = Settings(max_connections=2)
    async with upstream.running(), serving(web(upstream.port), settings=settings) as served:
        # all of them are there before the listener runs
        wires = [Wire(await connect(LOOPBACK, served.port())) for _ in range(5)]
        await settle()
        assert len(served.dataplane.connections) == 2
        assert served.refused() == {("listener", "max_connections"): 3}
        for wire in wires[:2]:
            assert (await wire.ask()).status == 200
        for wire in wires[2:]:
            with pytest.raises((trio.BrokenResourceError, HungUp)):
                await wire.ask()
        wires[0].close()
        await until(lambda: len(served.dataplane.connections) == 1)
        async with served.connect() as wire:
            assert (await wire.ask()).status == 200
        for wire in wires:
            wire.close()


class FakeSocket:
    """A listener that raises what is left of `script`, hands out one transport, and then is closed."""

    def __init__(self, *script: OSError, transport: TcpTransport | None = None) -> None:
        self.script = list(script)
        self.transport = transport
        self.times: list[float] = []

    async def accept(self) -> TcpTransport:
        self.times.append(trio.current_time())
        if self.script:
            raise self.script.pop(0)
        found, self.transport = self.transport, None
        if found is None:
            raise trio.ClosedResourceError
        return found

    def close(self) -> None:
        pass


async def test_running_out_of_descriptors_is_counted_and_waited_for(autojump_clock: trio.testing.MockClock) -> None:
    upstream = ScriptedUpstream()
    async with upstream.running(), serving(web(upstream.port)) as served, tcp_pair() as (client, server):
        settings = served.listeners.bound["web"].config
        fake_socket = FakeSocket(OSError(errno.EMFILE, "too many"), OSError(errno.ENFILE, "too many"), transport=server)
        starved = Listener(settings, fake_socket, served.dataplane)  # type: ignore[arg-type]
        async with trio.open_nursery() as nursery:
            await starved.serve(nursery)
            assert served.refused() == {("listener", "out_of_descriptors"): 2}
            waits = [after - before for before, after in zip(fake_socket.times, fake_socket.times[1:], strict=False)]
            assert waits == pytest.approx([0.1, 0.1, 0.0])
            assert (await Wire(client).ask(b"/late")).body == b"/late"
            client.close()
        starved.close()


async def test_other_faults_of_accepting_are_not_hidden() -> None:
    async with serving(snapshot()) as served, trio.open_nursery() as nursery:
        fake_socket = FakeSocket(OSError(errno.EINVAL, "not listening"))
        broken = Listener(config.Listener("web", "gateway"), fake_socket, served.dataplane)  # type: ignore[arg-type]
        with pytest.raises(OSError, match="not listening"):
            await broken.serve(nursery)


async def test_a_bug_costs_one_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fake_serve(downstream: Downstream, chain: config.HttpChain, dataplane: Any) -> None:
        raise ZeroDivisionError("a bug")

    upstream = ScriptedUpstream()
    async with upstream.running(), serving(web(upstream.port)) as served:
        with monkeypatch.context() as patch:
            patch.setattr(module, "serve_http", fake_serve)
            async with served.connect() as wire:
                assert await closed(wire)
            await served.settled()
        assert served.refused() == {("connection", "internal_error"): 1}
        assert served.log.lines[0][1]["error"] == "ZeroDivisionError('a bug')"
        async with served.connect() as wire:
            assert (await wire.ask()).status == 200


async def test_a_reset_between_requests_is_counted() -> None:
    upstream = ScriptedUpstream()
    async with upstream.running(), serving(web(upstream.port)) as served:
        async with served.connect() as wire:
            assert (await wire.ask()).status == 200
            wire.transport.reset()
        await served.settled()
        assert served.refused() == {("connection", "downstream_reset"): 1}


async def test_open_connections_are_counted() -> None:
    upstream = ScriptedUpstream()
    async with upstream.running(), serving(web(upstream.port)) as served:
        stats = served.stats.downstream("outbound")
        async with served.connect(), served.connect():
            await until(lambda: stats.cx_active.value == 2)
        await served.settled()
        assert (stats.cx_total.value, stats.cx_active.value) == (2, 0)


async def test_every_connection_ends_when_the_agent_does() -> None:
    upstream = ScriptedUpstream()
    async with upstream.running():
        async with serving(web(upstream.port)) as served:
            wire = Wire(await connect(LOOPBACK, served.port()))
            assert (await wire.ask()).status == 200
        assert await closed(wire)
        wire.close()
        assert not served.dataplane.connections


async def test_policies_may_ask_for_the_name_that_the_client_asked_for() -> None:
    condition = config.AuthzCondition("connection.sni", ("good.example.com",))
    policy = config.AuthzPolicy("good", "default", "ALLOW", (config.AuthzRule(conditions=(condition,)),))
    chain = config.FilterChain("mtls", "mtls", tls=TLS, http=config.HttpChain("web"), policies=(policy,))
    upstream = ScriptedUpstream()
    async with upstream.running(), served_app(upstream, inbound(chain)) as served:
        for name, status in (("good.example.com", 200), ("bad.example.com", 403)):
            transport = await connect(LOOPBACK, served.port())
            context = mesh_identity("front").client_context
            secured = TlsTransport(transport, context, server_side=False, server_name=name)
            await secured.handshake()
            assert (await Wire(secured).ask()).status == status
            secured.close()
