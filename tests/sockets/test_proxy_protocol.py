"""A client's address through two gateways that do not know each other, by PROXY headers in and out."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import pytest

from tests.ports import unused_port
from tests.sockets.mesh_rig import DEADLINE, Program, fleet, until
from tests.sockets.test_faults import an_app
from tests.sockets.test_gateway import FLAGS, GATEWAY_YAML, ROUTES_YAML

RULE_YAML = """---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: app}
spec: {host: app.test, trafficPolicy: {proxyProtocol: {version: V2}}}
"""
REQUEST = b"GET /first HTTP/1.1\r\nhost: any\r\nconnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """A gateway that requires a header and sends another on, before a gateway that accepts it."""
    app_port = unused_port()
    with (
        an_app(app_port),
        fleet(tmp_path_factory.mktemp("back")) as behind,
        fleet(tmp_path_factory.mktemp("front")) as before,
    ):
        behind.write("all.yaml", GATEWAY_YAML % app_port + "---\n" + ROUTES_YAML % "")
        flags = (*FLAGS, "--set", "proxy_protocol=accept")
        back = behind.start("agent", "gateway", "-f", str(behind.folder), *flags).wait_ready()
        flags = (*FLAGS, "--set", "proxy_protocol=require")
        text = GATEWAY_YAML % back.address("listen")[1] + "---\n" + ROUTES_YAML % "" + RULE_YAML
        before.write("all.yaml", text)
        made = before.start("agent", "gateway", "-f", str(before.folder), *flags).wait_ready()
        until(lambda: b" 200 " in say(made, b"PROXY UNKNOWN\r\n" + REQUEST))
        yield made


def say(gateway: Program, data: bytes) -> bytes:
    """What comes back until the end; b"" for a connection that is refused."""
    answer = b""
    with socket.create_connection(gateway.address("listen"), DEADLINE) as sock:
        try:
            sock.sendall(data)
            while more := sock.recv(65536):
                answer += more
        except ConnectionError:
            return b""
    return answer


@pytest.mark.parametrize(
    ("header", "client"),
    [
        (b"PROXY TCP4 203.0.113.9 198.51.100.1 4711 80\r\n", "203.0.113.9"),
        (b"PROXY TCP6 2001:db8::9 2001:db8::1 4711 80\r\n", "2001:db8::9"),
        (
            b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + bytes((203, 0, 113, 10, 198, 51, 100, 1)) + b"\x12\x67\x00\x50",
            "203.0.113.10",
        ),
    ],
)
def test_the_last_gateway_knows_the_first_ones_client(front: Program, header: bytes, client: str) -> None:
    answer = say(front, header + REQUEST)
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["headers"]["x-forwarded-for"] == f"{client},{client}"


@pytest.mark.parametrize(
    ("data", "reason"),
    [(REQUEST, "not_proxy_protocol"), (b"PROXY TCP4 nobody\r\n" + REQUEST, "malformed")],
)
def test_a_client_without_a_header_is_refused_and_counted(front: Program, data: bytes, reason: str) -> None:
    assert say(front, data) == b""
    line = f'trioweave_refused_total{{where="proxy_protocol",reason="{reason}"}}'
    until(lambda: front.metric(line) >= 1)
