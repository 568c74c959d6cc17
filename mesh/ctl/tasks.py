"""`meshctl tasks POD`: what one agent is doing at this moment, asked at its admin port."""

from __future__ import annotations

import urllib.parse

import click
import msgspec

from mesh.ctl import tables
from mesh.ctl.api import fetch
from mesh.ctl.status import admin_of
from mesh.errors import MeshError
from mesh.telemetry.tasks import InFlight, Report, tree_lines

_COLUMNS = (
    "AGE",
    "METHOD",
    "HOST",
    "PATH",
    "PROTOCOL",
    "ROUTE",
    "ENDPOINT",
    "TRY",
    "TRY LEFT",
    "ROUTE LEFT",
    "WAITS FOR",
)


@click.command(epilog="Example: meshctl tasks productpage-v1 --exchanges --min-age 1")
@click.argument("pod")
@click.option("--admin", metavar="URL", help="The agent's admin URL; known for the mesh that runs here.")
@click.option("--exchanges", is_flag=True, help="Only the exchanges under way, as a table, the oldest first.")
@click.option("--min-age", type=click.FloatRange(0), default=0.0, metavar="SECONDS", help="Only exchanges this old.")
@click.option("--limit", type=click.IntRange(1), default=1000, metavar="N", help="Tasks, and exchanges, to show.")
@click.option("-o", "output", type=click.Choice(["tree", "json"]), default="tree", help="How to print it.")
def command(pod: str, admin: str | None, exchanges: bool, min_age: float, limit: int, output: str) -> None:
    """Show the tree of an agent's tasks, and the exchanges that it carries: where each goes, how old it is, what it
    waits for, and how much time it has left.

    POD is a process of `meshctl demo` or `up`, or the beginning of its name.
    """
    admin = admin or admin_of(pod)
    if admin is None:
        raise MeshError(f"the admin port of {pod} is not known; give --admin URL (the agent's ready line has it)")
    view = "exchanges" if exchanges else "tree"
    query = urllib.parse.urlencode({"format": "json", "view": view, "min_age": f"{min_age:.3f}", "limit": limit})
    told = fetch(f"{admin}/tasks?{query}", whom="the agent")
    if output == "json":
        click.echo(told.rstrip())
        return
    report = msgspec.json.decode(told, type=Report)
    for tree in report.trees:
        tables.show_tree(list(tree_lines(tree)))
    if exchanges:
        by_age = sorted(report.exchanges, key=lambda exchange: -exchange.age)  # of all workers
        tables.show(_COLUMNS, [_row(exchange) for exchange in by_age])
    if remainder := report.remainder():
        click.echo(f"and {remainder}; --limit shows more", err=True)


def _row(exchange: InFlight) -> tuple[str, ...]:
    return (
        *(f"{exchange.age:.1f}s", exchange.method, exchange.authority, exchange.path, exchange.protocol),
        *(exchange.route or "-", exchange.endpoint or "-", str(exchange.attempt)),
        *(_left(exchange.try_left), _left(exchange.route_left), exchange.waits_for),
    )


def _left(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.1f}s"
