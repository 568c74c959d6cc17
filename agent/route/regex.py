"""Regular expressions of users: RE2, so that no pattern can hang a proxy. The agent's only door to google-re2.

The library is loaded with the first pattern that needs it. Patterns that are a literal, an alternation of
literals, or literals around `.*` and `.+` become string tests, which answer the same and cost less.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from mesh.errors import ConfigError

MAX_PATTERN = 1024
"""Istio's limit on the length of a regex."""

_META = frozenset("\\.+*?()|[]{}^$")
_ANY, _SOME = ".*", ".+"


def compile_full(pattern: str) -> Callable[[bytes], bool]:
    """A test for "the whole value matches". Raises ConfigError for a pattern that RE2 refuses."""
    return _simple(pattern) or _re2_full(pattern)


def compile_replace(pattern: str, substitution: str) -> Callable[[bytes], bytes]:
    r"""A function that replaces every match; `\1`..`\9` are groups and `\0` the whole match (RE2::GlobalReplace).

    Raises ConfigError for a bad pattern or a group that the pattern does not have.
    """
    compiled = _load(pattern)
    parts = _template(substitution, compiled.groups, pattern)

    def replace(value: bytes) -> bytes:
        out: list[bytes] = []
        last = 0
        end_of_match = -1
        for match in compiled.finditer(value):
            start, end = match.span()
            if start == end == end_of_match:
                continue  # RE2 allows no empty match right behind another match
            out.append(value[last:start])
            out.extend(part if isinstance(part, bytes) else match.group(part) or b"" for part in parts)
            last = end_of_match = end
        if not out:
            return value
        out.append(value[last:])
        return b"".join(out)

    return replace


def _load(pattern: str) -> Any:
    if not pattern:
        raise ConfigError("empty regex", remedy="write a pattern, or `.*` for any value")
    if len(pattern) > MAX_PATTERN:
        raise ConfigError(f"regex of {len(pattern)} characters", remedy=f"use at most {MAX_PATTERN}")
    re2 = importlib.import_module("re2")
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as exc:
        why = exc.args[0] if exc.args else exc
        if isinstance(why, bytes):
            why = why.decode("utf-8", "replace")
        raise ConfigError(
            f"regex {pattern!r} is not RE2: {why}", remedy="RE2 has no look-around and no back-references"
        ) from exc


def _re2_full(pattern: str) -> Callable[[bytes], bool]:
    fullmatch = _load(pattern).fullmatch

    def full(value: bytes) -> bool:
        return fullmatch(value) is not None

    return full


def _template(substitution: str, groups: int, pattern: str) -> list[bytes | int]:
    parts: list[bytes | int] = []
    rest = substitution
    while rest:
        literal, slash, rest = rest.partition("\\")
        if literal:
            parts.append(literal.encode())
        if not slash:
            break
        mark, rest = rest[:1], rest[1:]
        if mark == "\\":
            parts.append(b"\\")
        elif mark.isascii() and mark.isdigit() and int(mark) <= groups:
            parts.append(int(mark))
        else:
            raise ConfigError(
                f"substitution {substitution!r} uses \\{mark}, regex {pattern!r} has {groups} groups",
                remedy="write \\0 for the whole match, \\1 to \\9 for groups, \\\\ for a backslash",
            )
    return parts


def _simple(pattern: str) -> Callable[[bytes], bool] | None:
    """The string test that equals `pattern`, or None when it takes an engine."""
    if not pattern or len(pattern) > MAX_PATTERN:
        return None
    body = pattern.removeprefix("^")
    if body.endswith("$") and not body.endswith("\\$"):
        body = body[:-1]
    if len(body) < len(pattern) and "|" in body:
        return None  # an anchor binds to its branch only
    if "|" in body:
        return _alternation(body)
    for wild in (_ANY, _SOME):
        if body.endswith(wild) and not body.endswith("\\" + wild):
            return _around(body[: -len(wild)], wild, pattern)
    literal = _literal(body)
    return None if literal is None else literal.__eq__


def _alternation(body: str) -> Callable[[bytes], bool] | None:
    if body.startswith("(") and body.endswith(")"):
        body = body[1:-1].removeprefix("?:")
    literals = [_literal(branch) for branch in body.split("|")]
    if any(literal is None for literal in literals):
        return None
    return frozenset(literals).__contains__


def _around(head: str, wild: str, pattern: str) -> Callable[[bytes], bool] | None:
    """`literal.*`, `literal.+`, `.*literal.*`; bytes that `.` might not match go to the engine."""
    contains = wild == _ANY and head.startswith(_ANY)
    literal = _literal(head[len(_ANY) :] if contains else head)
    if literal is None:
        return None
    least = len(literal) + (1 if wild == _SOME else 0)
    engine: Callable[[bytes], bool] | None = None

    def test(value: bytes) -> bool:
        nonlocal engine
        if len(value) < least or not (literal in value if contains else value.startswith(literal)):
            return False
        if value.isascii() and b"\n" not in value:
            return True
        if engine is None:
            engine = _re2_full(pattern)
        return engine(value)

    return test


def _literal(text: str) -> bytes | None:
    """The bytes that `text` stands for when it holds no operator; escaped punctuation is itself."""
    out: list[str] = []
    chars = iter(text)
    for char in chars:
        if char == "\\":
            escaped = next(chars, "")
            if not escaped or not escaped.isascii() or escaped.isalnum() or escaped.isspace():
                return None
            out.append(escaped)
        elif char in _META:
            return None
        else:
            out.append(char)
    return "".join(out).encode()
