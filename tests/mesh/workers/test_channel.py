"""What parent and worker say to each other."""

import socket

import msgspec
import pytest
import trio

from mesh.net.http import Request, Response
from mesh.workers.channel import Answer, Ask, Channel, Failed, Frames, Message, Serving, frame, take_orders

ALL: list[Message] = [
    Serving({"admin": "127.0.0.1:1", "listeners": {"a": "127.0.0.1:2"}}),
    Failed("no"),
    Ask(7, Request("GET", "/stats", {"format": "json"}, {"host": "localhost"}, b"\xff")),
    Answer(7, Response(200, b"\x00body")),
]


@pytest.mark.parametrize("size", [1, 3, 1 << 20])
def test_frames_are_cut_the_same_however_they_come(size: int) -> None:
    data = b"".join(frame(message) for message in ALL)
    frames = Frames()
    found = [payload for at in range(0, len(data), size) for payload in frames.feed(data[at : at + size])]
    assert [msgspec.msgpack.decode(payload, type=Message) for payload in found] == ALL


async def test_each_message_arrives_and_the_end_is_seen() -> None:
    ours, theirs = socket.socketpair()
    near, far = Channel(ours), Channel(theirs)
    for message in ALL:
        await near.send(message)
    near.close()
    assert [await far.receive() for _ in ALL] == ALL
    assert await far.receive() is None
    with pytest.raises(trio.BrokenResourceError):
        await far.send(ALL[0])
    far.close()


async def test_many_speak_at_once_without_mixing() -> None:
    ours, theirs = socket.socketpair()
    near, far = Channel(ours), Channel(theirs)
    big = Response(200, b"x" * 300_000)
    async with trio.open_nursery() as nursery:
        for id in range(4):
            nursery.start_soon(near.send, Answer(id, big))
        found = []
        for _ in range(4):
            message = await far.receive()
            assert isinstance(message, Answer)
            assert message.response == big
            found.append(message.id)
    assert sorted(found) == [0, 1, 2, 3]
    near.close()
    far.close()


def test_orders_are_read_before_anything_runs() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(frame({"a": 1}) + frame(ALL[1]))
        assert msgspec.msgpack.decode(take_orders(theirs)) == {"a": 1}
        ours.shutdown(socket.SHUT_WR)
        take_orders(theirs)  # what followed was left in place
        with pytest.raises(EOFError):
            take_orders(theirs)
