"""`lazyckpt index`: build the indexes of one or more checkpoints."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Annotated, Final, NamedTuple

import typer

from lazyckpt.cli.app import Files, KeyFile, KeyVariable, app, byte_bar, echo, errors_as_exit_codes, files_in, key_of
from lazyckpt.display import human_size, one_line, printable, printable_path
from lazyckpt.errors import LazyCkptError
from lazyckpt.index.batch import Built, build_indexes, processes
from lazyckpt.index.build import build_index
from lazyckpt.index.locations import publish
from lazyckpt.sharding.weight_map import files_of
from lazyckpt.sources.encryption.keys import KeyReference
from lazyckpt.tasks import Where

DIGEST: Final = "blake2b"


class Indexing(NamedTuple):
    """Options for building indexes."""

    force: bool
    digest: str | None
    key: KeyReference


@app.command()
def index(
    files: Files,
    force: Annotated[bool, typer.Option("--force", help="Rebuild indexes even if they are fresh.")] = False,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="The number of files to index at once.")] = 1,
    scheduler: Annotated[
        str | None,
        typer.Option(
            help="A dask scheduler, such as tcp://host:8786. Its workers must see the same paths.", metavar="ADDRESS"
        ),
    ] = None,
    digest: Annotated[
        bool, typer.Option("--digest", help="Also store digests for diff and verify. Reads all values.")
    ] = False,
    upload: Annotated[
        bool, typer.Option("--upload", help="Upload the index of each remote file next to it, for all its readers.")
    ] = False,
    key_file: KeyFile = None,
    key_env: KeyVariable = None,
) -> None:
    """Build the index (FILE.lmdb) of each checkpoint. Every later open is then instant."""
    with errors_as_exit_codes():
        paths = [part for path in files_in(files) for part in files_of(path)]
        key = KeyReference(key_file, key_env)
        how = Indexing(force, DIGEST if digest else None, key)
        if len(paths) == 1 and scheduler is None:
            results = [_index_one(paths[0], how)]
        else:
            with _workers(min(jobs, len(paths)), scheduler) as executor:
                results = _index_many(paths, executor, how)
        if upload:
            results = [_uploaded(result) for result in results]
    for result in results:
        echo(
            f"{printable_path(result.path)}: {one_line(result.error)}" if result.error else _summary(result),
            err=bool(result.error),
        )
    if any(result.error for result in results):
        raise typer.Exit(1)


def _index_one(path: str, how: Indexing) -> Built:
    dec_key, dec_mode = key_of(path, how.key)
    bar = byte_bar()
    with bar:
        task = bar.add_task(printable(os.path.basename(path)), total=None)
        built = build_index(
            path,
            dec_key,
            dec_mode,
            force=how.force,
            digest=how.digest,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
        return Built(path, "", built.path, len(built), built.fingerprint.size, bar.tasks[0].elapsed or 0.0)


def _uploaded(result: Built) -> Built:
    """Upload the index of a result, if it has one; a failure becomes the error of the result."""
    if result.error or result.sidecar is None:
        return result
    try:
        return result._replace(sidecar=publish(result.sidecar, result.path))
    except LazyCkptError as error:
        return result._replace(error=str(error))


def _workers(jobs: int, scheduler: str | None) -> AbstractContextManager[Where]:
    """The executor for many files: a cluster, a pool of processes, or None for this process."""
    if scheduler is not None:
        from lazyckpt.tasks.cluster import connected

        return connected(scheduler)
    return processes(jobs) if jobs > 1 else nullcontext()


def _index_many(paths: list[str], executor: Where, how: Indexing) -> list[Built]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("{task.completed}/{task.total} files"), BarColumn(), TimeRemainingColumn(),
        console=Console(stderr=True), transient=True,
    )  # fmt: skip
    with bar:
        task = bar.add_task("files", total=len(paths))
        return build_indexes(paths, executor=executor, **how._asdict(), progress=lambda _: bar.advance(task))


def _failure(result: Built) -> str:
    return f"{printable_path(result.path)}: {one_line(result.error)}"


def _summary(result: Built) -> str:
    rate = f", {human_size(int(result.size / result.seconds))}/s" if result.seconds > 0.001 else ""
    return (
        f"{printable_path(result.path)}: {result.parameters:,} parameters in {human_size(result.size)},"
        f" {result.seconds * 1e3:,.1f} ms{rate} -> {printable_path(result.sidecar or 'kept in memory only')}"
    )
