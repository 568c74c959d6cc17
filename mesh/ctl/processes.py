"""Child processes under one supervisor: ready lines, logs, restarts with back-off, an ordered stop.

Each child leads a process group of its own, so a Ctrl-C at the terminal reaches the supervisor alone, and what a
child started ends with it. A guard process (guard.py) ends the groups when the supervisor itself is killed.
What the children are is not known here.
"""

from __future__ import annotations

import math
import os
import random
import shutil
import signal
import subprocess
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import trio

from mesh import backoff
from mesh.ctl import guard
from mesh.errors import MeshError

LogSink = Callable[[str, str], None]
"""Takes the name of a process and one line that it wrote."""

# A process that lived this long was healthy: its next death starts the back-off anew.
_HEALTHY_AFTER = 10.0
# Pipes of a dead process end at once, unless something it started holds them; that was killed as well.
_LAST_WORDS = 2.0
_TAIL = 12


@dataclass(frozen=True, slots=True)
class Program:
    """How to run one process.

    `env` comes on top of ours. `stage`: higher stages are stopped first. `restart`: start it again whenever it
    ends, after at least `restart_after` seconds; `pin` then turns the ready line of the first start into the
    arguments of the next ones, so that an address it once announced stays valid.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    stage: int = 0
    restart: bool = False
    restart_after: float = 0.0
    pin: Callable[[Mapping[str, str]], tuple[str, ...]] | None = None


class Process:
    """One supervised process through all its lives. `ready` holds the key=value pairs of its latest ready line."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.pid = 0
        self.starts = 0
        self.ready: dict[str, str] = {}
        self.is_ready = False
        self.status: int | None = None
        self.tail: deque[str] = deque(maxlen=_TAIL)
        self._argv = program.argv
        self._changed = trio.Event()

    @property
    def name(self) -> str:
        """The program's name."""
        return self.program.name

    @property
    def is_alive(self) -> bool:
        """Whether it runs at this moment."""
        return self.pid != 0

    async def wait_ready(self, within: float, *, start: int = 1, retry: bool = False) -> dict[str, str]:
        """Wait for the ready line of its `start`-th life or a later one; return the line's pairs.

        Raises MeshError with the process's last words when it ends before (with `retry`, only when time is up).
        """
        with trio.move_on_after(within):
            while not (self.is_ready and self.starts >= start):
                if self.status is not None and self.starts >= start and not retry:
                    raise MeshError(f"{self.name} ended with status {self.status} before it was ready{self._words()}")
                await self._changed.wait()
            return self.ready
        raise MeshError(f"{self.name} is not ready after {within:g} s{self._words()}")

    async def wait_ended(self, start: int) -> None:
        """Wait until its `start`-th life is over."""
        while not (self.starts > start or (self.starts == start and not self.is_alive)):
            await self._changed.wait()

    def signal(self, number: int) -> None:
        """Send a signal to the process, not to its children; nothing happens when it is gone."""
        if self.pid:
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                return

    def born(self, pid: int) -> None:
        """Note a new life (the supervisor's call)."""
        self.pid, self.status, self.is_ready = pid, None, False
        self.starts += 1
        self._tell()

    def heard_ready(self, pairs: dict[str, str]) -> None:
        """Note a ready line (the supervisor's call)."""
        self.ready, self.is_ready = pairs, True
        if self.program.pin and self._argv is self.program.argv:
            self._argv = self.program.pin(pairs)
        self._tell()

    def died(self, status: int) -> None:
        """Note the end of a life (the supervisor's call)."""
        self.pid, self.status, self.is_ready = 0, status, False
        self._tell()

    def arguments(self) -> tuple[str, ...]:
        """What to start it with the next time."""
        return self._argv

    def _tell(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def _words(self) -> str:
        return ":\n" + "\n".join(f"  {line}" for line in self.tail) if self.tail else " and said nothing"


def parse_ready(line: str) -> dict[str, str] | None:
    """The pairs of a line `ready key=value key=value`, or None when it is another line."""
    words = line.split()
    if not words or words[0] != "ready":
        return None
    return {key: value for key, _, value in (word.partition("=") for word in words[1:])}


class Supervisor:
    """Starts processes and keeps them as their programs ask. Made by open_supervisor."""

    def __init__(self, nursery: trio.Nursery, log: LogSink, rng: random.Random, guard_pipe: TextIO | None) -> None:
        self.processes: dict[str, Process] = {}
        self._nursery = nursery
        self._log = log
        self._rng = rng
        self._guard = guard_pipe
        self._stopping = False

    def start(self, program: Program) -> Process:
        """Start a process and return at once; wait_ready tells when it serves. Names are unique."""
        if program.name in self.processes:
            raise MeshError(f"two processes are named {program.name}; give each its own name")
        process = Process(program)
        self.processes[program.name] = process
        self._nursery.start_soon(self._keep, process)
        return process

    def promise_removal(self, directory: Path) -> None:
        """Have the guard remove `directory` if we cannot."""
        self._tell_guard(f"dir {directory}")

    async def stop(self, grace: float) -> None:
        """SIGTERM stage by stage, highest first; after `grace` seconds in a stage its rest gets SIGKILL."""
        self._stopping = True
        for stage in sorted({process.program.stage for process in self.processes.values()}, reverse=True):
            members = [process for process in self.processes.values() if process.program.stage == stage]
            with trio.move_on_after(grace):
                for process in members:
                    process.signal(signal.SIGTERM)
                for process in members:
                    await process.wait_ended(process.starts)
            for process in members:
                if process.is_alive:
                    self._log(process.name, f"did not end within {grace:g} s of SIGTERM; killed")
                    guard.signal_group(process.pid, signal.SIGKILL)
                    await process.wait_ended(process.starts)

    async def _keep(self, process: Process) -> None:
        pauses = backoff.delays(self._rng)
        while not self._stopping:
            began = trio.current_time()
            await self._live(process)
            if not process.program.restart:
                return
            if trio.current_time() - began >= _HEALTHY_AFTER:
                pauses = backoff.delays(self._rng)
            pause = max(next(pauses), process.program.restart_after)
            if not self._stopping:
                self._log(process.name, f"ended with status {process.status}; starts again in {pause:.1f} s")
            await trio.sleep(pause)

    async def _live(self, process: Process) -> None:
        program = process.program
        try:
            child = await trio.lowlevel.open_process(
                process.arguments(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                process_group=0,
                env={**os.environ, **program.env},
                cwd=program.cwd,
            )
        except OSError as exc:
            process.born(0)
            process.tail.append(f"cannot start {program.argv[0]}: {exc.strerror}")
            self._log(process.name, process.tail[-1])
            process.died(127)
            return
        self._tell_guard(f"+{child.pid}")
        process.born(child.pid)
        try:
            async with trio.open_nursery() as nursery:
                assert child.stdout is not None
                assert child.stderr is not None
                nursery.start_soon(self._listen, process, child.stdout, True)
                nursery.start_soon(self._listen, process, child.stderr, False)
                await child.wait()
                guard.signal_group(child.pid, signal.SIGKILL)
                nursery.cancel_scope.deadline = trio.current_time() + _LAST_WORDS
        finally:
            guard.signal_group(child.pid, signal.SIGKILL)
            with trio.CancelScope(shield=True):
                status = await child.wait()
            self._tell_guard(f"-{child.pid}")
            process.died(status)

    async def _listen(self, process: Process, stream: trio.abc.ReceiveStream, is_stdout: bool) -> None:
        rest = b""
        async with stream:
            while data := await stream.receive_some():
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    self._hear(process, line, is_stdout)
            if rest:
                self._hear(process, rest, is_stdout)

    def _hear(self, process: Process, raw: bytes, is_stdout: bool) -> None:
        line = raw.decode("utf-8", "replace").rstrip()
        if is_stdout and (pairs := parse_ready(line)) is not None:
            process.heard_ready(pairs)
        process.tail.append(line)
        self._log(process.name, line)

    def _tell_guard(self, line: str) -> None:
        if self._guard is not None:
            try:
                self._guard.write(line + "\n")
                self._guard.flush()
            except BrokenPipeError:
                self._guard = None
                self._log("guard", "the guard process is gone; if this program is killed, its children stay")


@asynccontextmanager
async def open_supervisor(
    log: LogSink, *, rng: random.Random | None = None, grace: float = 8.0
) -> AsyncIterator[Supervisor]:
    """A supervisor for the length of the block. Leaving it, in whatever way, stops everything it started."""
    theirs, ours = os.pipe()
    pipe = os.fdopen(ours, "w")
    try:
        warden = await trio.lowlevel.open_process(
            [sys.executable, "-P", guard.__file__], stdin=theirs, stdout=subprocess.DEVNULL, start_new_session=True
        )
    finally:
        os.close(theirs)
    try:
        async with trio.open_nursery() as nursery:
            supervisor = Supervisor(nursery, log, rng or random.Random(), pipe)
            try:
                yield supervisor
            finally:
                with trio.CancelScope(shield=True):
                    await supervisor.stop(grace)
                nursery.cancel_scope.cancel()
    finally:
        pipe.close()
        with trio.CancelScope(shield=True):
            await warden.wait()


def program_argv(script: str) -> tuple[str, ...]:
    """How to start one of our own scripts with this very interpreter: the file beside it, else its module."""
    beside = Path(sys.executable).parent / script
    if beside.exists() and os.access(beside, os.X_OK):
        return (str(beside),)
    module = {"mesh-agent": "agent", "mesh-pilot": "pilot", "meshctl": "main"}[script]
    return (sys.executable, "-P", "-c", f"import sys; from mesh.ctl.{module} import main; sys.exit(main())")


class PrefixedLog:
    """Writes every line to one stream, each behind the name of its process, coloured when the stream is a terminal."""

    _COLORS = (36, 32, 33, 35, 34, 96, 92, 93, 95, 94)

    def __init__(self, stream: TextIO, *, color: bool | None = None) -> None:
        self._stream = stream
        self._color = stream.isatty() and "NO_COLOR" not in os.environ if color is None else color
        self._styles: dict[str, int] = {}
        self._width = 8

    def __call__(self, name: str, line: str) -> None:
        """Write one line."""
        self._width = max(self._width, len(name))
        label = f"{name:<{self._width}} |"
        if self._color:
            style = self._styles.setdefault(name, self._COLORS[len(self._styles) % len(self._COLORS)])
            label = f"\x1b[{style}m{label}\x1b[0m"
        self._stream.write(f"{label} {line}\n")
        self._stream.flush()


class FileLog:
    """Writes the lines of each process to a file of its own in `directory`, at most `limit_bytes` in each."""

    def __init__(self, directory: Path, *, limit_bytes: float = math.inf) -> None:
        self._directory = directory
        self._limit = limit_bytes
        self._files: dict[str, TextIO] = {}
        directory.mkdir(parents=True, exist_ok=True)

    def __call__(self, name: str, line: str) -> None:
        """Write one line; a file that reached its limit starts anew."""
        file = self._files.get(name)
        if file is None:
            file = self._files[name] = (self._directory / f"{name}.log").open("w", encoding="utf-8")
        elif file.tell() > self._limit:
            file.seek(0)
            file.truncate()
        file.write(line + "\n")
        file.flush()

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()
        self._files.clear()


def remove_tree(directory: Path) -> None:
    """Remove a directory of ours, whatever is in it."""
    shutil.rmtree(directory, ignore_errors=True)
