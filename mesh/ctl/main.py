"""`meshctl`: the table of commands. Each module is imported when its command is used, not before.

A MeshError of any command becomes its message on stderr and exit status 2, without a traceback.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator

import click

from mesh.errors import MeshError

COMMANDS: dict[str, tuple[str, str, str]] = {
    "demo": ("demo", "command", "Run the bookstore on a mesh of its own; --check tries everything and exits."),
    "up": ("up", "command", "Run your own processes, each with a sidecar, from a small file."),
    "apply": ("objects", "apply_command", "Send objects to the running pilot."),
    "delete": ("objects", "delete_command", "Take objects away from the running pilot."),
    "get": ("objects", "get_command", "Show the running pilot's objects."),
    "validate": ("validate", "command", "Check files; exit 1 if anything is invalid."),
    "route": ("route", "command", "Where would this request go, and who says so?"),
    "proxy-status": ("status", "proxy_status_command", "Which agents are connected and whether they are in step."),
    "proxy-config": ("status", "proxy_config_command", "What one agent was told."),
    "tasks": ("tasks", "command", "What one agent is doing: its tasks and exchanges under way."),
    "version": ("version", "command", "Print the version."),
}
"""Command name: (module of this folder, its attribute, one line of help)."""


class Failure(click.ClickException):
    """What the operator reads when a command cannot do its work."""

    exit_code = 2

    def show(self, file: object = None) -> None:
        """Print the message."""
        click.echo(f"meshctl: {self.message}", err=True)


class CommandTable(click.Group):
    """A group whose commands are imported on first use and whose MeshErrors are messages."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the table's order: what a newcomer needs comes first."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's module and return the command."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command = getattr(importlib.import_module(f"mesh.ctl.{module}"), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands from the table, so that --help imports none of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry[2]) for name, entry in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; operator errors become messages."""
        try:
            return super().invoke(ctx)
        except MeshError as exc:
            raise Failure(str(exc)) from exc
        except BaseExceptionGroup as group:
            faults = list(_leaves(group))
            if not all(isinstance(fault, MeshError) for fault in faults):
                raise
            raise Failure("\n".join(str(fault) for fault in faults)) from group


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for fault in group.exceptions:
        if isinstance(fault, BaseExceptionGroup):
            yield from _leaves(fault)
        else:
            yield fault


@click.group(
    cls=CommandTable,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Example: meshctl demo",
)
def cli() -> None:
    """Run, change and ask a Trioweave service mesh.

    Exit status: 0 success, 1 the answer is negative, 2 wrong usage or no answer.
    """


def main() -> None:
    """Entry point of the script."""
    try:
        cli.main(prog_name="meshctl")
    except BrokenPipeError:
        # `meshctl get | head`: the reader has what it wanted.
        sys.stderr.close()
        sys.exit(0)


if __name__ == "__main__":
    main()
