"""Many values at once: in file order, on threads where that pays."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any, Final

from lazyckpt.entry import Entry
from lazyckpt.payload import Payloads

PARALLEL_FROM: Final = 2**25  # bytes in all below which threads cost more than they bring
MAX_WORKERS: Final = 8
_TURN_BYTES: Final = 2**21  # of values that a thread takes on at once
BATCH_BYTES: Final = 2**30  # of values that share reads of a source that decrypts or fetches


def read_all(
    payloads: Payloads, jobs: dict[str, Entry], workers: int | None, progress: Callable[[int, int], object] | None
) -> dict[str, Any]:
    """Read the values of entries, each into memory of its own.

    Args:
        payloads: where values come from.
        jobs: name -> entry.
        workers: threads; None for as many as pay.
        progress: called as `progress(done, total)` with byte counts.

    Cost: allocates the sum of the values; copies and decryption release the interpreter's lock. Of an encrypted file
    each block is decrypted once, but for those at the borders of batches of 1 GiB, which may be twice.
    """
    order = sorted(jobs.items(), key=lambda job: job[1].place)
    total = sum(entry.stored for _, entry in order)
    if workers is None:
        workers = min(MAX_WORKERS, os.cpu_count() or 1) if total >= PARALLEL_FROM else 1
    values, done = {}, 0
    for (name, entry), value in zip(order, _values(payloads, order, workers), strict=True):
        values[name] = value
        done += entry.stored
        if progress is not None:
            progress(done, total)
    return values


def _values(payloads: Payloads, order: list[tuple[str, Entry]], workers: int) -> Iterator[Any]:
    entries = [entry for _, entry in order]
    if not payloads.is_addressable:
        for batch in _batches(entries, BATCH_BYTES):
            yield from payloads.values(batch)
        return
    batches = _batches(entries, _TURN_BYTES)
    if workers <= 1:
        yield from chain.from_iterable(map(payloads.values, batches))
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(workers, thread_name_prefix="lazyckpt") as pool:
        yield from chain.from_iterable(pool.map(payloads.values, batches))


def _batches(entries: list[Entry], most: int) -> Iterator[list[Entry]]:
    """Neighbours that are read together, so that a progress bar moves and threads have work."""
    batch: list[Entry] = []
    size = 0
    for entry in entries:
        batch.append(entry)
        size += entry.stored
        if size >= most:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
