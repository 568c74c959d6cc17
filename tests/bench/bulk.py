"""Bulk through an opaque path: bytes poured into a proxy's port, and a sink behind it that tells how many came."""

from __future__ import annotations

import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.bench.load import LoadError
from tests.bench.process import Program

_PIECE = 1 << 20


@dataclass(frozen=True)
class Poured:
    """Bytes that arrived, and the seconds that it took."""

    size: int
    seconds: float


def start_sink(folder: Path) -> tuple[Program, int]:
    """The running sink and its port."""
    sink = Program("sink", [sys.executable, "-m", "tests.bench.bulk"], folder)
    return sink, int(sink.ready_line()["port"])


def pour(port: int, size: int) -> Poured:
    """Send `size` bytes and wait for the sink's word. Raises LoadError when not all of them arrived."""
    piece = bytes(_PIECE)
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), 10) as sock:
        sock.settimeout(60)
        left = size
        while left > 0:
            sock.sendall(piece[:left] if left < _PIECE else piece)
            left -= _PIECE
        sock.shutdown(socket.SHUT_WR)
        answer = b""
        while more := sock.recv(100):
            answer += more
    if answer != b"%d" % size:
        raise LoadError(f"of {size} bytes poured, the sink saw {answer.decode() or 'none'}")
    return Poured(size, time.monotonic() - began)


def _serve() -> None:
    buffer = bytearray(_PIECE)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(f"ready port={listener.getsockname()[1]}", flush=True)
        while True:
            sock, _ = listener.accept()
            with sock:
                total = 0
                while size := sock.recv_into(buffer):
                    total += size
                sock.sendall(b"%d" % total)


if __name__ == "__main__":
    _serve()
