"""%OPERATORS% in header values."""

from __future__ import annotations

import pytest

from agent.codec.headers import Headers
from agent.codec.message import RequestHead, ResponseHead
from agent.exchange.record import Record
from agent.route.operators import Template, compile_value, without_port


def fill(text: str, response: ResponseHead | None = None) -> bytes:
    reports: list[str] = []
    value = compile_value(text, reports)
    assert reports == []
    if isinstance(value, bytes):
        return value
    record = Record(0.0)
    record.downstream_remote = "10.0.0.9:4711"
    record.downstream_local = "[::1]:8080"
    record.upstream_host = "10.1.0.1:80"
    record.route = "r"
    record.cluster = "c"
    record.server_name = "sni"
    record.peer_principal = "spiffe://x"
    request = RequestHead(b"GET", b"/p?q", Headers([(b"X-A", b"one")]), scheme=b"http", authority=b"host:1")
    return value.fill(request, record, response)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", b"plain"),
        ("100%%", b"100%"),
        ("%REQ(x-a)%", b"one"),
        ("<%REQ(X-A)%>", b"<one>"),
        ("%REQ(none)%", b""),
        ("%REQ(none?x-a)%", b"one"),
        ("%REQ(x-a):2%", b"on"),
        ("%REQ(:path)% %REQ(:method)% %REQ(:authority)% %REQ(:scheme)%", b"/p?q GET host:1 http"),
        ("%REQ(host)%", b"host:1"),
        ("%PROTOCOL%", b"HTTP/1.1"),
        ("%DOWNSTREAM_REMOTE_ADDRESS%", b"10.0.0.9:4711"),
        ("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", b"10.0.0.9"),
        (
            "%DOWNSTREAM_LOCAL_ADDRESS%|%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%|%DOWNSTREAM_LOCAL_PORT%",
            b"[::1]:8080|::1|8080",
        ),
        ("%UPSTREAM_HOST% %UPSTREAM_REMOTE_ADDRESS% %UPSTREAM_CLUSTER%", b"10.1.0.1:80 10.1.0.1:80 c"),
        ("%ROUTE_NAME% %REQUESTED_SERVER_NAME% %DOWNSTREAM_PEER_URI_SAN%", b"r sni spiffe://x"),
        ("%RESPONSE_CODE%", b"0"),
        ("%RESP(x-r)%", b""),
    ],
)
def test_values(text: str, expected: bytes) -> None:
    assert fill(text) == expected


def test_response_operators_read_the_response() -> None:
    response = ResponseHead(418, Headers([(b"X-R", b"r")]))
    assert fill("%RESP(x-r)% %RESPONSE_CODE%", response) == b"r 418"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a %NOPE% b", "operator %NOPE% is not served"),
        ("%PROTOCOL(x)%", "operator %PROTOCOL(x)% is not served"),
        ("%REQ()%", "operator %REQ()% is not served"),
        ("50% off", "a single % starts no operator"),
    ],
)
def test_what_is_not_served_is_reported_and_kept(text: str, said: str) -> None:
    reports: list[str] = []
    assert compile_value(text, reports) == text.encode()
    assert len(reports) == 1
    assert said in reports[0]


def test_a_value_may_mix_served_and_unserved() -> None:
    reports: list[str] = []
    assert isinstance(compile_value("%NOPE% %PROTOCOL%", reports), Template)
    assert len(reports) == 1


@pytest.mark.parametrize(
    ("address", "expected"),
    [("10.0.0.1:80", "10.0.0.1"), ("[::1]:80", "::1"), ("::1", "::1"), ("pipe", "pipe"), ("", "")],
)
def test_without_port(address: str, expected: str) -> None:
    assert without_port(address) == expected
