"""A borrowed listener: its parent hears of its end once."""

from __future__ import annotations

import socket

import pytest
import trio

from mesh.workers.borrowed import BorrowedListener


async def test_the_parent_is_told_once_of_its_end() -> None:
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    told: list[bool] = []
    listener = BorrowedListener(sock, lambda: told.append(sock.fileno() == -1))
    assert told == []
    listener.close()
    listener.close()
    assert told == [True]  # after the socket was closed
    with pytest.raises(trio.ClosedResourceError):
        await listener.accept()
