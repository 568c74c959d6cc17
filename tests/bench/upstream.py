"""The app behind both proxies: HAProxy answering a small static 200, so that the app never is the narrow place."""

from __future__ import annotations

from pathlib import Path

from tests.bench import programs
from tests.bench.process import Program, free_port

_CONFIG = """global
  nbthread 1
  maxconn 4000
defaults
  mode http
  timeout client 120s
  timeout server 120s
  timeout connect 5s
  timeout http-keep-alive 120s
frontend app
  bind 127.0.0.1:{port}{proto}
  http-request return status 200 content-type text/plain string "hello from the app behind the mesh"
"""


def start_app(folder: Path, *, http2: bool = False) -> tuple[Program, int]:
    """The running app and its port; `http2`: it speaks HTTP/2 with prior knowledge."""
    port = free_port()
    name = "haproxy-h2" if http2 else "haproxy"
    config = folder / f"{name}.cfg"
    config.write_text(_CONFIG.format(port=port, proto=" proto h2" if http2 else ""))
    app = Program(name, [programs.find("haproxy") or "haproxy", "-db", "-q", "-f", str(config)], folder)
    app.accepts(port)
    return app, port
