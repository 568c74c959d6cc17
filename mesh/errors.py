"""Errors that a person reads: what is wrong, where, and what to write instead."""

from __future__ import annotations


class MeshError(Exception):
    """A failure with a message for the operator; commands print it and exit 2, without a traceback."""


class ConfigError(MeshError):
    """One fault in one object, at one place.

    `path` is the field's path inside the object (`spec.http[0].route[1].weight`), `file`, `line` and
    `column` (1-based) say where it stands, `what` names the fault and `remedy` what to write instead.
    """

    def __init__(
        self,
        what: str,
        *,
        remedy: str = "",
        path: str = "",
        kind: str = "",
        namespace: str = "",
        name: str = "",
        file: str = "",
        line: int = 0,
        column: int = 0,
    ) -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy
        self.path = path
        self.kind = kind
        self.namespace = namespace
        self.name = name
        self.file = file
        self.line = line
        self.column = column

    def __str__(self) -> str:
        where = f"{self.file or '<input>'}:{self.line}:{self.column}"
        if self.kind:
            where += f" {self.kind}/{self.namespace}/{self.name}"
        if self.path:
            where += f" {self.path}"
        return f"{where}: {self.what}" + (f"; {self.remedy}" if self.remedy else "")
