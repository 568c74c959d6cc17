"""`meshctl version`."""

from __future__ import annotations

import json
import platform
from importlib.metadata import version

import click

import mesh
from mesh.build import build


@click.command(epilog="Example: meshctl version -o json")
@click.option("-o", "output", type=click.Choice(["text", "json"]), default="text", help="How to print it.")
def command(output: str) -> None:
    """Print the version of Trioweave, its build (pure or compiled), and what it runs on."""
    facts = {
        "trioweave": mesh.__version__,
        "build": build(),
        "python": platform.python_version(),
        "trio": version("trio"),
    }
    if output == "json":
        click.echo(json.dumps(facts))
    else:
        click.echo(" ".join(f"{name} {value}" for name, value in facts.items()))
