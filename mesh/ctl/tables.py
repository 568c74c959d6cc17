"""Tables and trees for people: drawn on a terminal, plain text for a pipe. The only door to rich."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.tree import Tree


def show(columns: Sequence[str], rows: Sequence[Sequence[str]], stream: TextIO | None = None) -> None:
    """Print a table with a head; without rows only the head."""
    stream = stream or sys.stdout
    if stream.isatty():
        _draw(columns, rows, stream)
    else:
        stream.write(align(columns, rows))


def show_tree(lines: Sequence[str], stream: TextIO | None = None) -> None:
    """Print lines that are nested by two blanks; the first one is the root."""
    stream = stream or sys.stdout
    if stream.isatty():
        _draw_tree(lines, stream)
    else:
        stream.writelines(f"{line}\n" for line in lines)


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


def _draw_tree(lines: Sequence[str], stream: TextIO) -> None:
    from rich.console import Console
    from rich.text import Text
    from rich.tree import Tree

    branch: list[Tree] = []
    for line in lines:
        text = line.lstrip(" ")
        depth = (len(line) - len(text)) // 2
        del branch[depth:]
        branch.append(branch[-1].add(Text(text)) if branch else Tree(Text(text)))
    if branch:
        Console(file=stream).print(branch[0])
