"""Statistics of many values of a file, in file order, with a few MiB in memory, on threads."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, groupby, islice
from typing import Any, Final

import numpy as np

from lazyckpt.model.dtypes import BY_NUMPY_NAME
from lazyckpt.model.entry import MAP, MAP_PARTS, REFUSED, STRING, TENSOR, Entry
from lazyckpt.model.tensor_runs import FEWEST, neighbours, run_of
from lazyckpt.reading.reader import Reader
from lazyckpt.runtime.workers import Progress, worker_count
from lazyckpt.statistics.moments import NOTHING, measure, measure_by_spans, measure_each
from lazyckpt.statistics.table import Row, Statistics

BATCH_BYTES: Final = 2**26  # of values that share reads of a source that decrypts or fetches
Known = Any  # an Entry, or a value in memory


def statistics_of(
    payloads: Reader, known: dict[str, Known], workers: int | None = None, progress: Progress | None = None
) -> Statistics:
    """Measure values.

    Args:
        payloads: reads the values of entries.
        known: name -> entry, or value in memory (an array, or a list of arrays).
        workers: number of threads; None to choose by the amount of data.
        progress: called as `progress(done, total)` with byte counts, after each value.

    Returns:
        A row for each tensor and for each array of a map, in the order of `known`. A value without numbers has a row
        that says why it was not measured.

    Cost: reads every value once, in file order. A tensor of any size needs a few MiB of memory per thread; a map is
    held in memory. In an encrypted file values are grouped up to 64 MiB, so that each block is decrypted once, and
    those at the borders of groups up to twice.
    """
    order = sorted(known.items(), key=lambda item: item[1].offset if isinstance(item[1], Entry) else -1)
    sizes = [value.stored if isinstance(value, Entry) else getattr(value, "nbytes", 0) for _, value in order]
    total = sum(sizes)
    workers = worker_count(workers, nbytes=total)
    found: dict[str, list[Row]] = {}
    done = 0
    for (name, _), size, rows in zip(order, sizes, rows_in_order(payloads, order, workers), strict=True):
        found[name] = rows
        done += size
        if progress is not None:
            progress(done, total)
    return Statistics(row for name in known for row in found[name])


def rows_in_order(payloads: Reader, order: list[tuple[str, Known]], workers: int) -> Iterator[list[Row]]:
    """The rows of each value; values that share a block or a request are read together."""
    if not payloads.is_addressable:
        for batch in _batches(order):
            yield from _of_batch(payloads, batch)
    elif workers <= 1:
        for group in _neighbours(order):
            yield from _of_neighbours(payloads, group)
    else:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(workers, thread_name_prefix="lazyckpt") as pool:
            groups = pool.map(lambda group: _of_neighbours(payloads, group), _neighbours(order))
            yield from chain.from_iterable(groups)


def _neighbours(order: list[tuple[str, Known]]) -> Iterator[list[tuple[str, Known]]]:
    """Group small tensors that follow one another in the file; every other value is alone."""
    items = iter(order)
    for is_entry, run in groupby((value for _, value in order), lambda value: isinstance(value, Entry)):
        for group in neighbours(run) if is_entry else ([value] for value in run):
            yield list(islice(items, len(group)))


def _of_neighbours(payloads: Reader, group: list[tuple[str, Known]]) -> list[list[Row]]:
    """The rows of each tensor; those of one dtype and shape are measured together."""
    if len(group) < FEWEST:
        return [rows_of(payloads, name, value) for name, value in group]
    tensor_run = run_of([value for _, value in group])
    proven, others = payloads.proven(tensor_run)
    rows = {number: rows_of(payloads, group[number][0], entry) for number, entry in others.items()}
    for uniform, values in proven:
        for number, moments in zip(uniform.numbers, measure_each(values), strict=True):
            rows[number] = [Row(group[number][0], uniform.dtype.name, uniform.shape, moments)]
    payloads.drop_pages(tensor_run)
    return [rows[number] for number in range(len(group))]


def _batches(order: list[tuple[str, Known]]) -> Iterator[list[tuple[str, Known]]]:
    """Group neighbours to be fetched together; a value that is too large is alone."""
    batch: list[tuple[str, Known]] = []
    size = 0
    for item in order:
        stored = item[1].stored if isinstance(item[1], Entry) else 0
        if batch and size + stored > BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += stored
    if batch:
        yield batch


def _of_batch(payloads: Reader, batch: list[tuple[str, Known]]) -> Iterator[list[Row]]:
    together = len(batch) > 1
    wanted = [value for _, value in batch if isinstance(value, Entry) and value.kind in (TENSOR, MAP)]
    fetched = iter(payloads.values(wanted) if together else ())
    for name, value in batch:
        if together and isinstance(value, Entry) and value.kind in (TENSOR, MAP):
            yield rows_in_memory(name, next(fetched))
        else:
            yield rows_of(payloads, name, value)


def rows_of(payloads: Reader, name: str, value: Known) -> list[Row]:
    """The rows of one value: see `statistics_of`."""
    if not isinstance(value, Entry):
        return rows_in_memory(name, value)
    if value.kind == MAP:
        return rows_in_memory(name, payloads.value(value))
    if value.kind in (STRING, REFUSED) or value.dtype is None:
        return [Row(name, {STRING: "str"}.get(value.kind, value.kind), (), NOTHING, value.reason or f"a {value.kind}")]
    shape, pieces = value.shape, payloads.pieces(value)
    return [Row(name, value.dtype.name, shape, measure_by_spans(pieces if 0 not in shape else ()))]


def rows_in_memory(name: str, value: Any) -> list[Row]:
    """The rows of a value in memory: one per array, or one with the reason why there is none."""
    if isinstance(value, np.ndarray):
        if value.dtype.kind in "OSUMm":
            return [Row(name, str(value.dtype), value.shape, NOTHING, "no numbers")]
        dtype = BY_NUMPY_NAME.get(value.dtype.name, value.dtype)  # dtypes that no checkpoint holds are measured, too
        return [Row(name, str(dtype), value.shape, measure([value]))]
    if isinstance(value, list) and value and all(isinstance(part, np.ndarray) for part in value):
        labels = MAP_PARTS if len(value) == len(MAP_PARTS) else range(len(value))
        return [
            row for label, part in zip(labels, value, strict=True) for row in rows_in_memory(f"{name}[{label}]", part)
        ]
    kind = "string" if isinstance(value, str) else type(value).__name__
    return [Row(name, "str" if isinstance(value, str) else kind, (), NOTHING, f"a {kind}")]
