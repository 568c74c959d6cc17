"""Snapshot types to and from JSON, and their content hashes."""

from __future__ import annotations

import hashlib

import msgspec

from mesh.config.cluster import Cluster
from mesh.config.endpoint import ClusterEndpoints
from mesh.config.listener import Listener
from mesh.config.route import RouteConfig
from mesh.config.secret import Secret
from mesh.config.snapshot import Resource, ResourceKind, Snapshot
from mesh.errors import ConfigError

_TYPES: dict[ResourceKind, type[Resource]] = {
    "secret": Secret,
    "cluster": Cluster,
    "endpoints": ClusterEndpoints,
    "listener": Listener,
    "route": RouteConfig,
}
_encoder = msgspec.json.Encoder(order="deterministic")


def encode(value: Resource | Snapshot) -> bytes:
    """JSON bytes; equal values give equal bytes."""
    return _encoder.encode(value)


def content_hash(encoded: bytes) -> str:
    """Short hash of an encoded resource; equality of hashes is equality of content."""
    return hashlib.blake2b(encoded, digest_size=12).hexdigest()


def decode_resource(kind: ResourceKind, data: bytes) -> Resource:
    """Inverse of encode for one resource. Raises ConfigError with the JSON path of the fault."""
    try:
        return msgspec.json.decode(data, type=_TYPES[kind])
    except (msgspec.DecodeError, KeyError) as exc:
        raise ConfigError(f"not a {kind}: {exc}", remedy="pilot and agent must be of compatible versions") from exc


def decode_snapshot(data: bytes) -> Snapshot:
    """Inverse of encode for a snapshot. Raises ConfigError."""
    try:
        return msgspec.json.decode(data, type=Snapshot)
    except msgspec.DecodeError as exc:
        raise ConfigError(f"not a snapshot: {exc}", remedy="delete the file; the pilot sends a new one") from exc
