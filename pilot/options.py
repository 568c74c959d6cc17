"""All that a pilot is started with. There are no other switches: nothing below reads the environment."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from pilot.push import debounce, registrations
from pilot.store.mesh_config import MeshSettings


class Address(Struct, frozen=True):
    """Where to listen. Port 0 lets the kernel choose."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Options(Struct, frozen=True):
    """Durations are seconds."""

    config_dirs: tuple[Path, ...]
    state_dir: Path
    listen: Address = Address("127.0.0.1", 0)
    dashboard: Address = Address("127.0.0.1", 0)
    metrics: Address = Address("127.0.0.1", 0)
    plaintext_feed: Address | None = None
    mesh: MeshSettings = MeshSettings()
    server_names: tuple[str, ...] = ()
    """Names and addresses under which agents reach the feed, beside the loopback's and the listening host."""
    quiet: float = debounce.QUIET
    longest: float = debounce.LONGEST
    poll: float = 0.05
    """Seconds between two looks at the configuration folder."""
    reset_grace: float = registrations.RESET_GRACE
    expected_grace: float = registrations.EXPECTED_GRACE
