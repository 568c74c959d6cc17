"""What a program leaves behind: processes that descend from it, ports that still listen, files."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from pathlib import Path

_PROC = Path("/proc")


def descendants(pid: int) -> set[int]:
    """All processes below `pid`; empty where there is no /proc to read them from."""
    children: dict[int, list[int]] = {}
    for entry in _PROC.glob("[0-9]*"):
        if parent := _parent(int(entry.name)):
            children.setdefault(parent, []).append(int(entry.name))
    found: set[int] = set()
    waiting = [pid]
    while waiting:
        for child in children.get(waiting.pop(), []):
            found.add(child)
            waiting.append(child)
    return found


def is_alive(pid: int) -> bool:
    """Whether the process runs; a zombie, which holds nothing any more, does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return _state(pid) != "Z"


def is_listening(address: str) -> bool:
    """Whether something accepts connections at HOST:PORT."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=1.0).close()
    except OSError:
        return False
    return True


def still_there(pids: Iterable[int], addresses: Iterable[str], folder: Path) -> list[str]:
    """What is left of a program whose processes, addresses and folder of files these were; one phrase each."""
    left = [f"process {pid}" for pid in sorted(pids) if is_alive(pid)]
    left += [f"a listener at {address}" for address in addresses if is_listening(address)]
    left += [f"the file {file}" for file in sorted(folder.rglob("*"))]
    return left


def _stat(pid: int) -> list[str]:
    try:
        return (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def _parent(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[1]) if fields else 0


def _state(pid: int) -> str:
    fields = _stat(pid)
    return fields[0] if fields else ""
