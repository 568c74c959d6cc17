"""The guard of a supervisor: a tiny process that cleans up when the supervisor is gone.

It reads lines from its stdin, whose other end only the supervisor holds: `+PGID` and `-PGID` for process groups
that live and that have ended, `dir PATH` for a directory to remove. At end of file, however it came about
(SIGKILL included), the groups still named get SIGTERM, then SIGKILL, and the directories go. Standard library
only: it lives as long as the demo and must cost nothing.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Iterable

# An agent that drains takes its time; a supervisor that was killed has no more of it to give.
GRACE = 3.0
_POLL = 0.05
IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""A terminal's signals are the supervisor's business."""


def watch(lines: Iterable[str]) -> tuple[set[int], list[str]]:
    """Read to the end of `lines`; return the process groups and directories left to clean up."""
    groups: set[int] = set()
    directories: list[str] = []
    for line in lines:
        word, _, rest = line.rstrip("\n").partition(" ")
        if word == "dir":
            directories.append(rest)
        elif word.startswith("+"):
            groups.add(int(word[1:]))
        elif word.startswith("-"):
            groups.discard(int(word[1:]))
    return groups, directories


def signal_group(group: int, number: int) -> bool:
    """Send a signal to a process group; False when the group has no process left."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    except PermissionError:
        # macOS says this of a group that holds only zombies.
        return False
    return True


def clean_up(groups: set[int], directories: Iterable[str], grace: float = GRACE) -> None:
    """End the groups, politely and then not, and remove the directories."""
    living = {group for group in groups if signal_group(group, signal.SIGTERM)}
    until = time.monotonic() + grace
    while living and time.monotonic() < until:
        time.sleep(_POLL)
        living = {group for group in living if signal_group(group, 0)}
    for group in living:
        signal_group(group, signal.SIGKILL)
    for directory in directories:
        shutil.rmtree(directory, ignore_errors=True)


def main() -> None:
    """Guard until stdin ends."""
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    clean_up(*watch(sys.stdin))


if __name__ == "__main__":
    main()
