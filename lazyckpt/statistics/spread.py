"""Statistics of many values, measured by tasks that read the file themselves.

Strategy: a task gets how the file is opened and places in its index, and gives back numbers. Small values go together
up to some 64 MiB; a large one is cut into spans, the same that one process puts together one by one, so that the sums
are made in the same order. What is in memory here is measured here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from lazyckpt.model.entry import MAP, TENSOR, Entry
from lazyckpt.reading.handles import hold_of
from lazyckpt.reading.reader import Payloads
from lazyckpt.runtime.workers import Progress
from lazyckpt.statistics.moments import NOTHING, SPAN, Moments, measure, together
from lazyckpt.statistics.stream import BATCH_BYTES, Known, rows_in_order, rows_of
from lazyckpt.statistics.table import Row, Statistics
from lazyckpt.tasks import Where, run

_MOST: Final = 1000  # values that go together


class _Part(NamedTuple):
    """What one task does: some values, or a span of one."""

    names: tuple[str, ...]
    places: tuple[int, ...]
    size: int
    first: int | None = None  # the number of the span's first piece; None for whole values


def statistics_over(
    scheduler: Where,
    payloads: Payloads,
    known: Mapping[str, Known],
    places: Mapping[str, int | None],
    progress: Progress | None = None,
) -> Statistics:
    """Measure values by tasks: see `statistics_of`.

    Args:
        scheduler: where tasks run.
        payloads: of the file.
        known: name -> entry, or value in memory.
        places: name -> place in the file's index.
        progress: called as `progress(done, total)` with byte counts.

    Raises:
        NotPicklable: workers cannot open the file.
        WorkerDied: a task killed its worker, and did so again alone.
    """
    found: dict[str, list[Row]] = {}
    entries: dict[str, Entry] = {}
    for name, value in known.items():
        if isinstance(value, Entry) and value.kind in (TENSOR, MAP) and places.get(name) is not None:
            entries[name] = value
        else:
            found[name] = rows_of(payloads, name, value)
    parts = list(_parts(payloads, entries, places))
    spans: dict[str, dict[int, Moments]] = {}
    done, total = 0, sum(part.size for part in parts)
    labels = [part.names[0] for part in parts]
    calls = [(payloads, part.places, part.first) for part in parts]
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


def statistics_task(payloads: Payloads, places: tuple[int, ...], first: int | None) -> Any:
    """What a worker does: the rows of whole values, or the moments of a span of one."""
    index = hold_of(payloads).entries
    entries = [index.at(place) for place in places]
    if first is None:
        return list(rows_in_order(payloads, [(entry.name, entry) for entry in entries], 1))
    return measure(payloads.pieces(entries[0], first=first, count=SPAN))


def _parts(payloads: Payloads, entries: Mapping[str, Entry], places: Mapping[str, int | None]) -> Iterator[_Part]:
    """Tasks; the values of each are in file order."""
    together: list[str] = []
    size = 0

    def whole() -> _Part:
        return _Part(tuple(together), tuple(places[name] or 0 for name in together), size)

    for name in sorted(entries, key=lambda name: entries[name].place):
        entry = entries[name]
        pieces = payloads.piece_count(entry) if entry.kind == TENSOR and 0 not in entry.shape else 1
        if pieces > SPAN:
            place = places[name] or 0
            spans = range(0, pieces, SPAN)
            yield from (_Part((name,), (place,), entry.stored // len(spans), first) for first in spans)
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
    """A row of a value that is known by another name here than in its file."""
    return row if old == new else row._replace(name=new + row.name.removeprefix(old))
