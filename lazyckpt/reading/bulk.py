"""Many values at once: in file order, on threads where that pays."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from lazyckpt.model.entry import Entry
from lazyckpt.model.tensor_runs import Stretch
from lazyckpt.reading.reader import Payloads
from lazyckpt.runtime.workers import Progress, worker_count

_TURN_BYTES: Final = 2**21  # of values that a thread takes on at once
BATCH_BYTES: Final = 2**30  # of values that share reads of a source that decrypts or fetches


def read_all(
    payloads: Payloads,
    jobs: dict[str, Entry],
    workers: int | None,
    progress: Progress | None,
    stretches: Sequence[Stretch] = (),
) -> dict[str, Any]:
    """Read the values of entries, each into memory of its own (small ones that are alike share some KiB).

    Args:
        payloads: where values come from.
        jobs: name -> entry.
        workers: threads; None for as many as pay.
        progress: called as `progress(done, total)` with byte counts.
        stretches: more values, of a source that is addressable.

    Cost: allocates the sum of the values; copies and decryption release the interpreter's lock. Of an encrypted file
    each block is decrypted once, but for those at the borders of batches of 1 GiB, which may be twice.
    """
    turns = list(_turns(jobs, stretches, _TURN_BYTES if payloads.is_addressable else BATCH_BYTES))
    total = sum(turn.stored for turn in turns)
    workers = worker_count(workers, nbytes=total)
    values: dict[str, Any] = {}
    done = 0
    for turn, found in zip(turns, _values(payloads, turns, workers), strict=True):
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
    read: Callable[[Payloads], list[Any]]


def _values(payloads: Payloads, turns: list[_Turn], workers: int) -> Iterator[list[Any]]:
    if workers <= 1 or not payloads.is_addressable:
        yield from (turn.read(payloads) for turn in turns)
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(workers, thread_name_prefix="lazyckpt") as pool:
        yield from pool.map(lambda turn: turn.read(payloads), turns)


def _turns(jobs: dict[str, Entry], stretches: Sequence[Stretch], most: int) -> Iterator[_Turn]:
    """All in file order; of entries several together, so that a progress bar moves and threads have work."""
    waiting = deque(sorted(stretches, key=lambda stretch: stretch.start))
    batch: list[tuple[str, Entry]] = []
    size = 0
    for job in sorted(jobs.items(), key=lambda job: job[1].place):
        is_behind = bool(waiting) and waiting[0].start < job[1].place
        if batch and (is_behind or size >= most):
            yield _of_entries(batch)
            batch, size = [], 0
        while waiting and waiting[0].start < job[1].place:
            yield _of_stretch(waiting.popleft())
        batch.append(job)
        size += job[1].stored
    if batch:
        yield _of_entries(batch)
    yield from map(_of_stretch, waiting)


def _of_entries(batch: list[tuple[str, Entry]]) -> _Turn:
    entries = [entry for _, entry in batch]
    sizes = [entry.stored for entry in entries]
    names = [name for name, _ in batch]
    return _Turn(sum(sizes), names, lambda: sizes, lambda payloads: payloads.values(entries))


def _of_stretch(stretch: Stretch) -> _Turn:
    return _Turn(stretch.stored, stretch.names, stretch.sizes, lambda payloads: payloads.stretch(stretch))
