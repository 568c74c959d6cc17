"""The architecture, executable: who may import whom, one door per dependency, the zone without Trio, the mirror tree.

The tables come first; to change a rule is to change a table, in a commit that says why. Every check is a pure
function from sources to complaints, and each is shown to catch a violation planted for it.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("mesh", "agent", "pilot")

# The joiners: the only modules of mesh that may import agent and pilot, and only when they are used (lazily).
JOINERS = ("mesh/ctl/", "mesh/testing/", "mesh/sim/mesh.py")

# Joiners that may do it at the top, because commands import them lazily in their turn.
EAGER_JOINERS = ("mesh/ctl/files.py", "mesh/ctl/standalone.py", "mesh/ctl/validate.py", "mesh/ctl/workers.py")
# What each script may not load before it knows what it is asked for.
LIGHT_SCRIPTS = {
    "mesh.ctl.main": ("agent", "pilot", "trio"),
    "mesh.ctl.pilot": ("agent",),
    "mesh.ctl.agent": ("pilot",),
    "mesh.workers.admin": ("agent", "pilot"),
}

# Modules below the first path may not import modules below the others.
MAY_NOT_IMPORT = {
    "mesh/": ("agent", "pilot"),
    "agent/": ("pilot", "mesh.ctl"),
    "pilot/": ("agent", "mesh.ctl"),
    # A request runs codec -> downstream -> exchange -> policy, route, upstream; imports point one way.
    "agent/codec/": ("agent.downstream", "agent.exchange", "agent.policy", "agent.route", "agent.upstream"),
    "agent/route/": ("agent.downstream", "agent.policy", "agent.upstream", "agent.plan"),
    "agent/policy/": ("agent.downstream", "agent.route", "agent.upstream", "agent.plan"),
    "agent/upstream/": ("agent.downstream", "agent.policy", "agent.route", "agent.plan"),
    "agent/exchange/": ("agent.downstream", "agent.plan"),
    # A config runs sources -> resources -> store -> translate -> push.
    "pilot/resources/": ("pilot.sources", "pilot.store", "pilot.translate", "pilot.push"),
    "pilot/sources/": ("pilot.store", "pilot.translate", "pilot.push"),
    "pilot/store/": ("pilot.sources", "pilot.translate", "pilot.push"),
    "pilot/translate/": ("pilot.sources", "pilot.push"),
}

# Pure code: given bytes, values and a clock, it decides; it never waits.
NO_TRIO = (
    "mesh/config/",
    "mesh/feed/",
    "mesh/backoff.py",
    "agent/codec/",
    "agent/route/",
    "agent/policy/",
    "agent/exchange/retry.py",
    "agent/exchange/deadline.py",
    "agent/exchange/faults.py",
    "agent/exchange/grpc.py",
    "agent/exchange/reply.py",
    "agent/exchange/record.py",
    "agent/exchange/access_log_format.py",
    "agent/exchange/stats.py",
    "agent/upstream/balancer.py",
    "agent/upstream/grpc_health.py",
    "agent/upstream/limits.py",
    "agent/upstream/outlier.py",
    "agent/upstream/endpoint.py",
    "pilot/resources/",
    "pilot/store/",
    "pilot/translate/",
    "pilot/push/queue.py",
    "pilot/push/debounce.py",
)

# Dependency -> the one file of each package that imports it. A folder (ending in /) holds files all made of it.
DOORS = {
    "h11": ("agent/codec/h1.py", "mesh/net/http.py"),
    "h2": ("agent/codec/h2.py",),
    "hpack": ("agent/codec/h2.py",),
    "trio_websocket": ("mesh/net/websocket.py", "agent/websocket.py", "pilot/push/server.py"),
    "re2": ("agent/route/regex.py", "pilot/resources/regex.py"),
    "yaml": ("pilot/resources/yaml.py",),
    "cryptography": ("mesh/identity/pki.py",),
    "structlog": ("mesh/telemetry/log.py",),
    "click": ("mesh/ctl/",),
    "rich": ("mesh/ctl/",),
}
# Languages of the project rather than dependencies of a part: the runtime, and the models.
EVERYWHERE = ("trio", "msgspec")

BANNED_IMPORTS = {
    "asyncio": "Trio is the runtime",
    "unittest.mock": "write a small fake_*",
    "threading": "one thread; SO_REUSEPORT workers for more cores",
}
# (module, attribute) -> what to write instead. Commands hold the outermost clock and may read it.
BANNED_CALLS = {
    ("time", "time"): "take the injected clock",
    ("time", "monotonic"): "take the injected clock, or trio.current_time()",
    ("time", "sleep"): "nothing may block the loop",
    ("random", "random"): "take an injected random.Random",
    ("random", "choice"): "take an injected random.Random",
}
CLOCK_OWNERS = ("mesh/ctl/", "mesh/telemetry/log.py")
FORBIDDEN_NAMES = ("utils", "util", "helpers", "helper", "common", "base", "manager", "core_utils", "misc", "core")
# A module may carry a forbidden word where it is the field's own term.
ALLOWED_NAMES = {"pilot/resources/core.py": "Kubernetes calls this API group core"}

MAX_LINES = 500
LONG_FILES: dict[str, str] = {}
"""Path -> the one reason that keeps it whole."""


@dataclass(frozen=True)
class Source:
    """One file: its path from the root, text and syntax tree."""

    path: str
    text: str

    @property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)


@dataclass(frozen=True)
class Import:
    """`module` is what is imported, submodules spelled out; `lazy` inside a function, `typing` for the checker only."""

    module: str
    line: int
    lazy: bool
    typing: bool


def read_sources(root: Path = ROOT) -> list[Source]:
    files = sorted(file for package in PACKAGES for file in (root / package).rglob("*.py"))
    return [Source(file.relative_to(root).as_posix(), file.read_text()) for file in files]


def imports(source: Source) -> list[Import]:
    return list(_imports(source.tree, lazy=False, typing=False))


def _imports(node: ast.AST, *, lazy: bool, typing: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, child.lineno, lazy, typing) for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and child.level == 0 and child.module:
            names = [f"{child.module}.{alias.name}" for alias in child.names]
            yield from (Import(name, child.lineno, lazy, typing) for name in names)
        elif isinstance(child, ast.ImportFrom):
            yield Import(".", child.lineno, lazy, typing)
        elif isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            for inner in child.body:
                yield from _imports(ast.Module([inner], []), lazy=lazy, typing=True)
            for inner in child.orelse:
                yield from _imports(ast.Module([inner], []), lazy=lazy, typing=typing)
        else:
            if name := _named_import(child):
                yield Import(name, getattr(child, "lineno", 0), lazy, typing)
            function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _imports(child, lazy=lazy or function, typing=typing)


def _named_import(node: ast.AST) -> str:
    """The module that `import_module("…")` loads: an import all the same."""
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module") and node.args:
        first = node.args[0]
        if isinstance(first, ast.Constant) and isinstance(first.value, str):
            return first.value
    return ""


def _within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def check_imports(source: Source) -> list[str]:
    """Arrows between and inside the packages; relative imports hide them and are refused."""
    found = []
    joiner = source.path.startswith(JOINERS)
    for each in imports(source):
        if each.module == ".":
            found.append(f"{source.path}:{each.line}: relative import; write the full name")
        for prefix, forbidden in MAY_NOT_IMPORT.items():
            hit = next((name for name in forbidden if _within(each.module, name)), None)
            if hit is None or not source.path.startswith(prefix):
                continue
            if joiner and prefix == "mesh/":
                if not each.lazy and not each.typing and source.path not in EAGER_JOINERS:
                    found.append(f"{source.path}:{each.line}: imports {each.module} at the top; joiners do it lazily")
            elif not each.typing or prefix.count("/") == 1:
                found.append(f"{source.path}:{each.line}: imports {each.module}; {prefix} may not import {hit}")
    return found


def check_trio_zone(source: Source) -> list[str]:
    """No Trio where code only decides."""
    if not source.path.startswith(NO_TRIO):
        return []
    return [
        f"{source.path}:{each.line}: imports {each.module} in the zone without Trio"
        for each in imports(source)
        if _within(each.module, "trio") and not each.typing
    ]


def check_doors(source: Source) -> list[str]:
    """Third-party packages enter where the table says."""
    found = []
    for each in imports(source):
        top = each.module.partition(".")[0]
        if top in sys.stdlib_module_names or top in (*PACKAGES, *EVERYWHERE, "") or top == "__future__":
            continue
        doors = DOORS.get(top)
        if doors is None:
            found.append(f"{source.path}:{each.line}: imports {top}, which has no door; add it to DOORS with its file")
        elif not any(source.path == door or (door.endswith("/") and source.path.startswith(door)) for door in doors):
            found.append(f"{source.path}:{each.line}: imports {top}; its door is {' and '.join(doors)}")
    return found


def check_banned(source: Source) -> list[str]:
    """Modules and calls that Trio or a test's clock cannot see."""
    found = []
    for each in imports(source):
        for module, instead in BANNED_IMPORTS.items():
            if _within(each.module, module):
                found.append(f"{source.path}:{each.line}: imports {module}; {instead}")
        for (module, name), instead in BANNED_CALLS.items():
            if each.module == f"{module}.{name}" and not source.path.startswith(CLOCK_OWNERS):
                found.append(f"{source.path}:{each.line}: imports {module}.{name}; {instead}")
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            instead = BANNED_CALLS.get((node.value.id, node.attr), "")
            if instead and not source.path.startswith(CLOCK_OWNERS):
                found.append(f"{source.path}:{node.lineno}: {node.value.id}.{node.attr}; {instead}")
    return found


def check_names(source: Source) -> list[str]:
    """A module is named for its noun; a drawer for everything is a noun that is missing."""
    parts = Path(source.path).with_suffix("").parts
    if source.path in ALLOWED_NAMES:
        return []
    return [f"{source.path}: a module may not be named {part}" for part in parts if part in FORBIDDEN_NAMES]


def check_shape(source: Source) -> list[str]:
    """A docstring for the map, a length that one reason explains, and nothing hidden from coverage."""
    found = []
    if not ast.get_docstring(source.tree):
        found.append(f"{source.path}:1: no module docstring; say what lives here and what does not")
    lines = source.text.count("\n")
    if lines > MAX_LINES and source.path not in LONG_FILES:
        found.append(f"{source.path}: {lines} lines; look for the second reason to exist, or list it in LONG_FILES")
    # Written in two parts so that this file does not match itself.
    if "pragma: " + "no cover" in source.text:
        found.append(f"{source.path}: hides lines from coverage; test them")
    return found


def check_mirror(sources: list[Source], tests: set[str]) -> list[str]:
    """X/y.py is tested by tests/X/test_y.py; an __init__.py by test_init.py, unless it only re-exports."""
    found = []
    for source in sources:
        path = Path(source.path)
        if path.name == "__init__.py" and _only_reexports(source.tree):
            continue
        name = "init" if path.name == "__init__.py" else path.stem
        wanted = (Path("tests") / path.parent / f"test_{name}.py").as_posix()
        if wanted not in tests:
            found.append(f"{source.path}: has no {wanted}")
    return found


def _only_reexports(tree: ast.Module) -> bool:
    plain = (ast.Import, ast.ImportFrom, ast.Expr, ast.Assign, ast.AnnAssign)
    return all(
        isinstance(node, plain) and (not isinstance(node, ast.Expr) or isinstance(node.value, ast.Constant))
        for node in tree.body
    )


CHECKS: dict[str, Callable[[Source], list[str]]] = {
    "imports": check_imports,
    "no-trio": check_trio_zone,
    "doors": check_doors,
    "banned": check_banned,
    "names": check_names,
    "shape": check_shape,
}


@pytest.mark.parametrize("rule", CHECKS)
def test_sources_keep_the_rule(rule: str) -> None:
    sources = read_sources()
    assert len(sources) > 50, "the packages were not found"
    complaints = [complaint for source in sources for complaint in CHECKS[rule](source)]
    assert not complaints, "\n" + "\n".join(complaints)


def test_every_source_file_has_its_test_file() -> None:
    tests = {file.relative_to(ROOT).as_posix() for file in (ROOT / "tests").rglob("test_*.py")}
    bookstore = [
        Source(file.relative_to(ROOT).as_posix(), file.read_text()) for file in (ROOT / "examples").rglob("*.py")
    ]
    complaints = check_mirror(read_sources() + bookstore, tests)
    assert not complaints, "\n" + "\n".join(complaints)


@pytest.mark.parametrize("script", LIGHT_SCRIPTS)
def test_script_starts_light(script: str) -> None:
    probe = f"import sys, {script}; print(*[name for name in {LIGHT_SCRIPTS[script]} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "", f"importing {script} loads {done.stdout.strip()}"


def test_tables_name_only_what_exists() -> None:
    listed = [
        *(door for doors in DOORS.values() for door in doors),
        *ALLOWED_NAMES,
        *LONG_FILES,
        *EAGER_JOINERS,
        *NO_TRIO,
        *(prefix for prefix in MAY_NOT_IMPORT),
    ]
    missing = [path for path in listed if not (ROOT / path).exists()]
    assert not missing, f"no longer there: {', '.join(missing)}"
    sources = {source.path: source for source in read_sources()}
    for name, doors in DOORS.items():
        for door in doors:
            inside = [source for path, source in sources.items() if path.startswith(door)]
            tops = {each.module.partition(".")[0] for source in inside for each in imports(source)}
            assert name in tops, f"{door} is a door for {name} and does not import it"


PLANTED = {
    "agent imports pilot": ("imports", "agent/plan.py", "import pilot.store"),
    "mesh imports agent": ("imports", "mesh/config/wire.py", "from agent import plan"),
    "pilot imports agent in a function": ("imports", "pilot/pilot.py", "def f():\n    import agent.plan"),
    "a joiner imports eagerly": ("imports", "mesh/ctl/demo.py", "from pilot.pilot import run"),
    "a decider imports its sibling": ("imports", "agent/route/table.py", "from agent.upstream.cluster import Cluster"),
    "codec looks downstream": ("imports", "agent/codec/h1.py", "import agent.downstream.http1"),
    "a source reaches the store": ("imports", "pilot/sources/files.py", "from pilot import store"),
    "a relative import": ("imports", "agent/plan.py", "from . import feed"),
    "Trio in a decider": ("no-trio", "agent/route/table.py", "import trio"),
    "Trio, lazily": ("no-trio", "pilot/push/queue.py", "def f():\n    from trio import Event"),
    "h11 beside its door": ("doors", "agent/downstream/http1.py", "import h11"),
    "h11 by its name": ("doors", "agent/upstream/http1.py", "def f():\n    return import_module('h11')"),
    "a dependency without door": ("doors", "pilot/pilot.py", "import requests.adapters"),
    "asyncio": ("banned", "agent/feed.py", "import asyncio.events"),
    "a mock": ("banned", "mesh/errors.py", "from unittest import mock"),
    "a wall clock": ("banned", "pilot/ca/tokens.py", "import time\nx = time.time()"),
    "a clock by name": ("banned", "pilot/ca/tokens.py", "from time import monotonic"),
    "global randomness": ("banned", "agent/route/action.py", "import random\nx = random.random()"),
    "a drawer": ("names", "agent/upstream/utils.py", "x = 1"),
    "a package as drawer": ("names", "agent/common/pool.py", "x = 1"),
    "no docstring": ("shape", "agent/upstream/pool.py", "x = 1"),
    "too long": ("shape", "agent/upstream/pool.py", '"""Doc."""\n' + "x = 1\n" * MAX_LINES),
    "hidden from coverage": ("shape", "agent/plan.py", '"""Doc."""\nx = 1  # pragma: ' + "no cover"),
}


@pytest.mark.parametrize("planted", PLANTED)
def test_planted_violation_is_caught(planted: str) -> None:
    rule, path, text = PLANTED[planted]
    complaints = CHECKS[rule](Source(path, text))
    assert len(complaints) == 1
    assert complaints[0].startswith(path)


HARMLESS = {
    "a joiner, lazily": ("imports", "mesh/ctl/demo.py", "def f():\n    from pilot.pilot import run"),
    "a joiner, for types": ("imports", "mesh/ctl/pilot.py", "if TYPE_CHECKING:\n    from pilot.options import Options"),
    "a name that only begins alike": ("imports", "mesh/errors.py", "import pilots, agency"),
    "a type of the plan": (
        "imports",
        "agent/exchange/exchange.py",
        "if TYPE_CHECKING:\n    from agent.plan import Plan",
    ),
    "Trio where it belongs": ("no-trio", "agent/feed.py", "import trio"),
    "the standard library": ("doors", "agent/plan.py", "import ssl, os.path"),
    "a command's clock": ("banned", "mesh/ctl/pilot.py", "import time\nx = time.time()"),
    "an injected generator": ("banned", "agent/route/action.py", "import random\nx = random.Random()"),
}


@pytest.mark.parametrize("harmless", HARMLESS)
def test_harmless_code_passes(harmless: str) -> None:
    rule, path, text = HARMLESS[harmless]
    assert CHECKS[rule](Source(path, text)) == []


def test_missing_test_file_is_caught() -> None:
    sources = [
        Source("agent/plan.py", "x = 1"),
        Source("agent/__init__.py", '"""Map."""\nfrom agent.plan import x\n__all__ = ["x"]'),
        Source("agent/route/__init__.py", "def f(): ..."),
    ]
    assert check_mirror(sources, set()) == [
        "agent/plan.py: has no tests/agent/test_plan.py",
        "agent/route/__init__.py: has no tests/agent/route/test_init.py",
    ]
    assert check_mirror(sources, {"tests/agent/test_plan.py", "tests/agent/route/test_init.py"}) == []
