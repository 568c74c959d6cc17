"""Pipes between sockets: what they hold, and when there is none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mesh.net.splice import CAPACITY, Pipes
from mesh.net.tcp import TcpTransport
from tests.rig import tcp_pair


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def arrived(transport: TcpTransport) -> None:
    """Wait until something can be read."""
    transport.unread(await transport.receive())


async def test_bytes_go_from_socket_to_socket() -> None:
    async with tcp_pair() as (client, near), tcp_pair() as (far, server):
        with taken(Pipes()) as pipe:
            with pytest.raises(BlockingIOError):
                pipe.fill(near)
            await client.send(b"x")
            await arrived(near)
            await client.send(b"abc" * 100)
            await client.send_eof()
            moved = 0
            while piece := pipe.fill(near):
                moved += piece
            assert moved == pipe.held == 300
            pipe.drain(far)
            assert pipe.held == 0
        assert await server.receive() == b"abc" * 100


def taken(pipes: Pipes):  # type: ignore[no-untyped-def]
    pipe = pipes.take()
    assert pipe is not None
    return pipe


async def test_a_closed_socket_is_an_error() -> None:
    async with tcp_pair() as (client, near):
        with taken(Pipes()) as pipe:
            await client.send(b"x")
            near.close()
            with pytest.raises(OSError, match="Bad file descriptor"):
                pipe.fill(near)


def test_a_pipe_that_is_closed_makes_room_for_another() -> None:
    refused: list[tuple[str, str]] = []
    before = descriptors()
    pipes = Pipes(lambda where, reason: refused.append((where, reason)), limit=1)
    for _ in range(3):
        with taken(pipes):
            assert pipes.open == 1
            assert pipes.take() is None
    assert refused == [("splice", "too_many_pipes")] * 3
    assert pipes.open == 0
    assert descriptors() == before


@pytest.mark.parametrize(("call", "reason"), [("os.pipe2", "no_pipe"), ("fcntl.fcntl", "pipe_too_small")])
def test_what_the_system_refuses_is_counted(monkeypatch: pytest.MonkeyPatch, call: str, reason: str) -> None:
    def fake_call(*args: object) -> None:
        raise OSError("not permitted")

    refused: list[tuple[str, str]] = []
    before = descriptors()
    with monkeypatch.context() as patch:
        patch.setattr(call, fake_call)
        pipes = Pipes(lambda where, reason: refused.append((where, reason)))
        assert pipes.take() is None
    assert refused == [("splice", reason)]
    assert (pipes.open, descriptors()) == (0, before)


def test_elsewhere_than_on_linux_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    assert Pipes().take() is None


def test_capacity_is_what_the_kernel_gives_an_ordinary_user() -> None:
    assert int(Path("/proc/sys/fs/pipe-max-size").read_text()) >= CAPACITY
    assert os.SPLICE_F_NONBLOCK
