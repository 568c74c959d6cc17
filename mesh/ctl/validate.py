"""`meshctl validate`: schema and semantic validation of files, one line per defect."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from mesh.ctl.files import load
from mesh.errors import ConfigError
from pilot.resources.references import dangling
from pilot.resources.registry import Loaded
from pilot.resources.report import Notice


@click.command("validate", epilog="Example: meshctl validate -f my-routes.yaml -f more/")
@click.option(
    "-f",
    "--filename",
    "paths",
    metavar="PATH",
    multiple=True,
    required=True,
    help="A file or a folder (recursive: *.yaml, *.yml, *.json); - is stdin. May repeat.",
)
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="Form of the answer.")
def command(paths: tuple[str, ...], output: str) -> None:
    """Check files as the mesh and Istio's webhook would.

    Defects go to stdout, one line each: FILE:LINE:COL KIND/NS/NAME field.path: what is wrong; what to write
    instead. What is accepted but not served, or looks unintended, goes to stderr. Exit status: 0 all valid,
    1 something is invalid, 2 wrong usage.
    """
    loaded = load(paths)
    defects = sorted([*loaded.errors, *loaded.blemishes], key=_place)
    notices = sorted([*loaded.notices, *dangling(loaded.objects)], key=_place)
    if output == "json":
        click.echo(json.dumps(_answer(loaded, defects, notices), indent=2))
    else:
        for defect in defects:
            click.echo(str(defect))
        for notice in notices:
            click.echo(f"{notice.level.replace('_', ' ')}: {notice}", err=True)
        click.echo(_summary(loaded, defects, notices), err=True)
    sys.exit(1 if defects else 0)


def _place(finding: ConfigError | Notice) -> tuple[str, int, int]:
    return finding.file, finding.line, finding.column


def _summary(loaded: Loaded, defects: list[ConfigError], notices: list[Notice]) -> str:
    objects = _count(len(loaded.objects), "valid object")
    if not defects:
        return f"valid: {objects}, {_count(len(notices), 'notice')}"
    files = _count(len({defect.file for defect in defects}), "file")
    return f"invalid: {_count(len(defects), 'defect')} in {files}; {objects}, {_count(len(notices), 'notice')}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _answer(loaded: Loaded, defects: list[ConfigError], notices: list[Notice]) -> dict[str, Any]:
    return {
        "valid": not defects,
        "objects": len(loaded.objects),
        "errors": [_record(defect) for defect in defects],
        "notices": [{"level": notice.level, **_record(notice)} for notice in notices],
    }


def _record(finding: ConfigError | Notice) -> dict[str, Any]:
    return {
        "resource": {"kind": finding.kind, "namespace": finding.namespace, "name": finding.name},
        "file": finding.file,
        "line": finding.line,
        "column": finding.column,
        "field": finding.path,
        "message": finding.what,
        "remedy": finding.remedy,
    }
