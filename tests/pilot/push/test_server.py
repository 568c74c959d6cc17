"""The feed's network door: real wss on loopback, on the real clock."""

import ssl
import time
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from agent.websocket import Certificate, Unreachable, WebSocketWay
from mesh.feed.message import Hello, Push, Refusal, ToAgent, Welcome
from mesh.feed.transport import FeedClosed
from mesh.identity.contexts import feed_client_context
from mesh.identity.pki import Issuer, make_csr, make_key, make_root
from mesh.identity.spiffe import make
from pilot.push.server import FeedServer
from tests.feed_rig import DEADLINE, AgentRig, Peer, PilotRig, cluster, node, snapshot, way

wall = time.time  # noqa: TID251  certificates are checked by OpenSSL against the real clock


def certificate(issuer: Issuer, account: str = "a") -> Certificate:
    key = make_key()
    uri = make("cluster.local", "default", account).uri
    leaf = issuer.sign_workload(make_csr(key), uri, now=wall(), ttl=3600)
    return Certificate(leaf, key, wall() + 3600)


async def first_answer(there: WebSocketWay) -> ToAgent:
    async with there.connect() as transport:
        peer = Peer(transport)
        await peer.send(Hello(node("a")))
        return await peer.receive()


async def test_agents_get_snapshots_and_deltas(tmp_path: Path) -> None:
    async with PilotRig(tmp_path, wall=wall).running() as pilot, trio.open_nursery() as nursery:
        agent = AgentRig("a", way(pilot).connect, wall=wall)
        nursery.start_soon(agent.client.run)
        await agent.wait(lambda s: s == pilot.told)
        version = pilot.tell(snapshot(cluster("a"), cluster("b")), at_once=True)
        await agent.wait(lambda s: "b" in s.clusters)
        assert await pilot.fleet.wait_in_step(version, DEADLINE) == []
        assert agent.client.state.connected
        assert agent.counted("delta_push") == 1
        nursery.cancel_scope.cancel()


async def test_ten_agents_converge(tmp_path: Path) -> None:
    async with PilotRig(tmp_path, wall=wall).running() as pilot, trio.open_nursery() as nursery:
        agents = [AgentRig(f"agent-{i}", way(pilot).connect, wall=wall) for i in range(10)]
        for agent in agents:
            nursery.start_soon(agent.client.run)
        for agent in agents:
            await agent.wait(lambda s: s == pilot.told)
        version = pilot.tell(snapshot(*(cluster(f"c{i}") for i in range(50))), at_once=True)
        assert await pilot.fleet.wait_in_step(version, DEADLINE) == []
        for agent in agents:
            assert agent.snapshots[-1] == pilot.told
        assert pilot.translations.made <= 12, "equal proxies share translations"
        assert pilot.metric('pilot_xds{version="1"}') == 10
        nursery.cancel_scope.cancel()


async def test_restarted_pilot_resumes_without_a_full_push(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        async with PilotRig(tmp_path, wall=wall).running() as pilot:
            port = pilot.port
            agent = AgentRig("a", way(pilot).connect, wall=wall)
            nursery.start_soon(agent.client.run)
            await agent.wait(lambda s: s == pilot.told)
        seen = len(agent.snapshots)
        async with PilotRig(tmp_path, wall=wall).running(port) as again:
            await again.log.wait(lambda event, fields: event == "agent connected" and fields["resumed"])
            assert await again.fleet.wait_in_step(0, DEADLINE) == []
            assert again.metric("trioweave_full_pushes_total") == 0
            assert all(s == again.told for s in agent.snapshots[seen:])
            nursery.cancel_scope.cancel()


async def test_rejected_resource_keeps_its_last_good_version(tmp_path: Path) -> None:
    async with PilotRig(tmp_path, wall=wall).running() as pilot, trio.open_nursery() as nursery:
        agent = AgentRig("a", way(pilot).connect, wall=wall)
        agent.refuse = {"a": "cannot be compiled"}
        nursery.start_soon(agent.client.run)
        await agent.wait(lambda s: s == pilot.told)
        version = pilot.tell(snapshot(cluster("a", timeout=1.0), cluster("b")), at_once=True)
        assert await pilot.fleet.wait_in_step(version, DEADLINE) == []
        assert agent.snapshots[-1] == snapshot(cluster("a"), cluster("b"))
        session = pilot.fleet.session("a")
        assert session is not None
        assert [(r.name, r.reason) for r in session.book.rejections] == [("a", "cannot be compiled")]
        nursery.cancel_scope.cancel()


async def test_a_wrong_token_gets_nothing(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("not-the-token-of-this-mesh")
    async with PilotRig(tmp_path / "state", wall=wall).running() as pilot:
        with pytest.raises(Unreachable, match="does not accept this token") as failure:
            async with way(pilot, token_file=wrong).connect():
                raise AssertionError("let in")
        assert failure.value.label == "unauthorized"
        assert pilot.metric('trioweave_feed_refusals_total{reason="token"}') == 1
        assert pilot.fleet.sessions == []
        assert any("--token-file" in str(fields.get("remedy")) for _, fields in pilot.log.lines)


async def test_a_certificate_of_another_authority_gets_nothing(tmp_path: Path) -> None:
    foreign = certificate(Issuer(*make_root("foreign", now=wall(), lifetime=86400)))
    async with PilotRig(tmp_path, wall=wall).running() as pilot:
        with pytest.raises((Unreachable, FeedClosed)):
            await first_answer(way(pilot, certificate=lambda: foreign))
        await pilot.log.wait(lambda event, fields: "TLS" in fields.get("reason", ""))
        assert pilot.metric('trioweave_feed_refusals_total{reason="tls"}') == 1
        assert pilot.fleet.sessions == []


@pytest.mark.parametrize(("account", "kind"), [("a", Welcome), ("b", Refusal)])
async def test_a_certificate_of_the_mesh_stands_for_the_token(tmp_path: Path, account: str, kind: type) -> None:
    async with PilotRig(tmp_path, wall=wall).running() as pilot:
        ours = certificate(pilot.authority.issuer)
        async with way(pilot, token_file=None, certificate=lambda: ours).connect() as transport:
            peer = Peer(transport)
            await peer.send(Hello(node("a", service_account=account)))
            await peer.expect(kind)


async def test_a_pilot_of_another_authority_is_not_trusted(tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    other.write_bytes(make_root("other", now=wall(), lifetime=86400)[0])
    async with PilotRig(tmp_path / "state", wall=wall).running() as pilot:
        with pytest.raises(Unreachable, match=r"root-cert\.pem") as failure:
            async with way(pilot, ca_file=other).connect():
                raise AssertionError("trusted")
        assert failure.value.label == "tls"


async def test_other_paths_are_not_served(tmp_path: Path) -> None:
    async with PilotRig(tmp_path, wall=wall).running() as pilot:
        elsewhere = way(pilot)
        elsewhere._path = "/elsewhere"
        with pytest.raises(Unreachable, match="answered 404"):
            async with elsewhere.connect():
                raise AssertionError("served")


async def test_plaintext_needs_the_token_too(tmp_path: Path) -> None:
    pilot = PilotRig(tmp_path, wall=wall)
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    pilot.port = listener.socket.getsockname()[1]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pilot.fleet.run)
        nursery.start_soon(FeedServer(pilot.fleet, pilot.token, lambda: None).serve, listener)
        plain = way(pilot)
        plain._secure = False
        async with plain.connect() as transport:
            assert (await Peer(transport).join("a")).full
            await transport.ping()
        (tmp_path / "token").write_text("another-token-than-before")
        with pytest.raises(Unreachable, match="token"):
            async with plain.connect():
                raise AssertionError("let in")
        nursery.cancel_scope.cancel()


async def test_garbage_and_hang_ups_do_not_harm_the_port(tmp_path: Path) -> None:
    async with PilotRig(tmp_path, wall=wall).running() as pilot:
        for data in (b"", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05hello"):
            stream = await trio.open_tcp_stream("127.0.0.1", pilot.port)
            if data:
                await stream.send_all(data)
            await stream.aclose()
        context = feed_client_context(pilot.authority.roots_pem)
        stream = await trio.open_tcp_stream("127.0.0.1", pilot.port)
        secure = trio.SSLStream(stream, context, server_hostname="127.0.0.1", https_compatible=True)
        await secure.send_all(b"GET /feed HTTP/1.1\r\nHost: x\r\n\r\n")
        await secure.aclose()
        async with way(pilot).connect() as transport:
            assert (await Peer(transport).join("a")).full
        assert pilot.metric('trioweave_feed_refusals_total{reason="tls"}') >= 2


async def test_strangers_are_limited_in_number_and_time(tmp_path: Path, autojump_clock: MockClock) -> None:
    pilot = PilotRig(tmp_path, wall=wall)
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    async with listener, trio.open_nursery() as nursery:
        server = FeedServer(pilot.fleet, pilot.token, lambda: pilot.context, max_handshakes=1)
        nursery.start_soon(server.serve, listener)
        first = await trio.open_tcp_stream("127.0.0.1", port)
        await wait_all_tasks_blocked()
        second = await trio.open_tcp_stream("127.0.0.1", port)
        assert await second.receive_some() == b""
        assert await first.receive_some() == b""
        assert trio.current_time() > 9
        await first.aclose()
        await second.aclose()
        nursery.cancel_scope.cancel()
    for reason in ("busy", "timeout"):
        assert pilot.metric(f'trioweave_feed_refusals_total{{reason="{reason}"}}') == 1


async def test_a_bug_in_one_session_does_not_end_the_port(tmp_path: Path) -> None:
    async with PilotRig(tmp_path, wall=wall).running() as pilot:

        def fake_bug(arrived: object, gone: object) -> None:
            if getattr(arrived, "id", "") == "bad":
                raise KeyError("a bug")

        pilot.fleet.on_workload = fake_bug
        async with way(pilot).connect() as transport:
            peer = Peer(transport)
            await peer.send(Hello(node("bad")))
            await peer.expect(Welcome)
            await peer.ended()
        await pilot.log.wait(lambda event, fields: "a bug" in str(fields.get("error")))
        async with way(pilot).connect() as transport:
            assert (await Peer(transport).join("good")).full


async def test_tls_below_1_2_is_refused(tmp_path: Path) -> None:
    async with PilotRig(tmp_path, wall=wall).running() as pilot:
        assert pilot.context.minimum_version is ssl.TLSVersion.TLSv1_2


async def test_a_broken_session_has_a_grace_and_a_close_has_none(tmp_path: Path) -> None:
    async with PilotRig(tmp_path, wall=wall).running() as pilot:
        gone: list[str] = []
        left = trio.Event()

        def on_workload(arrived: object, node: object) -> None:
            if node is not None:
                gone.append(getattr(node, "id", ""))
                left.set()

        pilot.fleet.on_workload = on_workload
        async with way(pilot).connect() as transport:
            await Peer(transport).join("a")
        with trio.fail_after(DEADLINE):
            await left.wait()
        assert gone == ["a"]


async def test_a_push_larger_than_a_default_frame_arrives(tmp_path: Path) -> None:
    async with PilotRig(tmp_path, wall=wall).running() as pilot:
        pilot.told = snapshot(
            *(cluster(f"outbound|9080|v{i}|a-rather-long-service-name.default.svc") for i in range(20000))
        )
        async with way(pilot).connect() as transport:
            peer = Peer(transport)
            await peer.send(Hello(node("a")))
            await peer.expect(Welcome)
            assert len((await peer.expect(Push)).upserts) == 20000
