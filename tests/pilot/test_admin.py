"""The operator's door, page by page, over memory on a mock clock."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import MockClock

from mesh.errors import ConfigError
from mesh.feed.message import (
    Ack,
    Ejection,
    Hello,
    Nack,
    Push,
    Rejected,
    Report,
    RequestStatistics,
    Welcome,
)
from mesh.net.http import Request, Response
from pilot.admin import Admin
from pilot.applied import AppliedFiles
from pilot.ledger import Ledger
from pilot.resources.registry import load
from pilot.store.mesh_config import MeshSettings
from tests.feed_rig import MemoryMesh, memory_mesh, node

SERVICE = """apiVersion: v1
kind: Service
metadata: {name: reviews, labels: {app: reviews}}
spec: {selector: {app: reviews}, ports: [{port: 9080, name: http}]}
"""
RULE = """apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec: {host: reviews, trafficPolicy: {connectionPool: {tcp: {maxConnections: 7}}}}
"""
CLUSTER = "outbound|9080||reviews.default.svc.cluster.local"


class Rig:
    def __init__(self, mesh: MemoryMesh) -> None:
        self.mesh = mesh
        pilot = mesh.pilot
        self.ledger = Ledger(MeshSettings())
        self.ready = True
        self.applied = AppliedFiles(pilot.state_dir / "applied")
        self.ledger.changed = pilot.fleet.changed
        pilot.translations._scope = self.ledger.scope
        pilot.translations._translate = self.ledger.translate
        pilot.fleet.on_workload = self.ledger.workload
        self.admin = Admin(
            self.ledger, pilot.fleet, self.applied, pilot.token, pilot.registry, ready=lambda: self.ready
        )
        of_file = load(SERVICE, "config/service.yaml").objects
        self.ledger.update("files", [(obj.key, obj) for obj in of_file], at_once=True)

    async def call(self, method: str, path: str, body: str = "", *, token: str | None = None, **query: str) -> Response:
        headers = {"authorization": f"Bearer {token if token is not None else self.mesh.pilot.token.value}"}
        return await self.admin.serve_api(Request(method, path, query, headers, body.encode()))

    async def get(self, path: str, status: int = 200, **query: str) -> Any:
        response = await self.call("GET", path, **query)
        assert response.status == status, response.body
        return msgspec.json.decode(response.body)

    async def post(self, path: str, body: str = "", status: int = 200, **query: str) -> Any:
        response = await self.call("POST", path, body, **query)
        assert response.status == status, response.body
        return msgspec.json.decode(response.body)


@asynccontextmanager
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with memory_mesh(tmp_path) as mesh:
        yield Rig(mesh)


async def test_monitoring(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with rig(tmp_path) as r:
        for method in ("GET", "HEAD"):
            assert (await r.call(method, "/ready")).status == 200
        r.ready = False
        assert (await r.call("GET", "/ready")).status == 503
        assert b"pilot_info" in (await r.call("GET", "/metrics")).body
        assert (await r.get("/version"))["version"]
        for path, status in (("/metrics", 200), ("/api/objects", 404), ("/api/proxies/a/config", 404)):
            assert (await r.admin.serve_monitoring(Request("GET", path, {}, {}))).status == status


async def test_unknown_pages_name_the_known(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with rig(tmp_path) as r:
        told = await r.get("/api/object", 404)
        assert "/api/objects" in told["error"]
        await r.post("/ready", status=404)


async def test_objects(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with rig(tmp_path) as r:
        [found] = await r.get("/api/objects")
        assert (found["kind"], found["file"], found["line"], found["layer"]) == (
            "Service",
            "config/service.yaml",
            1,
            "files",
        )
        assert found["status"]["valid"]
        assert "spec" not in found
        [full] = await r.get("/api/objects", kind="service", name="reviews")
        assert full["spec"]["ports"]
        assert await r.get("/api/objects", kind="Gateway") == []


@pytest.mark.parametrize("token", ["", "wrong"])
async def test_changes_need_the_token(tmp_path: Path, autojump_clock: MockClock, token: str) -> None:
    async with rig(tmp_path) as r:
        for path in ("/api/apply", "/api/delete"):
            assert (await r.call("POST", path, RULE, token=token)).status == 401
        assert len(r.ledger.world) == 1
        assert r.mesh.pilot.metric('trioweave_feed_refusals_total{reason="api-token"}') == 2


async def test_apply_waits_for_the_agents(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with rig(tmp_path) as r:
        peer = r.mesh.peer()
        await peer.join("a")

        async def answer() -> None:
            push = await peer.expect(Push)
            assert [u.name for u in push.upserts] == [CLUSTER]
            await trio.sleep(1)
            await peer.send(Ack(push.nonce))

        r.mesh.nursery.start_soon(answer)
        begin = trio.current_time()
        told = await r.post("/api/apply", RULE, wait="5")
        assert trio.current_time() - begin == 1.0
        assert told["objects"] == [
            {"kind": "DestinationRule", "namespace": "default", "name": "reviews", "result": "created"}
        ]
        assert (told["acked"], told["waiting"], told["nacked"]) == (True, [], [])
        assert (await r.post("/api/apply", RULE))["objects"][0]["result"] == "unchanged"
        changed = await r.post("/api/apply", RULE.replace("7", "8"), wait="0")
        assert changed["objects"][0]["result"] == "configured"
        assert (changed["acked"], changed["waiting"]) == (False, ["a"])
        push = await peer.expect(Push)
        await peer.send(Nack(push.nonce, (Rejected("cluster", CLUSTER, "no"),)))
        await trio.testing.wait_all_tasks_blocked()
        again = await r.post("/api/apply", RULE.replace("7", "8"), wait="5")
        assert again["nacked"] == [{"proxy": "a", "kind": "cluster", "name": CLUSTER, "reason": "no"}]
        [status] = await r.get("/api/proxies")
        assert status["sync"]["cluster"]["state"] == "ERROR"
        assert (await r.get("/api/faults"))["rejected"] == again["nacked"]


async def test_a_fault_anywhere_refuses_all(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with rig(tmp_path) as r:
        told = await r.post("/api/apply", RULE + "---\n" + RULE.replace("host:", "hots:"), 422, file="rules.yaml")
        assert told["errors"][0].startswith("rules.yaml:")
        assert told["details"][0]["remedy"]
        assert len(r.ledger.world) == 1
        assert r.applied.load().objects == []
        assert "no object" in (await r.post("/api/apply", "", 422))["error"]
        for wait in ("soon", "-1", "9999"):
            await r.post("/api/apply", RULE, 400, wait=wait)
        assert len(r.ledger.world) == 1


async def test_delete(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with rig(tmp_path) as r:
        await r.post("/api/apply", RULE)
        await r.post("/api/apply", SERVICE)
        told = await r.post("/api/delete", kind="DestinationRule", name="reviews", wait="1")
        assert told["objects"][0]["result"] == "deleted"
        assert told["acked"]
        assert "no DestinationRule/default/reviews" in (await r.post("/api/delete", RULE, 404))["error"]
        await r.post("/api/delete", SERVICE)
        assert "config/service.yaml:1" in (await r.post("/api/delete", SERVICE, 409))["error"]
        await r.post("/api/delete", status=400)
        assert [obj.file for obj in r.ledger.world] == ["config/service.yaml"]


async def test_state_folder_trouble_is_told(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with rig(tmp_path) as r:
        (tmp_path / "applied").write_text("a file where a folder should be")
        assert "state folder" in (await r.post("/api/apply", RULE, 500))["error"]
        (tmp_path / "applied").unlink()
        await r.post("/api/apply", RULE)
        path = r.applied.path(("DestinationRule", "default", "reviews"))
        path.unlink()
        path.mkdir()
        assert "cannot delete" in (await r.post("/api/delete", RULE, 500))["error"]


async def test_proxies_and_their_configuration(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with rig(tmp_path) as r:
        peer = r.mesh.peer()
        await peer.send(Hello(node("sidecar~a.default", service="a")))
        await peer.expect(Welcome)
        push = await peer.expect(Push)
        [status] = await r.get("/api/proxies")
        assert (status["id"], status["last_ack"]) == ("sidecar~a.default", None)
        assert status["sync"]["cluster"]["state"] == "STALE"
        assert (status["last_report"], status["ejections"], status["requests"]) == (None, [], [])
        asked = RequestStatistics("a-v1", "b.test", 2, 1, 0.5, response_class=5)
        gone = Ejection("c", "10.0.0.1", 80, "consecutive_5xx", 9.0)
        await peer.send(Ack(push.nonce), Report(requests=(asked,)))
        await peer.send(Report("healthy", (gone,), (asked,), certificate_expiry=5.0))
        await trio.testing.wait_all_tasks_blocked()
        [status] = await r.get("/api/proxies")
        assert status["sync"]["cluster"]["state"] == "SYNCED"
        assert (status["health"], status["certificate_expiry"]) == ("healthy", 5.0)
        assert status["ejections"] == [
            {"cluster": "c", "address": "10.0.0.1", "port": 80, "reason": "consecutive_5xx", "until": 9.0}
        ]
        [row] = status["requests"]
        assert (row["destination"], row["requests"], row["errors"], row["latency_sum"]) == ("b.test", 4, 2, 1.0)
        assert status["last_report"] > 0
        config = await r.get("/api/proxies/sidecar~a.default/config")
        assert set(config) == {"listeners", "routes", "clusters", "endpoints"}
        assert CLUSTER in [c["name"] for c in config["clusters"]]
        assert list(await r.get("/api/proxies/sidecar~a.default/config", kind="routes")) == ["routes"]
        await r.get("/api/proxies/sidecar~a.default/config", 400, kind="keys")
        told = await r.get("/api/proxies/sidecar~a.default/config", kind="secrets")
        assert told["secrets"] == [{"name": "default", "identity": "default/default", "not_after": 5.0}]
        assert "sidecar~a.default" in (await r.get("/api/proxies/b/config", 404))["error"]
        await r.get("/api/proxies/b/elsewhere", 404)


async def test_faults(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with rig(tmp_path) as r:
        r.ledger.errors["files"] = (ConfigError("bad", kind="Service", namespace="default", name="reviews", file="f"),)
        unserved = RULE.replace(
            "spec: {host: reviews,", "spec: {host: reviews, workloadSelector: {matchLabels: {a: b}},"
        )
        noticed = await r.post("/api/apply", unserved)
        faults = await r.get("/api/faults")
        assert faults["errors"][0]["what"] == "bad"
        assert bool(noticed["notices"]) == bool(faults["not_served"] or faults["notices"])
        [described] = await r.get("/api/objects", name="reviews", kind="Service")
        assert not described["status"]["valid"]
