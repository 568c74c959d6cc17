"""The command `mesh-pilot`: flags to options, one `ready` line, signals to a clean end."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mesh import __version__
from mesh.ctl.groups import unwrapped
from mesh.errors import MeshError

if TYPE_CHECKING:
    from pilot.options import Address, Options
    from pilot.store.mesh_config import MeshSettings

_FREE = "127.0.0.1:0"
_EXAMPLE = """example:
  mesh-pilot --config-dir ./mesh --state-dir ./state --listen 127.0.0.1:15012

prints `ready feed=URL dashboard=URL metrics=URL`; agents join with the token and the trust bundle in the state folder:
  mesh-agent sidecar --pilot URL --token-file ./state/token --ca ./state/root-cert.pem ...
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the control plane; 0 after SIGTERM or SIGINT, 2 when it cannot start."""
    arguments = _parser().parse_args(argv)
    try:
        return _serve(arguments)
    except MeshError as exc:
        print(f"mesh-pilot: {exc}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mesh-pilot",
        description="The control plane: reads configuration, signs certificates, tells every agent what to do.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--config-dir", metavar="DIR", action="append", required=True, help="folder of YAML, re-read; may repeat")
    add("--listen", metavar="HOST:PORT", default=_FREE, help="the feed, wss (default 127.0.0.1 and a free port)")
    add("--dashboard", metavar="HOST:PORT", default=_FREE, help="API and dashboard")
    add("--metrics", metavar="HOST:PORT", default=_FREE, help="/metrics and /ready")
    add("--state-dir", metavar="DIR", default="", help="token, root certificate, applied objects")
    add("--mesh-config", metavar="FILE|JSON", default="", help="Istio's MeshConfig")
    add("--plaintext-feed", metavar="HOST:PORT", default="", help="also serve ws on this loopback address")
    add("--server-name", metavar="NAME", action="append", default=[], help="a further name of --listen")
    add("--log-level", metavar="LEVEL", default="info", help="debug, info, warning, error")
    add("--log-format", choices=("text", "json", "console"), default="text")
    add("--version", action="version", version=f"mesh-pilot {__version__}")
    return parser


def _serve(arguments: argparse.Namespace) -> int:
    import trio

    from mesh.telemetry import log

    log.setup(level=arguments.log_level, encoding=arguments.log_format)
    options = _options(arguments)
    unwrapped(partial(trio.run, _run_until_signal, options))
    return 0


async def _run_until_signal(options: Options) -> None:
    import trio

    from mesh.telemetry.log import get_logger
    from mesh.telemetry.metrics import Registry
    from pilot import pilot

    log = get_logger("pilot")
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            wall = time.time  # noqa: TID251 - the program's own clock, handed down from here
            registry = Registry()
            serving = await nursery.start(partial(pilot.run, options, log=log, wall=wall, registry=registry))
            plain = f" plaintext_feed={serving.plaintext_feed}" if serving.plaintext_feed else ""
            print(
                f"ready feed={serving.feed} dashboard={serving.dashboard} metrics={serving.metrics}{plain}", flush=True
            )
            async for number in signals:
                log.info("ending", signal=signal.Signals(number).name)
                break
            nursery.cancel_scope.cancel()


def _options(arguments: argparse.Namespace) -> Options:
    from pilot.options import Options

    return Options(
        config_dirs=tuple(Path(folder) for folder in arguments.config_dir),
        state_dir=Path(arguments.state_dir) if arguments.state_dir else _default_state_dir(),
        listen=_address("--listen", arguments.listen),
        dashboard=_address("--dashboard", arguments.dashboard),
        metrics=_address("--metrics", arguments.metrics),
        plaintext_feed=_address("--plaintext-feed", arguments.plaintext_feed) if arguments.plaintext_feed else None,
        mesh=_mesh_settings(arguments.mesh_config),
        server_names=tuple(arguments.server_name),
    )


def _default_state_dir() -> Path:
    home = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(home) / "trioweave" / "pilot"


def _address(flag: str, text: str) -> Address:
    from pilot.options import Address

    host, separator, port = text.rpartition(":")
    if not separator or not port.isdigit() or int(port) > 65535:
        raise MeshError(f"{flag} {text}: not an address; write HOST:PORT, such as 127.0.0.1:15012 (port 0: a free one)")
    return Address(host.removeprefix("[").removesuffix("]"), int(port))


def _mesh_settings(text: str) -> MeshSettings:
    from pilot.resources.yaml import documents
    from pilot.store.mesh_config import MeshSettings, decode_mesh_config

    if not text:
        return MeshSettings()
    file = "--mesh-config"
    if not text.lstrip().startswith("{"):
        file = text
        try:
            text = Path(text).read_text(encoding="utf-8")
        except OSError as exc:
            raise MeshError(f"--mesh-config {file}: {exc.strerror}; name a readable file, or write JSON") from exc
    found, errors = documents(text, file)
    if errors:
        raise errors[0]
    value = found[0].value if found else {}
    if not isinstance(value, dict):
        raise MeshError(f"{file}: MeshConfig must be a mapping; write fields such as `trustDomain: cluster.local`")
    return decode_mesh_config(value)


if __name__ == "__main__":
    sys.exit(main())
