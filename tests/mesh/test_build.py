"""Which build runs: told by a module that is compiled with the others."""

from __future__ import annotations

import mesh.build
from mesh.build import build


def test_the_build_is_told_by_what_was_loaded() -> None:
    sources = str(mesh.build.__file__).endswith(".py")
    assert build() == ("pure" if sources else "compiled")
