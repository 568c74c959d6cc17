"""Plain data to typed structs, telling every fault and not only the first.

A fault never stops the decoding: the field takes its default (or its type's zero) and a finding is
reported, so the result always has the right shape and is used only when there were no faults.
Null stands for "not given", as everywhere in Kubernetes.
"""

from __future__ import annotations

import difflib
import re
import types
from collections.abc import Callable, Iterable
from functools import cache
from typing import Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin

import msgspec
from msgspec import Meta, Struct

from pilot.resources.duration import parse_duration
from pilot.resources.fields import Duration
from pilot.resources.report import Report
from pilot.resources.yaml import Path

Convert: TypeAlias = Callable[[Any, Path, Report], Any]


def decode(cls: type[Struct], value: Any, path: Path, report: Report, *, known: Iterable[str] = ()) -> Any:
    """`value` as a `cls`; unknown fields are faults where the struct forbids them, but for those in `known`."""
    return _decode_struct(cls, value, path, report, frozenset(known))


def nearest(word: str, words: Iterable[str]) -> str:
    """A remedy that names the most similar word, or lists a few when none is similar."""
    choice = sorted(words)
    by_lower = {w.lower(): w for w in choice}
    if close := difflib.get_close_matches(word.lower().replace("_", ""), by_lower, n=1, cutoff=0.6):
        return f"did you mean {by_lower[close[0]]}?"
    if not choice:
        return "remove it"
    return "use one of " + ", ".join(choice) if len(choice) <= 8 else "remove it"


def describe(value: Any) -> str:
    """What a value is, in words for a person."""
    match value:
        case bool():
            return f"the truth value {str(value).lower()}"
        case int() | float():
            return f"the number {value}"
        case str():
            return f'the text "{value if len(value) <= 40 else value[:37] + "..."}"'
        case list():
            return "a list"
        case dict():
            return "a mapping"
    return "nothing"


def _decode_struct(cls: type[Struct], value: Any, path: Path, report: Report, known: frozenset[str]) -> Any:
    names, fields = _fields(cls)
    if not isinstance(value, dict):
        report(path, f"must be a mapping, not {describe(value)}", "write fields below it: " + ", ".join(names[:4]))
        value = {}
    arguments: dict[str, Any] = {}
    for name, item in value.items():
        if name in fields:
            if item is not None:
                attribute, convert, _ = fields[name]
                arguments[attribute] = convert(item, (*path, name), report)
        elif cls.__struct_config__.forbid_unknown_fields and name not in known:
            report((*path, name), "unknown field", nearest(name, (*fields, *known)))
    for name, (attribute, _, zero) in fields.items():
        if zero is not None and attribute not in arguments:
            report((*path, name), "is required", "add it")
            arguments[attribute] = zero()
    return cls(**arguments)


@cache
def _fields(cls: type[Struct]) -> tuple[list[str], dict[str, tuple[str, Convert, Callable[[], Any] | None]]]:
    """Written name to (attribute, converter, maker of a stand-in if the field is required)."""
    table = {
        f.encode_name: (f.name, _converter(f.type), _zero(f.type) if f.required else None)
        for f in msgspec.structs.fields(cls)
    }
    return list(table), table


def _zero(kind: Any) -> Callable[[], Any]:
    if get_origin(kind) is Annotated:
        return _zero(get_args(kind)[0])
    if get_origin(kind) is Literal:
        return lambda: get_args(kind)[0]
    if isinstance(kind, type) and issubclass(kind, Struct):
        _, fields = _fields(kind)
        return lambda: kind(**{a: zero() for a, _, zero in fields.values() if zero is not None})
    maker: Callable[[], Any] = get_origin(kind) or kind
    return maker


def _converter(kind: Any) -> Convert:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _limited(_converter(arguments[0]), next(m for m in arguments[1:] if isinstance(m, Meta)))
    if origin is Literal:
        return _enumeration(arguments)
    if origin is tuple:
        return _list(_converter(arguments[0]))
    if origin is dict:
        return _map(_converter(arguments[1]), number_keys=arguments[0] is not str)
    if origin in (Union, types.UnionType):
        members = [a for a in arguments if a is not type(None)]
        return _converter(members[0]) if len(members) == 1 else _text_or_number
    if isinstance(kind, type) and issubclass(kind, Struct):
        return lambda value, path, report: _decode_struct(kind, value, path, report, frozenset())
    return _SCALARS[kind]


def _limited(convert: Convert, limits: Meta) -> Convert:
    if limits.ge is not None:
        return _ranged(convert, limits.ge, limits.le)
    return _sized(convert, limits.min_length or 0, limits.max_length, limits.pattern)


def _ranged(convert: Convert, low: Any, high: Any) -> Convert:
    def check(value: Any, path: Path, report: Report) -> Any:
        number = convert(value, path, report)
        if not low <= number <= high:
            report(path, f"{number} is out of range", f"write a number from {low} to {high}")
            return low
        return number

    return check


def _sized(convert: Convert, least: int, most: int | None, pattern: str | None) -> Convert:
    form = re.compile(pattern or "")

    def check(value: Any, path: Path, report: Report) -> Any:
        # A value of another type has no size here: its converter says what is wrong.
        size = len(value) if isinstance(value, str | list | dict) else least
        if size < least:
            report(path, "is empty", "give it a value, or remove it")
        elif most is not None and size > most:
            report(path, f"has {size} {_unit(value)}, over the limit of {most}", "shorten it")
        elif isinstance(value, str) and not form.search(value):
            report(path, f'"{value}" does not have the form that is wanted', f"write what {pattern} matches")
        return convert(value, path, report)

    return check


def _unit(value: str | list[Any] | dict[str, Any]) -> str:
    return "characters" if isinstance(value, str) else "members"


def _enumeration(words: tuple[str, ...]) -> Convert:
    def check(value: Any, path: Path, report: Report) -> Any:
        if value in words and isinstance(value, str):
            return value
        report(path, f"unknown value: {describe(value)}", nearest(str(value), words))
        return words[0]

    return check


def _list(convert: Convert) -> Convert:
    def read(value: Any, path: Path, report: Report) -> Any:
        if not isinstance(value, list):
            report(path, f"must be a list, not {describe(value)}", "write each item on a line of its own with `- `")
            return ()
        return tuple([convert(item, (*path, index), report) for index, item in enumerate(value)])

    return read


def _map(convert: Convert, *, number_keys: bool) -> Convert:
    def read(value: Any, path: Path, report: Report) -> Any:
        if not isinstance(value, dict):
            report(path, f"must be a mapping, not {describe(value)}", "write `key: value` lines below it")
            return {}
        result: dict[Any, Any] = {}
        for key, item in value.items():
            if number_keys and not (key.isascii() and key.isdigit()):
                report((*path, key), f'key "{key}" is not a number', "write a port number")
                continue
            result[int(key) if number_keys else key] = convert(item, (*path, key), report)
        return result

    return read


def _text(value: Any, path: Path, report: Report) -> str:
    if isinstance(value, str):
        return value
    scalar = isinstance(value, bool | int | float)
    shown = str(value).lower() if isinstance(value, bool) else value
    report(path, f"must be text, not {describe(value)}", f'write it in quotes: "{shown}"' if scalar else "write a text")
    return ""


def _integer(value: Any, path: Path, report: Report) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    bare = value.strip() if isinstance(value, str) else ""
    remedy = f"write {int(bare)} without quotes" if bare.isascii() and bare.isdigit() else "write a whole number"
    report(path, f"must be a whole number, not {describe(value)}", remedy)
    return 0


def _real(value: Any, path: Path, report: Report) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    report(path, f"must be a number, not {describe(value)}", "write a number without quotes")
    return 0.0


def _truth(value: Any, path: Path, report: Report) -> bool:
    if isinstance(value, bool):
        return value
    report(path, f"must be true or false, not {describe(value)}", "write true or false without quotes")
    return False


def _duration(value: Any, path: Path, report: Report) -> float:
    seconds = parse_duration(value) if isinstance(value, str) else None
    if seconds is None:
        report(path, f"must be a duration, not {describe(value)}", "write for example 5s, 1.5s, 10ms or 1m")
        return 0.0
    return seconds


def _text_or_number(value: Any, path: Path, report: Report) -> int | str:
    if isinstance(value, int | str) and not isinstance(value, bool):
        return value
    report(path, f"must be a name or a number, not {describe(value)}", "write a port's name or number")
    return ""


def _anything(value: Any, path: Path, report: Report) -> Any:
    return value


_SCALARS: dict[Any, Convert] = {
    str: _text,
    int: _integer,
    float: _real,
    bool: _truth,
    Duration: _duration,
    Any: _anything,
}
