"""One worker process, as its parent sees it; whole gateways of workers are in tests/sockets/test_workers.py."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import pytest

from agent.bootstrap import Bootstrap
from mesh.ctl.worker import PROGRAM, Orders
from mesh.feed.node import Node
from mesh.workers.channel import Failed, Message, frame, take_orders

DEADLINE = 30.0


@contextmanager
def a_worker() -> Iterator[tuple[subprocess.Popen[bytes], socket.socket]]:
    """A process without orders yet, and the parent's end of its channel."""
    ours, theirs = socket.socketpair()
    sockets, theirs_too = socket.socketpair()
    with ours, theirs, sockets, theirs_too:
        ours.settimeout(DEADLINE)
        descriptors = (theirs.fileno(), theirs_too.fileno())
        process = subprocess.Popen(
            [*PROGRAM, *map(str, descriptors)], pass_fds=descriptors, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        theirs.close()
        with process:
            yield process, ours
            process.kill()


def test_without_a_parent_it_ends() -> None:
    with a_worker() as (process, channel):
        channel.close()
        assert process.wait(DEADLINE) == 0
        assert process.stderr is not None
        assert process.stderr.read() == b""


@pytest.mark.parametrize("files", [("/no/such/file.yaml",)])
def test_why_it_cannot_start_is_told_to_the_parent_alone(files: tuple[str, ...]) -> None:
    bootstrap = msgspec.Raw(msgspec.msgpack.encode(Bootstrap(Node("gateway~edge.default", "gateway"))))
    with a_worker() as (process, channel):
        channel.sendall(frame(Orders(bootstrap, files, "info", "text")))
        told = msgspec.msgpack.decode(take_orders(channel), type=Message)
        assert told == Failed("/no/such/file.yaml does not exist; -f takes a file or a folder of YAML")
        assert process.wait(DEADLINE) == 2
        assert process.stderr is not None
        assert process.stderr.read() == b""
