"""`lazyckpt ls`, `show` and `find`: list parameters, show one, search for a name."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Annotated, Any, Final

import typer

from lazyckpt.cli.app import (
    PATTERNS,
    AsJson,
    File,
    KeyFile,
    KeyVariable,
    Step,
    Strategy,
    app,
    echo,
    echo_json,
    errors_as_exit_codes,
    files_in,
    indexed,
    opened_whole,
)
from lazyckpt.display import human_size, printable, printable_path
from lazyckpt.explore.find import entries_like, known_names, nothing_found, one_entry
from lazyckpt.explore.find import find as find_names
from lazyckpt.model.entry import MAP, MAP_PARTS, REFUSED, STRING, TENSOR, Entry
from lazyckpt.sources.encryption.keys import KeyReference

SORTS: Final[dict[str, Callable[[Entry], Any]]] = {
    "file": lambda entry: 0,
    "name": lambda entry: entry.name,
    "size": lambda entry: -entry.nbytes,
}
FIRST_VALUES: Final = 8
_FIRST_PIECE: Final = 4096  # bytes that hold so many values of any type
MEASURED: Final = ("min", "max", "mean", "std", "norm", "zeros", "nan", "inf")
_EVALUATED: Final = frozenset("\"'`$\\;&|<>()")  # by shells; completion scripts pass names on in their own quotes
_BATCH: Final = 512  # rows that are aligned and printed together
_NOTHING_FOUND: Final = 1  # exit codes, as in grep(1)
_TROUBLE: Final = 2


def complete_name(ctx: typer.Context, incomplete: str) -> list[str]:
    """Shell completion: the names in the file typed before, read from a fresh index only."""
    names = known_names(str(ctx.params.get("file") or ""), incomplete)
    return [name for name in names if name.isprintable() and not _EVALUATED & set(name)]


@app.command()
def ls(
    file: File,
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help=f"List only these (default: all): {PATTERNS}.",
            metavar="NAMES",
            show_default=False,
            autocompletion=complete_name,
        ),
    ] = None,
    sort: Annotated[str, typer.Option(help="The order: file, name or size.")] = "file",
    as_json: AsJson = False,
    key_file: KeyFile = None,
    key_env: KeyVariable = None,
    strategy: Strategy = [],
    step: Step = None,
) -> None:
    """List the name, dtype, shape and size of each parameter. Reads no values."""
    if sort not in SORTS:
        raise typer.BadParameter(f"expected one of {', '.join(SORTS)}", param_hint="--sort")
    with errors_as_exit_codes():
        found = indexed(file, KeyReference(key_file, key_env), strategy, step)
        entries: Iterable[Entry] = entries_like(found, names or [])
        if sort != "file":
            entries = sorted(entries, key=SORTS[sort])
        if as_json:
            echo_json([describe(entry) for entry in entries])
            return
        _print_listing(iter(entries))


@app.command()
def show(
    file: File,
    name: Annotated[str, typer.Argument(help="The parameter.", metavar="NAME", autocompletion=complete_name)],
    as_json: AsJson = False,
    key_file: KeyFile = None,
    key_env: KeyVariable = None,
    strategy: Strategy = [],
    step: Step = None,
) -> None:
    """Show the entry, first values and statistics of a parameter."""
    with errors_as_exit_codes(), opened_whole(file, KeyReference(key_file, key_env), strategy, step) as checkpoint:
        entry = one_entry(checkpoint.index, name)
        facts = {**describe(entry), **({} if entry.kind == REFUSED else _values(checkpoint[entry.name]))}
    if as_json:
        echo_json(facts)
        return
    width = max(map(len, facts))
    for key, value in facts.items():
        echo(f"{key:<{width}}  {printable(str(value))}")


@app.command()
def find(
    pattern: Annotated[str, typer.Argument(help=f"In each file: {PATTERNS}.", metavar="PATTERN")],
    files: Annotated[list[str], typer.Argument(help="Checkpoints, folders or patterns of paths.", metavar="FILES…")],
    names_only: Annotated[
        bool, typer.Option("--files", "-l", help="Print only the paths of files that have it.")
    ] = False,
    as_json: AsJson = False,
    key_file: KeyFile = None,
    key_env: KeyVariable = None,
) -> None:
    """Search checkpoints for a parameter. Exits with 0 if one has it, 1 if none has, 2 if a file cannot be read."""
    count, troubles = 0, 0
    rows: list[dict[str, Any]] = []
    with errors_as_exit_codes(_TROUBLE):
        last = ""
        key = KeyReference(key_file, key_env)
        paths = files_in(files)
        for path, entry, error in find_names(pattern, paths, key):
            if entry is None:
                troubles += 1
                echo(f"lazyckpt: {printable_path(path)}: {error}", err=True)
                continue
            count += 1
            if as_json:
                rows.append({"file": path, **describe(entry)})
            elif not names_only:
                size = human_size(entry.nbytes)
                echo(f"{printable_path(path)}: {printable(entry.name)}  {_type_of(entry)} {_shape_of(entry)} {size}")
            elif path != last:
                echo(printable_path(path))
            last = path
        if as_json:
            echo_json(rows)
        if not count and not troubles:
            echo(f"lazyckpt: {nothing_found(pattern, paths, key)}", err=True)
    if troubles or not count:
        raise typer.Exit(_TROUBLE if troubles else _NOTHING_FOUND)


def describe(entry: Entry) -> dict[str, Any]:
    """An entry as plain data; reads no value."""
    offset = entry.all_extents[0].offset if entry.all_extents else None
    facts: dict[str, Any] = {"name": entry.name, "kind": entry.kind}
    if entry.dtype is not None:
        facts |= {"dtype": str(entry.dtype), "shape": list(entry.shape)}
    if entry.kind == MAP:
        facts["arrays"] = [{"dtype": str(array.dtype), "shape": list(array.shape)} for array in entry.arrays]
    if entry.reason:
        facts["refused"] = entry.reason
    return facts | {"nbytes": entry.nbytes, "offset": offset, "extents": len(entry.all_extents)}


def _print_listing(entries: Iterator[Entry]) -> None:
    """Print rows as they arrive; each batch is aligned to the widest name so far."""
    coloured = sys.stdout.isatty()
    count = total = width = 0
    while batch := list(islice(entries, _BATCH)):
        count += len(batch)
        total += sum(entry.nbytes for entry in batch)
        names = [printable(entry.name) for entry in batch]
        width = max(width, *map(len, names))
        rows = zip(names, batch, strict=True)
        typer.echo("\n".join(_row(f"{name:<{width}}", entry, coloured) for name, entry in rows))
    typer.secho(f"{count:,} parameters, {human_size(total)} ({total:,} bytes)", bold=coloured)


def _row(name: str, entry: Entry, coloured: bool) -> str:
    kind = f"{_type_of(entry):<9}"
    kind = typer.style(kind, fg="cyan") if coloured else kind
    return f"{name}  {kind} {_shape_of(entry):<20} {human_size(entry.nbytes):>10}"


def _type_of(entry: Entry) -> str:
    return str(entry.dtype) if entry.dtype is not None else {STRING: "str", MAP: "map"}.get(entry.kind, entry.kind)


def _shape_of(entry: Entry) -> str:
    if entry.reason:
        return printable(entry.reason)
    if entry.kind == MAP:
        return ", ".join(str(array.shape) for array in entry.arrays)
    return str(entry.shape) if entry.kind == TENSOR else f"{entry.stored // 4:,} characters"


def _values(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        return {"value": value}
    if isinstance(value, list):
        named = zip(MAP_PARTS, value, strict=False)
        return {f"first {name}": array[:FIRST_VALUES].tolist() for name, array in named}
    lies = value.origin
    piece = None if lies is None else next(lies[1].pieces(lies[0], _FIRST_PIECE), None)
    first = value.asnumpy(copy=True).reshape(-1) if piece is None else piece  # without a piece it is small or edited
    facts = {"first": first[:FIRST_VALUES].tolist()}
    if 0 not in value.shape:
        measured = value.stats()[0].to_dict()
        facts |= {key: measured[key] for key in MEASURED if measured[key] is not None}
    return facts
