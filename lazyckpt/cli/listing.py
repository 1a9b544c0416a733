"""`lazyckpt ls` and `lazyckpt show`: what is in a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.text import Text

from lazyckpt.cli.app import (
    AsJson,
    File,
    KeyFile,
    KeyVariable,
    app,
    echo_json,
    indexed,
    loaded,
    no_such_name,
    told_plainly,
)
from lazyckpt.display.names import printable
from lazyckpt.display.sizes import human_size
from lazyckpt.entry import MAP, STRING, TENSOR, Entry
from lazyckpt.keys import KeyReference

SORTS: Final[dict[str, Callable[[Entry], Any]]] = {
    "file": lambda entry: 0,
    "name": lambda entry: entry.name,
    "size": lambda entry: -entry.nbytes,
}
FIRST_VALUES: Final = 8
MEASURED: Final = ("min", "max", "mean", "std", "norm", "zeros", "nan", "inf")


@app.command()
def ls(
    file: File,
    prefix: Annotated[str, typer.Argument(help="Only names that start with this.")] = "",
    sort: Annotated[str, typer.Option(help="file, name or size.")] = "file",
    as_json: AsJson = False,
    key_file: KeyFile = None,
    key_env: KeyVariable = None,
) -> None:
    """List the parameters of a checkpoint: name, dtype, shape, size. No value is read."""
    if sort not in SORTS:
        raise typer.BadParameter(f"one of {', '.join(SORTS)} is needed", param_hint="--sort")
    with told_plainly():
        found = indexed(file, KeyReference(key_file, key_env))
        entries = [found[name] for name, _ in found.with_prefix(prefix)] if prefix else found.entries()
        if sort != "file":
            entries = sorted(entries, key=SORTS[sort])
        if as_json:
            echo_json([describe(entry) for entry in entries])
            return
        _print_listing(iter(entries))


@app.command()
def show(
    file: File,
    name: Annotated[str, typer.Argument(help="A parameter.", metavar="NAME")],
    as_json: AsJson = False,
    key_file: KeyFile = None,
    key_env: KeyVariable = None,
) -> None:
    """Show one parameter: where it is, its first values, its statistics."""
    with told_plainly(), loaded(file, KeyReference(key_file, key_env)) as checkpoint:
        if name not in checkpoint:
            raise no_such_name(name, checkpoint)
        facts = {**describe(checkpoint.entry(name)), **_values(checkpoint[name])}
    if as_json:
        echo_json(facts)
        return
    width = max(map(len, facts))
    for key, value in facts.items():
        typer.echo(f"{key:<{width}}  {printable(str(value))}")


def describe(entry: Entry) -> dict[str, Any]:
    """What is known of a parameter without reading its value, as plain data."""
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
    console = Console(highlight=False, soft_wrap=True)
    count = total = 0
    width = 0
    run: list[Entry] = []
    for entry in entries:
        run.append(entry)
        count += 1
        total += entry.nbytes
        if len(run) == 512:
            width = _print_rows(console, run, width)
            run = []
    _print_rows(console, run, width)
    console.print(Text(f"{count:,} parameters, {human_size(total)} ({total:,} bytes)", style="bold"))


def _print_rows(console: Console, entries: list[Entry], width: int) -> int:
    rows = [(printable(entry.name), _type_of(entry), _shape_of(entry), human_size(entry.nbytes)) for entry in entries]
    width = max([width, *(len(row[0]) for row in rows)], default=width)
    for name, dtype, shape, size in rows:
        console.print(Text.assemble(f"{name:<{width}}  ", (f"{dtype:<9}", "cyan"), f" {shape:<20} {size:>10}"))
    return width


def _type_of(entry: Entry) -> str:
    return str(entry.dtype) if entry.dtype is not None else {STRING: "str", MAP: "map"}.get(entry.kind, entry.kind)


def _shape_of(entry: Entry) -> str:
    if entry.reason:
        return entry.reason
    if entry.kind == MAP:
        return ", ".join(str(array.shape) for array in entry.arrays)
    return str(entry.shape) if entry.kind == TENSOR else f"{entry.stored // 4:,} characters"


def _values(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        return {"value": value}
    if isinstance(value, list):
        named = zip(("keys", "values", "status"), value, strict=False)
        return {f"first {name}": array[:FIRST_VALUES].tolist() for name, array in named}
    array = value.asnumpy()
    facts = {"first": array.reshape(-1)[:FIRST_VALUES].tolist()}
    if array.size:
        measured = value.stats()[0].to_dict()
        facts |= {key: measured[key] for key in MEASURED if measured[key] is not None}
    return facts
