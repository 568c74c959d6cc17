"""The fast engine reads whole lines, remembers some, and must not be fooled by what it remembers."""

import pytest

from agent.codec import h1_fast


def head(*lines: bytes, first: bytes = b"GET / HTTP/1.1") -> bytes:
    return b"".join(line + b"\r\n" for line in (first, *lines, b""))


@pytest.mark.parametrize("method", [b"GET", b"CONNECT", b"FOO", b"DESCRIBE", b"M-SEARCH", b"PRI"])
def test_the_first_line_makes_no_difference(method: bytes) -> None:
    headers = h1_fast.read_request_fields(head(b"Host: a", b"X: 1", first=method + b" / HTTP/1.1"))
    assert headers is not None
    assert headers.items == [(b"Host", b"a"), (b"X", b"1")]
    assert headers.index == {b"host": b"a", b"x": b"1"}


def test_a_head_may_have_no_fields() -> None:
    headers = h1_fast.read_request_fields(head(first=b"GET / HTTP/1.0"))
    assert headers is not None
    assert headers.items == []


def test_blanks_around_a_value_are_not_of_it() -> None:
    headers = h1_fast.read_fields(head(b"A: \t b c \t ", b"B:", b"C: \t"))
    assert headers is not None
    assert headers.items == [(b"A", b"b c"), (b"B", b""), (b"C", b"")]


def test_fields_of_one_name_are_joined() -> None:
    headers = h1_fast.read_fields(head(b"A: 1", b"Cookie: x", b"a: 2", b"cookie: y"))
    assert headers is not None
    assert headers.index == {b"a": b"1, 2", b"cookie": b"x; y"}


@pytest.mark.parametrize(
    "line",
    [b"", b"a", b"a b: c", b"a : b", b": b", b" a: b", b"\ta: b", b"a: \x00", b"a: b\rc", b"a: b\nc: d", b"a: \x7f"],
)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_line_that_is_no_field_refuses_the_head(line: bytes, place: int) -> None:
    lines = [b"host: a", b"x: 1"]
    lines.insert(place, line)
    for _ in range(2):
        assert h1_fast.read_fields(head(*lines)) is None


def test_what_is_remembered_is_what_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(h1_fast, "_known", {})
    lines = (b"HOST: a", b"User-Agent:  x ", b"authorization: secret", b"Host: a", b"accept: " + b"x" * 500)
    first, second = (h1_fast.read_fields(head(*lines)) for _ in range(2))
    assert first is not None
    assert second is not None
    assert first.items == second.items
    assert first.index == second.index
    assert set(h1_fast._known) == {b"HOST: a", b"User-Agent:  x ", b"Host: a"}
    first.set(b"host", b"changed")
    third = h1_fast.read_fields(head(*lines))
    assert third is not None
    assert third.index == second.index


def test_no_more_is_remembered_than_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(h1_fast, "_known", {})
    for number in range(5000):
        assert h1_fast.read_fields(head(b"host: %d" % number)) is not None
        assert len(h1_fast._known) <= 1024
    assert h1_fast._known
