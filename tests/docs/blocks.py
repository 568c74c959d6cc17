"""Code blocks of Markdown: their language, the words behind it, and their text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# sh: run. sh serve: started, waited for until its ready line, ended with the document. sh demo: run while a demo runs.
# sh exit=N: run, must end with N. console: for people, its make targets and commands are checked by name.
# LANGUAGE file=NAME: written before what follows it runs. text: output or a drawing.
LANGUAGES = {"sh", "console", "yaml", "python", "text"}


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    document: str
    line: int
    language: str
    words: tuple[str, ...]
    text: str

    @property
    def where(self) -> str:
        return f"{self.document}:{self.line}"

    def value(self, key: str) -> str:
        """The value of the word KEY=VALUE, or nothing."""
        return next((word.partition("=")[2] for word in self.words if word.startswith(f"{key}=")), "")


def documents() -> list[Path]:
    """Every Markdown file that is ours."""
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def blocks(document: Path) -> list[Block]:
    """The fenced blocks of a document, in order."""
    name = document.relative_to(ROOT).as_posix()
    return parse(document.read_text(), name)


def parse(text: str, name: str) -> list[Block]:
    found: list[Block] = []
    fence: tuple[int, str] | None = None
    body: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        mark = re.match(r"```(.*)$", line)
        if mark and fence is None:
            fence, body = (number, mark[1]), []
        elif mark and fence is not None:
            language, *words = fence[1].split() or [""]
            found.append(Block(name, fence[0], language, tuple(words), "\n".join(body) + "\n"))
            fence = None
        elif fence is not None:
            body.append(line)
    if fence is not None:
        raise ValueError(f"{name}:{fence[0]}: a block that nobody closes")
    return found
