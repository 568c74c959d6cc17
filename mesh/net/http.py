"""The small HTTP/1.1 server of the control ports (admin, dashboard, metrics). Not for the data path.

One request at a time per connection, bodies in memory, every wait under a deadline.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from urllib.parse import parse_qsl, unquote, urlsplit

import h11
import trio
from msgspec import Struct

Handler = Callable[["Request"], Awaitable["Response"]]

_IDLE = 60.0  # keep-alive of scrapers is 15 s to 60 s
_MAX_BODY = 16 * 1024 * 1024  # a folder of YAML; anything larger is a mistake


class Request(Struct, frozen=True):
    """`path` is decoded, `query` has the last value of each key, header names are lower case."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes = b""


class Response(Struct, frozen=True):
    """Answer of a handler."""

    status: int = 200
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    headers: dict[str, str] = {}


async def serve_http(listener: trio.SocketListener, handler: Handler) -> None:
    """Serve until cancelled. A handler that raises answers 500 and the error stays in its connection."""

    async def serve_connection(stream: trio.SocketStream) -> None:
        await _serve_connection(stream, handler)

    await trio.serve_listeners(serve_connection, [listener])


async def _serve_connection(stream: trio.SocketStream, handler: Handler) -> None:
    connection = h11.Connection(h11.SERVER)
    try:
        async with stream:
            while True:
                with trio.move_on_after(_IDLE) as idle:
                    request = await _read_request(stream, connection)
                if idle.cancelled_caught or request is None:
                    return
                response = await _answer(request, handler)
                with trio.fail_after(_IDLE):
                    await _send(stream, connection, response, head_only=request.method == "HEAD")
                if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                    return
                connection.start_next_cycle()
    except h11.RemoteProtocolError as exc:
        await _refuse(stream, connection, exc.error_status_hint, str(exc))
    except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
        return


async def _answer(request: Request, handler: Handler) -> Response:
    try:
        return await handler(request)
    except Exception as exc:  # the boundary: a bug in one page must not end the port
        return Response(500, f"{type(exc).__name__}: {exc}\n".encode())


async def _read_request(stream: trio.SocketStream, connection: h11.Connection) -> Request | None:
    head: h11.Request | None = None
    body = bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            if connection.they_are_waiting_for_100_continue:
                await stream.send_all(connection.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
            connection.receive_data(await stream.receive_some(65536))
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > _MAX_BODY:
                raise h11.RemoteProtocolError("body over 16 MiB", error_status_hint=413)
        elif isinstance(event, h11.EndOfMessage):
            assert head is not None
            url = urlsplit(head.target.decode("latin-1"))
            return Request(
                method=head.method.decode("ascii"),
                path=unquote(url.path),
                query=dict(parse_qsl(url.query, keep_blank_values=True)),
                headers={name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers},
                body=bytes(body),
            )
        else:
            return None


async def _send(stream: trio.SocketStream, connection: h11.Connection, response: Response, *, head_only: bool) -> None:
    headers = [("content-type", response.content_type), ("content-length", str(len(response.body)))]
    headers += list(response.headers.items())
    reason = HTTPStatus(response.status).phrase
    out = connection.send(h11.Response(status_code=response.status, headers=headers, reason=reason)) or b""
    if response.body and not head_only:
        out += connection.send(h11.Data(data=response.body)) or b""
    out += connection.send(h11.EndOfMessage()) or b""
    await stream.send_all(out)


async def _refuse(stream: trio.SocketStream, connection: h11.Connection, status: int, why: str) -> None:
    if connection.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
        return
    with trio.move_on_after(5):
        try:
            await _send(
                stream,
                connection,
                Response(status, why.encode() + b"\n", headers={"connection": "close"}),
                head_only=False,
            )
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return
