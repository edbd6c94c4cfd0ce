"""The command `uadbench`. Each command imports its workers when it runs, so that help and lists are quick."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from uadbench.cli import boards, catalogue, data, doctor, judge
from uadbench.cli import compare as comparing
from uadbench.cli import multiverse as multiversing
from uadbench.cli import run as running
from uadbench.errors import UADBenchError, suggest


class _Suggesting(TyperGroup):
    """A group that answers an unknown command with the nearest one."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command, or say which one may have been meant."""
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            known = self.list_commands(ctx)
            ctx.fail(f"no command is called {args[0]!r}.{suggest(args[0], known)} Commands: {', '.join(known)}.")
        return super().resolve_command(ctx, args)


app = typer.Typer(
    name="uadbench",
    cls=_Suggesting,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Which unsupervised anomaly detection method for medical images really is better?",
    epilog="Begin with: uadbench run --method mddpm",
)
app.command()(running.run)
app.command()(boards.status)
app.command()(judge.evaluate)
app.command()(boards.leaderboard)
app.command()(comparing.compare)
app.command()(multiversing.multiverse)
app.add_typer(catalogue.methods, name="methods", cls=_Suggesting)
app.add_typer(data.datasets, name="datasets", cls=_Suggesting)
app.add_typer(judge.protocols, name="protocols", cls=_Suggesting)
app.add_typer(boards.runs, name="runs", cls=_Suggesting)
app.command()(doctor.doctor)


def _version(wanted: bool) -> None:
    if wanted:
        from uadbench import __version__

        typer.echo(f"uadbench {__version__}")
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Which unsupervised anomaly detection method for medical images really is better?"""


def main() -> None:
    """Run the command line and exit: 0 done, 1 a cell failed, 2 usage, 3 data, 130 interrupted."""
    try:
        app()
    except UADBenchError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_code)
    except BrokenPipeError:  # The reader of a pipe went away, as `| head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
