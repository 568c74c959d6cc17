"""The compiled wheel, made and put under the traffic of tests/sockets; and what the list of its modules has to keep."""

from __future__ import annotations

import ast
import builtins
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MODULES: list[str] = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]["modules"]
SOURCES = sorted(
    file.relative_to(ROOT).as_posix() for name in ("mesh", "agent") for file in (ROOT / name).rglob("*.py")
)
# What asks the codecs, and real processes: all of tests/sockets but what is long and says little of compiled code.
CODECS = ("tests/agent/codec", "tests/conformance", "tests/fuzz")
TRAFFIC = tuple(
    f"tests/sockets/test_{name}.py"
    for name in (
        *("detection", "faults", "gateway", "gateway_tls", "grpc", "mtls", "proxy_protocol", "tcp", "upstream_faults"),
        "workers",
    )
)
BUILDING = 1200.0
RUNNING = 400.0
COMPILER = (sysconfig.get_config_var("CC") or "cc").split()[0]

Classes = dict[str, tuple[ast.ClassDef, dict[str, str]]]


@pytest.mark.parametrize("module", MODULES)
def test_a_listed_module_exists(module: str) -> None:
    assert (ROOT / module).is_file()


def test_the_list_is_in_order_and_says_which_build_runs() -> None:
    assert sorted(set(MODULES)) == MODULES
    assert "mesh/build.py" in MODULES


def classes(text: str) -> Classes:
    """Classes of a module by name, each with the names that the module imports: name to where it comes from."""
    tree = ast.parse(text)
    known = {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    return {node.name: (node, known) for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}


def interpreted_heirs(listed: list[str], texts: dict[str, str]) -> Iterator[str]:
    """Classes outside the list that derive from compiled ones, which refuse it when they are imported."""
    native = {f"{path[:-3].replace('/', '.')}.{name}" for path in listed for name in classes(texts[path])}
    for path in sorted(set(texts) - set(listed)):
        for name, (node, known) in classes(texts[path]).items():
            if any(known.get(ast.unparse(base)) in native for base in node.bases):
                yield f"{path}: {name} derives from a compiled class: list the module too, or do not derive"


def properties_of_exceptions(listed: list[str], texts: dict[str, str]) -> Iterator[str]:
    """Exceptions with properties: mypyc looks these up in a table that exceptions lack, and the process dies."""
    for path in listed:
        for name, (node, _) in classes(texts[path]).items():
            derived = any(hasattr(builtins, ast.unparse(base)) for base in node.bases if ast.unparse(base) != "object")
            decorated = [each for each in node.body if isinstance(each, ast.FunctionDef) and each.decorator_list]
            if derived and decorated:
                yield f"{path}: {name}.{decorated[0].name} of a built-in's heir: leave the module out of the list"


def class_keywords(listed: list[str], texts: dict[str, str]) -> Iterator[str]:
    """Classes with keywords, as `Struct, tag=True`: mypyc loses them."""
    for path in listed:
        for name, (node, _) in classes(texts[path]).items():
            if node.keywords:
                yield f"{path}: {name} has class keywords: put it into a module that is not listed"


def within(function: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a function that are in its own scope."""
    for node in ast.iter_child_nodes(function):
        yield node
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)):
            yield from within(node)


def handlers_of_one_name(listed: list[str], texts: dict[str, str]) -> Iterator[str]:
    """Handlers of a function that give errors of several kinds one name: mypyc takes all for the first one's kind."""
    for path in listed:
        for function in ast.walk(ast.parse(texts[path])):
            if not isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
                continue
            kinds: dict[str, str] = {}
            for node in within(function):
                if isinstance(node, ast.ExceptHandler) and node.name and node.type:
                    kind = ast.unparse(node.type)
                    if kinds.setdefault(node.name, kind) != kind:
                        yield f"{path}: {function.name} catches two kinds as {node.name}: name one of them otherwise"


CHECKS = (interpreted_heirs, properties_of_exceptions, class_keywords, handlers_of_one_name)


def test_compiled_classes_keep_to_what_mypyc_can() -> None:
    texts = {path: (ROOT / path).read_text() for path in SOURCES}
    assert not [complaint for check in CHECKS for complaint in check(MODULES, texts)]


def test_what_mypyc_cannot_is_found() -> None:
    texts = {
        "a/hot.py": "class Kind: ...\nclass Bad(Exception):\n    @property\n    def why(self): ...\n",
        "a/cold.py": "from a.hot import Kind\nclass Heir(Kind): ...\n",
    }
    assert [line.partition(" ")[0] for line in interpreted_heirs(["a/hot.py"], texts)] == ["a/cold.py:"]
    assert not [*interpreted_heirs(list(texts), texts)]
    assert len([*properties_of_exceptions(["a/hot.py"], texts)]) == 1
    twice = "def f():\n    try: ...\n    except A as exc: ...\n    except B as exc: ...\n"
    assert len([*handlers_of_one_name(["a/hot.py"], {"a/hot.py": twice})]) == 1
    apart = twice.replace("\n    except B", "\n    def g():\n        try: ...\n        except B")
    assert not [*handlers_of_one_name(["a/hot.py"], {"a/hot.py": apart})]
    assert len([*class_keywords(["a/hot.py"], {"a/hot.py": "class A(Struct, tag=True): ...\n"})]) == 1


def run(words: list[str], timeout: float, **env: str) -> str:
    """What a program says; it must end with 0."""
    done = subprocess.run(
        words,
        cwd=ROOT,
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-20000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(BUILDING + RUNNING + 60)
@pytest.mark.skipif(shutil.which(COMPILER) is None, reason=f"compiling takes a C compiler, and there is no {COMPILER}")
def test_the_compiled_wheel_serves(tmp_path: Path) -> None:
    """One test, so that one build serves it whatever the number of workers; dependencies are those of this run."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path), str(ROOT)]
    run(build, BUILDING, HATCH_BUILD_HOOK_ENABLE_CUSTOM="1")
    [wheel] = tmp_path.glob("*.whl")
    assert not wheel.name.endswith("none-any.whl")

    installed = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(installed)
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    assert [module for module in MODULES if not (installed / module).with_suffix(suffix).exists()] == []
    assert [str(stray) for name in ("mesh", "agent") for stray in (ROOT / name).rglob(f"*{suffix}")] == []

    # Before the sources in the search for modules: PYTHONSAFEPATH, because `-m` would take the working folder first.
    first = {"PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1", "PYTHONFAULTHANDLER": "1"}
    assert "(compiled)" in run([sys.executable, "-m", "mesh.ctl.agent", "--version"], 30, **first)
    pytest_again = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    told = run([*pytest_again, "--basetemp", str(tmp_path / "again"), *CODECS, *TRAFFIC], RUNNING, **first)
    assert " passed" in told
