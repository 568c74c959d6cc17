"""Bad input and faults, as a person meets them: processes that say what is wrong, stay up, heal and end well."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.ports import unused_port
from tests.sockets.mesh_rig import APP, DEADLINE, SERVER_YAML, Fleet, SmallMesh, ask, until

QUICK = ("--set", "drain_time=1s")
STATIC_YAML = """apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: outside}
spec:
  hosts: [outside.test]
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints: [{address: 127.0.0.1, ports: {http: %d}}]
"""


@contextmanager
def an_app(port: int) -> Iterator[None]:
    """app.py without a mesh, which the test reaches through one."""
    process = subprocess.Popen(
        [sys.executable, str(APP), "app"], env={"PORT": str(port)}, process_group=0, stdin=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.kill()
        process.wait(DEADLINE)


# Configuration


BROKEN = {
    "malformed.yaml": ("kind: [unclosed", r"malformed\.yaml:\d+"),
    "unknown.yaml": (
        "apiVersion: networking.istio.io/v1\nkind: VirtualServise\nmetadata: {name: a}\n",
        r"unknown\.yaml:\d+.*VirtualServise.*VirtualService",
    ),
    "field.yaml": (
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: a}\nspec: {hosst: a}\n",
        r"field\.yaml:4.*hosst.*host",
    ),
}
DANGLING = """apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: dangling}
spec:
  hosts: [server]
  http: [{match: [{uri: {prefix: /gone}}], route: [{destination: {host: server, subset: gone}}]},
         {route: [{destination: {host: server}}]}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: server}
spec: {host: server, subsets: [{name: here, labels: {app: server}}]}
"""


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_reported_by_place_while_the_last_good_serves(mesh: SmallMesh, name: str) -> None:
    text, place = BROKEN[name]
    mesh.write(name, text)
    try:
        until(lambda: re.search(place, json.dumps(mesh.api("/api/faults"))))
        assert mesh.call("/").status == 200
        done = meshctl("validate", "-f", str(mesh.folder))
        assert done.returncode == 1
        assert re.search(place, done.stdout + done.stderr)
    finally:
        (mesh.folder / name).unlink()
    until(lambda: name not in json.dumps(mesh.api("/api/faults")))


def test_a_dangling_reference_is_reported_and_answers_503_where_it_leads(mesh: SmallMesh) -> None:
    mesh.write("dangling.yaml", DANGLING)
    try:
        until(lambda: mesh.call("/gone").status == 503)
        assert mesh.call("/").status == 200
        [report] = mesh.api("/api/faults")["reports"]
        assert (report["file"], report["line"]) == (str(mesh.folder / "dangling.yaml"), 6)
        assert "gone" in report["message"]
        assert report["remedy"]
        done = meshctl("validate", "-f", str(mesh.folder))
        assert re.search(r"dangling\.yaml:6:.*gone.*defined subsets: here", done.stderr)
    finally:
        (mesh.folder / "dangling.yaml").unlink()
    until(lambda: mesh.call("/gone").status == 200)


def meshctl(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-c", "from mesh.ctl.main import main; main()"]
    return subprocess.run([*command, *words], capture_output=True, text=True, timeout=DEADLINE)


# Ports


@pytest.fixture
def taken() -> Iterator[str]:
    """An address that somebody holds."""
    with socket.create_server(("127.0.0.1", 0)) as holder:
        yield f"127.0.0.1:{holder.getsockname()[1]}"


@pytest.mark.parametrize("flag", ["--listen", "--dashboard", "--metrics"])
def test_a_pilots_port_in_use(programs: Fleet, taken: str, flag: str) -> None:
    pilot = programs.start(
        "pilot", "--config-dir", str(programs.folder), "--state-dir", str(programs.state), flag, taken
    )
    assert pilot.wait() == 2
    assert f"{taken} is in use" in pilot.said
    assert flag in pilot.said
    assert "Traceback" not in pilot.said


def test_an_admin_port_in_use(programs: Fleet, taken: str) -> None:
    programs.write("server.yaml", SERVER_YAML)
    agent = programs.start("agent", "gateway", "-f", str(programs.folder), "--admin", taken)
    assert agent.wait() == 2
    assert "is in use; choose another with --admin HOST:0" in agent.said
    assert "Traceback" not in agent.said


# Tokens and authorities


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "there is no bootstrap token; give --token-file"),
        (("--token-file", "/nowhere/token"), "there is no trust bundle; give --ca"),
    ],
)
def test_a_secret_that_was_never_named_ends_the_start(programs: Fleet, words: tuple[str, ...], told: str) -> None:
    agent = programs.start(
        "agent",
        "sidecar",
        "--pilot",
        "wss://127.0.0.1:1/feed",
        "--service",
        "a",
        "--app-port",
        "1",
        *words,
        env={"MESH_TOKEN_FILE": "", "MESH_CA_FILE": ""},
    )
    assert agent.wait() == 2
    assert told in agent.said


def test_a_token_file_that_is_not_there_yet_is_waited_for(mesh: SmallMesh, programs: Fleet, tmp_path: Path) -> None:
    token = tmp_path / "token"
    agent = programs.start("agent", *joining(mesh, token, mesh.state / "root-cert.pem"))
    agent.wait_line("no session with the pilot", "token", "copy it from the pilot's state folder")
    token.write_text((mesh.state / "token").read_text())
    agent.wait_ready()


def test_a_wrong_token_gets_nothing(mesh: SmallMesh, programs: Fleet, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("not-this-one\n")
    agent = programs.start("agent", *joining(mesh, token, mesh.state / "root-cert.pem"))
    agent.wait_line("does not accept this token", "copy the token file from the pilot's state folder")
    assert all(proxy["service"] != "late" for proxy in mesh.api("/api/proxies"))
    assert 'reason="token"' in pilot_metrics(mesh)
    mesh.pilot.wait_line("agent turned away", "give the agent the token file")
    assert agent.stop() == 0
    assert not agent.ready


def test_a_pilot_of_another_authority_is_not_believed(mesh: SmallMesh, programs: Fleet) -> None:
    programs.start_pilot()
    token = mesh.state / "token"
    agent = programs.start("agent", *joining(mesh, token, programs.state / "root-cert.pem"))
    agent.wait_line("TLS with", "copy root-cert.pem")
    assert agent.stop() == 0


def joining(mesh: SmallMesh, token: Path, ca: Path) -> list[str]:
    flags = ["--token-file", str(token), "--ca", str(ca)]
    return ["sidecar", "--pilot", mesh.pilot.ready["feed"], *flags, "--service", "late", "--app-port", "0", *QUICK]


def pilot_metrics(mesh: Fleet) -> str:
    return ask(mesh.pilot.address("metrics"), "/metrics").text


# A pilot that is away


def test_a_pilot_that_is_not_there_at_start_is_waited_for(programs: Fleet) -> None:
    address = f"127.0.0.1:{unused_port()}"
    (programs.state).mkdir()
    (programs.state / "token").write_text("x")
    (programs.state / "root-cert.pem").write_text("x")
    early = programs.sidecar("early", *QUICK, pilot=f"wss://{address}/feed")
    early.wait_line("no session with the pilot; nothing to serve until there is one", "the trust bundle")
    for name in ("token", "root-cert.pem"):
        (programs.state / name).unlink()
    programs.start_pilot("--listen", address)
    early.wait_ready()
    assert early.admin("/ready").text == "LIVE\n"


def test_no_pilot_is_told_with_the_remedy_and_a_signal_ends_the_wait(programs: Fleet, mesh: SmallMesh) -> None:
    programs.state = mesh.state
    lonely = programs.sidecar("lonely", pilot=f"wss://127.0.0.1:{unused_port()}/feed")
    lonely.wait_line("no pilot answers at", "start the pilot, or check --pilot")
    assert lonely.stop() == 0
    assert not lonely.ready


@pytest.mark.slow
def test_last_good_snapshot_serves_without_a_pilot(programs: Fleet, tmp_path: Path) -> None:
    app_port = unused_port()
    programs.write("static.yaml", STATIC_YAML % app_port)
    programs.start_pilot()
    state = tmp_path / "last-good"
    first = programs.sidecar("client", *QUICK, "--state", str(state)).wait_ready()
    assert first.stop() == 0
    assert state.stat().st_mode & 0o777 == 0o600
    programs.pilot.kill()
    second = programs.sidecar("client", *QUICK, "--state", str(state))
    second.wait_line("serving from the last good snapshot on disk")
    second.wait_ready()
    second.wait_line("no certificate yet", "plaintext is served")
    with an_app(app_port):
        where = second.address("http_proxy")
        until(lambda: ask(where, "http://outside.test/", Host="outside.test").status == 200)


@pytest.mark.slow
def test_a_killed_pilot_stops_nothing_and_comes_back_without_a_full_push(programs: Fleet) -> None:
    programs.write("server.yaml", SERVER_YAML)
    pilot = programs.start_pilot()
    server = programs.sidecar("server", *QUICK, app=True)
    client = programs.sidecar("client", *QUICK).wait_ready()
    server.wait_ready()
    where = client.address("http_proxy")

    def call() -> int:
        return ask(where, "http://server:9080/", Host="server:9080").status

    until(lambda: call() == 200)
    host, port = pilot.address("feed")
    pilot.kill()
    client.wait_line("no session with the pilot; serving on from what is held")
    assert {call() for _ in range(200)} == {200}
    programs.start_pilot("--listen", f"{host}:{port}")
    event = 'trioweave_agent_feed_events_total{event="%s"}'
    until(lambda: client.metric(event % "connected") == 2 and server.metric(event % "connected") == 2)
    until(lambda: len(programs.api("/api/proxies")) == 2)
    assert {call() for _ in range(200)} == {200}
    programs.write("rule.yaml", STATIC_YAML % 1)  # a later change still comes
    until(lambda: client.metric(event % "delta_push") >= 1)
    assert client.metric(event % "full_push") == 1
    assert server.metric(event % "full_push") == 1


# Apps and clients that fail


def test_an_app_that_is_not_up_yet(mesh: SmallMesh, programs: Fleet, tmp_path: Path) -> None:
    programs.state, port, log = mesh.state, unused_port(), tmp_path / "access.log"
    words = (*QUICK, "--set", f"access_log_file={log}", "--namespace", "default")
    late = programs.sidecar("late", *words, app_port=port, pilot=mesh.pilot.ready["feed"]).wait_ready()
    host = f"late:{port}"
    until(lambda: any(proxy["service"] == "late" for proxy in mesh.api("/api/proxies")))
    until(lambda: mesh.client.admin(f"/explain?url=http://{host}/").json["outcome"] != "passthrough")
    answer = mesh.call("/", host=host)
    assert answer.status == 503
    until(lambda: log.exists() and "UF " in log.read_text())
    assert "Connection refused" in log.read_text()
    with an_app(port):
        until(lambda: mesh.call("/", host=host).status == 200)
    assert late.stop() == 0


def test_a_client_that_hangs_up_half_way(mesh: SmallMesh) -> None:
    where = mesh.client.address("http_proxy")
    for message in (
        b"GET http://server:9080/ HT",
        b"POST http://server:9080/ HTTP/1.1\r\nhost: server:9080\r\ncontent-length: 100\r\n\r\nhalf",
    ):
        with socket.create_connection(where, DEADLINE) as client:
            client.sendall(message)
    assert mesh.call("/").status == 200
    until(lambda: mesh.client.metric("envoy_http_downstream_cx_active") <= 1)


def test_an_upstream_that_dies_half_way(mesh: SmallMesh) -> None:
    """The client never takes a half for the whole: a 503 when nothing had been passed on yet, else a cut answer."""
    where = mesh.client.address("http_proxy")
    with socket.create_connection(where, DEADLINE) as client:
        client.sendall(b"GET http://server:9080/die HTTP/1.1\r\nhost: server:9080\r\nconnection: close\r\n\r\n")
        got = b""
        try:
            while more := client.recv(65536):
                got += more
        except ConnectionResetError:
            pass
    if got.startswith(b"HTTP/1.1 503 "):
        assert b"connection termination" in got
    else:
        assert b"content-length: 1000" in got.lower()
        assert len(got.partition(b"\r\n\r\n")[2]) < 1000
    assert mesh.call("/").status == 200


# The app beside the sidecar, and the end


def test_the_app_is_told_where_it_lives(mesh: SmallMesh) -> None:
    told = mesh.call("/environment").json
    proxy = mesh.server.ready["http_proxy"]
    assert (told["HTTP_PROXY"], told["http_proxy"]) == (proxy, proxy)
    assert told["NO_PROXY"] == told["no_proxy"] == "127.0.0.1,localhost"
    assert int(told["PORT"]) > 0
    assert not [name for name in json.loads(told["MESH_UPSTREAMS"]) if name.startswith("server.")]


def test_an_unmodified_app_calls_through_its_proxy(mesh: SmallMesh) -> None:
    answer = mesh.call("/call?url=http://server:9080/by-itself").json
    assert answer["status"] == 200
    assert json.loads(answer["body"])["path"] == "/by-itself"


@pytest.mark.parametrize(
    ("code", "status"), [("exit(7)", 7), ("exit(0)", 0), ("import os; os.kill(os.getpid(), 9)", 137)]
)
def test_the_apps_exit_status_is_ours(mesh: SmallMesh, programs: Fleet, code: str, status: int) -> None:
    words = [*joining(mesh, mesh.state / "token", mesh.state / "root-cert.pem"), "--", sys.executable, "-c", code]
    assert programs.start("agent", *words).wait() == status


def test_a_command_that_is_not_there(mesh: SmallMesh, programs: Fleet) -> None:
    words = [*joining(mesh, mesh.state / "token", mesh.state / "root-cert.pem"), "--", "/no/such/program"]
    agent = programs.start("agent", *words)
    assert agent.wait() == 2
    assert "cannot start /no/such/program" in agent.said
    assert "Traceback" not in agent.said


@pytest.mark.slow
def test_sigterm_lets_the_request_under_way_finish(programs: Fleet) -> None:
    programs.write("server.yaml", SERVER_YAML)
    programs.start_pilot()
    slow = ("--set", "drain_time=20s")
    server = programs.sidecar("server", *slow, app=True)
    client = programs.sidecar("client", *slow).wait_ready()
    server.wait_ready()
    where = client.address("http_proxy")

    def call(path: str) -> int:
        return ask(where, f"http://server:9080{path}", Host="server:9080").status

    until(lambda: call("/") == 200)
    told = ask(where, "http://server:9080/environment", Host="server:9080").json
    app = ("127.0.0.1", int(told["PORT"]))
    with ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(call, "/hold")
        assert call("/held") == 200
        server.signal(signal.SIGTERM)
        until(lambda: server.admin("/ready").text == "DRAINING\n")
        assert ask(app, "/release").status == 200  # past the sidecar: peers know by now that it leaves
        assert under_way.result(DEADLINE) == 200
    assert server.wait() == 0
    until(lambda: all(proxy["service"] != "server" for proxy in programs.api("/api/proxies")))
