"""The agent's own settings, fixed at start: one frozen value, read from flags and environment by the command."""

from __future__ import annotations

import difflib
from typing import Any

import msgspec
from msgspec import Struct

from mesh.errors import ConfigError
from mesh.feed.node import Node


class Settings(Struct, frozen=True):
    """Limits and hardening under Envoy's names (`--set KEY=VALUE`). Durations are seconds, 0 is off."""

    request_headers_timeout: float = 0.0
    """From the first byte of a request head to its end; 408 after it."""
    request_timeout: float = 0.0
    """From a request's head to its end; 408 after it."""
    stream_idle_timeout: float = 0.0
    """Silence within an exchange; 408 while the request is incomplete, 504 after it, a reset once an answer began."""
    connection_idle_timeout: float = 3600.0
    max_request_headers_kb: int = 60
    max_headers_count: int = 100
    max_connections: int = 100_000
    max_concurrent_streams: int = 256
    """Requests at once on one HTTP/2 connection of a client."""
    initial_stream_window_size: int = 256 * 1024
    """Bytes that an HTTP/2 client may send ahead on a stream."""
    initial_connection_window_size: int = 1024 * 1024
    """Bytes that an HTTP/2 client may send ahead on all of a connection's streams together."""
    headers_with_underscores_action: str = "allow"
    normalize_path: bool | None = None
    """Remove dot segments, decode needless escapes, turn backslashes; unset: as the mesh's pathNormalization says."""
    merge_slashes: bool | None = None
    """Take several slashes for one; unset: as the mesh's pathNormalization says."""
    path_with_escaped_slashes_action: str = ""
    """What becomes of %2F and %5C in a path; unset: as the mesh's pathNormalization says."""
    proxy_protocol: str = ""
    """PROXY header on connections from outside: off, accept or require; unset: as the mesh's gatewayTopology says."""
    drain_time: float = 5.0
    """Seconds between SIGTERM and the end of what is still open (Istio terminationDrainDuration)."""
    access_log_file: str = ""
    access_log_format: str = ""
    access_log_encoding: str = "TEXT"
    codec: str = "auto"
    """HTTP engine: auto, fast or reference (MESH_CODEC)."""
    request_body_buffer_bytes: int = 65536
    """A request body of known length up to this is read whole before it is sent, so that it can be retried; of another
    one as much is kept while it is sent."""
    dns_refresh_rate: float = 5.0
    health_check_interval: float = 10.0
    """Between two checks of the sidecar's own app (--health-check) while it is well; 0: no checks."""
    certificate_ttl: float = 0.0
    """Life of the certificates that this agent asks for; 0 leaves it to the pilot (a day)."""

    @staticmethod
    def parse(pairs: dict[str, str]) -> Settings:
        """From `--set` pairs. Raises ConfigError naming the nearest known key or the type wanted."""
        known = {field.name: field for field in msgspec.structs.fields(Settings)}
        values: dict[str, Any] = {}
        for key, text in pairs.items():
            if key not in known:
                near = difflib.get_close_matches(key, known, 1)
                hint = f"did you mean {near[0]}?" if near else "see --help for the list"
                raise ConfigError(f"unknown setting {key}", path=key, file="--set", remedy=hint)
            if key in _CHOICES and text not in _CHOICES[key]:
                choices = ", ".join(_CHOICES[key])
                raise ConfigError(
                    f"{text!r} is not a value of {key}", path=key, file="--set", remedy=f"one of {choices}"
                )
            try:
                written = _seconds(text) if known[key].type is float else text
                values[key] = value = msgspec.convert(written, known[key].type, strict=False)
            except msgspec.ValidationError as exc:
                wanted = getattr(known[key].type, "__name__", "bool (true or false)")
                raise ConfigError(
                    f"{text!r} does not fit: {exc}", path=key, file="--set", remedy=f"a value of type {wanted}"
                ) from exc
            if isinstance(value, float | int) and not value >= 0:
                raise ConfigError(f"{text!r} is not a value of {key}", path=key, file="--set", remedy="0 or more")
        return Settings(**values)


_CHOICES: dict[str, tuple[str, ...]] = {
    "headers_with_underscores_action": ("allow", "reject", "drop"),
    "path_with_escaped_slashes_action": ("keep", "reject", "unescape_and_redirect", "unescape_and_forward"),
    "proxy_protocol": ("off", "accept", "require"),
    "access_log_encoding": ("TEXT", "JSON"),
    "codec": ("auto", "fast", "reference"),
}


def _seconds(text: str) -> str:
    if text.endswith("ms") and text[:-2].replace(".", "", 1).isdigit():
        return str(float(text[:-2]) / 1000)
    if text.endswith("s") and text[:-1].replace(".", "", 1).isdigit():
        return text[:-1]
    return text


class Bootstrap(Struct, frozen=True):
    """All that one agent is started with."""

    node: Node
    settings: Settings = Settings()
    pilot_url: str = ""
    token_file: str = ""
    ca_file: str = ""
    admin_address: str = "127.0.0.1"
    admin_port: int = 0
    bind: str = "0.0.0.0"
    """Address of a gateway's listeners."""
    port_map: dict[int, int] = {}
    """Port in the YAML to the port to bind (0: a free one)."""
    state_path: str = ""
    """Where the last good snapshot is kept; empty: nowhere."""
    command: tuple[str, ...] = ()
    app_port: int = 0
    worker: int = 0
    """Which of `workers` processes of one node this is, from 0; the first one keeps the state file."""
    workers: int = 1


class Ready(Struct, frozen=True):
    """What an agent says when it serves: addresses as HOST:PORT."""

    admin: str
    listeners: dict[str, str]
    upstreams: dict[str, str]
    """Service host:port to the loopback listener that stands for it (MESH_UPSTREAMS)."""
