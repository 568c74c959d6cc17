"""What agents report: an unwell app gets no traffic until it is well again, and the pilot shows what is seen."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.ports import unused_port
from tests.sockets.mesh_rig import DEADLINE, Fleet, Program, ask, until

APP = Path(__file__).parent / "health_app.py"
QUICK = ("--set", "drain_time=1s", "--set", "health_check_interval=0.2s")
SERVICE_YAML = """apiVersion: v1
kind: Service
metadata: {name: pair}
spec: {selector: {app: pair}, ports: [{port: 9080, name: http}]}
"""
RULE_YAML = """apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: pair}
spec:
  host: pair
  trafficPolicy:
    loadBalancer: {simple: ROUND_ROBIN}
    outlierDetection: {consecutive5xxErrors: 3, baseEjectionTime: 300s, maxEjectionPercent: 100}
"""
CLUSTER = "outbound|9080||pair.default.svc.cluster.local"


class Pair(Fleet):
    """Two workloads of the service `pair`, each with a health check, and a client's sidecar."""

    def begin(self) -> None:
        self.write("service.yaml", SERVICE_YAML)
        self.write("rule.yaml", RULE_YAML)
        self.start_pilot()
        self.client = self.sidecar("client", *QUICK)
        self.workloads = {name: self.workload(name) for name in ("one", "two")}
        self.client.wait_ready()
        until(lambda: self.answering(20) == {"one", "two"})

    def workload(self, name: str, *words: str) -> Program:
        argv = ["sidecar", "--pilot", self.pilot.ready["feed"], *self.secrets(), "--service", "pair", "--version", name]
        argv += ["--app-port", "0", "--health-check", "/health", *QUICK, *words]
        return self.start("agent", *argv, "--", sys.executable, str(APP), name).wait_ready()

    def call(self, host: str = "pair:9080") -> tuple[int, str]:
        answer = ask(self.client.address("http_proxy"), f"http://{host}/", Host=host)
        return answer.status, answer.text

    def answering(self, times: int) -> set[str]:
        """Who answers; anything but 200 stands for itself."""
        answers = [self.call() for _ in range(times)]
        return {text if status == 200 else str(status) for status, text in answers}

    def be(self, name: str, **statuses: int) -> None:
        """Tell an app how to behave, past its sidecar."""
        port = self.workloads[name].admin("/server_info").json["node"]["ports"][0]["app_port"]
        query = "&".join(f"{key}={value}" for key, value in statuses.items())
        assert ask(("127.0.0.1", port), f"/be?{query}").status == 200

    def proxy(self, workload: str) -> dict[str, Any]:
        """What the pilot's API says of an agent."""
        [found] = [each for each in self.api("/api/proxies") if each["workload"] == workload]
        return dict(found)

    def told(self) -> dict[str, str]:
        """Health that the client was told, by version."""
        clusters = self.client.admin("/clusters?format=json").json["cluster_statuses"]
        [hosts] = [each["host_statuses"] for each in clusters if each["name"] == CLUSTER]
        return {each["workload"]["version"]: each["health_status"]["eds_health_status"] for each in hosts}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    made = Pair(tmp_path_factory.mktemp("pair"))
    try:
        made.begin()
        yield made
    finally:
        made.end()


def test_an_unwell_app_gets_no_traffic_until_it_is_well_again(pair: Pair) -> None:
    assert pair.proxy("pair-one")["health"] == "healthy"
    pair.be("one", health=500)
    until(lambda: pair.told() == {"one": "UNHEALTHY", "two": "HEALTHY"})
    assert pair.proxy("pair-one")["health"] == "unhealthy"
    assert pair.answering(100) == {"two"}, "not one request failed after the endpoint push"
    refused = ask(pair.workloads["one"].address("inbound"), "/")
    assert (refused.status, refused.text) == (503, "no healthy upstream")
    pair.workloads["one"].wait_line("health checks fail", "status 500")
    assert pair.workloads["one"].metric("envoy_cluster_health_check_failure") >= 3
    assert pair.workloads["one"].admin("/ready").status == 200, "the agent itself is well"
    pair.be("one", health=200)
    until(lambda: pair.told() == {"one": "HEALTHY", "two": "HEALTHY"})
    assert pair.answering(20) == {"one", "two"}
    assert pair.proxy("pair-one")["health"] == "healthy"


def test_the_pilot_shows_ejections_requests_and_the_certificate(pair: Pair) -> None:
    pair.be("one", answer=500)
    until(lambda: pair.call() and pair.proxy("client")["ejections"])
    [ejection] = pair.proxy("client")["ejections"]
    inbound = pair.workloads["one"].address("inbound")
    assert (ejection["cluster"], ejection["address"], ejection["port"]) == (CLUSTER, *inbound)
    assert ejection["reason"] == "consecutive_5xx"
    now = time.time()  # noqa: TID251  the agent's wall clock is the real one
    assert now + 300 - DEADLINE < ejection["until"] < now + 310
    table = meshctl(pair, "proxy-status")
    [row] = [line.split() for line in table.splitlines() if line.startswith("sidecar~client")]
    assert row[6:8] == ["-", "1"]
    assert row[8].startswith("23h")
    shown = json.loads(meshctl(pair, "proxy-status", "-o", "json"))
    assert [each["ejections"] for each in shown if each["workload"] == "client"] == [[ejection]]
    pair.be("one", answer=200)
    pair.write("rule.yaml", RULE_YAML.partition("    outlierDetection")[0])  # nobody is ejected any more
    until(lambda: not pair.proxy("client")["ejections"])

    def failed() -> int:
        return sum(
            row["errors"] for row in pair.proxy("client")["requests"] if row["destination_workload"] == "pair-one"
        )

    until(lambda: failed() >= 3)
    rows = pair.proxy("client")["requests"]
    assert {row["destination"] for row in rows} >= {"pair.default.svc.cluster.local"}
    assert all(row["latency_sum"] > 0 for row in rows if row["response_class"] == 2)
    [secret] = pair.api(f"/api/proxies/{pair.proxy('client')['id']}/config?kind=secrets")["secrets"]
    assert secret["not_after"] == pair.proxy("client")["certificate_expiry"] > now


def test_an_agent_is_ready_before_its_app_which_is_called_once_it_is_there(pair: Pair) -> None:
    port = unused_port()
    late = pair.sidecar("late", "--health-check", "tcp", *QUICK, app_port=port).wait_ready()
    until(lambda: pair.proxy("late")["health"] == "unhealthy")
    until(lambda: pair.call(f"late:{port}") == (503, "no healthy upstream"))  # the client hears of it when it does
    with an_app(port):
        until(lambda: pair.proxy("late")["health"] == "healthy")
        until(lambda: pair.call(f"late:{port}") == (200, "late"))
    assert late.stop() == 0


def test_who_leaves_says_so_and_is_called_no_more(pair: Pair) -> None:
    three = pair.workload("three", "--set", "drain_time=20s")
    until(lambda: "three" in pair.answering(20))
    assert three.admin("/drain", "POST").status == 200
    until(lambda: pair.told().get("three") == "UNHEALTHY")
    assert pair.answering(20) == {"one", "two"}
    assert pair.proxy("pair-three")["health"] == "draining"


@contextmanager
def an_app(port: int) -> Iterator[None]:
    process = subprocess.Popen([sys.executable, str(APP), "late"], env={"PORT": str(port)}, process_group=0)
    try:
        yield
    finally:
        process.kill()
        process.wait(DEADLINE)


def meshctl(mesh: Fleet, *words: str) -> str:
    command = [sys.executable, "-P", "-c", "from mesh.ctl.main import main; main()", *words]
    options = ["--pilot", mesh.pilot.ready["dashboard"], "--token-file", str(mesh.state / "token")]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=DEADLINE)
    assert done.returncode == 0, done.stderr
    return done.stdout
