"""Findings about one object on their way to a person: faults, notices, and where they stand."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from mesh.errors import ConfigError
from pilot.resources.yaml import Path


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong at a path of the document, and what to write instead."""

    path: Path
    what: str
    remedy: str = ""


@dataclass(slots=True)
class Report:
    """Collects the findings of one document; checks call it and go on, so all faults are told at once."""

    faults: list[Finding] = field(default_factory=list)
    blemishes: list[Finding] = field(default_factory=list)
    warnings: list[Finding] = field(default_factory=list)

    def __call__(self, path: Path, what: str, remedy: str = "") -> None:
        """Add a fault."""
        self.faults.append(Finding(path, what, remedy))

    def style(self, path: Path, what: str, remedy: str = "") -> None:
        """Add something that `validate` refuses and the mesh serves all the same."""
        self.blemishes.append(Finding(path, what, remedy))

    def warn(self, path: Path, what: str, remedy: str = "") -> None:
        """Add something that Istio accepts and a person should know."""
        self.warnings.append(Finding(path, what, remedy))


@dataclass(frozen=True, slots=True)
class Notice:
    """Something accepted that does not act as written, or may not be meant.

    `not_served`: a field or kind that Istio knows and this mesh does not serve yet; `foreign`: a kind
    of another API group; `warning`: accepted and doubtful.
    """

    level: Literal["not_served", "foreign", "warning"]
    what: str
    remedy: str = ""
    path: str = ""
    kind: str = ""
    namespace: str = ""
    name: str = ""
    file: str = ""
    line: int = 0
    column: int = 0

    @classmethod
    def of(cls, error: ConfigError) -> Notice:
        """A warning that says what the error says."""
        return cls(
            level="warning",
            what=error.what,
            remedy=error.remedy,
            path=error.path,
            kind=error.kind,
            namespace=error.namespace,
            name=error.name,
            file=error.file,
            line=error.line,
            column=error.column,
        )

    def __str__(self) -> str:
        return str(
            ConfigError(
                self.what,
                remedy=self.remedy,
                path=self.path,
                kind=self.kind,
                namespace=self.namespace,
                name=self.name,
                file=self.file,
                line=self.line,
                column=self.column,
            )
        )
