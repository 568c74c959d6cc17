"""A worker that does what its orders say, for tests of the parent: no agent, no Trio, started in a moment.

Orders: {"index", "ready", "fail", "die_at", "ignore_term"}. It binds one socket, says that it serves, and answers each
question with its index and pid; a POST to /die ends it with status 3.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from typing import Any

import msgspec

from mesh.net.http import Response
from mesh.workers.channel import Answer, Ask, Failed, Frames, Message, Serving, frame, take_orders
from mesh.workers.sockets import Borrower

FAMILIES = [("requests_total", "Requests.", "counter", "sum", [("requests_total", "", 5)])]


def main() -> None:
    channel, sockets = (socket.socket(fileno=int(word)) for word in sys.argv[1:])
    orders: dict[str, Any] = msgspec.msgpack.decode(take_orders(channel))
    if orders.get("fail"):
        channel.sendall(frame(Failed(orders["fail"])))
        sys.exit(2)
    if orders.get("ignore_term"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    listener = Borrower(sockets).bind("web", "127.0.0.1", 0)
    channel.sendall(frame(Serving({"index": orders["index"], "web": listener.name})))
    frames = Frames()
    while data := channel.recv(65536):
        for payload in frames.feed(data):
            ask = msgspec.msgpack.decode(payload, type=Message)
            assert isinstance(ask, Ask)
            if ask.request.path == "/die":
                os._exit(3)
            channel.sendall(frame(Answer(ask.id, answer(ask, orders["index"]))))


def answer(ask: Ask, index: int) -> Response:
    if ask.request.query.get("format") == "families":
        return Response(200, msgspec.msgpack.encode(FAMILIES), "application/msgpack")
    told = {"path": ask.request.path, "items": [{"index": index}], "pid": os.getpid(), "state": "LIVE"}
    return Response(200, msgspec.json.encode(told), "application/json")


if __name__ == "__main__":
    main()
