"""python -m tests.bench [--pure] [--quick] [--only PARTS] [--rounds N] [--write] [--against-itself]: see --help."""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from tests.bench import certificates, connections, envoy, ours, programs, push, rss, table
from tests.bench.bulk import start_sink
from tests.bench.load import LoadError
from tests.bench.measure import Plan, compare
from tests.bench.process import Died
from tests.bench.subject import Subject, ending
from tests.bench.upstream import start_app

COMPARED = ("gateway", "sidecar", "connections", "http2", "grpc", "tcp")
HTTP2 = ("http2", "grpc")
PARTS = (*COMPARED, "push", "rss")
DOCUMENT = programs.ROOT / "docs" / "performance.md"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Ours and Envoy on the same work.")
    parser.add_argument("--quick", action="store_true", help="a few seconds a point: to see that it runs")
    parser.add_argument("--only", default=",".join(PARTS), help=f"some of {','.join(PARTS)}")
    parser.add_argument("--pure", action="store_true", help="our sources as they are, not the compiled build")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/performance.md")
    parser.add_argument("--rounds", type=int, help="rounds of turns")
    parser.add_argument("--against-itself", action="store_true", help="Envoy in both places: the noise of a ratio")
    arguments = parser.parse_args()
    parts = [part.strip() for part in arguments.only.split(",")]
    if wrong := [part for part in parts if part not in PARTS]:
        parser.error(f"--only {wrong[0]}: write some of {','.join(PARTS)}")
    plan = Plan(rounds=2, burst=2, steady=2, bulk=1 << 30) if arguments.quick else Plan()
    if arguments.rounds:
        plan = replace(plan, rounds=arguments.rounds)
    try:
        build = programs.use(programs.PURE_BIN if arguments.pure else programs.COMPILED_BIN)
        text = run(parts, plan, f"Trioweave, {build}", quick=arguments.quick, itself=arguments.against_itself)
    except programs.Missing as exc:
        print(exc, file=sys.stderr)
        return 2
    except (Died, LoadError) as exc:
        print(f"bench stopped: {exc}", file=sys.stderr)
        return 1
    if arguments.write:
        table.write(DOCUMENT, text)
        print(f"written to {DOCUMENT}")
    return 0


def run(parts: list[str], plan: Plan, name: str, *, quick: bool, itself: bool) -> str:
    """Run the parts in order, printing as they end; returns the Markdown, where ours is called `name`."""
    compared = [part for part in parts if part in COMPARED]
    binary = None
    if compared:
        programs.require_debian(tuple(programs.DEBIAN))
        binary = programs.require_envoy()
    with tempfile.TemporaryDirectory(prefix="mesh-bench-") as place:
        folder = Path(place)
        lines = [table.machine(binary, plan), ""] if compared else []
        print("\n".join(lines), flush=True)
        if compared and binary:
            rows = table.head("Envoy", "Envoy again" if itself else name)
            print("\n".join(rows), flush=True)
            for part in compared:
                made = _compare(part, binary, plan, folder, itself=itself)
                print("\n".join(made), flush=True)
                rows += made
            lines += [*rows, ""]
        own: list[str] = []
        if "push" in parts:
            own.append(push.measure(folder, changes=5 if quick else 20))
        if "rss" in parts:
            own.append(rss.measure(folder, idle=5.0 if quick else 30.0))
        if own:
            own = [f"| quantity | {name} | aim |", "|---|--:|--:|", *own]
            print("\n" + "\n".join(own), flush=True)
    return "\n".join([*lines, *own])


def _compare(part: str, binary: str, plan: Plan, folder: Path, *, itself: bool) -> list[str]:
    with contextlib.ExitStack() as behind:
        app, app_port = start_app(folder, http2=part in HTTP2)
        behind.enter_context(app)
        ports = [app_port]
        if part == "tcp":
            sink, sink_port = start_sink(folder)
            behind.enter_context(sink)
            ports.append(sink_port)
        made: list[Subject] = []
        try:
            made.append(_envoy(part, binary, folder, ports))
            if itself:
                again = folder / "again"
                again.mkdir(exist_ok=True)
                made.append(replace(_envoy(part, binary, again, ports), name="Envoy again"))
            else:
                made.append(_ours(part, folder, ports))
            if part == "connections":
                return connections.compare(made, rounds=plan.rounds, seconds=plan.burst / 2)
            reference, own = compare(made, plan, folder)
        finally:
            with ending(*made):
                pass
    return table.comparison(part, reference, own)


def _ours(part: str, folder: Path, ports: list[int]) -> Subject:
    if part in HTTP2:
        return ours.gateway(folder, *ports, http2=True, grpc=part == "grpc")
    return {"gateway": ours.gateway, "tcp": ours.relay}.get(part, ours.sidecars)(folder, *ports)


def _envoy(part: str, binary: str, folder: Path, ports: list[int]) -> Subject:
    if part in HTTP2:
        return envoy.gateway(binary, folder, *ports, http2=True, grpc=part == "grpc")
    if part == "gateway":
        return envoy.gateway(binary, folder, *ports)
    if part == "tcp":
        return envoy.relay(binary, folder, *ports)
    return envoy.sidecars(binary, folder, *ports, certificates.make(folder))


if __name__ == "__main__":
    sys.exit(main())
