"""The two engines as readers of fields: the same answer to the same head."""

import pytest

from agent.codec import h1, h1_fast

HEADS = [
    b"A: 1\r\nb:2\r\n",
    b"",
    b"A:\r\nB: \r\n",
    b"A:  x y \t\r\n",
    b"Cookie: a\r\ncookie: b\r\nX: 1\r\nx: 2\r\n",
    b"X: caf\xe9\xff\r\n",
    b"|~!#$%&'*+-.^_`9: 1\r\n",
    b"Connection: upgrade\r\nUpgrade: x\r\n",
]


@pytest.mark.parametrize("fields", HEADS)
def test_both_engines_find_the_same_fields(fields: bytes) -> None:
    request = b"GET / HTTP/1.1\r\nHost: a\r\n" + fields + b"\r\n"
    response = b"HTTP/1.1 200 OK\r\nHost: a\r\n" + fields + b"\r\n"
    results = [
        h1.read_request_fields(request),
        h1_fast.read_request_fields(request),
        h1.read_response_fields(response),
        h1_fast.read_response_fields(response),
    ]
    found = [(headers.items, headers.index) for headers in results if headers is not None]
    assert len(found) == 4
    assert all(one == found[0] for one in found)


@pytest.mark.parametrize("fields", [b"A : 1\r\n", b"A 1\r\n", b": 1\r\n", b"A(: 1\r\n", b"A: \x00\r\n"])
def test_both_engines_refuse_the_same_fields(fields: bytes) -> None:
    request = b"GET / HTTP/1.1\r\nHost: a\r\n" + fields + b"\r\n"
    response = b"HTTP/1.1 200 OK\r\n" + fields + b"\r\n"
    assert h1.read_request_fields(request) is None
    assert h1_fast.read_request_fields(request) is None
    assert h1.read_response_fields(response) is None
    assert h1_fast.read_response_fields(response) is None


def test_the_reference_needs_a_whole_head() -> None:
    assert h1.read_request_fields(b"GET / HTTP/1.1\r\n") is None
