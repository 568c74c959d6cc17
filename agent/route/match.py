"""Conditions of one route, compiled to tests on a request head.

The path's own test is kept apart from the other conditions, because the table indexes it. Semantics are
Istio's HTTPMatchRequest: raw string prefixes, whole-value regexes, lower-case header names.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from agent.codec.message import RequestHead
from agent.route.regex import compile_full
from mesh import config

Test: TypeAlias = Callable[[bytes], bool]
Condition: TypeAlias = Callable[[RequestHead], bool]

_PSEUDO = {
    b":method": "method",
    b":path": "path",
    b":authority": "authority",
    b":scheme": "scheme",
    b"host": "authority",
}


def compile_string(match: config.StringMatch) -> Test:
    """A test of one value. Raises ConfigError for a bad regex. `present` takes every value."""
    if match.kind == "regex":
        return compile_full(match.value)
    if match.kind == "present":
        return _any_value
    value = match.value.encode()
    if match.ignore_case:
        return _folded(match.kind, value.lower())
    if match.kind == "exact":
        return value.__eq__
    if not value:
        return _any_value
    return lambda text: text.startswith(value)


def compile_conditions(match: config.RouteMatch) -> tuple[tuple[str, Condition], ...]:
    """Every condition but the path's, cheap ones first, each with the words that name it. Raises ConfigError."""
    found: list[tuple[str, Condition]] = []
    for attribute in ("method", "scheme", "authority"):
        wanted: config.StringMatch | None = getattr(match, attribute)
        if wanted is not None and wanted.kind != "present":
            found.append((f"{attribute} is not {describe(wanted)}", _of_attribute(attribute, compile_string(wanted))))
    for name, wanted in match.headers:
        found.append((f"header {name} is not {describe(wanted)}", _header(name, wanted)))
    for name, wanted in match.without_headers:
        found.append((f"header {name} is {describe(wanted)}", _without_header(name, wanted)))
    for name, wanted in match.query:
        found.append((f"query parameter {name} is not {describe(wanted)}", _query(name, wanted)))
    return tuple(found)


def describe(match: config.StringMatch) -> str:
    """The wanted value in words, for explanations: `prefix "/a"`."""
    if match.kind == "present":
        return "present"
    return f'{match.kind} "{match.value}"' + (" in any case" if match.ignore_case else "")


def query_value(target: bytes, name: bytes) -> bytes | None:
    """Value of the first query parameter called `name`; b"" when it stands without `=`. Nothing is decoded."""
    _, mark, query = target.partition(b"?")
    if not mark:
        return None
    for item in query.split(b"&"):
        key, _, value = item.partition(b"=")
        if key == name:
            return value
    return None


def _any_value(_: bytes) -> bool:
    return True


def _folded(kind: str, value: bytes) -> Test:
    if kind == "exact":
        return lambda text: text.lower() == value
    return lambda text: text[: len(value)].lower() == value


def _of_attribute(attribute: str, test: Test) -> Condition:
    if attribute == "method":
        return lambda head: test(head.method)
    if attribute == "scheme":
        return lambda head: test(head.scheme)
    if attribute == "authority":
        return lambda head: test(head.authority)
    return lambda head: test(head.path)


def _header(name: str, wanted: config.StringMatch) -> Condition:
    key = name.lower().encode()
    if key in _PSEUDO:
        return _of_attribute(_PSEUDO[key], compile_string(wanted))
    if wanted.kind == "present":
        return lambda head: key in head.headers.index
    if wanted.kind == "exact" and not wanted.ignore_case:
        exact = wanted.value.encode()
        return lambda head: head.headers.index.get(key) == exact
    test = compile_string(wanted)

    def matches(head: RequestHead) -> bool:
        value = head.headers.index.get(key)
        return value is not None and test(value)

    return matches


def _without_header(name: str, wanted: config.StringMatch) -> Condition:
    key = name.lower().encode()
    if wanted.kind == "present":
        return lambda head: key not in head.headers.index
    test = compile_string(wanted)
    if key in _PSEUDO:
        positive = _of_attribute(_PSEUDO[key], test)
        return lambda head: not positive(head)
    return lambda head: not test(head.headers.index.get(key, b""))


def _query(name: str, wanted: config.StringMatch) -> Condition:
    key = name.encode()
    test = compile_string(wanted)

    def matches(head: RequestHead) -> bool:
        value = query_value(head.path, key)
        return value is not None and test(value)

    return matches
