"""Rows of text for people: a drawn table on a terminal, aligned columns for a pipe. The only door to rich."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TextIO


def show(columns: Sequence[str], rows: Sequence[Sequence[str]], stream: TextIO | None = None) -> None:
    """Print a table with a head; without rows only the head."""
    stream = stream or sys.stdout
    if stream.isatty():
        _draw(columns, rows, stream)
    else:
        stream.write(align(columns, rows))


def align(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns two blanks apart, the last one unpadded."""
    lines = [columns, *rows]
    widths = [max(len(line[index]) for line in lines) for index in range(len(columns))]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() + "\n" for line in lines
    )


def _draw(columns: Sequence[str], rows: Sequence[Sequence[str]], stream: TextIO) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console(file=stream).print(table)
