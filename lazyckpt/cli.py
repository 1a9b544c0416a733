"""The command line: thin functions over the API, printed for people, or as JSON for programs.

Exit codes: 0 all is well, 1 something about a file is wrong (the message says what), 2 the command itself is wrong.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.text import Text

from lazyckpt import __version__
from lazyckpt.checkpoint import Checkpoint
from lazyckpt.demo import run_demo
from lazyckpt.entry import MAP, STRING, TENSOR, Entry
from lazyckpt.errors import EncryptedFile, LazyCkptError
from lazyckpt.explore.display import printable
from lazyckpt.explore.match import match
from lazyckpt.explore.sizes import human_size
from lazyckpt.explore.summary import summarise
from lazyckpt.index.build import build_index
from lazyckpt.index.many import Built, build_indexes, find_checkpoints, processes
from lazyckpt.keys import KeyReference, Secret, key_from_text
from lazyckpt.loading import load_checkpoint
from lazyckpt.sources import mode_of

app = typer.Typer(
    name="lazyckpt",
    help="Look into MindSpore checkpoints without loading them.",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
SORTS: Final[dict[str, Callable[[Entry], Any]]] = {
    "file": lambda entry: 0,
    "name": lambda entry: entry.name,
    "size": lambda entry: -entry.nbytes,
}
FIRST_VALUES: Final = 8

Files = Annotated[
    list[str], typer.Argument(help="Checkpoints, folders that hold some, or patterns like 'runs/**/*.ckpt'.")
]
File = Annotated[str, typer.Argument(help="A checkpoint.", metavar="FILE")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
KeyFile = Annotated[
    str | None, typer.Option("--key-file", help="A file that holds the key of an encrypted checkpoint.", metavar="PATH")
]
KeyVariable = Annotated[
    str | None, typer.Option("--key-env", help="An environment variable that holds the key.", metavar="NAME")
]


def main() -> None:
    """The `lazyckpt` command."""
    app()


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    if version:
        typer.echo(f"lazyckpt {__version__}")
        raise typer.Exit


@app.command()
def index(
    files: Files,
    force: Annotated[bool, typer.Option("--force", help="Build also indexes that are fresh.")] = False,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Files indexed at once.")] = 1,
    key_file: KeyFile = None,
    key_env: KeyVariable = None,
) -> None:
    """Build the index (FILE.lmdb) of checkpoints, so that every later open is instant."""
    with _told_plainly():
        paths = find_checkpoints(files)
        key = KeyReference(key_file, key_env)
        results = [_index_one(paths[0], force, key)] if len(paths) == 1 else _index_many(paths, force, jobs, key)
    for result in results:
        typer.echo(f"{result.path}: {result.error}" if result.error else _summary(result), err=bool(result.error))
    if any(result.error for result in results):
        raise typer.Exit(1)


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
    with _told_plainly():
        found = build_index(file, *_key(file, KeyReference(key_file, key_env)))
        entries = [found[name] for name, _ in found.with_prefix(prefix)] if prefix else found.entries()
        if sort != "file":
            entries = sorted(entries, key=SORTS[sort])
        if as_json:
            _echo_json([describe(entry) for entry in entries])
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
    with _told_plainly(), _loaded(file, KeyReference(key_file, key_env)) as checkpoint:
        if name not in checkpoint:
            raise _no_such_name(name, checkpoint)
        facts = {**describe(checkpoint.entry(name)), **_values(checkpoint[name])}
    if as_json:
        _echo_json(facts)
        return
    width = max(map(len, facts))
    for key, value in facts.items():
        typer.echo(f"{key:<{width}}  {printable(str(value))}")


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
    with _told_plainly(), _loaded(file, KeyReference(key_file, key_env)) as checkpoint:
        report = match(_read_json(names), checkpoint)
    if as_json:
        _echo_json(report.to_dict())
    else:
        typer.echo(str(report))
    if not report.fits:
        raise typer.Exit(1)


@app.command()
def demo() -> None:
    """Copy a small checkpoint written by MindSpore to a temporary folder, index it, and look around."""
    with _told_plainly():
        run_demo(typer.echo)


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


def _read_json(path: str) -> Any:
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError) as error:
        raise LazyCkptError(f"{path} cannot be read as JSON: {error}") from error


def _key(path: str, reference: KeyReference) -> tuple[bytes | None, str]:
    """The key of a file and its mode, which the file's first bytes name; asked for at a terminal if need be."""
    mode = mode_of(path)
    key = reference.read()
    if mode is not None and key is None:
        if not sys.stdin.isatty():
            raise EncryptedFile(f"the file is encrypted ({mode}): give --key-file or --key-env", file=path)
        key = Secret(key_from_text(typer.prompt(f"Key of {path} ({mode})", hide_input=True)))
    return None if key is None else key.reveal(), mode or "AES-GCM"


def _loaded(path: str, reference: KeyReference) -> Checkpoint:
    dec_key, dec_mode = _key(path, reference)
    return load_checkpoint(path, dec_key=dec_key, dec_mode=dec_mode)


def _index_one(path: str, force: bool, reference: KeyReference) -> Built:
    dec_key, dec_mode = _key(path, reference)
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn(),
        console=Console(stderr=True), transient=True,
    )  # fmt: skip
    with bar:
        task = bar.add_task(os.path.basename(path), total=None)
        built = build_index(
            path,
            dec_key,
            dec_mode,
            force=force,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
        return Built(path, "", built.path, len(built), built.fingerprint.size, bar.tasks[0].elapsed or 0.0)


def _index_many(paths: list[str], force: bool, jobs: int, key: KeyReference) -> list[Built]:
    bar = Progress(
        TextColumn("{task.completed}/{task.total} files"), BarColumn(), TimeRemainingColumn(),
        console=Console(stderr=True), transient=True,
    )  # fmt: skip
    with bar:
        task = bar.add_task("files", total=len(paths))
        if jobs == 1:
            return build_indexes(paths, force=force, key=key, progress=lambda _: bar.advance(task))
        with processes(min(jobs, len(paths))) as pool:
            return build_indexes(paths, executor=pool, force=force, key=key, progress=lambda _: bar.advance(task))


def _summary(result: Built) -> str:
    rate = f", {human_size(int(result.size / result.seconds))}/s" if result.seconds > 0.001 else ""
    return (
        f"{result.path}: {result.parameters:,} parameters in {human_size(result.size)},"
        f" {result.seconds * 1e3:,.1f} ms{rate} -> {result.sidecar or 'kept in memory only'}"
    )


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
    return {"first": array.reshape(-1)[:FIRST_VALUES].tolist(), **summarise(array)}


def _echo_json(data: Any) -> None:
    """Print JSON; numbers that JSON lacks (nan, inf) become strings."""
    data = _finite(data)
    try:
        typer.echo(json.dumps(data, indent=1, ensure_ascii=False))
    except UnicodeEncodeError:  # half of a surrogate pair in a string
        typer.echo(json.dumps(data, indent=1))


def _finite(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, list):
        return [_finite(value) for value in data]
    return str(data) if isinstance(data, float) and not math.isfinite(data) else data


def _no_such_name(name: str, names: Any) -> LazyCkptError:
    import difflib

    near = difflib.get_close_matches(name, list(names)[:100_000], n=3)
    hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
    return LazyCkptError(f"there is no parameter {name!r}{hint}")


@contextmanager
def _told_plainly() -> Iterator[None]:
    """Errors of files as one line on stderr and exit code 1."""
    try:
        yield
    except LazyCkptError as error:
        typer.echo(f"lazyckpt: {error}", err=True)
        raise typer.Exit(1) from error
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        raise typer.Exit(1) from None
