"""The command line: thin functions over the API, printed for people, or as JSON for programs.

Exit codes: 0 all is well, 1 something about a file is wrong (the message says what), 2 the command itself is wrong.
A command is a function in one of these modules; a new module is a line in the imports below.
"""

from __future__ import annotations

from typing import Annotated

import typer

from lazyckpt import __version__
from lazyckpt.cli import checking, comparing, converting, indexing, listing, matching, referencing, viewing
from lazyckpt.cli.app import app, errors_as_exit_codes, take_any_name

__all__ = [
    "app",
    "checking",
    "comparing",
    "converting",
    "indexing",
    "listing",
    "main",
    "matching",
    "referencing",
    "viewing",
]


def main() -> None:
    """The `lazyckpt` command."""
    app()


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    take_any_name()
    if version:
        typer.echo(f"lazyckpt {__version__}")
        raise typer.Exit


@app.command()
def demo(
    folder: Annotated[
        str | None, typer.Argument(help="Where it stays; none for a temporary folder.", show_default=False)
    ] = None,
) -> None:
    """Copy a small checkpoint written by MindSpore to a folder, index it, and look around."""
    from lazyckpt.demo import run_demo

    with errors_as_exit_codes():
        run_demo(typer.echo, folder)
