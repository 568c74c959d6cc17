"""1. What a message is. Sans-I/O: bytes and events, no sockets, no clock."""

from __future__ import annotations

from importlib import import_module, util
from typing import Final, cast

from agent.codec.gate import FieldReader
from agent.codec.h1_client import ClientConnection
from agent.codec.h1_server import ServerConnection
from agent.codec.message import Http1Client, Http1Server, Limits

ENGINES: Final = ("auto", "fast", "reference")
"""Values of `engine`: the fast one where httptools is installed, or one of the two."""

_MODULES: Final = {"fast": "agent.codec.h1_fast", "reference": "agent.codec.h1"}


def http1_server(limits: Limits, engine: str = "auto") -> Http1Server:
    """A codec for the server side of one connection. Raises ValueError for an engine that is not in ENGINES."""
    return ServerConnection(limits, _reader(engine, "read_request_fields"))


def http1_client(limits: Limits, engine: str = "auto") -> Http1Client:
    """A codec for the client side of one connection. Raises ValueError for an engine that is not in ENGINES."""
    return ClientConnection(limits, _reader(engine, "read_response_fields"))


# Filled on first use, so that a process loads one engine only.
_readers: dict[tuple[str, str], FieldReader] = {}


def _reader(engine: str, name: str) -> FieldReader:
    reader = _readers.get((engine, name))
    if reader is None:
        if engine not in ENGINES:
            raise ValueError(f"codec engine {engine!r} is not known; write one of {', '.join(ENGINES)}")
        chosen = engine
        if engine == "auto":
            chosen = "fast" if util.find_spec("httptools") else "reference"
        reader = cast(FieldReader, getattr(import_module(_MODULES[chosen]), name))
        _readers[engine, name] = reader
    return reader
