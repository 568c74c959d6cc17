"""TLS at a gateway, seen from outside: real processes, and clients of the standard library."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.ports import unused_port
from tests.sockets.mesh_rig import DEADLINE, Answer, Fleet, ask, fleet, until
from tests.sockets.test_faults import an_app
from tests.sockets.tls_rig import Authority, Leaf, OutsideApp, TlsClient, ask_tls, client, secret, tls_secret

GATEWAY_YAML = """apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  servers:
  - {port: {number: 80, name: http, protocol: HTTP}, hosts: ["*.test"], tls: {httpsRedirect: true}}
  - port: {number: 443, name: exact, protocol: HTTPS}
    hosts: [a.wild.test]
    tls: {mode: SIMPLE, credentialName: exact}
  - port: {number: 443, name: wild, protocol: HTTPS}
    hosts: ["*.wild.test"]
    tls: {mode: SIMPLE, credentialName: wild, minProtocolVersion: TLSV1_3}
  - port: {number: 443, name: wilder, protocol: HTTPS}
    hosts: ["*.test"]
    tls: {mode: SIMPLE, serverCertificate: %(files)s/wilder.pem, privateKey: %(files)s/wilder.key}
  - port: {number: 443, name: missing, protocol: HTTPS}
    hosts: [missing.test]
    tls: {mode: SIMPLE, credentialName: nobody-made-it}
  - port: {number: 443, name: mutual, protocol: HTTPS}
    hosts: [mutual.test]
    tls: {mode: MUTUAL, credentialName: mutual}
  - port: {number: 443, name: named, protocol: HTTPS}
    hosts: [named.test]
    tls: {mode: MUTUAL, credentialName: mutual, subjectAltNames: [robot.test]}
  - port: {number: 443, name: hashed, protocol: HTTPS}
    hosts: [hashed.test]
    tls: {mode: MUTUAL, credentialName: mutual, verifyCertificateHash: ["%(robot)s"]}
  - port: {number: 443, name: optional, protocol: HTTPS}
    hosts: [optional.test]
    tls: {mode: OPTIONAL_MUTUAL, credentialName: mutual}
  - port: {number: 443, name: through, protocol: TLS}
    hosts: [through.test]
    tls: {mode: PASSTHROUGH}
  - {port: {number: 9000, name: raw, protocol: TCP}, hosts: ["*"]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: app}
spec:
  hosts: [app.inside]
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints: [{address: 127.0.0.1, ports: {http: %(app)d}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: opaque}
spec:
  hosts: [opaque.inside]
  resolution: STATIC
  ports: [{number: 443, name: tls, protocol: TLS}]
  endpoints: [{address: 127.0.0.1, ports: {tls: %(opaque)d}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: app}
spec:
  hosts: ["*"]
  gateways: [edge]
  http: [{route: [{destination: {host: app.inside}}]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: opaque}
spec:
  hosts: [through.test, raw.test]
  gateways: [edge]
  tls:
  - match: [{port: 443, sniHosts: [through.test]}]
    route: [{destination: {host: opaque.inside, port: {number: 443}}}]
  tcp:
  - match: [{port: 9000}]
    route: [{destination: {host: opaque.inside, port: {number: 443}}}]
"""
OUTSIDE_YAML = """apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: outside-%(name)s}
spec:
  hosts: [%(name)s.test]
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints: [{address: 127.0.0.1, ports: {http: %(port)d}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: outside-%(name)s}
spec:
  host: %(name)s.test
  trafficPolicy: {tls: %(tls)s}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: outside-%(name)s}
spec:
  hosts: [%(name)s-door.test]
  gateways: [edge]
  http: [{rewrite: {authority: %(name)s.test}, route: [{destination: {host: %(name)s.test}}]}]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]
"""
PORTS = ("80", "443", "9000")


class OpaqueServer:
    """A TLS server of its own that says hello."""

    def __init__(self, leaf: Leaf, folder: Path) -> None:
        file = folder / "opaque.pem"
        file.write_bytes(leaf.chain + leaf.key)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(file)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._run)

    @contextmanager
    def running(self) -> Iterator[OpaqueServer]:
        self._thread.start()
        try:
            yield self
        finally:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._thread.join(DEADLINE)
            self._listener.close()

    def _run(self) -> None:
        while True:
            try:
                raw, _ = self._listener.accept()
            except OSError:
                return
            with raw:
                raw.settimeout(DEADLINE)
                try:
                    with self._context.wrap_socket(raw, server_side=True) as secured:
                        secured.sendall(b"hello " + secured.recv(100))
                except OSError:
                    continue


class Edge:
    """A gateway with every kind of TLS server, its authorities and its clients."""

    def __init__(self, programs: Fleet, app: int, opaque: OpaqueServer, ours: Authority) -> None:
        self.programs = programs
        self.ours, self.clients = ours, Authority()
        self.robot = self.clients.issue("robot.test", common_name="robot")
        self.human = self.clients.issue("human@people.test", common_name="a, human")
        wilder = ours.issue("else.test")
        (programs.root / "wilder.pem").write_bytes(wilder.chain)
        (programs.root / "wilder.key").write_bytes(wilder.key)
        words = {"files": programs.root, "app": app, "opaque": opaque.port, "robot": self.robot.digest.upper()}
        programs.write("gateway.yaml", GATEWAY_YAML % words)
        self.exact = ours.issue("a.wild.test")
        programs.write("exact.json", tls_secret("exact", self.exact))
        wild, mutual = (
            ours.issue("*.wild.test"),
            ours.issue("mutual.test", "optional.test", "named.test", "hashed.test"),
        )
        programs.write("wild.yaml", secret("wild", cert=wild.chain, key=wild.key))
        programs.write(
            "mutual.yaml", tls_secret("mutual", mutual) + "\n---\n" + secret("mutual-cacert", cacert=self.clients.pem)
        )
        maps = [word for port in PORTS for word in ("--port-map", f"{port}=0")]
        self.program = programs.start("agent", "gateway", "-f", str(programs.folder), "--bind", "127.0.0.1", *maps)
        self.program.wait_ready()
        listeners = self.program.admin("/listeners?format=json").json["listener_statuses"]
        bound = {each["name"].rpartition("_")[2]: each["local_address"] for each in listeners}
        self.where = {
            port: (str(address.rpartition(":")[0]), int(address.rpartition(":")[2])) for port, address in bound.items()
        }
        until(lambda: ask(self.where["80"], "/", Host="a.test").status == 301)

    def client(self, leaf: Leaf | None = None, **how: str) -> ssl.SSLContext:
        return client(self.ours, leaf, **how)

    def ask(self, name: str, leaf: Leaf | None = None, *, host: str = "", **headers: str) -> Answer:
        return ask_tls(self.where["443"], name, self.client(leaf), host=host, **headers)

    def shown(self, name: str) -> str:
        """Serial number of the certificate that a client of the name is shown."""
        with TlsClient(self.where["443"], name, self.client()) as made:
            return str((made.sock.getpeercert() or {})["serialNumber"])

    def refused(self, reason: str) -> float:
        return self.program.metric(f'trioweave_refused_total{{where="tls",reason="{reason}"')


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    folder, port, ours = tmp_path_factory.mktemp("edge-tls"), unused_port(), Authority()
    opaque = OpaqueServer(ours.issue("through.test"), folder)
    with an_app(port), opaque.running(), fleet(folder) as programs:
        yield Edge(programs, port, opaque, ours)


def test_https_is_served_and_says_so_upstream(edge: Edge) -> None:
    with TlsClient(edge.where["443"], "a.wild.test", edge.client()) as made:
        assert made.sock.selected_alpn_protocol() == "http/1.1"
        answer = made.ask("/here", **{"x-forwarded-client-cert": "By=forged", "x-forwarded-proto": "http"})
    assert answer.status == 200
    headers = {name.lower(): value for name, value in answer.json["headers"].items()}
    assert headers["x-forwarded-proto"] == "https"
    assert "x-forwarded-client-cert" not in headers


def test_the_most_specific_server_of_a_name_has_it(edge: Edge) -> None:
    served = [edge.shown(name) for name in ("a.wild.test", "b.wild.test", "else.test")]
    assert len(set(served)) == 3
    with TlsClient(edge.where["443"], "b.wild.test", edge.client()) as made:
        names = (made.sock.getpeercert() or {})["subjectAltName"]
        assert names == (("DNS", "*.wild.test"),)


def test_a_name_that_no_server_has_is_turned_away(edge: Edge) -> None:
    line = 'trioweave_refused_total{where="listener",reason="filter_chain_not_found"}'
    before = edge.program.metric(line)
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        ask_tls(edge.where["443"], "elsewhere.example", edge.client())
    assert edge.program.metric(line) == before + 1


def test_a_request_is_routed_by_the_server_that_ended_its_tls(edge: Edge) -> None:
    assert edge.ask("a.wild.test", host="a.wild.test").status == 200
    assert edge.ask("a.wild.test", host="b.wild.test").status == 404


def test_plain_http_is_sent_to_https(edge: Edge) -> None:
    answer = ask(edge.where["80"], "/deep?a=b", Host="a.wild.test")
    assert (answer.status, answer.headers["location"]) == (301, "https://a.wild.test/deep?a=b")


def test_versions_are_as_the_server_says(edge: Edge) -> None:
    context = edge.client(version="TLSv1_2")
    assert ask_tls(edge.where["443"], "a.wild.test", context).status == 200
    with pytest.raises(ssl.SSLError, match=r"(?i)protocol.version"):
        ask_tls(edge.where["443"], "b.wild.test", context)
    assert edge.refused("unsupported_protocol") >= 1


def test_a_missing_secret_is_told_and_costs_its_own_server_alone(edge: Edge) -> None:
    told = edge.program.wait_line("there is no Secret default/nobody-made-it")
    line = GATEWAY_YAML[: GATEWAY_YAML.index("nobody-made-it")].count("\n") + 1
    assert f"gateway.yaml:{line} Gateway/default/edge" in told
    assert "servers[4].tls.credentialName" in told
    before = edge.refused("secret_missing")
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        edge.ask("missing.test")
    assert edge.refused("secret_missing") == before + 1
    assert edge.ask("a.wild.test").status == 200


# Client certificates


def test_mutual_tells_the_upstream_who_came(edge: Edge) -> None:
    answer = edge.ask("mutual.test", edge.human)
    assert answer.status == 200
    element = {name.lower(): value for name, value in answer.json["headers"].items()}["x-forwarded-client-cert"]
    assert f'Hash={edge.human.digest};Cert="-----BEGIN%20CERTIFICATE-----%0A' in element
    assert "By=" not in element
    assert "CN=a\\\\, human" in element


@pytest.mark.parametrize("name", ["mutual.test", "named.test", "hashed.test"])
def test_mutual_refuses_who_has_no_certificate(edge: Edge, name: str) -> None:
    before = edge.refused("peer_did_not_return_a_certificate")
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        edge.ask(name)
    assert edge.refused("peer_did_not_return_a_certificate") == before + 1


@pytest.mark.parametrize("name", ["mutual.test", "optional.test"])
def test_a_certificate_of_another_authority_is_refused(edge: Edge, name: str) -> None:
    before = edge.refused("certificate_verify_failed")
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        edge.ask(name, Authority().issue("robot.test"))
    assert edge.refused("certificate_verify_failed") == before + 1


def test_optional_mutual_takes_both(edge: Edge) -> None:
    without, with_one = edge.ask("optional.test"), edge.ask("optional.test", edge.robot)
    assert (without.status, with_one.status) == (200, 200)
    assert "DNS=robot.test" in with_one.text
    assert "Hash=" not in without.text


@pytest.mark.parametrize(
    ("name", "reason"),
    [("named.test", "client_name_not_allowed"), ("hashed.test", "client_fingerprint_not_allowed")],
)
def test_names_and_fingerprints_choose_among_certificates(edge: Edge, name: str, reason: str) -> None:
    assert edge.ask(name, edge.robot).status == 200
    before = edge.refused(reason)
    with pytest.raises((ssl.SSLError, OSError)):
        edge.ask(name, edge.human)
    assert edge.refused(reason) == before + 1


# Passthrough


def test_passthrough_relays_what_it_cannot_read(edge: Edge) -> None:
    with (
        socket.create_connection(edge.where["443"], DEADLINE) as raw,
        edge.client().wrap_socket(raw, server_hostname="through.test") as secured,
    ):
        assert (secured.getpeercert() or {})["subjectAltName"] == (("DNS", "through.test"),)
        secured.sendall(b"you")
        assert secured.recv(100) == b"hello you"


def test_a_tcp_server_relays_all(edge: Edge) -> None:
    with (
        socket.create_connection(edge.where["9000"], DEADLINE) as raw,
        edge.client().wrap_socket(raw, server_hostname="through.test") as secured,
    ):
        secured.sendall(b"there")
        assert secured.recv(100) == b"hello there"


# Sessions and rotation


@pytest.mark.parametrize(("name", "leaf"), [("a.wild.test", ""), ("mutual.test", "robot")])
@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_sessions_are_resumed(edge: Edge, version: str, name: str, leaf: str) -> None:
    context = edge.client(edge.robot if leaf else None, version=version)
    with TlsClient(edge.where["443"], name, context) as first:
        before = first.ask("/")
        session = first.sock.session  # in TLS 1.3 tickets come with the first answer
        assert not first.sock.session_reused
    with TlsClient(edge.where["443"], name, context, session) as second:
        assert second.sock.session_reused
        after = second.ask("/")
    assert before.status == after.status == 200
    assert ("Hash=" in before.text) == ("Hash=" in after.text) == bool(leaf)


def test_a_renewed_secret_is_shown_to_newcomers_and_cuts_nobody(edge: Edge) -> None:
    old = edge.shown("a.wild.test")
    with TlsClient(edge.where["443"], "a.wild.test", edge.client()) as stays:
        assert stays.ask("/").status == 200
        edge.programs.write("exact.json", tls_secret("exact", edge.ours.issue("a.wild.test")))
        until(lambda: edge.shown("a.wild.test") != old)
        assert stays.ask("/").status == 200


def test_a_broken_renewal_leaves_the_last_good_one(edge: Edge) -> None:
    good = edge.ours.issue("a.wild.test")
    edge.programs.write("exact.json", tls_secret("exact", Leaf(good.chain, edge.ours.issue("other.test").key)))
    told = edge.program.wait_line("resource rejected; its last good version stays", "kubernetes://default/exact")
    assert "PRIVATE" not in told
    assert edge.ask("a.wild.test").status == 200
    before = edge.shown("a.wild.test")
    edge.programs.write("exact.json", tls_secret("exact", good))
    until(lambda: edge.shown("a.wild.test") != before)


# Originated TLS


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[OutsideApp]:
    """An HTTPS server of another company, which wants a certificate of ours."""
    made = OutsideApp(tmp_path)
    with made.running():
        yield made


@pytest.mark.parametrize("source", ["files", "secret"])
def test_tls_is_originated_with_a_certificate(programs: Fleet, outside: OutsideApp, source: str) -> None:
    mine = outside.clients.issue("me.test", common_name="me")
    (programs.root / "me.pem").write_bytes(mine.chain)
    (programs.root / "me.key").write_bytes(mine.key)
    (programs.root / "roots.pem").write_bytes(outside.authority.pem)
    files = "clientCertificate: {0}/me.pem, privateKey: {0}/me.key, caCertificates: {0}/roots.pem"
    how = files.format(programs.root) if source == "files" else "credentialName: me"
    programs.write("me.json", tls_secret("me", mine, ca_crt=outside.authority.pem))
    words = {"name": "api", "port": outside.port, "tls": f"{{mode: MUTUAL, {how}}}"}
    programs.write("outside.yaml", OUTSIDE_YAML % words)
    flags = ("--bind", "127.0.0.1", "--port-map", "80=0")
    gateway = programs.start("agent", "gateway", "-f", str(programs.folder), *flags).wait_ready()
    where = gateway.address("listen")
    until(lambda: ask(where, "/", Host="api-door.test").status == 200)
    told = ask(where, "/deep", Host="api-door.test").json
    assert told == {"path": "/deep", "host": "api.test", "sni": "api.test", "client": "me", "alpn": "http/1.1"}


def test_a_server_that_is_not_who_it_should_be_gets_nothing(programs: Fleet, outside: OutsideApp) -> None:
    (programs.root / "roots.pem").write_bytes(outside.authority.pem)
    tls = f"{{mode: SIMPLE, caCertificates: {programs.root}/roots.pem}}"
    programs.write("outside.yaml", OUTSIDE_YAML % {"name": "other", "port": outside.port, "tls": tls})
    flags = ("--bind", "127.0.0.1", "--port-map", "80=0", "--set", "drain_time=0")
    gateway = programs.start("agent", "gateway", "-f", str(programs.folder), *flags).wait_ready()
    where = gateway.address("listen")
    until(lambda: ask(where, "/", Host="other-door.test").status == 503)
    assert "TLS: CERTIFICATE_VERIFY_FAILED" in ask(where, "/", Host="other-door.test").text
    assert outside.served == 0


# What is shown of it


def test_keys_are_shown_nowhere(edge: Edge) -> None:
    dump = edge.program.admin("/config_dump").text
    assert "kubernetes://default/exact" in dump
    assert "PRIVATE KEY" not in dump
    assert "PRIVATE KEY" not in edge.program.said
    assert edge.exact.key.split(b"\n")[1].decode() not in dump
