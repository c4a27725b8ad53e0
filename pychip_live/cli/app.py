"""The commands put together, and how an error leaves the program."""

from __future__ import annotations

import io
import logging
import sys
from typing import Any

import typer
from rich.logging import RichHandler
from rich.text import Text
from typer.core import TyperGroup

from pychip_live import __version__
from pychip_live.cli import demo, inspect, profile, run, simulate
from pychip_live.cli.screen import ERROR_CONSOLE
from pychip_live.errors import PychipError


class _Commands(TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except PychipError as error:
            text = Text.assemble(("error:", "bold red"), f" {error}")
            ERROR_CONSOLE.print(text, soft_wrap=True)
            raise typer.Exit(error.exit_code) from error


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Live phase fractions beside the electron microscope.",
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _root(
    verbose: bool = typer.Option(False, "--verbose", "-v", help="Log more."),
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and stop."
    ),
) -> None:
    if isinstance(sys.stdout, io.TextIOWrapper):
        # a name that the encoding of a pipe or terminal lacks must not end the program
        sys.stdout.reconfigure(errors="backslashreplace")
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format="%(message)s",
        handlers=[RichHandler(console=ERROR_CONSOLE, show_path=False, show_time=False)],
        force=True,
    )


app.command("demo")(demo.demo)
app.command("run")(run.run)
app.command("analyze")(run.analyze)
app.command("relabel")(run.relabel)
app.command("export")(run.export)
app.command("inspect")(inspect.inspect)
app.command("doctor")(inspect.doctor)
app.add_typer(profile.app, name="profile")
app.add_typer(simulate.app, name="simulate")
