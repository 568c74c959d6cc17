import pytest

from agent.codec import h1_fast


@pytest.mark.parametrize("method", [b"GET", b"CONNECT", b"FOO", b"DESCRIBE", b"M-SEARCH", b"PRI"])
def test_methods_that_llhttp_does_not_know_make_no_difference(method: bytes) -> None:
    target = b"a:1" if method == b"CONNECT" else b"/"
    headers = h1_fast.read_request_fields(method + b" " + target + b" HTTP/1.1\r\nHost: a\r\nX: 1\r\n\r\n")
    assert headers is not None
    assert headers.items == [(b"Host", b"a"), (b"X", b"1")]


def test_nothing_is_expected_of_a_101() -> None:
    headers = h1_fast.read_response_fields(b"HTTP/1.1 101 Switching\r\nX: 1\r\n\r\n")
    assert headers is not None
    assert headers.items == [(b"X", b"1")]


def test_llhttp_alone_would_pass_a_fragment_and_the_gate_is_what_refuses_it() -> None:
    assert h1_fast.read_request_fields(b"GET /#a HTTP/1.1\r\nHost: a\r\n\r\n") is not None
