"""Ask the chain's policies about a request or a connection; a denial becomes a fault and is counted.

What a policy can ask is gathered here; what it answers is decided in agent/policy.
"""

from __future__ import annotations

from agent.codec.message import RequestHead
from agent.dataplane import Dataplane, Downstream
from agent.exchange import faults
from agent.policy.authz import Authz, Facts


def authorize_request(authz: Authz, head: RequestHead, downstream: Downstream, dataplane: Dataplane) -> None:
    """Raises ProxyFault (403) when the policies deny the request as it will be forwarded."""
    facts = downstream.facts
    if facts is None:
        facts = downstream.facts = _facts(downstream)  # of the connection; what is of the request is replaced each time
    facts.method = head.method
    facts.authority = head.authority
    facts.path = head.path
    facts.headers = head.headers.index
    facts.fields = head.headers.items
    verdict = authz.check(facts)
    stats = dataplane.stats.downstream("inbound" if downstream.config.direction == "inbound" else "outbound")
    if verdict.allowed:
        stats.rbac_allowed.inc()
        return
    stats.rbac_denied.inc()
    dataplane.stats.refused("http", "rbac_denied")
    raise faults.denied(verdict.reason)


def authorize_connection(authz: Authz, downstream: Downstream, dataplane: Dataplane) -> None:
    """Raises ProxyFault when the policies deny a connection of opaque bytes, which is then closed."""
    verdict = authz.check(_facts(downstream))
    if not verdict.allowed:
        dataplane.stats.refused("tcp", "rbac_denied")
        raise faults.denied(verdict.reason)


def _facts(downstream: Downstream) -> Facts:
    transport = downstream.transport
    facts = Facts(
        downstream.direct or transport.remote, transport.local, remote=transport.remote, sni=downstream.server_name
    )
    peer = downstream.peer
    if peer is not None:
        facts.principal = peer.principal
        facts.trust_domain = peer.trust_domain
        facts.namespace = peer.namespace
        facts.service_account = peer.service_account
    return facts
