"""All agents of one pilot, over memory on a mock clock."""

from pathlib import Path

import trio
import trio.testing
from trio.testing import MockClock

from mesh.feed.message import Ack, EndpointsPush, Goodbye, Hello, Push
from mesh.feed.node import Node
from pilot.push.translations import Translated
from tests.feed_rig import cluster, endpoints, memory_mesh, node, snapshot


async def test_configuration_waits_for_quiet_and_endpoints_do_not(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with memory_mesh(tmp_path) as mesh:
        mesh.pilot.told = snapshot(cluster("a"), eds=(endpoints("a", 1),))
        peer = mesh.peer()
        await peer.join("a")
        begin = trio.current_time()
        mesh.pilot.tell(snapshot(cluster("a", timeout=1.0), eds=(endpoints("a", 1),)))
        mesh.pilot.tell(snapshot(cluster("a", timeout=1.0), eds=(endpoints("a", 2),)), endpoints_only=True)
        await peer.expect(EndpointsPush)
        assert trio.current_time() == begin
        await trio.sleep(0.0625)
        mesh.pilot.tell(snapshot(cluster("a", timeout=2.0), eds=(endpoints("a", 2),)))
        push = await peer.expect(Push)
        assert abs(trio.current_time() - begin - 0.1625) < 1e-6
        assert len(push.upserts) == 1
        assert mesh.pilot.metric("pilot_debounce_time_count") == 1


async def test_a_complete_change_goes_at_once(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with memory_mesh(tmp_path) as mesh:
        peer = mesh.peer()
        await peer.join("a")
        begin = trio.current_time()
        mesh.pilot.tell(snapshot(cluster("b")), at_once=True)
        await peer.expect(Push)
        assert trio.current_time() == begin


async def test_wait_in_step_names_who_is_behind(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with memory_mesh(tmp_path) as mesh:
        quick, slow = mesh.peer(), mesh.peer()
        await quick.join("quick")
        await slow.join("slow")
        version = mesh.pilot.tell(snapshot(cluster("b")), at_once=True)
        push = await quick.expect(Push)
        await quick.send(Ack(push.nonce))
        behind = await mesh.pilot.fleet.wait_in_step(version, 2.0)
        assert [session.node.id for session in behind] == ["slow"]
        push = await slow.expect(Push)
        await slow.send(Ack(push.nonce))
        assert await mesh.pilot.fleet.wait_in_step(version, 2.0) == []
        await slow.transport.close()


async def test_who_leaves_is_not_waited_for(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with memory_mesh(tmp_path) as mesh:
        peer = mesh.peer()
        await peer.join("a")
        version = mesh.pilot.tell(snapshot(cluster("b")), at_once=True)
        await peer.expect(Push)
        mesh.nursery.start_soon(peer.transport.close)
        assert await mesh.pilot.fleet.wait_in_step(version, 100.0) == []


async def test_a_broken_translation_harms_its_proxy_alone(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with memory_mesh(tmp_path) as mesh:
        rig = mesh.pilot

        def translate(each: Node) -> Translated:
            if each.id == "bad":
                raise ValueError("a bug")
            return Translated(rig.told)

        rig.translations._translate = translate
        rig.translations._scope = lambda each: each.id
        bad = mesh.peer()
        await bad.send(Hello(node("bad")))
        await mesh.peer().join("good")
        assert rig.metric("pilot_total_xds_internal_errors") == 1
        assert [fields["proxy"] for event, fields in rig.log.lines if "failed" in event] == ["bad"]
        assert rig.metric('pilot_xds{version="1"}') == 2


async def test_expected_workloads_stay_for_their_grace(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with memory_mesh(tmp_path) as mesh:
        await mesh.peer().join("a")
        await mesh.peer().join("b")
    async with memory_mesh(tmp_path) as mesh:
        assert [each.id for each in mesh.pilot.registrations.restore(trio.current_time())] == ["a", "b"]
        begin = trio.current_time()
        await mesh.peer().join("a")
        await trio.sleep(14.0)
        assert mesh.gone == []
        await trio.sleep(2.0)
        assert mesh.gone == ["b"]
        assert trio.current_time() > begin


async def test_workers_are_one_workload_and_each_is_waited_for(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with memory_mesh(tmp_path) as mesh:
        fleet = mesh.pilot.fleet
        arrived: list[str] = []
        fleet.on_workload = lambda came, gone: (arrived if came else mesh.gone).append((came or gone or node("")).id)
        first, second = mesh.peer(), mesh.peer()
        await first.join("a", 0, 2)
        await second.join("a", 1, 2)
        assert arrived == ["a"]
        assert [(session.node.id, session.worker) for session in fleet.sessions] == [("a", 0), ("a", 1)]
        assert fleet.session("a") is fleet.of("a")[0]
        assert mesh.pilot.metric('pilot_xds{version="1"}') == 1
        version = mesh.pilot.tell(snapshot(cluster("b")), at_once=True)
        push = await first.expect(Push)
        await first.send(Ack(push.nonce))
        assert [session.worker for session in await fleet.wait_in_step(version, 2.0)] == [1]
        push = await second.expect(Push)
        await second.send(Ack(push.nonce))
        assert await fleet.wait_in_step(version, 2.0) == []


async def test_a_workload_is_gone_with_the_last_of_its_workers(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with memory_mesh(tmp_path) as mesh:
        first, second = mesh.peer(), mesh.peer()
        await first.join("a", 0, 2)
        await second.join("a", 1, 2)
        await first.transport.close()  # killed
        await trio.sleep(60)
        assert mesh.gone == []
        again = mesh.peer()
        await again.join("a", 0, 2)
        await second.send(Goodbye("leaving"))
        await trio.testing.wait_all_tasks_blocked()
        assert mesh.gone == []
        await again.send(Goodbye("leaving"))
        await trio.testing.wait_all_tasks_blocked()
        assert mesh.gone == ["a"]


async def test_a_worker_that_comes_again_ends_its_older_session_alone(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with memory_mesh(tmp_path) as mesh:
        first, second, again = mesh.peer(), mesh.peer(), mesh.peer()
        await first.join("a", 0, 2)
        await second.join("a", 1, 2)
        older = mesh.pilot.fleet.of("a")[0]
        await again.join("a", 0, 2)
        await first.ended()
        assert not mesh.pilot.fleet.is_current(older)
        assert len(mesh.pilot.fleet.of("a")) == 2
