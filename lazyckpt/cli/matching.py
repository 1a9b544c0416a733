"""`lazyckpt match`: compare a checkpoint with the names, shapes and dtypes of a net."""

from __future__ import annotations

from typing import Annotated

import typer

from lazyckpt.cli.app import (
    AsJson,
    File,
    KeyFile,
    KeyVariable,
    Step,
    Strategy,
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
            help="A JSON file: a list of names, or an object of name: [shape, dtype].",
            metavar="PATH",
            show_default=False,
        ),
    ],
    as_json: AsJson = False,
    key_file: KeyFile = None,
    key_env: KeyVariable = None,
    strategy: Strategy = [],
    step: Step = None,
) -> None:
    """Compare a checkpoint with the parameters of a net.

    Reports which values would load, be converted, be missing or stay unused. Exits with 1 unless all would load.
    """
    from lazyckpt.explore.match import match

    with errors_as_exit_codes(), loaded(file, KeyReference(key_file, key_env), strategy, step) as checkpoint:
        report = match(read_json(names), checkpoint)
    print_report(report, as_json)
    if not report.fits:
        raise typer.Exit(1)
