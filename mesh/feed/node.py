"""What an agent says of itself when it connects; the pilot translates for exactly this."""

from __future__ import annotations

import re
from typing import Final, Literal

from msgspec import Struct

_HEALTH_CHECK: Final = re.compile(r"(tcp|grpc(:[!-~]+)?|/[!-~]*)?\Z")


class InboundPort(Struct, frozen=True):
    """The app's own port and the address at which the sidecar takes its traffic."""

    app_port: int
    address: str
    port: int


class Node(Struct, frozen=True, omit_defaults=True):
    """Identity and place of one agent. `id` is unique in the mesh: `sidecar~reviews-v1-7f3a.default`.

    `labels` decide which Services and which Gateway selectors it belongs to; `service` is the name
    given with --service, which makes a Service where none selects the labels. `health_check` says how the
    sidecar checks its own app: "" not at all, "tcp" by connecting, "grpc" or "grpc:SERVICE" by grpc.health.v1, else the
    path to GET.
    """

    id: str
    role: Literal["sidecar", "gateway"]
    namespace: str = "default"
    service: str = ""
    service_account: str = "default"
    workload: str = ""
    labels: dict[str, str] = {}
    ports: tuple[InboundPort, ...] = ()
    agent_version: str = ""
    health_check: str = ""
    health_check_interval: float = 10.0
    """Seconds (Istio ReadinessProbe periodSeconds)."""


def is_health_check(text: str) -> bool:
    """Whether `text` is a way to check an app."""
    return _HEALTH_CHECK.match(text) is not None
