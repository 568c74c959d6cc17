"""The network's way to the pilot: what can be wrong with it, and what to do."""

import time
from pathlib import Path
from typing import Any

import pytest
import trio

from agent.websocket import Certificate, Unreachable, WebSocketWay
from pilot.ca.signing import server_certificate
from tests.feed_rig import Peer, PilotRig, way

wall = time.time  # noqa: TID251  certificates are checked by OpenSSL against the real clock


async def failure(way: WebSocketWay) -> Unreachable:
    with pytest.raises(Unreachable) as caught:
        async with way.connect():
            raise AssertionError("connected")
    return caught.value


@pytest.mark.parametrize("url", ["", "127.0.0.1:15012", "https://127.0.0.1", "ws://example.com/feed", "wss://"])
def test_urls_that_cannot_be_used(url: str) -> None:
    with pytest.raises(Unreachable, match="wss://"):
        WebSocketWay(url, wall=wall)


async def test_missing_and_unusable_files_are_named(tmp_path: Path) -> None:
    url = "wss://127.0.0.1:1/feed"
    token = tmp_path / "token"
    token.write_text("t")
    bad = tmp_path / "bad.pem"
    bad.write_text("nonsense")
    cases: list[tuple[dict[str, Any], str, str]] = [
        ({}, "token-file", "--token-file"),
        ({"token_file": tmp_path / "none"}, "token-file", "state folder"),
        ({"token_file": token}, "ca-file", "--ca"),
        ({"token_file": token, "ca_file": tmp_path / "none"}, "ca-file", "root-cert.pem"),
        ({"token_file": token, "ca_file": bad}, "ca-file", "root-cert.pem"),
    ]
    for files, label, remedy in cases:
        told = await failure(WebSocketWay(url, wall=wall, **files))
        assert told.label == label
        assert remedy in told.remedy


async def test_no_pilot_there(tmp_path: Path) -> None:
    pilot = PilotRig(tmp_path, wall=wall)
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    pilot.port = listener.socket.getsockname()[1]
    await listener.aclose()
    told = await failure(way(pilot))
    assert (told.label, told.remedy) == ("unreachable", "start the pilot, or check --pilot")


async def test_an_expired_certificate_is_not_shown(tmp_path: Path) -> None:
    async with PilotRig(tmp_path, wall=wall).running() as pilot:
        old = Certificate(b"not even read", b"", wall() - 1)
        async with way(pilot, certificate=lambda: old).connect() as transport:
            assert (await Peer(transport).join("a")).full


async def test_an_unwelcome_certificate_gives_way_to_the_token(tmp_path: Path) -> None:
    other = PilotRig(tmp_path / "other", wall=wall)
    chain, key, end = server_certificate(other.authority, ("localhost",), now=wall())
    async with PilotRig(tmp_path / "ours", wall=wall).running() as pilot:
        foreign = Certificate(chain, key, end)
        there = way(pilot, certificate=lambda: foreign)
        assert (await failure(there)).label == "closed"
        async with there.connect() as transport:
            assert (await Peer(transport).join("a")).full


async def test_a_server_that_never_answers(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    pilot = PilotRig(tmp_path, wall=wall)
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        pilot.port = listener.socket.getsockname()[1]
        assert (await failure(way(pilot))).label == "timeout"


async def test_a_port_that_does_not_speak_tls(tmp_path: Path) -> None:
    async def answer(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    pilot = PilotRig(tmp_path, wall=wall)
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    pilot.port = listener.socket.getsockname()[1]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, answer, [listener])
        assert (await failure(way(pilot))).label == "tls"
        nursery.cancel_scope.cancel()
