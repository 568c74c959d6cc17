"""A gateway of several workers, from outside: load spread, a death under load, a reload, a drain, one admin port."""

from __future__ import annotations

import http.client
import json
import os
import signal
import threading
from collections.abc import Iterator

import pytest

from tests.ports import unused_port
from tests.sockets.mesh_rig import DEADLINE, SERVER_YAML, STRICT_YAML, Fleet, ask, fleet, until
from tests.sockets.test_gateway import FLAGS, GATEWAY_YAML, ROUTES_YAML
from tests.sockets.test_health import an_app

WORKERS = 2
PACE = 0.005  # seconds between a client's requests: load, but room for a worker to start
pytestmark = pytest.mark.skipif(os.uname().sysname != "Linux", reason="workers need Linux")


class Edge:
    """A running gateway of WORKERS workers and its files."""

    def __init__(self, programs: Fleet, app_port: int, *words: str) -> None:
        self.programs = programs
        programs.write("gateway.yaml", GATEWAY_YAML % app_port)
        self.route("first")
        flags = ("--workers", str(WORKERS), *FLAGS, *words)
        self.program = programs.start("agent", "gateway", "-f", str(programs.folder), *flags).wait_ready()
        self.where = self.program.address("listen")

    def route(self, prefix: str) -> None:
        self.programs.write("routes.yaml", ROUTES_YAML % prefix)

    def workers(self) -> list[dict[str, object]]:
        workers: list[dict[str, object]] = self.program.admin("/server_info").json["workers"]
        return workers

    def live(self) -> bool:
        return all(worker["state"] == "LIVE" for worker in self.workers())

    def requests(self) -> float:
        return self.program.metric("istio_requests_total")


@pytest.fixture(scope="module")
def app() -> Iterator[int]:
    """The port of an app that answers."""
    port = unused_port()
    with an_app(port):
        yield port


@pytest.fixture(scope="module")
def edge(app: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with fleet(tmp_path_factory.mktemp("edge")) as programs:
        yield Edge(programs, app)


class Client:
    """One keep-alive connection, asked again and again until `stop` or until it is closed between two requests.

    `cut`: the connection broke under a request.
    """

    def __init__(self, where: tuple[str, int]) -> None:
        self.connection = http.client.HTTPConnection(*where, timeout=DEADLINE)
        self.statuses: list[int] = []
        self.cut = False
        self.asked_to_close = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self.connection.request("GET", "/first")
                response = self.connection.getresponse()
                response.read()
                self.statuses.append(response.status)
                if response.getheader("connection") == "close":
                    self.asked_to_close = True
                    return
                self._stop.wait(PACE)
        except (OSError, http.client.HTTPException):
            self.cut = True
        finally:
            self.connection.close()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(DEADLINE)

    def join(self) -> None:
        self._thread.join(DEADLINE)


def accepted(edge: Edge) -> dict[int, int]:
    """Connections that each worker has open from clients, by its process."""
    found = {}
    for worker in edge.workers():
        pid = int(str(worker["pid"]))
        found[pid] = sum(1 for _ in _sockets(pid, edge.where[1]))
    return found


def _sockets(pid: int, port: int) -> Iterator[str]:
    """Descriptors of established connections at our port; /proc tells without asking the worker."""
    here = f"0100007F:{port:04X}"
    with open("/proc/net/tcp", encoding="ascii") as table:
        rows = [line.split() for line in table.readlines()[1:]]
    inodes = {row[9] for row in rows if row[1] == here and row[3] == "01"}
    for descriptor in os.listdir(f"/proc/{pid}/fd"):
        try:
            target = os.readlink(f"/proc/{pid}/fd/{descriptor}")
        except FileNotFoundError:
            continue
        if target.startswith("socket:[") and target[8:-1] in inodes:
            yield target


def clients_on_all(edge: Edge) -> list[Client]:
    """Running clients, at least one of them at each worker: the kernel chooses by the client's port."""
    clients: list[Client] = []
    while True:
        client = Client(edge.where)
        client.connection.connect()
        clients.append(client)
        until(lambda: sum(accepted(edge).values()) == len(clients))
        if all(accepted(edge).values()):
            break
        assert len(clients) < 60, "the kernel sends all connections to one worker"
    for client in clients:
        client.start()
    return clients


def test_one_ready_line_with_the_port_that_all_share(edge: Edge) -> None:
    assert sum(line.startswith("ready ") for line in edge.program.lines) == 1
    listeners = edge.program.admin("/listeners?format=json").json["listener_statuses"]
    assert {listener["worker"] for listener in listeners} == set(range(WORKERS))
    assert {listener["local_address"] for listener in listeners} == {f"127.0.0.1:{edge.where[1]}"}


def test_requests_spread_over_the_workers_and_are_counted_together(edge: Edge) -> None:
    until(edge.live)
    before = edge.requests()
    clients = clients_on_all(edge)
    until(lambda: all(len(client.statuses) >= 5 for client in clients))
    for client in clients:
        client.stop()
    assert {status for client in clients for status in client.statuses} == {200}
    until(lambda: edge.requests() == before + sum(len(client.statuses) for client in clients))
    stats = edge.program.admin("/stats?filter=istio_requests_total&format=json").json["stats"]
    assert sum(stat["value"] for stat in stats) == edge.requests()


def test_a_killed_worker_is_replaced_and_the_others_clients_notice_nothing(edge: Edge) -> None:
    until(edge.live)
    clients = clients_on_all(edge)
    until(lambda: all(client.statuses for client in clients))
    counted = edge.requests()
    deaths = edge.program.metric('trioweave_worker_deaths_total{reason="SIGKILL"}')
    doomed = edge.workers()[0]["pid"]
    lost = accepted(edge)[int(str(doomed))]
    os.kill(int(str(doomed)), signal.SIGKILL)
    until(lambda: sum(client.cut for client in clients) == lost)
    assert edge.program.admin("/ready").status == 200
    # New connections: those that fall to the dead worker's share wait for its replacement.
    assert {ask(edge.where, "/first").status for _ in range(20)} == {200}
    until(lambda: edge.live() and edge.workers()[0]["pid"] != doomed)
    marks = [(client, len(client.statuses)) for client in clients if not client.cut]
    until(lambda: all(len(client.statuses) > mark for client, mark in marks))
    for client in clients:
        client.stop()
    assert sum(client.cut for client in clients) == lost
    assert {status for client in clients for status in client.statuses} == {200}
    assert edge.requests() >= counted + 20
    assert edge.program.metric('trioweave_worker_deaths_total{reason="SIGKILL"}') == deaths + 1
    edge.program.wait_line("a worker died", "worker=0", "SIGKILL")


def test_a_change_reaches_all(edge: Edge) -> None:
    until(edge.live)
    edge.route("second")

    def routed_by(worker: int) -> str:
        dump = edge.program.admin("/config_dump?resource=routes").json["configs"]
        return json.dumps([section for section in dump if section["worker"] == worker])

    until(lambda: all("/second" in routed_by(worker) for worker in range(WORKERS)))
    assert {ask(edge.where, "/second").status for _ in range(20)} == {200}
    edge.route("first")
    until(lambda: all("/first" in routed_by(worker) for worker in range(WORKERS)))


def test_the_admin_port_speaks_for_all(edge: Edge) -> None:
    until(edge.live)
    admin = edge.program.admin
    assert (admin("/ready").status, admin("/ready").text) == (200, "LIVE\n")
    assert admin("/explain?url=http://any/first").json["chosen"] == "outbound|80||app.test"
    assert {status["worker"] for status in admin("/clusters?format=json").json["cluster_statuses"]} == {0, 1}
    assert "serve_until_signal" in admin("/tasks").text
    assert admin("/logging?level=debug", "POST").text == "all: debug\n"
    assert admin("/logging?level=info", "POST").status == 200
    assert (admin("/drain").status, admin("/quitquitquit").status, admin("/nothing").status) == (400, 400, 404)
    assert admin("/stats?filter=(").status == 400
    assert ask(edge.program.address("admin"), "/ready", Host="evil.test").status == 403


def test_a_signal_drains_all_and_no_request_fails(programs: Fleet, app: int) -> None:
    edge = Edge(programs, app, "--set", "drain_time=20")
    clients = clients_on_all(edge)
    until(lambda: all(client.statuses for client in clients))
    edge.program.signal(signal.SIGTERM)
    for client in clients:
        client.join()
    assert all(client.asked_to_close and not client.cut for client in clients)
    assert {status for client in clients for status in client.statuses} == {200}
    assert edge.program.wait() == 0
    assert "Traceback" not in edge.program.said
    with pytest.raises(ConnectionRefusedError):
        ask(edge.where, "/")


def test_workers_do_not_outlive_their_parent(programs: Fleet, app: int) -> None:
    edge = Edge(programs, app)
    pids = [int(str(worker["pid"])) for worker in edge.workers()]
    edge.program.signal(signal.SIGKILL)
    edge.program.wait()
    until(lambda: not any(os.path.exists(f"/proc/{pid}/exe") for pid in pids))


def test_quit_ends_all(programs: Fleet, app: int) -> None:
    edge = Edge(programs, app)
    assert edge.program.admin("/quitquitquit", "POST").text == "OK\n"
    assert edge.program.wait() == 0


def test_what_one_cannot_do_none_does(programs: Fleet, app: int) -> None:
    programs.write("gateway.yaml", (GATEWAY_YAML % app).replace("servers", "serwers"))
    program = programs.start("agent", "gateway", "-f", str(programs.folder), "--workers", "2", *FLAGS)
    assert program.wait() == 2
    assert program.said.count("did you mean servers?") == 1


# Under a pilot


def test_workers_of_a_sidecar_are_one_workload_and_all_are_waited_for(programs: Fleet) -> None:
    programs.write("mesh.yaml", SERVER_YAML)
    pilot = programs.start_pilot()
    state = programs.root / "last_good.json"
    more = ("--workers", "2", "--state", str(state), "--set", "drain_time=0")
    sidecar = programs.sidecar("server", *more, app=True).wait_ready()
    where = sidecar.address("inbound")

    def answers() -> bool:
        try:
            return ask(where, "/", Host="server:9080").status == 200
        except OSError:
            return False

    until(answers)
    dashboard = pilot.address("dashboard")
    (proxy,) = ask(dashboard, "/api/proxies").json
    assert (proxy["workers"], proxy["workers_wanted"]) == (2, 2)
    workers = sidecar.admin("/server_info").json["workers"]
    certificates = sidecar.admin("/certs").json["certificates"]
    assert len({each["cert_chain"][0]["serial_number"] for each in certificates}) == 2, "each has a key of its own"
    token = (programs.state / "token").read_text().strip()
    told = ask(
        dashboard,
        "/api/apply?wait=30",
        method="POST",
        body=STRICT_YAML.encode(),
        Authorization=f"Bearer {token}",
    ).json
    assert (told["acked"], told["waiting"], told["nacked"]) == (True, [], [])
    os.kill(workers[0]["pid"], signal.SIGKILL)
    until(
        lambda: (
            (now := sidecar.admin("/server_info").json["workers"][0])["pid"] != workers[0]["pid"]
            and now["state"] == "LIVE"
        )
    )
    until(lambda: [each["workers"] for each in ask(dashboard, "/api/proxies").json] == [2])
    assert sidecar.address("inbound") == where
    assert sidecar.stop() == 0
    assert state.exists()
    until(lambda: ask(dashboard, "/api/proxies").json == [])
