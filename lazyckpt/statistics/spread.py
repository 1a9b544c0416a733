"""Statistics of many values, computed by tasks on other processes, which read the file themselves.

Strategy: a task receives how to open the file, and ordinals in its index; it returns numbers. Small values are grouped
up to about 64 MiB. A large value is cut into the spans that one process would combine, so that sums are made in the
same order. Values in memory are measured in this process.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from lazyckpt.model.entry import MAP, TENSOR, Entry
from lazyckpt.reading.reader import Reader
from lazyckpt.runtime.workers import Progress
from lazyckpt.statistics.moments import NOTHING, SPAN, Moments, measure, together
from lazyckpt.statistics.stream import BATCH_BYTES, Known, rows_in_order, rows_of
from lazyckpt.statistics.table import Row, Statistics
from lazyckpt.tasks import Where, run

_MOST: Final = 1000  # values per task


class _Part(NamedTuple):
    """One task: some values, or a span of one."""

    names: tuple[str, ...]
    ordinals: tuple[int, ...]
    size: int
    first: int | None = None  # the ordinal of the span's first piece; None for whole values


def statistics_over(
    scheduler: Where,
    payloads: Reader,
    known: Mapping[str, Known],
    ordinals: Mapping[str, int | None],
    progress: Progress | None = None,
) -> Statistics:
    """Measure values by tasks: see `statistics_of`.

    Args:
        scheduler: where tasks run.
        payloads: of the file.
        known: name -> entry, or value in memory.
        ordinals: name -> ordinal in the file's index.
        progress: called as `progress(done, total)` with byte counts.

    Raises:
        NotPicklable: workers cannot open the file.
        WorkerDied: a task killed its worker, and did so again alone.
    """
    found: dict[str, list[Row]] = {}
    entries: dict[str, Entry] = {}
    for name, value in known.items():
        if isinstance(value, Entry) and value.kind in (TENSOR, MAP) and ordinals.get(name) is not None:
            entries[name] = value
        else:
            found[name] = rows_of(payloads, name, value)
    parts = list(_parts(payloads, entries, ordinals))
    spans: dict[str, dict[int, Moments]] = {}
    done, total = 0, sum(part.size for part in parts)
    labels = [part.names[0] for part in parts]
    calls = [(payloads, part.ordinals, part.first) for part in parts]
    for outcome in run(statistics_task, calls, scheduler, labels):
        part, measured = parts[outcome.number], outcome.result()
        if part.first is not None:
            spans.setdefault(part.names[0], {})[part.first] = measured
        else:
            for name, rows in zip(part.names, measured, strict=True):
                found[name] = [_renamed(row, entries[name].name, name) for row in rows]
        done += part.size
        if progress is not None:
            progress(done, total)
    for name, measured in spans.items():
        found[name] = [_row(name, entries[name], measured)]
    return Statistics(row for name in known for row in found[name])


def statistics_task(payloads: Reader, ordinals: tuple[int, ...], first: int | None) -> Any:
    """The task of a worker: the rows of whole values, or the moments of a span of one."""
    index = payloads.file.index
    entries = [index.at(ordinal) for ordinal in ordinals]
    if first is None:
        return list(rows_in_order(payloads, [(entry.name, entry) for entry in entries], 1))
    return measure(payloads.pieces(entries[0], first=first, count=SPAN))


def _parts(payloads: Reader, entries: Mapping[str, Entry], ordinals: Mapping[str, int | None]) -> Iterator[_Part]:
    """Tasks; the values of each are in file order."""
    together: list[str] = []
    size = 0

    def whole() -> _Part:
        return _Part(tuple(together), tuple(ordinals[name] or 0 for name in together), size)

    for name in sorted(entries, key=lambda name: entries[name].offset):
        entry = entries[name]
        pieces = payloads.piece_count(entry) if entry.kind == TENSOR and 0 not in entry.shape else 1
        if pieces > SPAN:
            ordinal = ordinals[name] or 0
            spans = range(0, pieces, SPAN)
            yield from (_Part((name,), (ordinal,), entry.stored // len(spans), first) for first in spans)
            continue
        if together and (size + entry.stored > BATCH_BYTES or len(together) == _MOST):
            yield whole()
            together, size = [], 0
        together.append(name)
        size += entry.stored
    if together:
        yield whole()


def _row(name: str, entry: Entry, spans: Mapping[int, Moments]) -> Row:
    """The row of a value that was measured in spans."""
    total = NOTHING
    for first in sorted(spans):
        total = together(total, spans[first])
    return Row(name, "" if entry.dtype is None else entry.dtype.name, entry.shape, total)


def _renamed(row: Row, old: str, new: str) -> Row:
    """A row under the name used here, which may differ from that in the file."""
    return row if old == new else row._replace(name=new + row.name.removeprefix(old))
