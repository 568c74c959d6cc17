"""YAML (and JSON) text to plain values with a position for each of them; the only door to PyYAML.

Built on libyaml's event stream, not on its composer, which recurses in C and dies of deep nesting.
Scalars are YAML 1.2's and JSON's: `no`, `on`, `010`, `1_000`, `1:30` and dates stay text, so that
nothing that a person wrote as a name turns into something else. A key given twice is an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import yaml

from mesh.errors import ConfigError

Path: TypeAlias = tuple[str | int, ...]
Mark: TypeAlias = tuple[int, int, "dict[str, Mark] | list[Mark] | None"]
"""(line, column, marks of the members); 1-based. A member of a mapping is marked where its key stands."""

MAX_DEPTH = 100
"""Deeper than any real object (a VirtualService reaches 12), far below Python's recursion limit."""
MAX_NODES = 1_000_000
"""Values of one document with all aliases written out; a List of 10,000 Services has a third of it."""

_NULL = {"", "~", "null", "Null", "NULL"}
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)\Z")
_BASED = re.compile(r"0(x[0-9a-fA-F]+|o[0-7]+)\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
_UNREADABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
_OPEN_IPV6 = re.compile(r"(?<=[\[,\s])([0-9A-Fa-f:]*::)(?=\s*[\],}])")
_TAG = "tag:yaml.org,2002:"


@dataclass(frozen=True, slots=True)
class Document:
    """One document: its value and where everything in it stands."""

    value: Any
    mark: Mark
    file: str

    def position(self, path: Path) -> tuple[int, int]:
        """(line, column) of the value at `path`, or of its nearest ancestor that is there."""
        return position(self.mark, path)


def position(mark: Mark, path: Path) -> tuple[int, int]:
    """(line, column) of the nearest marked ancestor of `path`."""
    for part in path:
        members = mark[2]
        inner: Mark | None = None
        if isinstance(members, dict):
            inner = members.get(str(part))
        elif isinstance(members, list) and isinstance(part, int) and part < len(members):
            inner = members[part]
        if inner is None:
            break
        mark = inner
    return mark[0], mark[1]


def format_path(path: Path) -> str:
    """`spec.http[0].headers["x.y"]`: brackets and quotes where a name is not a plain field name."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif re.fullmatch(r"[A-Za-z0-9_-]+", part):
            text += f".{part}" if text else part
        else:
            text += f'["{part}"]'
    return text


def parse_path(text: str) -> Path:
    """Inverse of format_path."""
    path: list[str | int] = []
    for quoted, index, name in re.findall(r'\["([^"]*)"\]|\[(\d+)\]|([^.\[\]]+)', text):
        path.append(quoted or (int(index) if index else name))
    return tuple(path)


def documents(text: str | bytes, file: str) -> tuple[list[Document], list[ConfigError]]:
    """The non-empty documents of `text`, up to the first syntax error, and that error if there is one."""
    try:
        readable = _readable(text, file)
    except ConfigError as error:
        return [], [error]
    found, errors = _build(readable, file)
    if errors and "unexpected ':'" in errors[-1].what:
        # libyaml refuses a bare IPv6 prefix at the end of a [flow, list::]; Kubernetes' parser takes it.
        return _build(_OPEN_IPV6.sub(r'"\1"', readable), file)
    return found, errors


def _build(text: str, file: str) -> tuple[list[Document], list[ConfigError]]:
    found: list[Document] = []
    builder = _Builder(text, file)
    try:
        found.extend(document for document in builder.documents() if document.value is not None)
    except ConfigError as error:
        return found, [*builder.errors, error]
    return found, builder.errors


def _readable(text: str | bytes, file: str) -> str:
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8-sig")
        except UnicodeDecodeError as exc:
            line, column = _place(exc.object[: exc.start].decode("utf-8", "replace"))
            raise ConfigError(
                "not UTF-8 text", remedy="save the file as UTF-8", file=file, line=line, column=column
            ) from None
    if bad := _UNREADABLE.search(text):
        line, column = _place(text[: bad.start()])
        raise ConfigError(
            f"control character U+{ord(bad.group()):04X}",
            remedy='remove it, or write it as an escape in double quotes ("\\u0007")',
            file=file,
            line=line,
            column=column,
        )
    return text.removeprefix("\ufeff")


def _place(before: str) -> tuple[int, int]:
    return before.count("\n") + 1, len(before) - before.rfind("\n")


class _Builder:
    """Values and marks from one event stream."""

    def __init__(self, text: str, file: str) -> None:
        self.text = text
        self.file = file
        self.errors: list[ConfigError] = []
        self._events: Iterator[Any] = iter(())
        self._anchors: dict[str, tuple[Any, Mark, int]] = {}
        self._nodes = 0

    def documents(self) -> Iterator[Document]:
        try:
            self._events = yaml.parse(self.text, Loader=yaml.CSafeLoader)
            for event in self._events:
                if isinstance(event, yaml.DocumentStartEvent):
                    self._anchors, self._nodes = {}, 0
                    value, mark = self._value(next(self._events), 0)
                    yield Document(value, mark, self.file)
        except yaml.YAMLError as exc:
            raise self._syntax_error(exc) from None

    def _value(self, event: Any, depth: int) -> tuple[Any, Mark]:
        line, column = event.start_mark.line + 1, event.start_mark.column + 1
        if depth > MAX_DEPTH:
            raise self._too_deep(line, column)
        before = self._nodes
        self._nodes += 1
        value: Any
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event.anchor, line, column)
        members: dict[str, Mark] | list[Mark] | None
        if isinstance(event, yaml.ScalarEvent):
            value, members = self._scalar(event, line, column), None
        elif isinstance(event, yaml.SequenceStartEvent):
            value, members = self._sequence(depth)
        else:
            value, members = self._mapping(depth)
        mark: Mark = (line, column, members)
        if event.anchor is not None:
            self._anchors[event.anchor] = (value, mark, self._nodes - before)
        self._bound(line, column)
        return value, mark

    def _bound(self, line: int, column: int) -> None:
        if self._nodes > MAX_NODES:
            what = f"more than {MAX_NODES:,} values in one document, aliases written out"
            raise self._error(what, "split the document or drop the aliases", line, column)

    def _alias(self, anchor: str | None, line: int, column: int) -> tuple[Any, Mark]:
        if anchor is None or anchor not in self._anchors:
            raise self._error(f"alias *{anchor} without an anchor &{anchor} before it", "define it", line, column)
        value, mark, nodes = self._anchors[anchor]
        self._nodes += nodes
        self._bound(line, column)
        return value, (line, column, mark[2])

    def _scalar(self, event: Any, line: int, column: int) -> Any:
        text: str = event.value
        if event.tag is None or event.tag == "!":
            return plain(text) if event.implicit[0] and event.tag is None else text
        match event.tag.removeprefix(_TAG):
            case "str" | "binary":
                return text
            case "int" | "float" | "bool" | "null" | "timestamp":
                return plain(text)
        raise self._error(f"unknown tag {event.tag}", "remove the tag", line, column)

    def _sequence(self, depth: int) -> tuple[list[Any], list[Mark]]:
        values: list[Any] = []
        marks: list[Mark] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            value, mark = self._value(event, depth + 1)
            values.append(value)
            marks.append(mark)
        return values, marks

    def _mapping(self, depth: int) -> tuple[dict[str, Any], dict[str, Mark]]:
        values: dict[str, Any] = {}
        marks: dict[str, Mark] = {}
        merged: list[tuple[Any, Mark]] = []
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            line, column = event.start_mark.line + 1, event.start_mark.column + 1
            key = self._key(event, line, column)
            value, mark = self._value(next(self._events), depth + 1)
            if key == "<<" and isinstance(event, yaml.ScalarEvent) and event.implicit[0]:
                merged.append((value, mark))
            elif key in values:
                self.errors.append(
                    self._error(
                        f'key "{key}" is given twice, first on line {marks[key][0]}', "remove one", line, column
                    )
                )
            else:
                values[key] = value
                marks[key] = (line, column, mark[2])
        for value, mark in merged:
            self._merge(value, mark, values, marks)
        return values, marks

    def _key(self, event: Any, line: int, column: int) -> str:
        if isinstance(event, yaml.ScalarEvent):
            return str(event.value)
        if isinstance(event, yaml.AliasEvent):
            value, _ = self._alias(event.anchor, line, column)
            if isinstance(value, str):
                return value
        raise self._error("a mapping's key must be text", "write `name: value`", line, column)

    def _merge(self, value: Any, mark: Mark, values: dict[str, Any], marks: dict[str, Mark]) -> None:
        sources = value if isinstance(value, list) else [value]
        members = mark[2] if isinstance(mark[2], list) else [mark]
        for source, source_mark in zip(sources, members, strict=False):
            if not isinstance(source, dict) or not isinstance(source_mark[2], dict):
                raise self._error("`<<` merges mappings only", "refer to an anchored mapping", mark[0], mark[1])
            for key in source.keys() - values.keys():
                values[key] = source[key]
                marks[key] = source_mark[2][key]

    def _error(self, what: str, remedy: str, line: int, column: int) -> ConfigError:
        return ConfigError(what, remedy=remedy, file=self.file, line=line, column=column)

    def _too_deep(self, line: int, column: int) -> ConfigError:
        return self._error(f"nested deeper than {MAX_DEPTH} levels", "flatten the document", line, column)

    def _syntax_error(self, exc: Any) -> ConfigError:
        mark = getattr(exc, "problem_mark", None) or getattr(exc, "context_mark", None)
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        what = getattr(exc, "problem", None) or getattr(exc, "reason", None) or "not YAML"
        context = getattr(exc, "context", None)
        if "nesting depth" in f"{what} {context}":  # newer scanners have a limit of their own, far above ours
            return self._too_deep(line, column)
        lines = self.text.splitlines()
        if line <= len(lines) and lines[line - 1][column - 1 : column] == "\t":
            return self._error("a tab indents this line", "indent with blanks", line, column)
        remedy = "check the indentation, colons and brackets just before this place"
        return self._error(f"not YAML: {what}" + (f" {context}" if context else ""), remedy, line, column)


def plain(text: str) -> Any:
    """The value of an unquoted scalar in YAML 1.2's core schema, without its infinities."""
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if _INT.match(text) and len(text) < 400:
        return int(text)
    if _BASED.match(text) and len(text) < 400:
        return int(text, 0)
    if _FLOAT.match(text) and abs(value := float(text)) != float("inf"):
        return value
    return text
