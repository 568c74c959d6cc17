"""Rules of a connectionPool: limits that are not negative, times that can be kept."""

from __future__ import annotations

from pilot.resources.destination_rule import ConnectionPoolSettings, HttpSettings, TcpSettings
from pilot.resources.report import Report
from pilot.resources.rules import check_duration
from pilot.resources.yaml import Path


def check_connection_pool(pool: ConnectionPoolSettings, path: Path, report: Report) -> None:
    """Report every broken rule of a pool of a DestinationRule, or of a Sidecar's inbound side."""
    if pool.tcp is None and pool.http is None:
        report(path, "the pool has neither tcp nor http settings", "give one, or remove it")
    if pool.tcp is not None:
        _check_tcp(pool.tcp, (*path, "tcp"), report)
    if pool.http is not None:
        _check_http(pool.http, (*path, "http"), report)


def _check_tcp(tcp: TcpSettings, path: Path, report: Report) -> None:
    _check_not_negative({"maxConnections": tcp.max_connections}, path, report)
    check_duration(tcp.connect_timeout, (*path, "connectTimeout"), report)
    check_duration(tcp.max_connection_duration, (*path, "maxConnectionDuration"), report)
    _check_idle_timeout(tcp.idle_timeout, path, report)
    if tcp.tcp_keepalive is not None:
        check_duration(tcp.tcp_keepalive.time, (*path, "tcpKeepalive", "time"), report)
        check_duration(tcp.tcp_keepalive.interval, (*path, "tcpKeepalive", "interval"), report)


def _check_http(http: HttpSettings, path: Path, report: Report) -> None:
    limits = {
        "http1MaxPendingRequests": http.http1_max_pending_requests,
        "http2MaxRequests": http.http2_max_requests,
        "maxRequestsPerConnection": http.max_requests_per_connection,
        "maxRetries": http.max_retries,
        "maxConcurrentStreams": http.max_concurrent_streams,
    }
    _check_not_negative(limits, path, report)
    _check_idle_timeout(http.idle_timeout, path, report)
    if http.h2_upgrade_policy == "UPGRADE" and http.use_client_protocol:
        report((*path, "useClientProtocol"), "cannot be true with h2UpgradePolicy UPGRADE", "keep one of them")
    if http.http2_keep_alive is not None:
        here = (*path, "http2KeepAlive")
        for name, value in (("interval", http.http2_keep_alive.interval), ("timeout", http.http2_keep_alive.timeout)):
            if value is None:
                report((*here, name), "is required", "add it")
            check_duration(value, (*here, name), report)


def _check_idle_timeout(seconds: float | None, path: Path, report: Report) -> None:
    """0 switches it off; anything else is a duration like the others."""
    if seconds:
        check_duration(seconds, (*path, "idleTimeout"), report)


def _check_not_negative(values: dict[str, int], path: Path, report: Report) -> None:
    for name, value in values.items():
        if value < 0:
            report((*path, name), f"{value} is negative", "write 0 (unset) or more")
