"""1. What a message is. Sans-I/O: bytes and events, no sockets, no clock."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Final, cast

from agent.codec.gate import FieldReader
from agent.codec.h1_client import ClientConnection
from agent.codec.h1_server import ServerConnection
from agent.codec.http2 import Http2, Http2Limits
from agent.codec.message import Limits

ENGINES: Final = ("auto", "fast", "reference")
"""Values of `engine`; `auto` is the fast one."""

_MODULES: Final = {"fast": "agent.codec.h1_fast", "reference": "agent.codec.h1"}
_HTTP2: Final = {
    "fast": ("agent.codec.h2_fast", "FastConnection"),
    "reference": ("agent.codec.h2", "ReferenceConnection"),
}


def http1_server(limits: Limits, engine: str = "auto") -> ServerConnection:
    """A codec for the server side of one connection. Raises ValueError for an engine that is not in ENGINES."""
    return ServerConnection(limits, _reader(engine, "read_request_fields"))


def http1_client(limits: Limits, engine: str = "auto") -> ClientConnection:
    """A codec for the client side of one connection. Raises ValueError for an engine that is not in ENGINES."""
    return ClientConnection(limits, _reader(engine, "read_response_fields"))


def http2_server(limits: Http2Limits, engine: str, clock: Callable[[], float]) -> Http2:
    """A codec for the server side of one connection; `clock` is read when a peer floods. Raises ValueError."""
    return _http2(engine)(limits, clock, server=True)


def http2_client(limits: Http2Limits, engine: str, clock: Callable[[], float]) -> Http2:
    """A codec for the client side of one connection; `clock` is read when a peer floods. Raises ValueError."""
    return _http2(engine)(limits, clock, server=False)


def _http2(engine: str) -> Callable[..., Http2]:
    made = _connections.get(engine)
    if made is None:
        module, name = _HTTP2[_chosen(engine)]
        made = _connections[engine] = cast("Callable[..., Http2]", getattr(import_module(module), name))
    return made


# Filled on first use, so that a process loads one engine only.
_readers: dict[tuple[str, str], FieldReader] = {}
_connections: dict[str, Callable[..., Http2]] = {}


def _reader(engine: str, name: str) -> FieldReader:
    reader = _readers.get((engine, name))
    if reader is None:
        reader = cast(FieldReader, getattr(import_module(_MODULES[_chosen(engine)]), name))
        _readers[engine, name] = reader
    return reader


def _chosen(engine: str) -> str:
    if engine not in ENGINES:
        raise ValueError(f"codec engine {engine!r} is not known; write one of {', '.join(ENGINES)}")
    return "fast" if engine == "auto" else engine
