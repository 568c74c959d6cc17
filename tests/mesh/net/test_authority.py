"""Host and port, apart and together again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.net.authority import parse_address, split_port


@pytest.mark.parametrize(
    ("authority", "expected"),
    [
        (b"app", (b"app", b"")),
        (b"app:80", (b"app", b"80")),
        (b"app:", (b"app", b"")),
        (b"app:http", (b"app:http", b"")),
        (b"[::1]", (b"[::1]", b"")),
        (b"[::1]:80", (b"[::1]", b"80")),
        (b"::1", (b"::1", b"")),
        (b"", (b"", b"")),
    ],
)
def test_split(authority: bytes, expected: tuple[bytes, bytes]) -> None:
    assert split_port(authority) == expected


@given(st.sampled_from([b"a.b", b"10.0.0.1", b"[fe80::1]"]), st.integers(0, 65535))
def test_what_was_joined_is_split(host: bytes, port: int) -> None:
    assert split_port(b"%s:%d" % (host, port)) == (host, b"%d" % port)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.1:80", ("10.0.0.1", 80)),
        ("8080", ("127.0.0.1", 8080)),
        (":8080", ("127.0.0.1", 8080)),
        ("[::1]:0", ("::1", 0)),
        ("65535", ("127.0.0.1", 65535)),
    ],
)
def test_parse(text: str, expected: tuple[str, int]) -> None:
    assert parse_address(text) == expected


def test_parse_takes_the_default_host() -> None:
    assert parse_address("15010", default_host="0.0.0.0") == ("0.0.0.0", 15010)


@pytest.mark.parametrize("text", ["", "app", "app:", "app:http", "app:65536", "65536", "²", "app:²", "-1"])
def test_what_is_no_address_is_told_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not HOST:PORT; write for example 127\.0\.0\.1:0"):
        parse_address(text)
