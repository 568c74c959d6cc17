"""All agents of one pilot, over memory on a mock clock."""

from pathlib import Path

import trio
from trio.testing import MockClock

from mesh.feed.message import Ack, EndpointsPush, Hello, Push
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
