"""What connections cost by themselves: new mTLS ones at a server's sidecar, idle ones at a client's.

One client here, one connection at a time: only the proxy's CPU counts, so the client need not be fast.
"""

from __future__ import annotations

import contextlib
import resource
import socket
import ssl
import time
from dataclasses import dataclass, field
from statistics import median

from tests.bench.certificates import Certificates
from tests.bench.load import LoadError, Target
from tests.bench.process import cpu_seconds, rss_bytes
from tests.bench.subject import Subject

IDLE = 1000
_ALPN = ["istio-http/1.1", "istio"]
_SETTLE = 1.0  # seconds for a proxy to let go of what closed connections held


@dataclass
class Costs:
    """One subject's figures: connections per CPU-second, one entry a round; bytes of an idle one."""

    full: list[float] = field(default_factory=list)
    resumed: list[float] = field(default_factory=list)
    idle: float = 0.0


def compare(subjects: list[Subject], *, rounds: int, seconds: float) -> list[str]:
    """Table rows of the `connections` path, the reference first. Raises LoadError."""
    costs = [Costs() for _ in subjects]
    pairs = list(zip(subjects, costs, strict=True))
    for number in range(rounds):
        for subject, cost in pairs if number % 2 == 0 else reversed(pairs):
            for resume, figures in ((False, cost.full), (True, cost.resumed)):
                figures.append(_handshakes(subject, seconds, resume=resume))
    for subject, cost in pairs:
        cost.idle = _idle(subject)
    rows = []
    for label, left, right, form in (
        ("new mTLS connections per CPU-second", *(median(cost.full) for cost in costs), ",.0f"),
        ("resumed mTLS connections per CPU-second", *(median(cost.resumed) for cost in costs), ",.0f"),
        (f"RSS of one of {IDLE:,} idle HTTP/1.1 connections, kB", *(cost.idle / 1000 for cost in costs), ".1f"),
    ):
        rows.append(f"| connections | {label} | {left:{form}} | {right:{form}} | {right / left:.2f} |")
    return rows


def _handshakes(subject: Subject, seconds: float, *, resume: bool) -> float:
    """Connections per CPU-second of the server's proxy, each with one small GET."""
    assert subject.certificates is not None
    context = _context(subject.certificates)
    proxy = subject.measured[0]
    session = _visit(context, subject.inbound, None)
    before, made = cpu_seconds(proxy.pid), 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        session = _visit(context, subject.inbound, session if resume else None)
        made += 1
    return made / max(cpu_seconds(proxy.pid) - before, 0.01)


def _context(certificates: Certificates) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(certificates.root)
    context.load_cert_chain(*certificates.pair("client"))
    context.set_alpn_protocols(_ALPN)
    return context


def _visit(context: ssl.SSLContext, port: int, session: ssl.SSLSession | None) -> ssl.SSLSession | None:
    """One connection, one GET; the session of its ticket, which comes before the answer."""
    with (
        socket.create_connection(("127.0.0.1", port), 5) as raw,
        context.wrap_socket(raw, server_hostname="app", session=session) as tls,
    ):
        if tls.session_reused is not (session is not None):
            raise LoadError(f"a session {'was not' if session else 'was'} resumed")
        _ask(tls, "app:8080", "/")
        return tls.session


def _ask(wire: socket.socket, authority: str, path: str) -> None:
    wire.sendall(f"GET {path} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())
    seen = b""
    while b"mesh" not in seen:  # the app's answer ends with it
        data = wire.recv(65536)
        seen += data
        if not data or not b"HTTP/1.1 200 ".startswith(seen[:13]):
            raise LoadError(f"not the app's answer: {seen[:200]!r}")


def _idle(subject: Subject) -> float:
    """Bytes that one of many connections costs the client's proxy after a request each."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = IDLE + 200
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))
    proxy = subject.measured[1]
    with contextlib.ExitStack() as warm:
        for _ in range(50):
            warm.enter_context(_idler(subject.target))
    time.sleep(_SETTLE)
    before = rss_bytes(proxy.pid)
    with contextlib.ExitStack() as idle:
        for _ in range(IDLE):
            idle.enter_context(_idler(subject.target))
        time.sleep(_SETTLE)
        return (rss_bytes(proxy.pid) - before) / IDLE


def _idler(target: Target) -> socket.socket:
    wire = socket.create_connection(("127.0.0.1", target.port), 5)
    _ask(wire, target.authority, f"http://{target.authority}/" if target.proxy else "/")
    return wire
