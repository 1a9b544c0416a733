"""Build the indexes of many checkpoints in a job script. An interrupted run can be started again.

    python tools/build_index.py runs/ 'old/*.ckpt' last.ckpt --jobs 8
    python tools/build_index.py runs/ --scheduler tcp://host:8786       # on a dask cluster

Prints a line on stderr for each failed file, and a summary. Exit codes: 0 if all files have a fresh index, 1 if some
have none, 2 if there is nothing to index or the usage is wrong.
"""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from typing import Annotated

import typer

from lazyckpt.errors import LazyCkptError
from lazyckpt.index.batch import Built, build_indexes, find_checkpoints, processes
from lazyckpt.sources.encryption.keys import KeyReference
from lazyckpt.tasks.cluster import connected

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def build(
    paths: Annotated[list[str], typer.Argument(help="Checkpoints, folders (searched for *.ckpt), or patterns.")],
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="The number of files to index at once.")] = 1,
    scheduler: Annotated[
        str | None, typer.Option(help="A dask scheduler, such as tcp://host:8786. Its workers must see the same paths.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Rebuild indexes even if they are fresh.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only failures.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the summary and the results of all files as JSON.")
    ] = False,
    key_file: Annotated[str | None, typer.Option(help="The file that holds the key of encrypted checkpoints.")] = None,
    key_env: Annotated[str | None, typer.Option(help="The environment variable that holds the key.")] = None,
) -> None:
    """Build the index (FILE.lmdb) of every checkpoint without a fresh one."""
    start = time.perf_counter()
    try:
        files = find_checkpoints(paths)
        stack = ExitStack()
        executor = stack.enter_context(connected(scheduler)) if scheduler is not None else None
    except LazyCkptError as error:
        typer.echo(error, err=True)
        raise typer.Exit(2) from error
    with stack:
        if executor is None and min(jobs, len(files)) > 1:
            executor = stack.enter_context(processes(min(jobs, len(files))))
        key = KeyReference(key_file, key_env)
        results = build_indexes(files, executor=executor, force=force, key=key, progress=tell_failure)
    summary = summarise(results, time.perf_counter() - start)
    if as_json:
        typer.echo(json.dumps({**summary, "results": [result._asdict() for result in results]}, indent=1))
    elif not quiet:
        typer.echo(", ".join(f"{value:,} {name}" for name, value in summary.items()))
    if summary["failed"]:
        raise typer.Exit(1)


def tell_failure(result: Built) -> None:
    """Print the error of a file as soon as it arrives."""
    if result.error:
        typer.echo(f"{result.path}: {result.error}", err=True)


def summarise(results: list[Built], seconds: float) -> dict[str, float]:
    """Count the files by result, and report the time."""
    failed = sum(bool(result.error) for result in results)
    fresh = sum(result.fresh for result in results)
    return {
        "files": len(results),
        "built": len(results) - failed - fresh,
        "fresh": fresh,
        "failed": failed,
        "parameters": sum(result.parameters for result in results),
        "seconds": round(seconds, 3),
    }


if __name__ == "__main__":
    app()
