"""Coroutines that run without a task of their own: whoever wakes one resumes it, in one pass with all that are ready.

A scheduler's task costs a third of a small exchange between two multiplexed connections, which only ever waits for its
connections' readers. Such an exchange runs as a strand. It may wait in a `Waiter` and nowhere else; before anything
that is Trio's (a cancel scope, a nursery, a socket) it awaits `become_task`, which moves it, as it is, into a task.
"""

from __future__ import annotations

import types
from collections import deque
from collections.abc import Coroutine, Generator
from typing import Any, Final

import trio

PARK: Final = object()
_PROMOTE: Final = object()
_END: Final = object()

_ready: deque[Strand] = deque()
_passing = 0
_scheduled = False


class Strand:
    """Owns `coroutine`, which must return None and handle its own exceptions; `nursery` takes it if it becomes a task.

    `end` closes one that nobody will wake any more.
    """

    __slots__ = ("_coroutine", "_nursery", "task", "token")

    def __init__(
        self, coroutine: Coroutine[Any, Any, None], nursery: trio.Nursery, token: trio.lowlevel.TrioToken
    ) -> None:
        self._coroutine: Coroutine[Any, Any, None] | None = coroutine
        self._nursery = nursery
        self.token = token
        self.task = False
        """True once it has become a task."""

    def ready(self) -> None:
        """Resume it when this pass of a reader is over, else as soon as the loop can."""
        global _scheduled
        _ready.append(self)
        if not _passing and not _scheduled:
            _scheduled = True
            self.token.run_sync_soon(run_ready)

    def step(self) -> None:
        """Run it until it waits, becomes a task, or ends."""
        coroutine = self._coroutine
        if coroutine is None:
            return
        before, running.strand = running.strand, self
        try:
            trap = coroutine.send(None)
        except StopIteration:
            self._coroutine = None
            return
        finally:
            running.strand = before
        if trap is PARK:
            return
        if trap is _PROMOTE:
            self.task = True
            self._nursery.start_soon(_go_on, coroutine, name="exchange")
            return
        self._coroutine = None
        if trap is not _END:
            coroutine.close()
            raise RuntimeError("a strand waited for something that only a task can wait for")

    def end(self) -> None:
        """Close a coroutine that waits for what will not come."""
        if self._coroutine is not None:
            self._coroutine.close()


class _Running:
    """`strand` is the one whose code is running; None within a task. One thread, so one at a time."""

    __slots__ = ("strand",)

    def __init__(self) -> None:
        self.strand: Strand | None = None


running: Final = _Running()


class Pass:
    """`with`: strands that are woken in the body run, in the order of their waking, at its end."""

    __slots__ = ()

    def __enter__(self) -> None:
        global _passing
        _passing += 1

    def __exit__(self, *exc: object) -> None:
        global _passing
        _passing -= 1
        if not _passing:
            run_ready()


def run_ready() -> None:
    """Run all strands that are ready, and those that they wake."""
    global _passing, _scheduled
    _scheduled = False
    _passing += 1
    try:
        while _ready:
            _ready.popleft().step()
    finally:
        _passing -= 1
        if _ready and not _scheduled:  # one has failed, which is its resumer's trouble: the others go on
            _scheduled = True
            _ready[0].token.run_sync_soon(run_ready)


async def finish() -> None:
    """The last words of a coroutine that may be a strand, and whose own end, an exception, costs more than all of this.

    A strand is not resumed after it; a task goes on.
    """
    if running.strand is not None:
        await _end()


@types.coroutine
def _end() -> Generator[object, None, None]:
    yield _END


async def become_task() -> None:
    """From here on the caller may wait for anything; nothing happens where it is a task already."""
    if running.strand is not None:
        await _promote()


@types.coroutine
def _promote() -> Generator[object, None, None]:
    yield _PROMOTE


@types.coroutine
def park() -> Generator[object, None, None]:
    """Give up control of a strand until its `step` is called again."""
    yield PARK


async def _go_on(coroutine: Coroutine[Any, Any, None]) -> None:
    await _finish(coroutine)


@types.coroutine
def _finish(coroutine: Coroutine[Any, Any, None]) -> Generator[Any, Any, None]:
    """Go on with a coroutine that has begun elsewhere, passing on what it asks of the scheduler."""
    value: Any = None
    error: BaseException | None = None
    while True:
        try:
            trap = coroutine.send(value) if error is None else coroutine.throw(error)
        except StopIteration:
            return
        value, error = None, None
        try:
            value = yield trap
        except BaseException as exc:
            error = exc
