"""Strands: resumed by whoever wakes them, moved into a task when they need one, closed when nobody will wake them."""

from __future__ import annotations

import weakref
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from mesh.net.strand import Pass, Strand, become_task, finish, running
from mesh.net.waiter import Waiter
from tests.rig import settle


class Told:
    """What strands did, in order; `waiter` is where they wait."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.seen: list[object] = []
        self.waiter = Waiter()

    def start(self, code: Callable[[], Awaitable[None]]) -> Strand:
        async def run() -> None:
            await code()

        made = Strand(run(), self.nursery, trio.lowlevel.current_trio_token())
        made.ready()
        return made


async def test_woken_within_a_pass_they_run_at_its_end_in_order() -> None:
    async with trio.open_nursery() as nursery:
        told, other = Told(nursery), Waiter()

        async def wait_in(waiter: Waiter, name: str) -> None:
            await waiter.wait()
            told.seen.append(name)

        with Pass():
            told.start(lambda: wait_in(told.waiter, "first"))
            told.start(lambda: wait_in(other, "second"))
        with Pass():
            other.wake()
            told.waiter.wake()
            assert told.seen == []
        assert told.seen == ["second", "first"]
        assert running.strand is None


async def test_woken_outside_of_a_pass_they_run_soon() -> None:
    async with trio.open_nursery() as nursery:
        told = Told(nursery)

        async def code() -> None:
            await told.waiter.wait()
            told.seen.append("woken")

        told.start(code)
        assert told.seen == []
        await settle()
        told.waiter.wake()
        assert told.seen == []
        await settle()
        assert told.seen == ["woken"]


async def test_one_may_wake_another() -> None:
    async with trio.open_nursery() as nursery:
        told, gate = Told(nursery), Waiter()

        async def waits() -> None:
            await gate.wait()
            told.seen.append("woken by a strand")

        async def wakes() -> None:
            gate.wake()
            told.seen.append("woke")

        with Pass():
            told.start(waits)
            told.start(wakes)
        assert told.seen == ["woke", "woken by a strand"]


async def test_it_becomes_a_task_to_wait_for_anything_else(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        told = Told(nursery)
        here = trio.lowlevel.current_task()

        async def code() -> None:
            told.seen.append(trio.lowlevel.current_task() is here)
            await become_task()
            told.seen.append(trio.lowlevel.current_task() is here)
            with trio.move_on_after(1):
                await trio.sleep_forever()
            await become_task()  # nothing to do any more
            await told.waiter.wait()
            told.seen.append("woken as a task")

        with Pass():
            made = told.start(code)
        assert made.task
        await trio.sleep(2)
        told.waiter.wake()
        await settle()
        assert told.seen == [True, False, "woken as a task"]


async def test_a_task_that_was_a_strand_is_cancelled_like_any_other() -> None:
    seen = []
    async with trio.open_nursery() as nursery:
        told = Told(nursery)

        async def code() -> None:
            await become_task()
            try:
                await told.waiter.wait()
            finally:
                seen.append("unwound")

        with Pass():
            told.start(code)
        await settle()
        nursery.cancel_scope.cancel()
    assert seen == ["unwound"]
    told.waiter.wake()  # finds nobody


async def test_an_exception_goes_to_whoever_resumed_it() -> None:
    async with trio.open_nursery() as nursery:
        told = Told(nursery)

        async def code() -> None:
            raise ZeroDivisionError("a bug")

        async def good() -> None:
            told.seen.append("ran")

        def run_both() -> None:
            with Pass():
                told.start(code)
                told.start(good)

        with pytest.raises(ZeroDivisionError, match="a bug"):
            run_both()
        assert running.strand is None
        await settle()
        assert told.seen == ["ran"]


async def test_waiting_for_what_only_a_task_can_is_a_bug_that_shows() -> None:
    async with trio.open_nursery() as nursery:
        told = Told(nursery)
        with pytest.raises(RuntimeError, match="only a task can wait"), Pass():
            told.start(trio.lowlevel.cancel_shielded_checkpoint)


async def test_the_end_of_one_that_nobody_will_wake() -> None:
    async with trio.open_nursery() as nursery:
        told = Told(nursery)

        async def code() -> None:
            try:
                await told.waiter.wait()
            finally:
                told.seen.append("unwound")

        with Pass():
            made = told.start(code)
        made.end()
        made.end()
        assert told.seen == ["unwound"]


async def test_two_may_not_wait_in_one_place() -> None:
    async with trio.open_nursery() as nursery:
        told = Told(nursery)
        with Pass():
            made = told.start(told.waiter.wait)
        with pytest.raises(trio.BusyResourceError):
            await told.waiter.wait()
        made.end()


async def test_last_words_end_a_strand_and_let_go_of_what_it_held() -> None:
    class Held:
        pass

    async with trio.open_nursery() as nursery:
        told, held = Told(nursery), Held()
        kept = weakref.ref(held)

        async def code(held: Held) -> None:
            await told.waiter.wait()
            told.seen.append("done")
            await finish()
            told.seen.append("resumed")

        made = told.start(lambda held=held: code(held))  # type: ignore[misc]
        del held
        await settle()
        told.waiter.wake()
        await settle()
        assert told.seen == ["done"]
        assert kept() is None
        made.ready()  # nobody should; nothing comes of it
        await settle()
        made.end()
        assert told.seen == ["done"]


async def test_a_task_goes_on_after_last_words() -> None:
    async with trio.open_nursery() as nursery:
        told = Told(nursery)

        async def code() -> None:
            await become_task()
            await finish()
            told.seen.append("went on")

        told.start(code)
        await settle()
        assert told.seen == ["went on"]
    await finish()
