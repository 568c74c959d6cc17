"""The static table, and the mark of what is never indexed."""

from __future__ import annotations

from agent.codec.hpack_table import STATIC, NeverIndexed


def test_the_static_table_is_the_rfc_s() -> None:
    assert len(STATIC) == 62
    assert STATIC[1] == (b":authority", b"")
    assert STATIC[2] == (b":method", b"GET")
    assert STATIC[8] == (b":status", b"200")
    assert STATIC[16] == (b"accept-encoding", b"gzip, deflate")
    assert STATIC[61] == (b"www-authenticate", b"")
    assert all(name == name.lower() for name, _ in STATIC)


def test_a_mark_changes_nothing_but_the_class() -> None:
    plain, marked = (b"a", b"b"), NeverIndexed(b"a", b"b")
    assert marked == plain
    assert hash(marked) == hash(plain)
    assert type(marked) is not tuple
    assert dict([marked]) == {b"a": b"b"}
