"""HTTP/2 with what others have written: curl, nghttp and h2load before a gateway, HAProxy and nghttpd behind it.

The tools are Debian's; a test is skipped where its tool is not installed. grpcio has a file of its own, test_grpc.py.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.ports import unused_port
from tests.sockets.mesh_rig import DEADLINE, Fleet, fleet, until
from tests.sockets.test_faults import an_app
from tests.sockets.tls_rig import Authority, tls_secret

GATEWAY_YAML = """apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}
  - port: {number: 443, name: https, protocol: HTTPS}
    hosts: ["*"]
    tls: {mode: SIMPLE, credentialName: edge}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: app}
spec:
  hosts: [app.test]
  resolution: STATIC
  ports: [{number: 80, name: app, protocol: %(protocol)s}]
  endpoints: [{address: 127.0.0.1, ports: {app: %(port)d}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: app}
spec:
  hosts: ["*"]
  gateways: [edge]
  http: [{route: [{destination: {host: app.test}}]}]
"""
HAPROXY_CFG = """global
  nbthread 1
defaults
  mode http
  timeout client 60s
  timeout server 60s
  timeout connect 5s
frontend app
  bind 127.0.0.1:%(port)d proto h2
  http-request return status 200 content-type text/plain string "from haproxy"
"""


def tool(name: str) -> str:
    """Its path; the test is skipped where it is not installed."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Edge:
    """A running gateway: its plaintext and its TLS address, and the file with its authority."""

    def __init__(self, programs: Fleet, protocol: str, port: int) -> None:
        authority = Authority()
        programs.write("edge.yaml", GATEWAY_YAML % {"protocol": protocol, "port": port})
        programs.write("secret.yaml", tls_secret("edge", authority.issue("edge.test")))
        self.roots = programs.root / "roots.pem"
        self.roots.write_bytes(authority.pem)
        flags = ("--bind", "127.0.0.1", "--port-map", "80=0", "--port-map", "443=0", "--set", "drain_time=0")
        program = programs.start("agent", "gateway", "-f", str(programs.folder), *flags).wait_ready()
        self.plain, self.tls = program.ready["listen"].split(",")

    @property
    def tls_port(self) -> str:
        return self.tls.rpartition(":")[2]


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    """Before an app that speaks HTTP/1.1."""
    port = unused_port()
    with an_app(port), fleet(tmp_path_factory.mktemp("peers")) as programs:
        yield Edge(programs, "HTTP", port)


@contextmanager
def serving(command: list[str], port: int, folder: Path) -> Iterator[Edge]:
    """A gateway before a server of HTTP/2."""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as server:
        try:
            with fleet(folder) as programs:
                yield Edge(programs, "HTTP2", port)
        finally:
            server.kill()


def test_curl_with_prior_knowledge(edge: Edge) -> None:
    told = run(tool("curl"), "-sS", "-i", "--http2-prior-knowledge", "-d", "x" * 100_000, f"http://{edge.plain}/echo")
    assert told.startswith("HTTP/2 200")


def test_curl_by_alpn(edge: Edge) -> None:
    where = ("--resolve", f"edge.test:{edge.tls_port}:127.0.0.1", f"https://edge.test:{edge.tls_port}/a")
    told = run(tool("curl"), "-sS", "-i", "--http2", "--cacert", str(edge.roots), *where)
    assert told.startswith("HTTP/2 200")
    told = run(tool("curl"), "-sS", "-i", "--http1.1", "--cacert", str(edge.roots), *where)
    assert told.startswith("HTTP/1.1 200")


def test_nghttp_asks_several_times_on_one_connection(edge: Edge) -> None:
    told = run(tool("nghttp"), "-nv", *(f"http://{edge.plain}/{name}" for name in "abc"))
    assert len(re.findall(r":status: 200", told)) == 3
    assert "GOAWAY" in told
    assert "error_code=PROTOCOL_ERROR" not in told


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_h2load_loses_nothing(edge: Edge, scheme: str) -> None:
    where = edge.plain if scheme == "http" else edge.tls
    told = run(tool("h2load"), "-n", "300", "-c", "3", "-m", "10", f"{scheme}://{where}/load")
    assert "300 succeeded, 0 failed" in told


def test_haproxy_behind(tmp_path: Path) -> None:
    port = unused_port()
    config = tmp_path / "haproxy.cfg"
    config.write_text(HAPROXY_CFG % {"port": port})
    folder = tmp_path / "edge"
    folder.mkdir()
    with serving([tool("haproxy"), "-db", "-q", "-f", str(config)], port, folder) as edge:
        assert answered(edge, "/") == "from haproxy"
        told = run(tool("h2load"), "-n", "200", "-c", "2", "-m", "8", f"http://{edge.plain}/")
        assert "200 succeeded, 0 failed" in told


def test_nghttpd_behind(tmp_path: Path) -> None:
    port = unused_port()
    (tmp_path / "page.txt").write_text("y" * 200_000)
    folder = tmp_path / "edge"
    folder.mkdir()
    command = [tool("nghttpd"), "--no-tls", "--address", "127.0.0.1", "--htdocs", str(tmp_path), str(port)]
    with serving(command, port, folder) as edge:
        assert answered(edge, "/page.txt") == "y" * 200_000


def answered(edge: Edge, path: str) -> str:
    """The body of a page, once the server behind has come up."""
    command = (tool("curl"), "-sS", "-w", "\n%{http_code}", "--http2-prior-knowledge", f"http://{edge.plain}{path}")
    until(lambda: run(*command).endswith("\n200"))
    return run(*command).rpartition("\n")[0]
