"""A program under test: started in its own session, watched through /proc, ended for certain."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import socket
import subprocess
import time
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """A loopback port that was free a moment ago, for programs that cannot choose one themselves."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def tree(pid: int) -> list[int]:
    """`pid` and all its living descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, queue = [], [pid]
    while queue:
        found.append(queue.pop())
        queue.extend(children.get(found[-1], ()))
    return found


def cpu_seconds(pid: int) -> float:
    """User and system seconds of the tree below `pid`, children that have ended included."""
    return sum(int(x) for each in tree(pid) if (fields := _stat(each)) for x in fields[11:15]) / _TICK


def rss_bytes(pid: int) -> int:
    """Sum of VmRSS over the tree below `pid`."""
    total = 0
    for each in tree(pid):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{each}/status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    total += int(line.split()[1]) * 1024
    return total


def open_files(pid: int) -> int:
    """Open descriptors over the tree below `pid`."""
    total = 0
    for each in tree(pid):
        with contextlib.suppress(OSError):
            total += sum(1 for _ in Path(f"/proc/{each}/fd").iterdir())
    return total


def _stat(pid: int) -> list[str] | None:
    """Fields of /proc/PID/stat after the command's closing parenthesis: state, ppid, …"""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


class Died(Exception):
    """A program ended, or never became ready; the message ends with its log."""


class Program:
    """A child process with its log in a file. Use as a context manager; leaving ends the whole session."""

    def __init__(self, name: str, argv: list[str], folder: Path, *, env: dict[str, str] | None = None) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        with self.log.open("wb") as log:
            self.popen = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env=dict(os.environ, **(env or {})),
                start_new_session=True,
            )

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        return self.popen.pid

    def ready_line(self, timeout: float = 30.0) -> dict[str, str]:
        """Wait for `ready key=value …` on stdout; returns the keys. Raises Died."""
        assert self.popen.stdout is not None
        descriptor = self.popen.stdout.fileno()
        deadline, seen = time.monotonic() + timeout, b""
        while time.monotonic() < deadline:
            if not select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
                break
            chunk = os.read(descriptor, 65536)
            if not chunk:
                break
            seen += chunk
            found = re.search(rb"^ready (.*)\n", seen, re.MULTILINE)
            if found:
                return dict(pair.partition("=")[::2] for pair in found[1].decode().split())
        raise Died(self.epitaph("printed no ready line"))

    def accepts(self, port: int, timeout: float = 20.0) -> None:
        """Wait until something accepts on the loopback port. Raises Died."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline and self.popen.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.5):
                return
            time.sleep(0.05)
        raise Died(self.epitaph(f"does not accept on port {port}"))

    def alive(self) -> None:
        """Raise Died unless the program still runs."""
        if self.popen.poll() is not None:
            raise Died(self.epitaph("ended"))

    def epitaph(self, what: str) -> str:
        tail = self.log.read_text(errors="replace")[-1500:]
        return f"{self.name} {what} (exit status {self.popen.poll()}); end of its log:\n{tail}"

    def stop(self, grace: float = 8.0) -> None:
        """SIGTERM, then SIGKILL after `grace` seconds, to the session; returns when the child is reaped."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.popen.wait(grace)
                break
        if self.popen.stdout is not None:
            self.popen.stdout.close()
