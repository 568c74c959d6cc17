"""Paths in their one form: each mode's results, what settings override, what is refused, and laws over any path."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.bootstrap import Settings
from agent.exchange.canonical import MODES, Mode, PathRule, is_odd, location, path_rules
from agent.exchange.faults import ProxyFault
from mesh import config

PIECES = (
    "/",
    "//",
    "a",
    "Z9",
    ".",
    "..",
    "%2e",
    "%2E",
    "%2f",
    "%2F",
    "%5c",
    "%5C",
    "\\",
    ";",
    "%25",
    "%c0",
    "%41",
    "~",
)


def canonical(path: str, mode: Mode = "base", settings: Settings | None = None) -> str:
    return PathRule(mode, settings or Settings()).canonical(path.encode()).path.decode()


def refused(path: str, mode: Mode = "base", settings: Settings | None = None) -> bool:
    with pytest.raises(ProxyFault) as fault:
        canonical(path, mode, settings)
    return (fault.value.status, fault.value.details) == (400, "path_normalization_failed")


def test_the_modes_are_those_of_the_configuration() -> None:
    hints = {field: kind for field, kind in config.HttpChain.__annotations__.items() if field == "path_normalization"}
    assert all(mode in hints["path_normalization"] for mode in MODES)
    assert get_args(Mode) == MODES
    assert tuple(path_rules(Settings())) == MODES


@pytest.mark.parametrize(
    ("path", "none", "base", "merged", "decoded"),
    [
        ("/app", "/app", "/app", "/app", "/app"),
        ("/a/../b", "/a/../b", "/b", "/b", "/b"),
        ("/a/%2E./b", "/a/%2E./b", "/b", "/b", "/b"),
        ("/a\\b", "/a\\b", "/a/b", "/a/b", "/a/b"),
        ("/a//b", "/a//b", "/a//b", "/a/b", "/a/b"),
        ("/a//../b", "/a//../b", "/a/b", "/a/b", "/a/b"),
        ("/a//../../b", "/a//../../b", "/b", "/b", "/b"),
        ("/../b", "/../b", "/b", "/b", "/b"),
        ("/a/..", "/a/..", "/", "/", "/"),
        ("/a/b/.", "/a/b/.", "/a/b/", "/a/b/", "/a/b/"),
        ("/a%2f../b", "/a%2f../b", "/a%2f../b", "/a%2f../b", "/b"),
        ("/%5Ca%5c%2fb", "/%5Ca%5c%2fb", "/%5Ca%5c%2fb", "/%5Ca%5c%2fb", "/a/b"),
        ("/x%30%7E%5F", "/x%30%7E%5F", "/x0~_", "/x0~_", "/x0~_"),
        ("/%2525", "/%2525", "/%2525", "/%2525", "/%2525"),
        ("/..;/a", "/..;/a", "/..;/a", "/..;/a", "/..;/a"),
        ("/.../a", "/.../a", "/.../a", "/.../a", "/.../a"),
        ("/a%0a%3f%ff", "/a%0a%3f%ff", "/a%0a%3f%ff", "/a%0a%3f%ff", "/a%0a%3f%ff"),
        (
            "/a//b?c=//%2e/../\\",
            "/a//b?c=//%2e/../\\",
            "/a//b?c=//%2e/../\\",
            "/a/b?c=//%2e/../\\",
            "/a/b?c=//%2e/../\\",
        ),
        ("*", "*", "*", "*", "*"),
    ],
)
def test_each_mode(path: str, none: str, base: str, merged: str, decoded: str) -> None:
    assert [canonical(path, mode) for mode in MODES] == [none, base, merged, decoded]


@pytest.mark.parametrize("path", ["/a%00b", "/a%", "/a%4", "/a%zz", "/%%32e", "/%u002e"])
def test_what_cannot_be_read_in_one_way_is_refused(path: str) -> None:
    assert refused(path)
    assert canonical(path, "none") == path


def test_a_query_is_not_looked_at() -> None:
    assert canonical("/a?b=%00&c=%") == "/a?b=%00&c=%"


def test_settings_override_the_meshs_mode() -> None:
    assert canonical("/a/../b", "base", Settings(normalize_path=False)) == "/a/../b"
    assert canonical("/a/../b", "none", Settings(normalize_path=True)) == "/b"
    assert canonical("/a//b", "base", Settings(merge_slashes=True)) == "/a/b"
    assert canonical("/a//b", "merge_slashes", Settings(merge_slashes=False)) == "/a//b"
    kept = Settings(path_with_escaped_slashes_action="keep")
    assert canonical("/a%2fb", "decode_and_merge_slashes", kept) == "/a%2fb"


def test_escaped_slashes() -> None:
    assert refused("/a%2Fb", settings=Settings(path_with_escaped_slashes_action="reject"))
    assert refused("/a%5cb", "none", Settings(path_with_escaped_slashes_action="reject"))
    rule = PathRule("base", Settings(path_with_escaped_slashes_action="unescape_and_redirect"))
    assert rule.canonical(b"/a%2f..%5Cb?c=%2f") == (b"/b?c=%2f", True)
    assert rule.canonical(b"/a/../b") == (b"/b", False)
    rule = PathRule("base", Settings(path_with_escaped_slashes_action="unescape_and_forward"))
    assert rule.canonical(b"/a%2f..%5Cb") == (b"/b", False)


def test_a_location_names_no_other_host() -> None:
    assert location(b"//evil.example/a") == b"/evil.example/a"
    assert location(b"/a?b=//c") == b"/a?b=//c"


@pytest.mark.parametrize("path", ["/", "/a/b", "/a.b/c.d/", "/a/b?c=%2e//", "*", "", "/;a=b/-_~!$&'()*+,:@="])
def test_a_plain_path_is_known_at_once(path: str) -> None:
    assert not is_odd(path.encode())


@pytest.mark.parametrize("path", ["/.", "//", "/a//", "/a/.b", "/%41", "/a.b/..", "/a%", "\\", "/a\\b"])
def test_an_odd_path_is_looked_at(path: str) -> None:
    assert is_odd(path.encode())


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join), st.sampled_from(MODES))
def test_laws(rest: str, mode: Mode) -> None:
    once = canonical("/" + rest, mode)
    assert once.startswith("/")
    assert canonical(once, mode) == once
    if mode != "none":
        segments = once.split("/")
        assert "." not in segments
        assert ".." not in segments
        assert "\\" not in once
        assert "%2e" not in once.lower()
    if "merge" in mode:
        assert "//" not in once
    if not is_odd(b"/" + rest.encode()):
        assert once == "/" + rest
