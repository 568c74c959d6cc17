"""Which requests to a loopback port are refused."""

import pytest

from mesh.net.http import Request
from mesh.net.loopback import foreign


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"host": "127.0.0.1:15000"},
        {"host": "[::1]:15000"},
        {"host": "localhost"},
        {"host": "admin.localhost:1"},
        {"host": "localhost", "origin": "http://127.0.0.1:3000"},
    ],
)
def test_what_is_meant_for_us(headers: dict[str, str]) -> None:
    assert foreign(Request("GET", "/", {}, headers)) == ""


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ({"host": "evil.test"}, "Host 'evil.test' is not loopback"),
        ({"host": "10.0.0.1:15000"}, "not loopback"),
        ({"host": "localhost.evil.test"}, "not loopback"),
        ({"host": "a:b:c"}, "not loopback"),
        ({"host": "localhost", "origin": "https://evil.test"}, "web page 'https://evil.test'"),
        ({"origin": "null"}, "web page 'null'"),
    ],
)
def test_what_a_web_page_could_have_sent(headers: dict[str, str], told: str) -> None:
    assert told in foreign(Request("GET", "/", {}, headers))
