"""What the guard remembers and what it does at the end."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mesh.ctl import guard


def sleeper(*, stubborn: bool = False) -> subprocess.Popen[bytes]:
    prelude = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" if stubborn else ""
    child = subprocess.Popen(
        [sys.executable, "-S", "-c", prelude + "print('up', flush=True); import time; time.sleep(600)"],
        stdout=subprocess.PIPE,
        process_group=0,
    )
    assert child.stdout is not None
    with child.stdout:
        child.stdout.readline()
    return child


def test_groups_that_ended_are_forgotten() -> None:
    assert guard.watch(["+11\n", "dir /a b\n", "+12\n", "-11\n", "-99\n"]) == ({12}, ["/a b"])


def test_living_groups_end_politely_and_directories_go(tmp_path: Path) -> None:
    state = tmp_path / "state"
    (state / "inner").mkdir(parents=True)
    child = sleeper()
    guard.clean_up({child.pid}, [str(state)], grace=0.2)
    assert child.wait(10) == -signal.SIGTERM
    assert not state.exists()


def test_stubborn_groups_are_killed() -> None:
    child = sleeper(stubborn=True)
    guard.clean_up({child.pid}, [], grace=0.1)
    assert child.wait(10) == -signal.SIGKILL


def test_a_group_that_is_gone_is_no_error() -> None:
    child = sleeper()
    child.kill()
    child.wait(10)
    assert not guard.signal_group(child.pid, 0)


def test_as_a_program_it_acts_at_end_of_file() -> None:
    child = sleeper()
    program = subprocess.Popen([sys.executable, "-P", guard.__file__], stdin=subprocess.PIPE, text=True)
    program.communicate(f"+{child.pid}\n", timeout=20)
    assert program.returncode == 0
    assert child.wait(10) == -signal.SIGTERM


def test_it_reads_its_orders_from_stdin(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    child = sleeper()
    (tmp_path / "state").mkdir()
    before = [signal.getsignal(number) for number in guard.IGNORED]
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"+{child.pid}\ndir {tmp_path / 'state'}\n"))
    try:
        guard.main()
        assert [signal.getsignal(number) for number in guard.IGNORED] == [signal.SIG_IGN] * 3
    finally:
        for number, handler in zip(guard.IGNORED, before, strict=True):
            signal.signal(number, handler)
    assert child.wait(10) == -signal.SIGTERM
    assert list(tmp_path.iterdir()) == []
