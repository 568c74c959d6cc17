"""Which build runs: the sources as they are, or with the hot modules compiled.

This module is one of those that are compiled, so what it finds of itself holds for the others.
"""

from __future__ import annotations

from types import FunctionType
from typing import Literal


def build() -> Literal["compiled", "pure"]:
    """The build that runs."""
    return "pure" if isinstance(build, FunctionType) else "compiled"
