"""What the operator sees of connected agents: one status of each, whatever the number of its workers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

import msgspec
from msgspec import Struct

from pilot.push.session import ProxySession
from pilot.push.traffic import Traffic

# The worst of several workers' is the agent's.
_STATES = ("SYNCED", "NOT SENT", "STALE", "ERROR")
_HEALTHS = ("", "healthy", "unhealthy", "draining")


class ProxyStatus(Struct, frozen=True):
    """One line of proxy-status: an agent, all its workers together. Times are seconds since the epoch."""

    id: str
    role: str
    namespace: str
    service: str
    workload: str
    version: str
    identity: str
    connected_since: float
    last_ack: float | None
    sync: dict[str, dict[str, str]]
    nacks: list[dict[str, str]]
    health: str
    health_check: str
    certificate_expiry: float
    remote: str
    workers: int
    """Of `workers_wanted`, how many are connected."""
    workers_wanted: int
    last_report: float | None
    ejections: list[dict[str, Any]]
    """Fields of mesh.feed.message.Ejection."""
    requests: list[dict[str, Any]]
    """Fields of mesh.feed.message.RequestStatistics: sums since `connected_since`."""


def proxy_statuses(sessions: Iterable[ProxySession]) -> list[ProxyStatus]:
    """Of each agent one; `sessions` are in order of the agents' ids."""
    return [_status(list(workers)) for _, workers in groupby(sessions, key=lambda session: session.node.id)]


def rejections(sessions: Iterable[ProxySession]) -> list[dict[str, str]]:
    """What agents do not take, and why; equal words of several workers once."""
    found = [
        {"proxy": session.node.id, "kind": r.kind, "name": r.name, "reason": r.reason}
        for session in sessions
        for r in session.book.rejections
    ]
    return [each for at, each in enumerate(found) if each not in found[:at]]


def health_of(sessions: Iterable[ProxySession]) -> str:
    """The app's health as the workers of its agent see it: the worst that one of them says."""
    healths = [session.last_report.health for session in sessions if session.last_report is not None]
    return max(healths, key=_HEALTHS.index, default="")


def _status(sessions: Sequence[ProxySession]) -> ProxyStatus:
    first = sessions[0]
    node = first.node
    reports = [session.last_report for session in sessions if session.last_report is not None]
    traffic = Traffic()
    for session in sessions:
        traffic.add(session.traffic.rows)
    ejections = {msgspec.structs.replace(each, until=0.0): each for report in reports for each in report.ejections}
    return ProxyStatus(
        id=node.id,
        role=node.role,
        namespace=node.namespace,
        service=node.service,
        workload=node.workload,
        version=node.agent_version,
        identity=f"{node.namespace}/{node.service_account}",
        connected_since=min(session.connected_at for session in sessions),
        last_ack=_oldest([session.last_ack_at for session in sessions]),
        sync=_sync(sessions),
        nacks=[{key: each[key] for key in ("kind", "name", "reason")} for each in rejections(sessions)],
        health=health_of(sessions),
        health_check=node.health_check,
        certificate_expiry=min((r.certificate_expiry for r in reports if r.certificate_expiry), default=0.0),
        remote=first.caller.remote,
        workers=len(sessions),
        workers_wanted=first.workers,
        last_report=max((at for session in sessions if (at := session.last_report_at) is not None), default=None),
        ejections=[msgspec.structs.asdict(each) for each in ejections.values()],
        requests=[msgspec.structs.asdict(row) for row in traffic.rows],
    )


def _oldest(times: Sequence[float | None]) -> float | None:
    """None while one of the workers has never answered."""
    known = [time for time in times if time is not None]
    return min(known) if len(known) == len(times) else None


def _sync(sessions: Sequence[ProxySession]) -> dict[str, dict[str, str]]:
    worst: dict[str, dict[str, str]] = {}
    for session in sessions:
        for kind, state in session.book.states().items():
            if kind not in worst or _rank(state.state) > _rank(worst[kind]["state"]):
                worst[kind] = {"state": state.state, "error": state.error}
    return worst


def _rank(state: str) -> int:
    return _STATES.index(state)
