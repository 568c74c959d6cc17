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

IDLE = 60.0
"""Seconds for the next whole request, and for taking an answer; keep-alive of scrapers is 15 s to 60 s."""
MAX_BODY = 16 * 1024 * 1024
"""Bytes. A folder of YAML; anything larger is a mistake."""


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
            try:
                while await _serve_request(stream, connection, handler):
                    connection.start_next_cycle()
            except h11.RemoteProtocolError as exc:
                await _refuse(stream, connection, exc.error_status_hint, str(exc))
    except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
        return


async def _serve_request(stream: trio.SocketStream, connection: h11.Connection, handler: Handler) -> bool:
    """One request and its answer. False: the connection ends here."""
    with trio.move_on_after(IDLE) as idle:
        request = await _read_request(stream, connection)
    if idle.cancelled_caught or request is None:
        return False
    out = await _answer(request, handler, connection)
    with trio.fail_after(IDLE):
        await stream.send_all(out)
    return connection.our_state is h11.DONE and connection.their_state is h11.DONE


async def _answer(request: Request, handler: Handler, connection: h11.Connection) -> bytes:
    head_only = request.method == "HEAD"
    try:
        response = await handler(request)
        _check(response)
        return _encode(connection, response, head_only=head_only)
    except Exception as exc:  # the boundary: a bug in one page must not end the port
        return _encode(connection, Response(500, f"{type(exc).__name__}: {exc}\n".encode()), head_only=head_only)


def _check(response: Response) -> None:
    """Raise what h11 would, before half of an answer is encoded."""
    h11.Response(status_code=response.status, headers=_fields(response), reason=HTTPStatus(response.status).phrase)


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
            if len(body) > MAX_BODY:
                raise h11.RemoteProtocolError("body over 16 MiB", error_status_hint=413)
        elif isinstance(event, h11.EndOfMessage):
            assert head is not None
            try:
                url = urlsplit(head.target.decode("latin-1"))
            except ValueError as exc:
                raise h11.RemoteProtocolError(f"the target is no URL: {exc}") from exc
            return Request(
                method=head.method.decode("ascii"),
                path=unquote(url.path),
                query=dict(parse_qsl(url.query, keep_blank_values=True)),
                headers={name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers},
                body=bytes(body),
            )
        else:
            return None


def _fields(response: Response) -> list[tuple[str, str]]:
    length = [] if response.status == 204 else [("content-length", str(len(response.body)))]
    return [("content-type", response.content_type), *length, *response.headers.items()]


def _encode(connection: h11.Connection, response: Response, *, head_only: bool) -> bytes:
    reason = HTTPStatus(response.status).phrase
    out = connection.send(h11.Response(status_code=response.status, headers=_fields(response), reason=reason)) or b""
    if response.body and not head_only and response.status != 204:
        out += connection.send(h11.Data(data=response.body)) or b""
    return out + (connection.send(h11.EndOfMessage()) or b"")


async def _refuse(stream: trio.SocketStream, connection: h11.Connection, status: int, why: str) -> None:
    if connection.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
        return
    response = Response(status, why.encode() + b"\n", headers={"connection": "close"})
    with trio.move_on_after(5):
        await stream.send_all(_encode(connection, response, head_only=False))
