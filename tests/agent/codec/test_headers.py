import pytest

from agent.codec.headers import Headers, breaks_out, marks_all_but


def test_order_and_case_stay_and_the_index_is_lower_case() -> None:
    headers = Headers([(b"X-B", b"1"), (b"x-a", b"2")])
    assert headers.items == [(b"X-B", b"1"), (b"x-a", b"2")]
    assert headers.get(b"x-b") == b"1"
    assert b"x-a" in headers
    assert headers.get(b"x-c") is None
    assert repr(headers) == "Headers([(b'X-B', b'1'), (b'x-a', b'2')])"


def test_fields_of_one_name_are_joined_and_cookies_with_a_semicolon() -> None:
    headers = Headers([(b"A", b"1"), (b"a", b"2"), (b"Cookie", b"x=1"), (b"cookie", b"y=2")])
    assert headers.index == {b"a": b"1, 2", b"cookie": b"x=1; y=2"}


def test_set_replaces_every_field_in_the_place_of_the_first() -> None:
    headers = Headers([(b"A", b"1"), (b"B", b"2"), (b"a", b"3")])
    headers.set(b"A", b"4")
    headers.set(b"C", b"5")
    assert headers.items == [(b"A", b"4"), (b"B", b"2"), (b"C", b"5")]
    assert headers.index == {b"a": b"4", b"b": b"2", b"c": b"5"}


@pytest.mark.parametrize("before", [[], [(b"x", b"1")], [(b"A", b"1"), (b"x", b"2"), (b"a", b"3")]])
def test_put_is_set_for_names_in_lower_case(before: list[tuple[bytes, bytes]]) -> None:
    headers, other = Headers(before), Headers(before)
    headers.put(b"a", b"4")
    other.set(b"a", b"4")
    assert (headers.items, headers.index) == (other.items, other.index)


@pytest.mark.parametrize(
    ("value", "breaks"), [(b"", False), (b"a\tb\xff", False), (b"\r", True), (b"a\n", True), (b"\0a", True)]
)
def test_what_would_end_a_line_breaks_out(value: bytes, breaks: bool) -> None:
    assert breaks_out(value) is breaks


def test_a_text_of_marked_bytes_changes() -> None:
    table = marks_all_but(b"abc")
    assert b"cab".translate(table) == b"cab"
    assert all(bytes([octet]).translate(table) != bytes([octet]) for octet in range(256) if octet not in b"abc")


def test_remove_drops_all_of_a_name_and_copy_is_independent() -> None:
    headers = Headers([(b"A", b"1"), (b"B", b"2"), (b"a", b"3")])
    twin = headers.copy()
    headers.remove(b"A")
    headers.remove(b"z")
    assert headers.items == [(b"B", b"2")]
    assert headers.index == {b"b": b"2"}
    assert twin.items == [(b"A", b"1"), (b"B", b"2"), (b"a", b"3")]


class FakeMark(tuple[bytes, bytes]):
    """What a library makes of a field that is never to be indexed."""

    __slots__ = ()


def test_fields_that_stay_are_the_same_objects() -> None:
    marked = FakeMark((b"x-secret", b"1"))
    headers = Headers([(b"x-a", b"1"), (b"X-B", b"2")])
    headers.items.insert(1, marked)
    headers.index[b"x-secret"] = b"1"
    headers.set(b"x-a", b"3")
    headers.remove(b"x-b")
    twin = headers.copy()
    twin.set(b"x-a", b"4")
    assert headers.items[1] is marked
    assert twin.items[1] is marked
