"""Many values at once: in file order, on threads where that pays."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from lazyckpt.entry import Entry
from lazyckpt.payload import Payloads

PARALLEL_FROM: Final = 2**25  # bytes in all below which threads cost more than they bring
MAX_WORKERS: Final = 8


def read_all(
    payloads: Payloads, jobs: dict[str, Entry], workers: int | None, progress: Callable[[int, int], object] | None
) -> dict[str, Any]:
    """Read the values of entries, each into memory of its own.

    Args:
        payloads: where values come from.
        jobs: name -> entry.
        workers: threads; None for as many as pay.
        progress: called as `progress(done, total)` with byte counts.

    Cost: allocates the sum of the values; copies release the interpreter's lock.
    """
    order = sorted(jobs.items(), key=lambda job: job[1].start)
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
    if workers <= 1:
        yield from map(payloads.value, entries)
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="lazyckpt") as pool:
        yield from pool.map(payloads.value, entries)
