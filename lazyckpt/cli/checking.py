"""`lazyckpt doctor` and `lazyckpt verify`: diagnose a file, and check every value."""

from __future__ import annotations

import contextlib
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Annotated

import typer

from lazyckpt.cli.app import (
    AsJson,
    Files,
    KeyFile,
    KeyVariable,
    app,
    byte_bar,
    echo,
    echo_json,
    errors_as_exit_codes,
    files_in,
    print_report,
)
from lazyckpt.display import printable
from lazyckpt.errors import LazyCkptError
from lazyckpt.formats import ENDINGS
from lazyckpt.runtime.workers import processors
from lazyckpt.sharding.rank_folders import read_folder
from lazyckpt.sharding.weight_map import files_of
from lazyckpt.sources.encryption.keys import KeyReference, Secret
from lazyckpt.sources.paths import find_listings, is_folder, is_listing

if TYPE_CHECKING:
    from rich.progress import Progress

    from lazyckpt.explore.verify_report import Verification

MISUSE = 2  # exit code


@app.command()
def doctor(
    file: Annotated[str, typer.Argument(help="The file, in any format.", metavar="FILE")],
    values: Annotated[bool, typer.Option("--values", help="Also read every value, and look for NaNs.")] = False,
    as_json: AsJson = False,
    key_file: KeyFile = None,
    key_env: KeyVariable = None,
) -> None:
    """Report what a file is, what is wrong with it, and what to do. Exits with 1 if something is wrong."""
    from lazyckpt.explore.doctor import diagnose

    with errors_as_exit_codes(MISUSE):
        key = _key(KeyReference(key_file, key_env))
        with byte_bar() as bar:
            task = bar.add_task("reading", total=None, visible=values)
            report = diagnose(
                file, key, values=values,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )  # fmt: skip
        print_report(report, as_json)
    if not report.healthy:
        raise typer.Exit(1)


@app.command(name="verify")
def verify_command(
    files: Files,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="The number of files to check at once.")] = 1,
    as_json: AsJson = False,
    key_file: KeyFile = None,
    key_env: KeyVariable = None,
) -> None:
    """Read whole checkpoints and check all that can be checked. Exits with 1 unless every file is intact."""
    with errors_as_exit_codes(MISUSE):
        paths, sets = _to_verify(files)
        key = _key(KeyReference(key_file, key_env))
        workers = max(1, processors() // jobs)
        reports = []
        with byte_bar() as bar, ThreadPoolExecutor(jobs, thread_name_prefix="lazyckpt") as pool:
            for report in pool.map(lambda path: _verified(path, key, workers, bar), paths):
                reports.append(report)
                if not as_json:
                    echo(str(report))
        for path in sets:
            report = _set_verified(path, key)
            if is_listing(path) or not report.intact:
                reports.append(report)
                if not as_json:
                    echo(str(report))
        if as_json:
            echo_json([report.to_dict() for report in reports])
    if not all(report.intact for report in reports):
        raise typer.Exit(1)


def _to_verify(patterns: list[str]) -> tuple[list[str], list[str]]:
    """The files to verify one by one; and the listings and folders whose files must fit together."""
    paths: dict[str, None] = {}
    sets: dict[str, None] = {}
    for pattern in patterns:
        found = files_in([pattern])
        sets.update(dict.fromkeys(path for path in found if is_listing(path)))
        if is_folder(pattern):
            sets.update(dict.fromkeys(find_listings(pattern, ENDINGS)))
            folder = read_folder(pattern)
            sets.update(dict.fromkeys([pattern] if folder.checkpoints() and not folder.listings() else []))
        paths.update(dict.fromkeys(path for path in found if not is_listing(path)))
    for listing in filter(is_listing, sets):
        with contextlib.suppress(LazyCkptError):  # the verdict on the set says so
            paths.update(dict.fromkeys(files_of(listing)))
    return list(paths), list(sets)


def _set_verified(path: str, key: bytes | None) -> Verification:
    from lazyckpt.explore.verify import verify_set

    return verify_set(path, None if key is None else Secret(key))


def _verified(path: str, key: bytes | None, workers: int, bar: Progress) -> Verification:
    from lazyckpt.explore.verify import verify

    task = bar.add_task(printable(os.path.basename(path)), total=None)
    try:
        return verify(
            path, key, workers=workers, progress=lambda done, total: bar.update(task, completed=done, total=total)
        )
    finally:
        bar.remove_task(task)


def _key(reference: KeyReference) -> bytes | None:
    key = reference.read()
    return None if key is None else key.reveal()
