"""Who waits for bytes, without a system call for every wait.

Trio arms a socket anew for each wait: one epoll_ctl and its book-keeping, a seventh of what a proxied request costs.
Here a socket is registered once, edge-triggered, with an epoll of our own that hangs in Trio's. After every wait for
I/O of the loop all its events are taken at once and their tasks woken, in the same pass. Where `Readiness.run` does
not run (other programs, tests with a clock of their own) a watch waits by Trio's means.
"""

from __future__ import annotations

import select
from typing import Any, Final

import trio
from trio.lowlevel import Abort, RunVar, checkpoint, current_task, reschedule, wait_readable, wait_task_rescheduled

_EVENTS: Final = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET
_ENDED: Final = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
_MOST: Final = 512
"""Events of one pass. More of them wait for the next one, so that timers and other tasks come in between."""

_running: RunVar[Readiness | None] = RunVar("readiness", default=None)


class Watch:
    """What is known of one socket; who reads from it keeps `readable` up to date.

    `readable` False: a read would find nothing, so `wait` must come first. `ended`: the end of the stream or an error
    is there to be read, behind whatever else is.
    """

    __slots__ = ("_fd", "_readiness", "_task", "ended", "readable")

    def __init__(self, fd: int, readiness: Readiness | None) -> None:
        self._fd = fd
        self._readiness = readiness
        self._task: trio.lowlevel.Task | None = None
        self.readable = True
        self.ended = False

    @property
    def knows(self) -> bool:
        """Whether `readable` False is certain, as of the beginning of this pass of the scheduler."""
        return self._readiness is not None and not self._readiness.behind

    async def wait(self) -> None:
        """Until a read may find something. Raises trio.ClosedResourceError once closed, trio.BusyResourceError when
        another task waits."""
        if self._task is not None:
            raise trio.BusyResourceError("another task reads here")
        if self._fd < 0:
            raise trio.ClosedResourceError("closed on this side")
        if self.readable:
            await checkpoint()
        elif self._readiness is None:
            await wait_readable(self._fd)
        else:
            self._task = current_task()
            await wait_task_rescheduled(self._give_up)
            if self._fd < 0:
                raise trio.ClosedResourceError("closed on this side")

    def _give_up(self, raise_cancel: Any) -> Abort:
        self._task = None
        return Abort.SUCCEEDED

    def wake(self) -> None:
        """Let the waiting task, if there is one, look again."""
        task = self._task
        if task is not None:
            self._task = None
            reschedule(task)

    def close(self) -> None:
        """The socket is about to be closed. A task that waits by Trio's means is woken by `notify_closing`."""
        if self._readiness is not None:
            self._readiness.forget(self._fd)
        self._fd = -1
        self.wake()

    def leave(self) -> None:
        """`Readiness` is gone: wait by Trio's means from now on."""
        self._readiness = None
        self.readable = True
        self.wake()


def watch(fd: int) -> Watch:
    """Watch a non-blocking socket; close the watch just before the socket."""
    readiness = _running.get()
    if readiness is None:
        return Watch(fd, None)
    return readiness.watch(fd)


class Readiness(trio.abc.Instrument):
    """The epoll and its watches. `run` is its life."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._watches: dict[int, Watch] = {}
        self.behind = False
        """Whether there were more events in this pass than could be taken."""

    def watch(self, fd: int) -> Watch:
        """Register `fd`; it leaves the kernel's list when it is closed."""
        try:
            self._epoll.register(fd, _EVENTS)
        except OSError:  # the kernel's limit of watches or memory: this one goes Trio's way
            return Watch(fd, None)
        made = self._watches[fd] = Watch(fd, self)
        return made

    def forget(self, fd: int) -> None:
        """Its number may come back as another socket."""
        self._watches.pop(fd, None)

    def after_io_wait(self, timeout: float) -> None:
        """Take the events and wake who waits. No task runs in between, so no event is of a closed socket."""
        events = self._epoll.poll(0, _MOST)
        self.behind = len(events) == _MOST
        for fd, flags in events:
            found = self._watches.get(fd)
            if found is not None:
                found.readable = True
                if flags & _ENDED:
                    found.ended = True
                found.wake()

    async def run(self) -> None:
        """Serve the running loop until cancelled; watches made meanwhile go on by Trio's means."""
        _running.set(self)
        trio.lowlevel.add_instrument(self)
        try:
            while True:
                await wait_readable(self._epoll.fileno())  # ends the loop's sleep; the events were taken just before
        finally:
            trio.lowlevel.remove_instrument(self)
            _running.set(None)
            watches, self._watches = self._watches, {}
            for each in watches.values():
                each.leave()
            trio.lowlevel.notify_closing(self._epoll.fileno())
            self._epoll.close()
