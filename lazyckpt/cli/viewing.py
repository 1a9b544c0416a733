"""`lazyckpt tree`, `stats` and `plot`: a checkpoint as a tree, as a table of numbers, as a picture."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterable
from enum import Enum
from typing import Annotated, Any

import typer

from lazyckpt.cli.app import (
    AsJson,
    File,
    Force,
    KeyFile,
    KeyVariable,
    Strategy,
    app,
    byte_bar,
    echo_json,
    indexed,
    loaded,
    no_such_name,
    told_plainly,
)
from lazyckpt.errors import LazyCkptError
from lazyckpt.runtime.os_errors import WRITE, os_errors
from lazyckpt.sources.encryption.keys import KeyReference
from lazyckpt.statistics.table import COLUMNS
from lazyckpt.views.outline import of_index
from lazyckpt.views.text import TreeView
from lazyckpt.writing.targets import check_report


@app.command()
def tree(
    file: File,
    prefix: Annotated[str, typer.Argument(help="Only names that start with this.")] = "",
    depth: Annotated[int | None, typer.Option(min=1, help="Levels that are shown.", show_default=False)] = None,
    as_json: AsJson = False,
    key_file: KeyFile = None,
    key_env: KeyVariable = None,
    strategy: Strategy = [],
) -> None:
    """Show the names as a tree: numbered siblings that are alike once, totals at each node. No value is read."""
    with told_plainly():
        found = indexed(file, KeyReference(key_file, key_env), strategy)
        view = TreeView(of_index(os.path.basename(file), found, prefix), depth)
        if as_json:
            echo_json(view.to_dict())
        else:
            _print(view)


@app.command()
def stats(
    file: File,
    names: Annotated[
        list[str] | None, typer.Argument(help="Names, or patterns like 'fc*.weight'; none for all.", show_default=False)
    ] = None,
    sort: Annotated[
        str | None, typer.Option(help=f"A column: {', '.join(COLUMNS)}.", metavar="COLUMN", show_default=False)
    ] = None,
    as_json: AsJson = False,
    csv: Annotated[
        str | None, typer.Option(help="Write a CSV file instead; - prints it.", metavar="PATH", show_default=False)
    ] = None,
    force: Force = False,
    key_file: KeyFile = None,
    key_env: KeyVariable = None,
) -> None:
    """Measure values: minimum, maximum, mean, standard deviation, L2 norm, zeros, NaNs, infinities."""
    if sort is not None and sort not in COLUMNS:
        raise typer.BadParameter(f"one of {', '.join(COLUMNS)} is needed", param_hint="--sort")
    with told_plainly(), loaded(file, KeyReference(key_file, key_env)) as checkpoint:
        wanted = chosen(checkpoint, names)
        if csv is not None and csv != "-":
            check_report(csv, checkpoint.payloads.files, overwrite=force)
        with (bar := byte_bar()):
            task = bar.add_task(os.path.basename(file), total=None)
            table = checkpoint.stats(wanted, progress=lambda done, total: bar.update(task, completed=done, total=total))
        table = table.sort(sort) if sort is not None else table
        if csv == "-":
            typer.echo(table.to_csv(), nl=False)
        elif csv is not None:
            table.to_csv(csv)
        elif as_json:
            echo_json(table.plain())
        else:
            _print(table)


class Picture(str, Enum):
    """What can be drawn."""

    sizes = "sizes"
    hist = "hist"
    norms = "norms"


@app.command()
def plot(
    picture: Annotated[Picture, typer.Argument(help="Where bytes are, how values are distributed, L2 norms.")],
    file: File,
    output: Annotated[
        str, typer.Option("--output", "-o", help="The picture's file: .png, .svg, .pdf.", metavar="PATH")
    ],
    name: Annotated[str | None, typer.Argument(help="The parameter, for hist.", show_default=False)] = None,
    force: Force = False,
    key_file: KeyFile = None,
    key_env: KeyVariable = None,
) -> None:
    """Draw a picture into a file: `sizes` reads no value, `hist` reads one, `norms` reads all. Needs matplotlib."""
    if (name is None) == (picture is Picture.hist):
        raise typer.BadParameter("hist needs a NAME, and nothing else takes one", param_hint="NAME")
    with told_plainly(), loaded(file, KeyReference(key_file, key_env)) as checkpoint:
        if name is not None and name not in checkpoint:
            raise no_such_name(name, checkpoint)
        check_report(output, checkpoint.payloads.files, overwrite=force)
        figure = getattr(checkpoint.plot, picture.value)(*([] if name is None else [name]))
        try:
            with os_errors(output, WRITE):
                figure.savefig(output, dpi=figure.dpi)
        except ValueError as error:  # matplotlib knows no such kind of picture
            raise LazyCkptError(f"{output}: {error}") from error


def chosen(names: Iterable[str], wanted: list[str] | None) -> list[str] | None:
    """The names that are asked for, in the order of the patterns, each once; None for all.

    Raises:
        LazyCkptError: a name is not there, or nothing matches a pattern.
    """
    if not wanted:
        return None
    found: dict[str, None] = {}
    for pattern in wanted:
        if pattern in names:
            found[pattern] = None
            continue
        matches = fnmatch.filter(names, pattern)
        if not matches:
            raise no_such_name(pattern, names)
        found.update(dict.fromkeys(matches))
    return list(found)


def _print(view: Any) -> None:
    from rich.console import Console

    Console(highlight=False, soft_wrap=True).print(view)
