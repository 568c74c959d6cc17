"""Faults carry what Envoy says in the same case: status, flag, details, body, reset reason."""

from __future__ import annotations

import pytest

from agent.exchange import faults
from agent.exchange.faults import ProxyFault

RESET = b"upstream connect error or disconnect/reset before headers. reset reason: "


@pytest.mark.parametrize(
    ("fault", "origin", "status", "flag", "body"),
    [
        (faults.connect_failed(""), "upstream", 503, "UF", RESET + b"remote connection failure"),
        (
            faults.connect_failed("no r\u00f6ute"),
            "upstream",
            503,
            "UF",
            RESET + b"remote connection failure, transport failure reason: no r?ute",
        ),
        (faults.connect_failed("late", timeout=True), "upstream", 503, "UF", RESET + b"connection timeout"),
        (faults.terminated(sent=True, reused=True), "upstream", 503, "UC", RESET + b"connection termination"),
        (faults.malformed("bad_status"), "upstream", 502, "UPE", RESET + b"protocol error"),
        (faults.overflow(), "proxy", 503, "UO", RESET + b"overflow"),
        (faults.no_healthy_upstream(), "proxy", 503, "UH", b"no healthy upstream"),
        (faults.no_route(), "proxy", 404, "NR", b""),
        (faults.no_cluster(500), "proxy", 500, "NC", b""),
        (faults.route_timeout(), "proxy", 504, "UT", b"upstream request timeout"),
        (faults.route_timeout(204), "proxy", 204, "UT", b""),
        (faults.per_try_timeout(), "upstream", 504, "UT", b"upstream request timeout"),
        (faults.deadline_exceeded(), "proxy", 504, "DT", b"downstream duration timeout"),
        (faults.denied("rbac"), "proxy", 403, "", b"RBAC: access denied"),
        (faults.client_gone(), "downstream", 0, "DC", b""),
    ],
)
def test_a_fault(fault: ProxyFault, origin: str, status: int, flag: str, body: bytes) -> None:
    assert (fault.origin, fault.status, fault.flag, fault.body) == (origin, status, flag, body)
    assert str(fault) == fault.details != ""


def test_only_a_connection_that_never_was_sent_nothing() -> None:
    assert not faults.connect_failed("x").sent
    assert faults.malformed("x").sent
    assert not faults.terminated(sent=False, reused=False).sent
    assert faults.terminated(sent=True, reused=True).reused


def test_a_reset_that_was_retried_says_so_once() -> None:
    fault = faults.terminated(sent=True, reused=False)
    fault.tell_retried()
    fault.tell_retried()
    assert fault.body.endswith(b"before headers. retried and the latest reset reason: connection termination")
    other = faults.no_healthy_upstream()
    other.tell_retried()
    assert other.body == b"no healthy upstream"


def test_a_reset_after_the_head_says_so() -> None:
    fault = faults.terminated(sent=True, reused=False)
    fault.tell_begun()
    reason = b"upstream connect error or disconnect/reset after headers. reset reason: connection termination"
    assert fault.body == reason
    late = faults.deadline_exceeded()
    late.tell_begun()
    assert late.body == b"downstream duration timeout"


@pytest.mark.parametrize("refused", [True, False])
def test_a_stream_that_the_upstream_refuses_was_not_touched(refused: bool) -> None:
    fault = faults.reset_by_upstream(refused=refused, reused=True)
    assert (fault.flag, fault.status, fault.untouched, fault.sent) == ("UR", 503, refused, not refused)
    assert fault.body.endswith(b"reset reason: remote " + (b"refused stream reset" if refused else b"reset"))
    assert not faults.terminated(sent=False, reused=True).untouched
