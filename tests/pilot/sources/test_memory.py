import trio
import trio.testing

from pilot.resources.registry import load
from pilot.sources.memory import MemorySource


def namespace(name, **labels):
    text = f"apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {labels or '{}'}}}\n"
    return load(text, "f.yaml").objects[0]


async def test_first_everything_then_steps():
    source = MemorySource([namespace("a")])
    source.put(namespace("b"))
    changes = source.changes()
    assert [o.name for o in (await anext(changes)).upserts] == ["a", "b"]
    source.put(namespace("c"), namespace("a", x="y"))
    source.delete(("Namespace", "", "b"), ("Namespace", "", "nobody"))
    change = await anext(changes)
    assert [o.name for o in change.upserts] == ["c", "a"]
    assert change.deletes == (("Namespace", "", "b"),)
    assert source.faults() == ()
    await changes.aclose()


async def test_a_listener_waits_for_the_next_step(autojump_clock):
    source = MemorySource()
    changes = source.changes()
    assert (await anext(changes)).upserts == ()
    got = []

    async def listen():
        got.append(await anext(changes))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen)
        await trio.testing.wait_all_tasks_blocked()
        source.delete(("Namespace", "", "nobody"))
        await trio.testing.wait_all_tasks_blocked()
        assert not got
        source.put(namespace("a"))
    assert [o.name for o in got[0].upserts] == ["a"]
    await changes.aclose()
