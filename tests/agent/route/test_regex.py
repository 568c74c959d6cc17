"""User regexes: the string shortcuts answer as RE2 does, replacement follows RE2::GlobalReplace."""

from __future__ import annotations

import pytest
import re2
from hypothesis import given
from hypothesis import strategies as st

from agent.route.regex import compile_full, compile_replace
from mesh.errors import ConfigError

PATTERNS = (
    ".*",
    ".+",
    "/foo.*",
    "/foo.+",
    "^/foo$",
    "^/foo.*$",
    ".*foo.*",
    "a|b|/foo",
    "(a|b)",
    "(?:a|)",
    r"/a\.b",
    r"/a\.b.*",
    r"a\.*",
    r"\.*",
    r"a\\.*",
    r"a\$",
    "^a|b$",
    "/v[0-9]+/x",
    "(?i)/foo",
    "é.*",
    ".*.*",
    "a{2}",
)
TEXTS = st.one_of(
    st.text(alphabet="/foab.v1x\\$é\n", max_size=8).map(str.encode),
    st.binary(max_size=6),
    st.sampled_from([b"/foo", b"/foobar", b"/a.b", b"/aXb", b"xfooy", b"", b"/v12/x", b"\xff", b"/foo\xff", b"/FOO"]),
)


@given(st.sampled_from(PATTERNS), TEXTS)
def test_every_shortcut_answers_as_re2(pattern: str, text: bytes) -> None:
    assert compile_full(pattern)(text) is (re2.fullmatch(pattern, text) is not None)


@pytest.mark.parametrize("pattern", ["", "(", "a" * 1025, "(?=x)", r"(a)\1"])
def test_a_pattern_that_re2_refuses_is_a_config_error(pattern: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compile_full(pattern)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("pattern", "substitution", "value", "expected"),
    [
        ("/v1", "/v2", b"/v1/x/v1", b"/v2/x/v2"),
        (r"^/region/(\w+)/bar", r"/region-\1/bar", b"/region/eu/bar/1", b"/region-eu/bar/1"),
        ("b", r"[\0]", b"abc", b"a[b]c"),
        ("a*", "x", b"baac", b"xbxcx"),
        ("/", r"\\", b"/a", b"\\a"),
        ("(a)|b", r"<\1>", b"b", b"<>"),
        ("z", "y", b"abc", b"abc"),
    ],
)
def test_replacement_takes_every_match(pattern: str, substitution: str, value: bytes, expected: bytes) -> None:
    assert compile_replace(pattern, substitution)(value) == expected


@pytest.mark.parametrize("substitution", [r"\1", r"\x", "\\"])
def test_a_group_that_is_not_there_is_a_config_error(substitution: str) -> None:
    with pytest.raises(ConfigError, match="groups"):
        compile_replace("a", substitution)
