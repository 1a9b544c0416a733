"""`lazyckpt tree`, `stats` and `plot`: a checkpoint as a tree, a table or a plot."""

from __future__ import annotations

import io
import os
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from lazyckpt.cli.app import (
    AsJson,
    File,
    Force,
    KeyFile,
    KeyVariable,
    Names,
    Step,
    Strategy,
    app,
    byte_bar,
    echo,
    echo_json,
    errors_as_exit_codes,
    indexed,
    loaded,
)
from lazyckpt.display import one_line, printable
from lazyckpt.errors import LazyCkptError
from lazyckpt.index.matching import require_matches, require_one
from lazyckpt.index.selection import AllNames
from lazyckpt.runtime.atomic_write import atomic_write, file_errors
from lazyckpt.runtime.folders import resolved_output
from lazyckpt.sources.encryption.keys import KeyReference
from lazyckpt.statistics.table import COLUMNS, Row, Statistics
from lazyckpt.views.outline import of_index
from lazyckpt.views.text import TreeView
from lazyckpt.writing.targets import check_report


@app.command()
def tree(
    file: File,
    names: Names = None,
    depth: Annotated[int | None, typer.Option(min=1, help="The number of levels to show.", show_default=False)] = None,
    as_json: AsJson = False,
    key_file: KeyFile = None,
    key_env: KeyVariable = None,
    strategy: Strategy = [],
    step: Step = None,
) -> None:
    """Show the names as a tree with totals. Numbered siblings that are alike are shown once. Reads no values."""
    with errors_as_exit_codes():
        found = indexed(file, KeyReference(key_file, key_env), strategy, step)
        only = require_matches(AllNames(found), names).values() if names else None
        view = TreeView(of_index(os.path.basename(file), found, only), depth)
        if as_json:
            echo_json(view.to_dict())
        else:
            _print(view)


@app.command()
def stats(
    file: File,
    names: Names = None,
    sort: Annotated[
        str | None, typer.Option(help=f"Sort by a column: {', '.join(COLUMNS)}.", metavar="COLUMN", show_default=False)
    ] = None,
    as_json: AsJson = False,
    csv: Annotated[
        str | None,
        typer.Option(
            help="Write CSV to this file instead; - prints it, with escapes for what is not printable. Names that a"
            " spreadsheet would take for formulas get a ' in front.",
            metavar="PATH",
            show_default=False,
        ),
    ] = None,
    force: Force = False,
    key_file: KeyFile = None,
    key_env: KeyVariable = None,
    strategy: Strategy = [],
    step: Step = None,
) -> None:
    """Compute statistics of values.

    The columns are minimum, maximum, mean, standard deviation, L2 norm, zeros, NaNs and infinities.
    """
    if sort is not None and sort not in COLUMNS:
        raise typer.BadParameter(f"expected one of {', '.join(COLUMNS)}", param_hint="--sort")
    with errors_as_exit_codes(), loaded(file, KeyReference(key_file, key_env), strategy, step) as checkpoint:
        if csv is not None and csv != "-":
            check_report(csv, checkpoint._access.reader.files, overwrite=force)
        with (bar := byte_bar()):
            task = bar.add_task(printable(os.path.basename(file)), total=None)
            table = checkpoint.stats(
                names or None, progress=lambda done, total: bar.update(task, completed=done, total=total)
            )
        table = table.sort(sort) if sort is not None else table
        if csv == "-":
            echo(Statistics(map(_in_one_line, table)).to_csv() or "", nl=False)
        elif csv is not None:
            table.to_csv(csv)
        elif as_json:
            echo_json(table.plain())
        else:
            _print(table)


class Picture(str, Enum):
    """The plots that the command draws."""

    sizes = "sizes"
    hist = "hist"
    norms = "norms"


@app.command()
def plot(
    picture: Annotated[Picture, typer.Argument(help="The plot: sizes of tensors, a histogram, or L2 norms.")],
    file: File,
    output: Annotated[
        str, typer.Option("--output", "-o", help="The image to write: .png, .svg or .pdf.", metavar="PATH")
    ],
    name: Annotated[
        str | None,
        typer.Argument(help="The parameter, or a pattern that only its name matches (hist only).", show_default=False),
    ] = None,
    force: Force = False,
    key_file: KeyFile = None,
    key_env: KeyVariable = None,
    strategy: Strategy = [],
    step: Step = None,
) -> None:
    """Save a plot to a file. `sizes` reads no values, `hist` reads one, `norms` reads all. Needs matplotlib."""
    if (name is None) == (picture is Picture.hist):
        raise typer.BadParameter("hist needs a NAME; sizes and norms take none", param_hint="NAME")
    with errors_as_exit_codes(), loaded(file, KeyReference(key_file, key_env), strategy, step) as checkpoint:
        name = None if name is None else require_one(checkpoint._access.names, name)
        output = output if os.path.splitext(output)[1] else f"{output}.png"
        check_report(output, checkpoint._access.reader.files, overwrite=force)
        figure = getattr(checkpoint.plot, picture.value)(*([] if name is None else [name]))
        try:
            drawn = io.BytesIO()
            figure.savefig(drawn, format=os.path.splitext(output)[1][1:], dpi=figure.dpi)
        except ValueError as error:  # matplotlib knows no such kind of picture
            raise LazyCkptError(f"{output}: {error}") from error
        target = resolved_output(output)
        with file_errors(target):
            atomic_write(target, lambda private: Path(private).write_bytes(drawn.getvalue()))


def _in_one_line(row: Row) -> Row:
    """A row of statistics whose texts are printable, and end no line."""
    return row._replace(name=one_line(row.name), skipped=one_line(row.skipped))


def _print(view: Any) -> None:
    from rich.console import Console

    Console(highlight=False, soft_wrap=True).print(view)
