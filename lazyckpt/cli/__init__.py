"""The command line: thin functions over the API that print text, or JSON with `--json`.

Exit codes: 0 success, 1 a problem with a file (the message describes it), 2 wrong usage. `diff`, `find`, `doctor` and
`verify` use 1 for a negative result and 2 for every error (docs/command-line.md has the table). Each command is a
function in one of the modules imported below.
"""

from __future__ import annotations

from typing import Annotated

import typer

from lazyckpt import __version__
from lazyckpt.cli import checking, comparing, converting, indexing, listing, matching, referencing, viewing
from lazyckpt.cli.app import app, echo, errors_as_exit_codes, take_any_name

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
    """Run the `lazyckpt` command."""
    app()


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    take_any_name()
    if version:
        echo(f"lazyckpt {__version__}")
        raise typer.Exit


@app.command()
def demo(
    folder: Annotated[
        str | None, typer.Argument(help="The folder to keep it in (default: a temporary folder).", show_default=False)
    ] = None,
) -> None:
    """Demonstrate lazyckpt on a small checkpoint. It is copied to a folder and indexed, and some examples are run."""
    from lazyckpt.demo import run_demo

    with errors_as_exit_codes():
        run_demo(echo, folder)
