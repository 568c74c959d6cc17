"""Binding what a snapshot names: take over, keep, move, close, and what a refusal says."""

from __future__ import annotations

import errno
import os
from typing import Any

import msgspec
import pytest
import trio

from agent.downstream import listeners as module
from mesh import config
from mesh.net.tcp import TcpListener, listen
from tests.ports import unused_port
from tests.rig import (
    LOOPBACK,
    ScriptedUpstream,
    connected,
    http_listener,
    listening,
    serving,
    snapshot,
    web,
)


def changed(listener: config.Listener, **fields: Any) -> config.Listener:
    return msgspec.structs.replace(listener, **fields)


def direct(name: str = "web", status: int = 200, **fields: Any) -> tuple[config.Listener, config.RouteConfig]:
    """A listener whose every request is answered with that status."""
    route = config.Route("all", config.RouteMatch(), config.DirectResponse(status))
    routes = config.RouteConfig(f"r{status}", (config.VirtualHost("any", ("*",), (route,)),))
    return changed(http_listener(name, routes.name), **fields), routes


async def status(port: int) -> int:
    async with connected(port) as wire:
        return (await wire.ask()).status


async def test_what_a_snapshot_names_is_bound() -> None:
    one, two = direct("one"), direct("two", 204)
    async with serving(snapshot(*one, *two)) as served:
        assert await status(served.port("one")) == 200
        assert await status(served.port("two")) == 204
        assert served.listeners.addresses() == {
            "one": f"127.0.0.1:{served.port('one')}",
            "two": f"127.0.0.1:{served.port('two')}",
        }


async def test_new_settings_serve_new_connections_on_the_same_socket() -> None:
    async with serving(snapshot(*direct())) as served:
        port = served.port()
        async with connected(port) as kept:
            assert (await kept.ask()).status == 200
            served.apply(snapshot(*direct(status=418), *direct("unused")))
            assert served.port("web") == port
            assert await status(port) == 418
            assert (await kept.ask()).status == 200, "a connection keeps the chain that it began with"


async def test_a_dropped_listener_closes_and_its_connections_go_on() -> None:
    _, routes = given = direct()
    async with serving(snapshot(*given)) as served, served.connect() as wire:
        assert (await wire.ask()).status == 200
        port = served.port()
        assert served.apply(snapshot(routes)) == []
        with pytest.raises(OSError, match="refused"):
            await status(port)
        assert (await wire.ask()).status == 200
        assert served.listeners.addresses() == {}


async def test_a_listener_moves_to_another_port() -> None:
    port = unused_port()
    async with serving(snapshot(*direct())) as served:
        before = served.port()
        assert served.apply(snapshot(*direct(port=port))) == []
        assert served.port() == port
        assert await status(port) == 200
        with pytest.raises(OSError, match="refused"):
            await status(before)


async def test_a_renamed_listener_takes_over_its_address() -> None:
    port = unused_port()
    async with serving(snapshot(*direct("old", port=port))) as served:
        assert served.apply(snapshot(*direct("new", port=port))) == []
        assert await status(port) == 200


async def test_a_port_in_use_rejects_that_listener_alone() -> None:
    async with listening() as other:
        async with serving(snapshot(*direct("good"))) as served:
            good, routes = direct("good")
            bad, _ = direct("bad", port=other.port)
            [rejected] = served.apply(snapshot(good, bad, routes))
            assert (rejected.kind, rejected.name) == ("listener", "bad")
            assert rejected.reason == (
                f"port {other.port} on 127.0.0.1 is in use; stop who has it, or map it with --port-map {other.port}=0"
            )
            assert await status(served.port("good")) == 200


async def test_a_move_that_fails_keeps_the_old_place() -> None:
    async with listening() as other, serving(snapshot(*direct())) as served:
        port = served.port()
        [rejected] = served.apply(snapshot(*direct(port=other.port)))
        assert "in use" in rejected.reason
        assert served.port() == port
        assert await status(port) == 200


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (errno.EACCES, "port 80 needs privileges; map it to a higher one with --port-map 80=8080"),
        (errno.EADDRNOTAVAIL, "cannot bind 127.0.0.1:80: Cannot assign requested address"),
    ],
)
async def test_what_else_a_bind_may_say(code: int, remedy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fake_listen(address: str, port: int) -> TcpListener:
        raise OSError(code, os.strerror(code))

    async with serving(snapshot()) as served:
        monkeypatch.setattr(module, "listen", fake_listen)
        [rejected] = served.apply(snapshot(*direct(port=80)))
        assert rejected.reason == remedy


async def test_a_gateways_ports_may_be_mapped() -> None:
    port = unused_port()
    async with serving(snapshot(*direct(port=80, address="10.9.9.9")), port_map={80: port}) as served:
        assert served.port() == port
        assert await status(port) == 200


async def test_other_directions_bind_their_own_address() -> None:
    async with serving(snapshot(*direct(direction="outbound", address="::1"))) as served:
        assert served.listeners.addresses() == {"web": f"[::1]:{served.port()}"}
        async with connected(served.port(), host="::1") as wire:
            assert (await wire.ask()).status == 200


async def test_a_socket_bound_before_the_first_snapshot_is_used() -> None:
    sock = listen(LOOPBACK, 0)
    given = snapshot(*direct("inbound|80||", direction="inbound", port=1))
    async with serving(given, prebound={"inbound|80||": sock}) as served:
        assert served.port() == sock.port
        assert await status(sock.port) == 200


async def test_close_stops_accepting_everywhere() -> None:
    upstream = ScriptedUpstream()
    async with upstream.running(), serving(web(upstream.port)) as served:
        async with served.connect() as wire:
            assert (await wire.ask(b"/a")).body == b"/a"
            served.listeners.close()
            await trio.lowlevel.checkpoint()
            with pytest.raises(OSError, match="refused"):
                await status(served.port())
            assert (await wire.ask(b"/b")).body == b"/b"


async def test_the_same_snapshot_changes_nothing() -> None:
    given = snapshot(*direct())
    async with serving(given) as served:
        before = served.listeners.bound["web"]
        assert served.apply(given) == []
        assert served.listeners.bound["web"] is before
