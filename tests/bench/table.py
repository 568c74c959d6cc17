"""What a bench prints and writes: Markdown tables, with the machine they were made on."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

from tests.bench import programs
from tests.bench.measure import RATE, Figures, Plan

START, END = "<!-- bench:start -->", "<!-- bench:end -->"
_MIB = 1024 * 1024


def comparison(path: str, reference: Figures, ours: Figures) -> list[str]:
    """Rows of one path: quantity, the reference's figure, ours, ours / reference."""
    quantities = [
        ("requests per CPU-second", "per_cpu_second", 1.0, ",.0f"),
        ("requests/s, saturated", "per_second", 1.0, ",.0f"),
        (f"p50 at {RATE}/s, µs", "p50", 1e6, ",.0f"),
        (f"p99 at {RATE}/s, µs", "p99", 1e6, ",.0f"),
    ]
    if ours.bytes_per_cpu_second:
        quantities += [
            ("bulk: GB per CPU-second", "bytes_per_cpu_second", 1e-9, ".2f"),
            ("bulk: GB/s, one connection", "bytes_per_second", 1e-9, ".2f"),
        ]
    rows = []
    for label, name, scale, form in quantities:
        left, right = reference.median(name) * scale, ours.median(name) * scale
        rows.append(f"| {path} | {label} | {left:{form}} | {right:{form}} | {right / left:.2f} |")
    for label, left, right in (
        ("RSS before load, MiB", reference.idle_rss, ours.idle_rss),
        ("RSS after load, MiB", reference.rss, ours.rss),
    ):
        rows.append(f"| {path} | {label} | {left / _MIB:.1f} | {right / _MIB:.1f} | {right / left:.2f} |")
    rows.append(f"| {path} | failed requests | {reference.failed} | {ours.failed} | |")
    return rows


def head(reference: str, ours: str) -> list[str]:
    return [f"| path | quantity | {reference} | {ours} | ratio |", "|---|---|--:|--:|--:|"]


def machine(envoy: str | None, plan: Plan) -> str:
    """One paragraph: where and how the figures were made."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    parts = [
        f"{os.cpu_count()} cores of {model}, {memory:.0f} GiB, Linux {platform.release()}",
        f"Python {platform.python_version()}",
        programs.version([programs.find("haproxy") or "haproxy", "-v"]).partition("-")[0].replace(" version", ""),
    ]
    if envoy:
        found = re.search(r"/(\d+\.\d+\.\d+)/", programs.version([envoy, "--version"]))
        parts.append(f"Envoy {found[1] if found else '?'}")
    turns = f"medians of {plan.rounds} rounds in turns, {plan.burst:g} s a burst, {plan.steady:g} s at {RATE}/s"
    return "; ".join(parts) + f"; {turns}."


def write(document: Path, text: str) -> None:
    """Put `text` between the markers of the document. Raises ValueError when it has none."""
    old = document.read_text()
    before, start, rest = old.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise ValueError(f"{document} has no {START} … {END} to write between")
    document.write_text(f"{before}{START}\n{text.strip()}\n{END}{after}")
