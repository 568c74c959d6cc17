"""The parts of a bench that can be wrong without anybody noticing: reading processes, quantiles, tables, markers."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.bench import load, table
from tests.bench.measure import Figures
from tests.bench.process import Died, Program, cpu_seconds, open_files, rss_bytes, tree

CHILD = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])"


def python(name: str, folder: Path, code: str) -> Program:
    return Program(name, [sys.executable, "-c", code], folder)


def test_a_program_is_ready_counted_with_its_children_and_ended(tmp_path: Path) -> None:
    code = f"{CHILD}\nprint('noise'); print('ready a=1 b=http://x/?y=2', flush=True); import time; time.sleep(60)"
    with python("parent", tmp_path, code) as program:
        assert program.ready_line() == {"a": "1", "b": "http://x/?y=2"}
        members = tree(program.pid)
        assert len(members) == 2
        assert rss_bytes(program.pid) > 5 * 2**20
        assert open_files(program.pid) >= 6
        assert cpu_seconds(program.pid) >= 0
        program.alive()
    assert not any(Path(f"/proc/{member}/cmdline").exists() for member in members[:1])
    with pytest.raises(Died, match="parent ended"):
        program.alive()


def test_work_of_children_that_ended_counts(tmp_path: Path) -> None:
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    wait = f"subprocess.run([sys.executable, '-c', {burn!r}])"
    code = f"import subprocess, sys, time; {wait}\nprint('ready x=1', flush=True)\ntime.sleep(60)"
    with python("burner", tmp_path, code) as program:
        program.ready_line()
        assert cpu_seconds(program.pid) >= 0.25


def test_a_program_that_dies_early_tells_its_log(tmp_path: Path) -> None:
    code = "import sys; print('the port is taken', file=sys.stderr); sys.exit(3)"
    with python("unlucky", tmp_path, code) as program, pytest.raises(Died, match="the port is taken"):
        program.ready_line()


def test_own_process_is_in_its_own_tree() -> None:
    assert tree(os.getpid())[0] == os.getpid()


def test_quantiles_of_a_sorted_list() -> None:
    times = [float(n) for n in range(1, 101)]
    assert load._quantile(times, 0.5) == 51
    assert load._quantile(times, 0.99) == 100
    assert load._quantile([7.0], 0.99) == 7


def test_rows_hold_medians_and_the_ratio() -> None:
    left = Figures("Envoy", 2**20, 2**21, [10000.0, 30000, 20000], [1.0], [0.0002], [0.001])
    right = Figures("Trioweave", 2**20, 2**20, [9000.0, 10000, 11000], [1.0], [0.0001], [0.002], failed=3)
    rows = table.comparison("gateway", left, right)
    assert rows[0] == "| gateway | requests per CPU-second | 20,000 | 10,000 | 0.50 |"
    assert rows[2] == "| gateway | p50 at 500/s, µs | 200 | 100 | 0.50 |"
    assert rows[-1] == "| gateway | failed requests | 0 | 3 | |"


def test_results_replace_what_stands_between_the_markers(tmp_path: Path) -> None:
    document = tmp_path / "performance.md"
    document.write_text(f"before\n{table.START}\nold\n{table.END}\nafter\n")
    table.write(document, "new\n")
    assert document.read_text() == f"before\n{table.START}\nnew\n{table.END}\nafter\n"
    document.write_text("no markers")
    with pytest.raises(ValueError, match="has no <!-- bench:start -->"):
        table.write(document, "new")
