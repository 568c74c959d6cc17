"""The documentation, executed: every command block runs, every link resolves, every file that is named exists."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesh.ctl.main import COMMANDS
from tests.bench.process import Program
from tests.docs.blocks import LANGUAGES, ROOT, Block, blocks, documents, parse

DOCUMENTS = documents()
ALL = [block for document in DOCUMENTS for block in blocks(document)]
RUNS = [d for d in DOCUMENTS if any(b.language == "sh" and "demo" not in b.words for b in blocks(d))]
_TIMEOUT = 60.0


def name_of(document: Path) -> str:
    return document.relative_to(ROOT).as_posix()


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """An empty folder that holds the examples, as the documents say."""
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "runtime").mkdir(mode=0o700)
    return folder


def environment(workplace: Path) -> dict[str, str]:
    runtime = str(workplace.parent / "runtime")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "XDG_RUNTIME_DIR": runtime, "XDG_STATE_HOME": runtime, "HOME": runtime}


def run_block(block: Block, workplace: Path, env: dict[str, str]) -> None:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.text],
        cwd=workplace,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT,
        check=False,
    )
    expected = int(block.value("exit") or 0)
    assert done.returncode == expected, f"{block.where} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr, f"{block.where}:\n{done.stderr}"


@contextlib.contextmanager
def serving(block: Block, workplace: Path, env: dict[str, str]) -> Iterator[dict[str, str]]:
    """The block's program from its ready line on; it must end cleanly when asked. Gives the keys of the line."""
    script = f"cd {workplace}\n" + re.sub(r"^(mesh\S* )", r"exec \1", block.text, flags=re.MULTILINE)
    name = f"serve-{block.line}"
    with Program(name, ["bash", "-euo", "pipefail", "-c", script], workplace.parent, env=env) as program:
        yield program.ready_line(_TIMEOUT)
        program.alive()
        program.popen.terminate()
        status = program.popen.wait(_TIMEOUT)
        assert status == 0, program.epitaph(f"ended with {status} after SIGTERM")


@pytest.mark.slow
@pytest.mark.parametrize("document", RUNS, ids=name_of)
def test_commands_of_a_document_run_in_order(document: Path, workplace: Path) -> None:
    env = environment(workplace)
    with contextlib.ExitStack() as running:
        for block in blocks(document):
            if name := block.value("file"):
                (workplace / name).write_text(block.text)
            elif block.language == "sh" and "serve" in block.words:
                ready = running.enter_context(serving(block, workplace, env))
                # http_proxy is a variable that tools obey; the documents do not use it by that name.
                env |= {key.upper(): value for key, value in ready.items() if key != "http_proxy"}
            elif block.language == "sh" and "demo" not in block.words:
                run_block(block, workplace, env)


@pytest.mark.slow
def test_commands_against_a_running_demo(workplace: Path) -> None:
    env = environment(workplace)
    meshctl = str(Path(sys.executable).parent / "meshctl")
    with Program("demo", [meshctl, "demo"], workplace.parent, env=env) as demo:
        demo.ready_line(90)
        for block in ALL:
            if block.language == "sh" and "demo" in block.words:
                run_block(block, workplace, env)
        demo.alive()


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_blocks_say_what_they_are(document: Path) -> None:
    for block in blocks(document):
        assert block.language in LANGUAGES, f"{block.where}: tag the block with one of {', '.join(sorted(LANGUAGES))}"


def test_make_targets_that_are_named_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    for document in DOCUMENTS:
        inline = re.findall(r"`(?:[A-Z]+=\S+ )?make ([a-z]+)", document.read_text())
        blocked = [x for b in blocks(document) for x in re.findall(r"^make ([a-z]+)", b.text, re.MULTILINE)]
        assert set(inline) | set(blocked) <= targets, f"{document.name} names a target that the Makefile lacks"


def test_every_command_has_an_example() -> None:
    shown = "\n".join(block.text for block in ALL if block.language == "sh")
    missing = [name for name in COMMANDS if not re.search(rf"^meshctl {name}\b", shown, re.MULTILINE)]
    assert not missing, f"docs/commands.md shows no example of {', '.join(missing)}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_links_resolve(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", without_blocks(document.read_text())):
        if target.startswith(("https://", "http://")):
            continue
        path, _, anchor = target.partition("#")
        file = (document.parent / path).resolve() if path else document
        assert file.exists(), f"{document.name}: {target} leads nowhere"
        if anchor:
            assert anchor in anchors(file.read_text()), f"{document.name}: {target} has no such heading"


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_files_that_are_named_exist(document: Path) -> None:
    for path in re.findall(r"`((?:mesh|agent|pilot|tests|docs|examples)/[\w./-]+)`", document.read_text()):
        if not re.search(r"[a-z]/[a-z]\.py$|test_y", path):  # X/y.py stands for any file
            assert (ROOT / path).exists(), f"{document.name} names {path}, which is not there"


def without_blocks(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", without_blocks(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_blocks_are_found_with_their_words() -> None:
    text = "a\n```sh exit=1\nfalse\n```\n```yaml file=x.yaml\na: 1\nb: 2\n```\n"
    assert parse(text, "d.md") == [
        Block("d.md", 2, "sh", ("exit=1",), "false\n"),
        Block("d.md", 5, "yaml", ("file=x.yaml",), "a: 1\nb: 2\n"),
    ]
    assert parse(text, "d.md")[0].value("exit") == "1"
    assert parse(text, "d.md")[0].value("file") == ""


def test_an_open_block_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"d\.md:2: a block that nobody closes"):
        parse("a\n```sh\nls\n", "d.md")


def test_headings_become_anchors() -> None:
    assert anchors("# The way, of a `request`\n```sh\n# no heading\n```\n") == {"the-way-of-a-request"}
