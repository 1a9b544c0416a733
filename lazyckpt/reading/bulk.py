"""Many values at once: in file order, on threads where that pays."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from lazyckpt.model.entry import Entry
from lazyckpt.model.tensor_runs import TensorRun
from lazyckpt.reading.reader import Reader
from lazyckpt.runtime.workers import Progress, worker_count

_TURN_BYTES: Final = 2**21  # of values that a thread takes on at once
BATCH_BYTES: Final = 2**30  # of values that share reads of a source that decrypts or fetches


def read_all(
    reader: Reader,
    jobs: dict[str, Entry],
    workers: int | None,
    progress: Progress | None,
    tensor_runs: Sequence[TensorRun] = (),
) -> dict[str, Any]:
    """Read the values of entries into new memory (small similar values share buffers of some KiB).

    Args:
        reader: where values come from.
        jobs: name -> entry.
        workers: threads; None for as many as pay.
        progress: called as `progress(done, total)` with byte counts.
        tensor_runs: more values, of a source that is addressable.

    Cost: allocates the sum of the values; copies and decryption release the interpreter's lock. Of an encrypted file
    each block is decrypted once, but for those at the borders of batches of 1 GiB, which may be twice.
    """
    turns = list(_turns(jobs, tensor_runs, _TURN_BYTES if reader.is_addressable else BATCH_BYTES))
    total = sum(turn.stored for turn in turns)
    workers = worker_count(workers, nbytes=total)
    values: dict[str, Any] = {}
    done = 0
    for turn, found in zip(turns, _values(reader, turns, workers), strict=True):
        values.update(zip(turn.names, found, strict=True))
        if progress is not None:
            for size in turn.sizes():
                done += size
                progress(done, total)
    return values


class _Turn(NamedTuple):
    """Values that are read together."""

    stored: int
    names: list[str]
    sizes: Callable[[], list[int]]
    read: Callable[[Reader], list[Any]]


def _values(reader: Reader, turns: list[_Turn], workers: int) -> Iterator[list[Any]]:
    if workers <= 1 or not reader.is_addressable:
        yield from (turn.read(reader) for turn in turns)
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(workers, thread_name_prefix="lazyckpt") as pool:
        yield from pool.map(lambda turn: turn.read(reader), turns)


def _turns(jobs: dict[str, Entry], tensor_runs: Sequence[TensorRun], most: int) -> Iterator[_Turn]:
    """All jobs in file order, entries in batches that keep threads busy and progress moving."""
    waiting = deque(sorted(tensor_runs, key=lambda tensor_run: tensor_run.start))
    batch: list[tuple[str, Entry]] = []
    size = 0
    for job in sorted(jobs.items(), key=lambda job: job[1].offset):
        is_behind = bool(waiting) and waiting[0].start < job[1].offset
        if batch and (is_behind or size >= most):
            yield _of_entries(batch)
            batch, size = [], 0
        while waiting and waiting[0].start < job[1].offset:
            yield _of_run(waiting.popleft())
        batch.append(job)
        size += job[1].stored
    if batch:
        yield _of_entries(batch)
    yield from map(_of_run, waiting)


def _of_entries(batch: list[tuple[str, Entry]]) -> _Turn:
    entries = [entry for _, entry in batch]
    sizes = [entry.stored for entry in entries]
    names = [name for name, _ in batch]
    return _Turn(sum(sizes), names, lambda: sizes, lambda reader: reader.values(entries))


def _of_run(tensor_run: TensorRun) -> _Turn:
    return _Turn(tensor_run.stored, tensor_run.names, tensor_run.sizes, lambda reader: reader.read_run(tensor_run))
