"""A failed exchange: whose fault it was, what the client gets, and whether trying again is safe.

Statuses, bodies, flags and details are Envoy's (they are what operators search for). Only reply.py turns a
fault into a response; only retry.py decides on another try.
"""

from __future__ import annotations

from typing import Literal, Protocol

from agent.exchange.grpc import DEADLINE_EXCEEDED

_REASON = b"reset reason: "
_RESET = b"upstream connect error or disconnect/reset before headers. " + _REASON


class ProxyFault(Exception):
    """`sent`: bytes of the request may have reached the upstream; `reused`: on a connection that had served before.

    `flag` is the access log's response flag, `reason` the reset reason (`remote_connection_failure`, …) or "".
    `grpc_status` is set where a gRPC client is told something else than what `status` stands for.
    """

    def __init__(
        self,
        origin: Literal["downstream", "upstream", "proxy"],
        flag: str,
        details: str,
        *,
        status: int = 503,
        body: bytes = b"",
        reason: str = "",
        transport: str = "",
        sent: bool = False,
        reused: bool = False,
        grpc_status: int | None = None,
    ) -> None:
        super().__init__(details)
        self.origin = origin
        self.flag = flag
        self.details = details
        self.status = status
        self.body = body
        self.reason = reason
        self.transport = transport
        self.sent = sent
        self.reused = reused
        self.grpc_status = grpc_status

    @property
    def untouched(self) -> bool:
        """The upstream says itself that it has done nothing with the request, so any request may be sent again."""
        return self.reason == "remote_refused_stream_reset"

    def tell_retried(self) -> None:
        """Word the body of a reset for a client whose request was tried more than once."""
        self.body = self.body.replace(b". " + _REASON, b". retried and the latest " + _REASON, 1)

    def tell_begun(self) -> None:
        """Word the body of a reset for a client whose response had begun."""
        self.body = self.body.replace(b" before headers", b" after headers", 1)


def connect_failed(why: str, *, timeout: bool = False) -> ProxyFault:
    """TCP or TLS towards the endpoint did not come up."""
    words = b"connection timeout" if timeout else b"remote connection failure"
    reason = "connection_timeout" if timeout else "remote_connection_failure"
    body = _RESET + words
    if why and not timeout:
        body += b", transport failure reason: " + why.encode("ascii", "replace")
    return ProxyFault(
        "upstream",
        "UF",
        f"upstream_reset_before_response_started{{{reason}}}",
        body=body,
        reason=reason,
        transport=why,
    )


def terminated(*, sent: bool, reused: bool) -> ProxyFault:
    """The upstream closed the connection before its response began."""
    return ProxyFault(
        "upstream",
        "UC",
        "upstream_reset_before_response_started{connection_termination}",
        body=_RESET + b"connection termination",
        reason="connection_termination",
        sent=sent,
        reused=reused,
    )


def malformed(reason: str) -> ProxyFault:
    """The upstream's response is not HTTP; `reason` is the codec's token."""
    return ProxyFault(
        "upstream",
        "UPE",
        f"upstream_reset_before_response_started{{protocol_error|{reason}}}",
        status=502,
        body=_RESET + b"protocol error",
        reason="protocol_error",
        sent=True,
    )


def overflow() -> ProxyFault:
    """A circuit breaker of the cluster refuses; the reply carries x-envoy-overloaded."""
    return ProxyFault(
        "proxy",
        "UO",
        "upstream_reset_before_response_started{overflow}",
        body=_RESET + b"overflow",
        reason="overflow",
    )


def no_healthy_upstream() -> ProxyFault:
    """The cluster has no endpoint that may be used."""
    return ProxyFault("proxy", "UH", "no_healthy_upstream", body=b"no healthy upstream")


def no_route(reason: str = "route_not_found") -> ProxyFault:
    """No virtual host or no route matches."""
    return ProxyFault("proxy", "NR", reason, status=404)


def bad_path() -> ProxyFault:
    """The path has no form that everybody reads alike."""
    return ProxyFault("proxy", "", "path_normalization_failed", status=400)


def denied(details: str) -> ProxyFault:
    """A policy refuses; `details` name it and are for the access log alone."""
    return ProxyFault("proxy", "", details, status=403, body=b"RBAC: access denied")


def last_hop(method: bytes) -> ProxyFault:
    """Max-Forwards ran out. TRACE is not answered in kind: that would show credentials to whoever made them be sent."""
    return ProxyFault("proxy", "", "max_forwards_reached", status=405 if method == b"TRACE" else 200)


def no_cluster(status: int = 503) -> ProxyFault:
    """The route names a cluster that does not exist."""
    return ProxyFault("proxy", "NC", "cluster_not_found", status=status)


def route_timeout(status: int = 504) -> ProxyFault:
    """The route's timeout ran out. 204 is what a client may ask for (x-envoy-upstream-rq-timeout-alt-response)."""
    body = b"" if status == 204 else b"upstream request timeout"
    return ProxyFault("proxy", "UT", "response_timeout", status=status, body=body, sent=True)


def deadline_exceeded() -> ProxyFault:
    """The deadline that a gRPC client stated (grpc-timeout) is over."""
    return ProxyFault(
        "proxy",
        "DT",
        "max_duration_timeout",
        status=504,
        body=b"downstream duration timeout",
        sent=True,
        grpc_status=DEADLINE_EXCEEDED,
    )


def per_try_timeout() -> ProxyFault:
    """One attempt's timeout ran out."""
    return ProxyFault(
        "upstream",
        "UT",
        "upstream_per_try_timeout",
        status=504,
        body=b"upstream request timeout",
        reason="per_try_timeout",
        sent=True,
    )


def late(status: int, details: str) -> ProxyFault:
    """The exchange was silent or lasted for too long (`stream_idle_timeout`, `request_overall_timeout`)."""
    flag = "SI" if details == "stream_idle_timeout" else ""
    return ProxyFault("proxy", flag, details, status=status, body=b"stream timeout")


def reset_by_upstream(*, refused: bool, reused: bool = False) -> ProxyFault:
    """RST_STREAM or GOAWAY; `refused`: the upstream says that it has done nothing with the request (RFC 9113 8.7);
    `reused`: because it parts with a connection that has served before."""
    reason = "remote_refused_stream_reset" if refused else "remote_reset"
    return ProxyFault(
        "upstream",
        "UR",
        f"upstream_reset_before_response_started{{{reason}}}",
        body=_RESET + reason.replace("_", " ").encode(),
        reason=reason,
        sent=not refused,
        reused=reused,
    )


class Interrupted(Protocol):
    """The client's side of an exchange whose wait was ended from outside."""

    client_gone: bool

    @property
    def timed_out(self) -> bool: ...
    @property
    def lateness(self) -> tuple[int, str]: ...


def cut(side: Interrupted) -> ProxyFault:
    """Why a wait was ended: the exchange was late, else its client has gone."""
    return late(*side.lateness) if side.timed_out and not side.client_gone else client_gone()


def client_gone() -> ProxyFault:
    """The downstream hung up; nobody is left to answer."""
    return ProxyFault("downstream", "DC", "downstream_remote_disconnect", status=0)
