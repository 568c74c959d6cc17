"""gRPC as grpcio speaks it, through a standalone gateway (h2c) and through two sidecars (mTLS)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.sockets.grpc_rig import APP, Caller, caller, grpc_app
from tests.sockets.mesh_rig import Fleet, Program, fleet, until

EDGE_YAML = """apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: grpc, protocol: GRPC}, hosts: ["*"]}]
"""
ENTRY_YAML = """---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: %(name)s}
spec:
  hosts: [%(name)s.test]
  resolution: STATIC
  ports: [{number: 80, name: grpc, protocol: GRPC}]
  endpoints: [%(endpoints)s]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: %(name)s}
spec: {host: %(name)s.test, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}}
"""
SERVICE_YAML = """apiVersion: v1
kind: Service
metadata: {name: %(name)s}
spec: {selector: {app: %(name)s}, ports: [{port: 9080, name: grpc}]}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: %(name)s}
spec: {selector: {matchLabels: {app: %(name)s}}, mtls: {mode: STRICT}}
"""
ROUTES_YAML = """---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: calls}
spec:
  hosts: [%(hosts)s]
  %(gateways)s
  http:
  - match: [{headers: {x-case: {exact: short}}}]
    timeout: 0.3s
    route: [{destination: {host: %(app)s}}]
  - match: [{headers: {x-case: {exact: capped}}}]
    timeout: 20s
    route: [{destination: {host: %(app)s}}]
  - match: [{headers: {x-case: {exact: nobody}}}]
    route: [{destination: {host: nobody}}]
  - match: [{headers: {x-case: {exact: broken}}}]
    retries: {attempts: 0}
    route: [{destination: {host: broken.test}}]
  - match: [{headers: {x-case: {exact: once}}}]
    retries: {attempts: 0}
    route: [{destination: {host: %(app)s}}]
  - match: [{headers: {x-case: {exact: abort}}}]
    fault: {abort: {httpStatus: 503, percentage: {value: 100}}}
    route: [{destination: {host: %(app)s}}]
  - match: [{headers: {x-case: {exact: exhausted}}}]
    fault: {abort: {grpcStatus: RESOURCE_EXHAUSTED, percentage: {value: 100}}}
    route: [{destination: {host: %(app)s}}]
  - match: [{headers: {x-case: {exact: pair}}}]
    route: [{destination: {host: pair.test}}]
  - match: [{headers: {x-case: {exact: mortal}}}]
    route: [{destination: {host: mortal.test}}]
  - match: [{uri: {prefix: /test.App/}}]
    route: [{destination: {host: %(app)s}}]
---
apiVersion: v1
kind: Service
metadata: {name: nobody}
spec: {ports: [{port: %(port)d, name: grpc}]}
"""
DENY_YAML = """---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: closed}
spec:
  selector: {matchLabels: {%(labels)s}}
  action: DENY
  rules: [{to: [{operation: {paths: [/test.App/Closed]}}]}]
"""
UNREACHED = 1  # a port that nobody listens on
QUICK = ("--set", "drain_time=0", "--set", "health_check_interval=0.2s")


class Way(NamedTuple):
    """A client, and the proxies that stand between it and the server: the first one, and the last."""

    call: Caller
    first: Program
    last: Program

    def calls(self, proxy: Program, status: int) -> float:
        """Calls that a proxy has counted as ended with a status."""
        labels = (f'grpc_response_status="{status}"', 'request_protocol="grpc"')
        page = proxy.admin("/stats/prometheus").text.splitlines()
        found = [line for line in page if line.startswith("istio_requests_total{") and all(x in line for x in labels)]
        return sum(float(line.rsplit(" ", 1)[1]) for line in found)


def endpoints(*ports: int) -> str:
    return ", ".join(f"{{address: 127.0.0.1, ports: {{grpc: {port}}}}}" for port in ports)


def entry(name: str, given: str) -> str:
    return ENTRY_YAML % {"name": name, "endpoints": given}


def others(stack: ExitStack, one: int, two: int) -> str:
    """What is called beside the app: two of a kind, one that will die, and one that is not there."""
    mortal = stack.enter_context(grpc_app("mortal"))
    return (
        entry("pair", endpoints(one, two)) + entry("mortal", endpoints(mortal)) + entry("broken", endpoints(UNREACHED))
    )


@contextmanager
def serving(root: Path, begin: Callable[[Fleet, ExitStack], Way]) -> Iterator[Way]:
    with fleet(root) as programs, ExitStack() as stack:
        made = begin(programs, stack)
        made.call.until_reached()
        yield made


def through_a_gateway(programs: Fleet, stack: ExitStack) -> Way:
    one, two = (stack.enter_context(grpc_app(name)) for name in ("one", "two"))
    entries = others(stack, one, two) + entry("app", endpoints(one))
    routes = ROUTES_YAML % {"hosts": '"*"', "gateways": "gateways: [edge]", "app": "app.test", "port": 80}
    programs.write("mesh.yaml", EDGE_YAML + entries + routes + DENY_YAML % {"labels": "istio: ingressgateway"})
    flags = ("--bind", "127.0.0.1", "--port-map", "80=0", *QUICK)
    gateway = programs.start("agent", "gateway", "-f", str(programs.folder), *flags).wait_ready()
    host, port = gateway.address("listen")
    return Way(stack.enter_context(caller(f"{host}:{port}")), gateway, gateway)


def through_two_sidecars(programs: Fleet, stack: ExitStack) -> Way:
    one, two = (stack.enter_context(grpc_app(name)) for name in ("one", "two"))
    routes = ROUTES_YAML % {"hosts": "server", "gateways": "", "app": "server", "port": 9080}
    entries = others(stack, one, two)
    programs.write("mesh.yaml", SERVICE_YAML % {"name": "server"} + entries + routes)
    programs.write("deny.yaml", DENY_YAML % {"labels": "app: server"})
    programs.start_pilot()
    app = ("--", sys.executable, str(APP), "server")
    server = programs.sidecar("server", "--health-check", "grpc:test.App", *QUICK, *app)
    client = programs.sidecar("client", *QUICK).wait_ready()
    server.wait_ready()
    target = loopback(client, "server.default.svc.cluster.local:9080")
    return Way(stack.enter_context(caller(target)), client, server)


def loopback(client: Program, service: str) -> str:
    """Where a sidecar listens for a service."""
    found: dict[str, str] = {}

    def known() -> bool:
        lines = client.admin("/listeners").text.splitlines()
        found.update((name, address) for name, _, address in (line.partition("::") for line in lines))
        return f"http_{service}" in found

    until(known)
    return found[f"http_{service}"]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Way]:
    with serving(tmp_path_factory.mktemp("gateway"), through_a_gateway) as made:
        yield made


@pytest.fixture(scope="module")
def sidecars(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Way]:
    with serving(tmp_path_factory.mktemp("sidecars"), through_two_sidecars) as made:
        yield made


@pytest.fixture(params=["gateway", "sidecars"])
def way(request: pytest.FixtureRequest) -> Way:
    made: Way = request.getfixturevalue(request.param)
    return made


@pytest.fixture
def call(way: Way) -> Caller:
    return way.call


# The four kinds of call


def test_unary_with_metadata_both_ways(call: Caller) -> None:
    done = call("unary", "Unary", text="hello", metadata={"echo-word": "a, b"})
    assert (done.code, done.same) == ("OK", True)
    assert done.initial["echo-word"] == "a, b"
    assert done.trailing["echo-word"] == "a, b"
    assert done.trailing["x-raw-bin"] == "00ff"


def test_client_streaming(call: Caller) -> None:
    done = call("send", "Collect", count=20, size=1000)
    assert (done.code, done.same) == ("OK", True)


def test_server_streaming(call: Caller) -> None:
    done = call("receive", "Repeat", size=1000, metadata={"times": "20"})
    assert (done.code, done.same, done.count) == ("OK", True, 20)
    assert done.trailing["x-end"]


def test_bidirectional_turn_by_turn(call: Caller) -> None:
    """Each message waits for the answer to the one before: nothing may be held back on the way."""
    done = call("chat", "Chat", count=20, text="turn")
    assert (done.code, done.same, done.count) == ("OK", True, 20)


def test_many_calls_on_one_connection(call: Caller) -> None:
    assert all(call("unary", "Unary", text="x").same for _ in range(50))


# Messages larger than every window


def test_a_big_message_both_ways(call: Caller) -> None:
    done = call("unary", "Unary", size=12_000_000)
    assert (done.code, done.same) == ("OK", True)


def test_a_flood_both_ways_at_once(call: Caller) -> None:
    done = call("flood", "Chat", count=60, size=200_000)
    assert (done.code, done.same, done.count) == ("OK", True, 60)


def test_big_messages_in_one_direction(call: Caller) -> None:
    assert call("send", "Collect", count=30, size=300_000).same
    assert call("receive", "Repeat", size=300_000, metadata={"times": "30"}).count == 30


# Deadlines and cancellation


def test_the_server_is_told_what_is_left(call: Caller) -> None:
    left = call("unary", "Facts", timeout=60).json["left"]
    assert 0 < left <= 61
    capped = call("unary", "Facts", timeout=60, metadata={"x-case": "capped"}).json
    assert 0 < capped["left"] <= 21


def test_a_deadline_ends_the_call_at_the_server_too(call: Caller) -> None:
    _, before = call.counts()
    done = call("receive", "Hang", text="x", timeout=0.5)
    assert done.code == "DEADLINE_EXCEEDED"
    until(lambda: call.counts()[1] == before + 1)


def test_the_routes_timeout_caps_the_clients_deadline(way: Way) -> None:
    _, before = way.call.counts()
    done = way.call("unary", "Hang", text="x", timeout=60, metadata={"x-case": "short"})
    assert done.code == "DEADLINE_EXCEEDED"  # by the word of whichever was first, a proxy or the server that was told
    until(lambda: way.call.counts()[1] == before + 1)
    until(lambda: way.calls(way.first, 4) >= 1)


def test_cancellation_reaches_the_server(call: Caller) -> None:
    _, before = call.counts()
    assert call("cancel", "Hang", text="x").code == "CANCELLED"
    until(lambda: call.counts()[1] == before + 1)


# Statuses


def test_a_status_with_words_and_trailers(way: Way) -> None:
    done = way.call("unary", "Unary", text="x", metadata={"fail": "5 no such book: 50%|off"})
    assert (done.code, done.details, done.trailing["x-why"]) == ("NOT_FOUND", "no such book: 50%\noff", "asked to")
    until(lambda: way.calls(way.first, 5) >= 1)
    until(lambda: way.calls(way.last, 5) >= 1)


def test_a_method_that_the_server_does_not_have(call: Caller) -> None:
    assert call("unary", "Missing").code == "UNIMPLEMENTED"


@pytest.mark.parametrize(
    ("case", "code", "details"),
    [
        ("nobody", "UNAVAILABLE", "no healthy upstream"),
        ("broken", "UNAVAILABLE", "upstream connect error or disconnect/reset before headers. reset reason: "),
        ("abort", "UNAVAILABLE", "fault filter abort"),
        ("exhausted", "RESOURCE_EXHAUSTED", "fault filter abort"),
    ],
)
def test_the_proxys_own_answers(call: Caller, case: str, code: str, details: str) -> None:
    done = call("unary", "Unary", text="x", metadata={"x-case": case})
    assert (done.code, done.details[: len(details)]) == (code, details)
    streamed = call("receive", "Repeat", text="x", metadata={"x-case": case, "times": "3"})
    assert (streamed.code, streamed.count) == (code, 0)


def test_an_answer_that_had_begun_ends_with_a_status(call: Caller) -> None:
    done = call("chat", "Die", count=2, text="x", metadata={"x-case": "mortal"})
    reason = "upstream connect error or disconnect/reset after headers. reset reason: connection termination"
    assert (done.code, done.details, done.count) == ("UNAVAILABLE", reason, 1)


def test_no_route(call: Caller) -> None:
    assert call("unary", "/nobody.Service/Do", text="x").code == "UNIMPLEMENTED"


def test_what_a_policy_denies(call: Caller) -> None:
    done = call("unary", "Closed", text="x")
    assert (done.code, done.details) == ("PERMISSION_DENIED", "RBAC: access denied")


@pytest.mark.parametrize(
    ("method", "case", "code"),
    [("Missing", "", "UNIMPLEMENTED"), ("Closed", "", "PERMISSION_DENIED"), ("Collect", "nobody", "UNAVAILABLE")],
)
def test_a_refusal_comes_through_while_the_client_still_sends(call: Caller, method: str, case: str, code: str) -> None:
    done = call("send", method, count=50, size=300_000, metadata={"x-case": case})
    assert done.code == code


# CONNECT


def test_a_tunnel_through_the_clients_http_proxy(sidecars: Way) -> None:
    """What grpcio makes of `http_proxy` in the application's environment: HTTP/2 within, the service's mTLS outside."""
    with caller("server:9080", sidecars.first.ready["http_proxy"]) as call:
        assert call("unary", "Unary", text="hello").same
        assert call("flood", "Chat", count=20, size=200_000).same
        done = call("unary", "Closed", text="x")
        assert (done.code, done.details) == ("PERMISSION_DENIED", "RBAC: access denied")
        under_way = sidecars.first.admin("/tasks?view=exchanges&format=json").json["exchanges"]
        assert [each["cluster"] for each in under_way if each["method"] == "CONNECT"] == [
            "outbound|9080||server.default.svc.cluster.local"
        ]


# Retries


def test_unavailable_is_retried_by_default(call: Caller) -> None:
    before = call.counts()[0]["Unary"]
    done = call("unary", "Unary", text="x", metadata={"fail-first": "a 2"})
    assert (done.code, done.same) == ("OK", True)
    assert call.counts()[0]["Unary"] == before + 3


def test_a_message_that_comes_in_pieces_is_kept_for_a_retry(call: Caller) -> None:
    done = call("unary", "Unary", size=60_000, metadata={"fail-first": "c 2"})
    assert (done.code, done.same) == ("OK", True)


def test_a_retry_may_be_forbidden(call: Caller) -> None:
    done = call("unary", "Unary", text="x", metadata={"fail-first": "b 1", "x-case": "once"})
    assert (done.code, done.details) == ("UNAVAILABLE", "failure 1")


def test_other_statuses_are_not_retried(call: Caller) -> None:
    before = call.counts()[0]["Unary"]
    assert call("unary", "Unary", text="x", metadata={"fail": "13 broken"}).code == "INTERNAL"
    assert call.counts()[0]["Unary"] == before + 1


# Balancing and health


def test_calls_of_one_connection_are_spread_over_the_endpoints(call: Caller) -> None:
    names = [call("unary", "Facts", metadata={"x-case": "pair"}).json["name"] for _ in range(4)]
    assert sorted(names) == ["one", "one", "two", "two"]


def test_an_app_that_says_it_does_not_serve_is_not_called(sidecars: Way) -> None:
    way = sidecars
    port = way.last.admin("/server_info").json["node"]["ports"][0]["app_port"]
    with caller(f"127.0.0.1:{port}") as app:
        app("unary", "Be", text="NOT_SERVING")
        until(lambda: way.call("unary", "Unary", text="x").details == "no healthy upstream")
        way.last.wait_line("health checks fail", "NOT_SERVING")
        app("unary", "Be", text="SERVING")
    way.call.until_reached()
