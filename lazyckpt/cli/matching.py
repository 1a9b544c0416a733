"""`lazyckpt match`: what would load into a net."""

from __future__ import annotations

from typing import Annotated

import typer

from lazyckpt.cli.app import (
    AsJson,
    File,
    KeyFile,
    KeyVariable,
    app,
    errors_as_exit_codes,
    loaded,
    print_report,
    read_json,
)
from lazyckpt.sources.encryption.keys import KeyReference


@app.command(name="match")
def match_command(
    file: File,
    names: Annotated[
        str,
        typer.Option(
            help="JSON: a list of names, or an object of name: [shape, dtype].", metavar="PATH", show_default=False
        ),
    ],
    as_json: AsJson = False,
    key_file: KeyFile = None,
    key_env: KeyVariable = None,
) -> None:
    """Tell what would load, be converted, be missing or stay unused; exit code 1 if not everything would load."""
    from lazyckpt.explore.match import match

    with errors_as_exit_codes(), loaded(file, KeyReference(key_file, key_env)) as checkpoint:
        report = match(read_json(names), checkpoint)
    print_report(report, as_json)
    if not report.fits:
        raise typer.Exit(1)
