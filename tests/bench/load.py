"""Load from separate processes: wrk for as much as goes, h2load for a fixed rate with even spacing."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.bench import programs

STEADY_CLIENTS = 10
HTTP2_CLIENTS = 4
HTTP2_STREAMS = 8


@dataclass(frozen=True)
class Target:
    """Where requests go. `authority` is the request's host; `proxy` writes it into the request line too.

    `http2`: over HTTP/2 with prior knowledge, several streams on each of a few connections; `grpc` dresses them as
    unary calls.
    """

    port: int
    authority: str
    proxy: bool = False
    http2: bool = False
    grpc: bool = False


@dataclass(frozen=True)
class Burst:
    """What wrk saw: answered requests, and those that failed or were not 2xx or 3xx."""

    requests: int
    failed: int
    per_second: float


@dataclass(frozen=True)
class Steady:
    """Latencies in seconds at a fixed rate, and how many requests failed."""

    p50: float
    p99: float
    failed: int
    requests: int


class LoadError(Exception):
    """The load tool did not do its work; the message ends with what it printed."""


def saturate(target: Target, folder: Path, *, seconds: float, connections: int = 16) -> Burst:
    """As many keep-alive GETs as the target answers. Raises LoadError."""
    if target.http2:
        return _saturate_http2(target, folder, seconds=seconds)
    url = f"http://{target.authority}/" if target.proxy else "/"
    script = folder / "wrk.lua"
    script.write_text(f'wrk.path = "{url}"\nwrk.headers["Host"] = "{target.authority}"\n')
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--timeout", "5s", "-s", str(script)]
    text = _run([*command, f"http://127.0.0.1:{target.port}"], seconds + 20)
    done = re.search(r"(\d+) requests in", text)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    if not done or not rate:
        raise LoadError(f"wrk printed no result:\n{text}")
    socket_errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    failed = sum(map(int, socket_errors.groups())) if socket_errors else 0
    return Burst(int(done[1]), failed + (int(refused[1]) if refused else 0), float(rate[1]))


def _saturate_http2(target: Target, folder: Path, *, seconds: float) -> Burst:
    command = ["h2load", "-D", f"{seconds:g}", "-c", str(HTTP2_CLIENTS), "-m", str(HTTP2_STREAMS)]
    text = _run([*command, *_call(target, folder)], seconds + 20)
    done = re.search(r"requests: \d+ total, \d+ started, (\d+) done, \d+ succeeded, (\d+) failed", text)
    rate = re.search(r"finished in [\d.]+\w+, ([\d.]+) req/s", text)
    if not done or not rate:
        raise LoadError(f"h2load printed no result:\n{text}")
    return Burst(int(done[1]), int(done[2]), float(rate[1]))


def _call(target: Target, folder: Path) -> list[str]:
    arguments = ["-H", f":authority: {target.authority}"]
    if target.grpc:
        message = folder / "message"
        message.write_bytes(b"\0\0\0\0\x05hello")
        arguments += ["-d", str(message), "-H", "content-type: application/grpc", "-H", "te: trailers"]
    return [*arguments, f"http://127.0.0.1:{target.port}/bench.App/Say"]


def steady(target: Target, folder: Path, *, rate: int, seconds: float) -> Steady:
    """`rate` requests a second over ten connections opened one spacing apart, so that requests are evenly spread.

    Raises LoadError.
    """
    log = folder / "h2load.tsv"
    log.unlink(missing_ok=True)
    requests = max(STEADY_CLIENTS, int(rate * seconds))
    period = f"{max(1, round(1000 / rate))}ms"
    command = [
        *("h2load", "-c", str(STEADY_CLIENTS), "-r", "1", "--rate-period", period),
        *(() if target.http2 else ("--h1",)),
        *("--rps", f"{rate / STEADY_CLIENTS:g}", "-n", str(requests), "--log-file", str(log)),
        *_call(target, folder),
    ]
    text = _run(command, seconds + 30)
    rows = [line.split("\t") for line in log.read_text().splitlines()] if log.exists() else []
    times = sorted(int(row[2]) / 1e6 for row in rows if row[1] == "200")
    if not times:
        raise LoadError(f"h2load had no request answered with 200:\n{text}")
    return Steady(_quantile(times, 0.5), _quantile(times, 0.99), requests - len(times), requests)


def _quantile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _run(command: list[str], timeout: float) -> str:
    command[0] = programs.find(command[0]) or command[0]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired as exc:
        raise LoadError(f"`{' '.join(command)}` did not end within {timeout:g} s") from exc
    if done.returncode:
        raise LoadError(f"`{' '.join(command)}` ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout
