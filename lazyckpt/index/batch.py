"""Indexes of many checkpoints: one task per file, on any `Executor` or dask cluster."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

from lazyckpt.errors import FileFault, LazyCkptError, MissingFile
from lazyckpt.formats import ENDINGS
from lazyckpt.index.build import IndexOptions, open_indexed
from lazyckpt.sources.encryption.keys import NO_KEY, OWN_MODE, KeyReference, late
from lazyckpt.sources.paths import absolute, matches, resolved
from lazyckpt.tasks import Outcome, Where, run

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor


class Built(NamedTuple):
    """What became of one file.

    Attributes:
        path: the checkpoint.
        error: why it has no index (without its path), or an empty string.
        sidecar: where its index is, or None if it could be kept nowhere.
        parameters: how many it has.
        size: bytes of the checkpoint.
        seconds: elapsed time.
        fresh: whether the index was there already.
    """

    path: str
    error: str
    sidecar: str | None
    parameters: int
    size: int
    seconds: float
    fresh: bool = False


def find_checkpoints(patterns: Iterable[str]) -> list[str]:
    """The files of paths, folders (their .ckpt and .safetensors) and patterns; sorted, each once.

    Raises:
        MissingFile: one of them names nothing.
    """
    found: dict[str, None] = {}
    for pattern in patterns:
        names = matches(pattern, ENDINGS)
        if not names:
            raise MissingFile(f"no checkpoint at {pattern}")
        found.update(dict.fromkeys(sorted(names)))
    return list(found)


def processes(jobs: int) -> ProcessPoolExecutor:
    """Processes of this machine for `build_indexes`, to be used in a `with` block.

    They are spawned, not forked: a fork would take over what threads of this process (a progress bar's) have locked.
    """
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    return ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"))


def build_indexes(
    paths: Iterable[str | os.PathLike[str]],
    *,
    executor: Where = None,
    force: bool = False,
    digest: str | None = None,
    key: KeyReference = NO_KEY,
    progress: Callable[[Built], object] | None = None,
) -> list[Built]:
    """Build the indexes of many checkpoints. Fresh ones are kept, so a stopped run can be resumed.

    Args:
        paths: the files.
        executor: where the tasks run, one a file: a `concurrent.futures.Executor`, or a dask `Client`; None for here,
            one after another. Workers must see the files, and can best write beside them, under the same paths: an
            index that a worker kept in its own cache folder is of no use to other machines.
        force: rebuild fresh indexes too.
        digest: `"blake2b"` to store digests of all values, too.
        key: where the tasks find the key of those files that are encrypted. The key itself never travels: the file or
            the environment variable must be there for each worker.
        progress: called with each result as it comes.

    Returns:
        One result a file, in the order of `paths`. Files that could not be indexed have an `error`; nothing is raised
        for a file. A worker that dies stops nothing: its file is tried again alone, and only a file that kills
        its worker then, too, is given up.

    Raises:
        ArgumentTypeError: `executor` is neither.

    Cost: as `build_index` for each file; a task sends back a few hundred bytes.
    """
    wanted = [os.fspath(path) for path in paths]
    away = [absolute(path) for path in wanted]  # workers stand in other folders
    there = key if key.file is None else key._replace(file=os.path.abspath(key.file))
    done: dict[int, Built] = {}
    names = [os.path.basename(path) for path in wanted]
    for outcome in run(build_one, [(path, force, digest, there) for path in away], executor, names):
        path = wanted[outcome.number]
        built = _lost(path, outcome) if outcome.fault is not None else outcome.value._replace(path=path)
        done[outcome.number] = built
        if progress is not None:
            progress(built)
    return [done[number] for number in range(len(wanted))]


def _lost(path: str, outcome: Outcome) -> Built:
    """The result of a file whose task failed for another reason than the file."""
    why = "the process that indexed it died (was it out of memory?): " if outcome.died else ""
    return Built(path, f"{why}{type(outcome.fault).__name__}: {outcome.fault}", None, 0, 0, 0.0)


def build_one(path: str, force: bool, digest: str | None = None, key: KeyReference = NO_KEY) -> Built:
    """The task for one file. Never raises for an error of the file."""
    start = time.perf_counter()
    size = 0
    try:
        file = open_indexed(resolved(path), late(key), OWN_MODE, options=IndexOptions(force, digest))
        size, where, count = file.index.fingerprint.size, file.index.path, len(file.index)
        file.close()
    except (LazyCkptError, OSError) as error:
        if isinstance(error, FileFault):
            error.file = None
        return Built(path, str(error), None, 0, size, time.perf_counter() - start)
    return Built(path, "", where, count, size, time.perf_counter() - start, file.was_indexed)
