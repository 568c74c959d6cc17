"""Real child processes: small Python and shell programs."""

from __future__ import annotations

import io
import os
import random
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import trio

from mesh.ctl.processes import (
    FileLog,
    PrefixedLog,
    Process,
    Program,
    open_supervisor,
    parse_ready,
    program_argv,
)
from mesh.errors import MeshError

DEADLINE = 20.0


def python(name: str, code: str, **more: object) -> Program:
    return Program(name, (sys.executable, "-S", "-c", code), **more)  # type: ignore[arg-type]


SERVING = "print('ready port=1 url=http://h:1/a=b', flush=True)\nimport time\ntime.sleep(600)"


class FakeLog:
    """Collects lines and lets a test wait for one."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []
        self._changed = trio.Event()

    def __call__(self, name: str, line: str) -> None:
        self.lines.append((name, line))
        self._changed.set()
        self._changed = trio.Event()

    async def wait_for(self, wanted: Callable[[str], bool]) -> str:
        while True:
            for _, line in self.lines:
                if wanted(line):
                    return line
            await self._changed.wait()


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    # A zombie that nobody has reaped yet counts as gone: it holds neither memory, nor files, nor ports.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


async def test_the_ready_line_is_parsed_and_every_line_logged() -> None:
    log = FakeLog()
    with trio.fail_after(DEADLINE):
        async with open_supervisor(log) as supervisor:
            process = supervisor.start(python("web", "import sys; print('to stderr', file=sys.stderr)\n" + SERVING))
            assert await process.wait_ready(DEADLINE) == {"port": "1", "url": "http://h:1/a=b"}
            assert process.is_alive
            await log.wait_for(lambda line: line == "to stderr")
    assert not process.is_alive
    assert process.status == -signal.SIGTERM


def test_only_lines_that_begin_with_ready_are_ready_lines() -> None:
    assert parse_ready("ready admin=http://127.0.0.1:1 listen=a:1,b:2") == {
        "admin": "http://127.0.0.1:1",
        "listen": "a:1,b:2",
    }
    assert parse_ready("readying") is None
    assert parse_ready("") is None


async def test_a_process_that_ends_before_it_is_ready_is_an_error_with_its_last_words() -> None:
    with trio.fail_after(DEADLINE):
        async with open_supervisor(FakeLog()) as supervisor:
            process = supervisor.start(python("web", "import sys; print('port in use'); sys.exit(3)"))
            with pytest.raises(MeshError, match=r"web ended with status 3 before it was ready:\n  port in use"):
                await process.wait_ready(DEADLINE)


async def test_a_program_that_cannot_be_started_is_an_error_with_the_reason() -> None:
    with trio.fail_after(DEADLINE):
        async with open_supervisor(FakeLog()) as supervisor:
            process = supervisor.start(Program("web", ("/no/such/program",)))
            with pytest.raises(MeshError, match="cannot start /no/such/program: No such file"):
                await process.wait_ready(DEADLINE)


async def test_a_process_that_is_never_ready_is_an_error_when_time_is_up() -> None:
    with trio.fail_after(DEADLINE):
        async with open_supervisor(FakeLog()) as supervisor:
            process = supervisor.start(python("web", "import time; time.sleep(600)"))
            with pytest.raises(MeshError, match=r"web is not ready after 0\.05 s and said nothing"):
                await process.wait_ready(0.05)


async def test_a_restarted_process_keeps_what_its_ready_line_promised() -> None:
    def pin(ready: Mapping[str, str]) -> tuple[str, ...]:
        code = f"print('ready port={ready['port']} pinned=yes', flush=True)\nimport time\ntime.sleep(600)"
        return (sys.executable, "-S", "-c", code)

    log = FakeLog()
    with trio.fail_after(DEADLINE):
        async with open_supervisor(log, rng=random.Random(1)) as supervisor:
            process = supervisor.start(python("pilot", SERVING, restart=True, pin=pin))
            await process.wait_ready(DEADLINE)
            process.signal(signal.SIGKILL)
            assert await process.wait_ready(DEADLINE, start=2) == {"port": "1", "pinned": "yes"}
            assert process.starts == 2
    assert any("ended with status -9; starts again in" in line for _, line in log.lines)


async def test_a_process_that_keeps_dying_is_waited_for_when_asked_to() -> None:
    with trio.fail_after(DEADLINE):
        async with open_supervisor(FakeLog(), rng=random.Random(1)) as supervisor:
            process = supervisor.start(python("web", "raise SystemExit(1)", restart=True))
            with pytest.raises(MeshError, match="not ready after"):
                await process.wait_ready(0.5, retry=True)


async def test_stages_stop_from_the_highest_to_the_lowest() -> None:
    code = """
import signal, sys
def leave(*_):
    print('leaving', flush=True); sys.exit(0)
signal.signal(signal.SIGTERM, leave)
print('ready', flush=True)
signal.pause()
"""
    log = FakeLog()
    with trio.fail_after(DEADLINE):
        async with open_supervisor(log) as supervisor:
            processes = [supervisor.start(python(f"p{stage}", code, stage=stage)) for stage in (1, 3, 2)]
            for process in processes:
                await process.wait_ready(DEADLINE)
    assert [name for name, line in log.lines if line == "leaving"] == ["p3", "p2", "p1"]


async def test_what_ignores_sigterm_is_killed_with_everything_it_started() -> None:
    code = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(600)'])
print(f'ready child={child.pid}', flush=True)
time.sleep(600)
"""
    log = FakeLog()
    with trio.fail_after(DEADLINE):
        async with open_supervisor(log, grace=0.2) as supervisor:
            process = supervisor.start(python("stubborn", code))
            pids = [int((await process.wait_ready(DEADLINE))["child"]), process.pid]
    assert all(is_gone(pid) for pid in pids)
    assert ("stubborn", "did not end within 0.2 s of SIGTERM; killed") in log.lines


async def test_names_are_unique() -> None:
    with trio.fail_after(DEADLINE):
        with pytest.RaisesGroup(pytest.RaisesExc(MeshError, match="two processes are named web")):
            async with open_supervisor(FakeLog()) as supervisor:
                supervisor.start(python("web", SERVING))
                supervisor.start(python("web", SERVING))


async def test_a_killed_supervisor_leaves_neither_process_nor_directory(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    code = f"""
import sys, trio, pathlib
from mesh.ctl.processes import Program, open_supervisor
async def main():
    async with open_supervisor(lambda name, line: None) as supervisor:
        supervisor.promise_removal(pathlib.Path({str(state)!r}))
        child = supervisor.start(Program('c', (sys.executable, '-S', '-c', {SERVING!r})))
        await child.wait_ready(20)
        print(child.pid, flush=True)
        await trio.sleep_forever()
trio.run(main)
"""
    with trio.fail_after(DEADLINE):
        supervisor = await trio.lowlevel.open_process([sys.executable, "-c", code], stdout=-1, stderr=-1)
        assert supervisor.stdout is not None
        assert supervisor.stderr is not None
        async with supervisor.stdout as output, supervisor.stderr as errors:
            child = int(await output.receive_some())
            supervisor.send_signal(signal.SIGKILL)
            await supervisor.wait()
            # The guard holds the last copy of this pipe: its end of file says that the guard has done its work.
            assert await errors.receive_some() == b""
    assert not state.exists()
    assert is_gone(child)


async def test_a_signal_to_a_process_that_is_gone_is_nothing() -> None:
    Process(Program("web", ("true",))).signal(signal.SIGTERM)


def test_our_scripts_are_found_beside_the_interpreter_or_started_by_module(monkeypatch: pytest.MonkeyPatch) -> None:
    assert program_argv("mesh-agent")[0].endswith("mesh-agent")
    monkeypatch.setattr(sys, "executable", "/no/where/python")
    assert program_argv("mesh-pilot") == (
        "/no/where/python",
        "-P",
        "-c",
        "import sys; from mesh.ctl.pilot import main; sys.exit(main())",
    )


def test_prefixed_lines_are_aligned_and_coloured_on_request() -> None:
    plain, colored = io.StringIO(), io.StringIO()
    for log in (PrefixedLog(plain), PrefixedLog(colored, color=True)):
        log("web", "hello")
        log("web", "again")
        log("ratings-service", "hello")
    assert plain.getvalue().splitlines() == ["web      | hello", "web      | again", "ratings-service | hello"]
    assert colored.getvalue().startswith("\x1b[36mweb      |\x1b[0m hello\n\x1b[36mweb ")
    assert "\x1b[32mratings-service" in colored.getvalue()


def test_file_logs_keep_one_bounded_file_for_each_process(tmp_path: Path) -> None:
    log = FileLog(tmp_path / "logs", limit_bytes=20)
    for number in range(5):
        log("web", f"line {number}")
    log("api", "hello")
    log.close()
    assert (tmp_path / "logs" / "web.log").read_text() == "line 3\nline 4\n"
    assert (tmp_path / "logs" / "api.log").read_text() == "hello\n"
