"""The build hook that compiles the hot modules: hatchling runs it where HATCH_BUILD_HOOK_ENABLE_CUSTOM is set.

Which modules, and how, stands in pyproject.toml under `tool.hatch.build.targets.wheel.hooks.custom`. Everything is made
below `build/` and packed from there, so the tree stays as it is and an editable install never finds a compiled module.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CompiledModules(BuildHookInterface[Any]):
    """Puts the shared libraries of the listed modules into the wheel, beside their sources, and tags it."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, unless the wheel is an editable one, which runs the sources by its nature."""
        if version == "editable":
            return
        target = Path(self.root, "build", f"compiled-{sys.implementation.cache_tag}")
        made = compiled(self.config["modules"], target, self.config["opt-level"])
        build_data["force_include"].update({str(path): path.relative_to(target / "lib").as_posix() for path in made})
        build_data["pure_python"] = False
        build_data["infer_tag"] = True


def compiled(modules: list[str], target: Path, opt_level: str) -> list[Path]:
    """Compile source files, given by their paths from the working folder; the libraries below `target`/lib.

    What mypyc has to say against a module goes to stderr and ends the process with status 1.
    """
    # Imported here: a pure wheel needs neither.
    from mypyc.build import mypycify
    from setuptools import Distribution
    from setuptools.command.build_ext import build_ext

    shutil.rmtree(target, ignore_errors=True)  # mypyc's cache does not notice that the list has changed
    target.mkdir(parents=True, exist_ok=True)
    extensions = mypycify(
        [f"--cache-dir={target / 'mypy'}", *modules],
        opt_level=opt_level,
        debug_level="0",
        target_dir=str(target / "c"),
    )
    command = build_ext(Distribution({"name": "trioweave", "ext_modules": extensions}))
    command.build_lib, command.build_temp = str(target / "lib"), str(target / "objects")
    command.ensure_finalized()
    command.run()
    return [Path(path) for path in command.get_outputs()]
