"""One decoded object: identity, metadata, typed spec, and where each of its fields was written."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

from mesh.config import Origin
from pilot.resources.meta import ObjectMeta
from pilot.resources.yaml import Mark, Path, format_path, parse_path, position

Key: TypeAlias = tuple[str, str, str]
"""(kind, namespace, name); namespace "" for cluster-wide kinds."""


@dataclass(frozen=True, slots=True)
class Object:
    """An object of a known kind. Equality looks at content: not at file and positions.

    `spec` is the kind's Struct (for kinds without a spec, such as EndpointSlice, the whole document's),
    `status` is there for Pods only. `kind` is "K8sGateway" for the Gateway API's Gateway.
    """

    kind: str
    api_version: str
    meta: ObjectMeta
    spec: Any
    status: Any = None
    mark: Mark = field(default=(0, 0, None), compare=False, repr=False)
    file: str = field(default="", compare=False)

    @property
    def key(self) -> Key:
        """(kind, namespace, name)."""
        return (self.kind, self.meta.namespace, self.meta.name)

    @property
    def name(self) -> str:
        """metadata.name."""
        return self.meta.name

    @property
    def namespace(self) -> str:
        """metadata.namespace; "default" when the file gives none, "" for cluster-wide kinds."""
        return self.meta.namespace

    def origin(self, path: str | Path = "") -> Origin:
        """Where `path` (`spec.http[0].route[1]`) was written; the line of its nearest ancestor that is there."""
        parts = parse_path(path) if isinstance(path, str) else path
        line, _ = position(self.mark, parts)
        return Origin(
            kind=self.kind,
            namespace=self.meta.namespace,
            name=self.meta.name,
            field=format_path(parts),
            file=self.file,
            line=line,
        )
