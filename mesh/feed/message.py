"""The messages of the feed, and their JSON.

Each message is one WebSocket message: an object whose `type` names it. Resources travel as raw JSON, so the
pilot encodes each once for all agents and the agent decodes each alone: a bad one harms no other.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec
from msgspec import Raw, Struct

from mesh.config import ResourceKind
from mesh.errors import MeshError
from mesh.feed.node import Node

FEATURES: tuple[str, ...] = ("delta", "endpoints-lane", "sign", "report", "workers")
"""What this version speaks; a session uses the features that both sides name."""


class FeedError(MeshError):
    """The peer sent what the protocol does not allow; the session ends."""


class Upsert(Struct, frozen=True, array_like=True):
    """A resource in its new form. `hash` is content_hash of `resource`."""

    kind: ResourceKind
    name: str
    hash: str
    resource: Raw


class Removal(Struct, frozen=True, array_like=True):
    """A resource that is no more."""

    kind: ResourceKind
    name: str


class Rejected(Struct, frozen=True, array_like=True):
    """A resource that the agent did not take, and why; its last good version stays in use."""

    kind: ResourceKind
    name: str
    reason: str


class Hello(Struct, frozen=True, tag="hello"):
    """First message of an agent. `known`: hashes of what it still holds, by kind and name.

    An agent of several worker processes has a session for each of them: `worker` counts from 0 to `workers` - 1.
    """

    node: Node
    features: tuple[str, ...] = FEATURES
    known: dict[ResourceKind, dict[str, str]] = {}
    worker: int = 0
    workers: int = 1


class Welcome(Struct, frozen=True, tag="welcome"):
    """The pilot's answer to Hello."""

    session: str
    features: tuple[str, ...] = FEATURES
    pilot_version: str = ""


class Push(Struct, frozen=True, tag="push"):
    """Changes to apply in one swap, in make-before-break order. `full`: the agent held nothing before."""

    nonce: int
    upserts: tuple[Upsert, ...] = ()
    removals: tuple[Removal, ...] = ()
    full: bool = False


class EndpointsPush(Struct, frozen=True, tag="endpoints"):
    """Endpoints of some clusters: the lane that is never debounced and never waits for a Push."""

    nonce: int
    upserts: tuple[Upsert, ...] = ()
    removals: tuple[Removal, ...] = ()


class Ack(Struct, frozen=True, tag="ack"):
    """Everything of the push `nonce` is in use."""

    nonce: int


class Nack(Struct, frozen=True, tag="nack"):
    """The push `nonce` is in use but for `rejected`."""

    nonce: int
    rejected: tuple[Rejected, ...]


class SignRequest(Struct, frozen=True, tag="sign"):
    """Ask for a certificate. `ttl` is seconds; 0 leaves it to the authority."""

    id: int
    csr_pem: str
    ttl: float = 0.0


class SignResponse(Struct, frozen=True, tag="signed"):
    """A certificate (leaf first), or `error`. Times are seconds since the epoch."""

    id: int
    chain_pem: str = ""
    roots_pem: str = ""
    spiffe_id: str = ""
    not_before: float = 0.0
    not_after: float = 0.0
    error: str = ""


class Ejection(Struct, frozen=True, omit_defaults=True):
    """An endpoint that this agent's outlier detection took out; `until` is seconds since the epoch, at the earliest."""

    cluster: str
    address: str
    port: int
    reason: str = ""
    until: float = 0.0


class RequestStatistics(Struct, frozen=True, omit_defaults=True):
    """Requests that ended since the last report, by who asked whom and what came of it; whoever reads sums them up.

    `source` is a workload, `destination` a service's host. `reporter`: whether the caller's agent counted or the
    callee's. `response_class` is the status code's first digit, 0 where nothing was sent. `errors` are those
    without an answer or with a 5xx; `latency_sum` is seconds.
    """

    source: str
    destination: str
    requests: int = 0
    errors: int = 0
    latency_sum: float = 0.0
    destination_workload: str = ""
    response_class: int = 0
    reporter: Literal["source", "destination"] = "source"


class Report(Struct, frozen=True, tag="report", omit_defaults=True):
    """What an agent has seen. `health` is its own app's; `certificate_expiry` seconds since the epoch."""

    health: Literal["", "healthy", "unhealthy", "draining"] = ""
    ejections: tuple[Ejection, ...] = ()
    requests: tuple[RequestStatistics, ...] = ()
    certificate_expiry: float = 0.0


class Goodbye(Struct, frozen=True, tag="goodbye"):
    """The agent is leaving for good: its endpoints may go at once."""

    reason: str = ""


class Refusal(Struct, frozen=True, tag="refusal"):
    """Why the pilot ends the session, and what to do about it."""

    reason: str
    remedy: str = ""


ToPilot: TypeAlias = Hello | Ack | Nack | SignRequest | Report | Goodbye
ToAgent: TypeAlias = Welcome | Push | EndpointsPush | SignResponse | Refusal

_encoder = msgspec.json.Encoder()
_to_pilot: msgspec.json.Decoder[ToPilot] = msgspec.json.Decoder(ToPilot)
_to_agent: msgspec.json.Decoder[ToAgent] = msgspec.json.Decoder(ToAgent)


def encode(message: ToPilot | ToAgent) -> bytes:
    """One message as JSON bytes."""
    return _encoder.encode(message)


def decode_to_pilot(data: bytes) -> ToPilot:
    """A message from an agent. Raises FeedError."""
    try:
        return _to_pilot.decode(data)
    except msgspec.DecodeError as exc:
        raise FeedError(f"not a message of an agent: {exc}") from exc


def decode_to_agent(data: bytes) -> ToAgent:
    """A message from a pilot. Raises FeedError."""
    try:
        return _to_agent.decode(data)
    except msgspec.DecodeError as exc:
        raise FeedError(f"not a message of a pilot: {exc}") from exc
