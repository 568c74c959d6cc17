"""%OPERATORS% in header values (Envoy's substitution format), compiled once, filled in per request.

A value without operators stays plain bytes. An operator that is not served is reported and its text kept.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Protocol, TypeAlias

from agent.codec.message import RequestHead, ResponseHead


class Facts(Protocol):
    """What operators may ask of an exchange; agent.exchange.record.Record has these fields."""

    @property
    def downstream_remote(self) -> str: ...
    @property
    def downstream_local(self) -> str: ...
    @property
    def upstream_host(self) -> str: ...
    @property
    def protocol(self) -> str: ...
    @property
    def route(self) -> str: ...
    @property
    def cluster(self) -> str: ...
    @property
    def server_name(self) -> str: ...
    @property
    def peer_principal(self) -> str: ...
    @property
    def response_code(self) -> int: ...


Piece: TypeAlias = Callable[[RequestHead, Facts, ResponseHead | None], bytes]

_OPERATOR = re.compile(r"%(?:%|([A-Z0-9_]+)(?:\(([^()]*)\))?(?::(\d+))?%)?")


class Template:
    """A value with operators."""

    __slots__ = ("_pieces",)

    def __init__(self, pieces: tuple[bytes | Piece, ...]) -> None:
        self._pieces = pieces

    def fill(self, head: RequestHead, facts: Facts, response: ResponseHead | None = None) -> bytes:
        """The value for this exchange; b"" when every operator is without a value."""
        return b"".join(p if isinstance(p, bytes) else p(head, facts, response) for p in self._pieces)


def compile_value(text: str, reports: list[str]) -> bytes | Template:
    """Bytes when `text` is plain; sentences about what is not served go to `reports`."""
    if "%" not in text:
        return text.encode()
    pieces: list[bytes | Piece] = []
    last = 0
    for found in _OPERATOR.finditer(text):
        pieces.append(text[last : found.start()].encode())
        last = found.end()
        if found.group() == "%%":
            pieces.append(b"%")
            continue
        piece = _operator(found) if found.group(1) else None
        if piece is None:
            what = f"operator {found.group()} is not served" if found.group(1) else "a single % starts no operator"
            reports.append(f"header value {text!r}: {what}; its text is sent as it is (write %% for a percent sign)")
            pieces.append(found.group().encode())
        else:
            pieces.append(piece)
    pieces.append(text[last:].encode())
    if all(isinstance(piece, bytes) for piece in pieces):
        return b"".join(piece for piece in pieces if isinstance(piece, bytes))
    return Template(tuple(piece for piece in pieces if piece != b""))


def without_port(address: str) -> str:
    """`10.0.0.1:80` -> `10.0.0.1`, `[::1]:80` -> `::1`."""
    if address.startswith("["):
        return address[1:].partition("]")[0]
    host, colon, _ = address.rpartition(":")
    return host if colon and ":" not in host else address


def _operator(found: re.Match[str]) -> Piece | None:
    name, argument, limit = found.groups()
    if name in ("REQ", "RESP"):
        piece = _header(name == "RESP", argument) if argument else None
    elif argument is not None:
        piece = None
    else:
        piece = _FACTS.get(name)
    if piece is None or limit is None:
        return piece
    whole, length = piece, int(limit)
    return lambda head, facts, response: whole(head, facts, response)[:length]


def _header(of_response: bool, argument: str) -> Piece:
    names = [name.strip().lower().encode() for name in argument.split("?")]

    def value(head: RequestHead, facts: Facts, response: ResponseHead | None) -> bytes:
        for name in names:
            if of_response:
                found = response.headers.index.get(name) if response is not None else None
            else:
                found = request_value(head, name)
            if found:
                return found
        return b""

    return value


def request_value(head: RequestHead, name: bytes) -> bytes | None:
    """Value of a field or pseudo field of the request by lower-case name."""
    if name == b":path":
        return head.path
    if name in (b":authority", b"host"):
        return head.authority
    if name == b":method":
        return head.method
    if name == b":scheme":
        return head.scheme
    return head.headers.index.get(name)


_FACTS: dict[str, Piece] = {
    "PROTOCOL": lambda h, f, r: f.protocol.encode(),
    "DOWNSTREAM_REMOTE_ADDRESS": lambda h, f, r: f.downstream_remote.encode(),
    "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT": lambda h, f, r: without_port(f.downstream_remote).encode(),
    "DOWNSTREAM_LOCAL_ADDRESS": lambda h, f, r: f.downstream_local.encode(),
    "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT": lambda h, f, r: without_port(f.downstream_local).encode(),
    "DOWNSTREAM_LOCAL_PORT": lambda h, f, r: f.downstream_local.rpartition(":")[2].encode(),
    "UPSTREAM_HOST": lambda h, f, r: f.upstream_host.encode(),
    "UPSTREAM_REMOTE_ADDRESS": lambda h, f, r: f.upstream_host.encode(),
    "UPSTREAM_CLUSTER": lambda h, f, r: f.cluster.encode(),
    "ROUTE_NAME": lambda h, f, r: f.route.encode(),
    "REQUESTED_SERVER_NAME": lambda h, f, r: f.server_name.encode(),
    "DOWNSTREAM_PEER_URI_SAN": lambda h, f, r: f.peer_principal.encode(),
    "RESPONSE_CODE": lambda h, f, r: str(f.response_code or (r.status if r else 0)).encode(),
}
