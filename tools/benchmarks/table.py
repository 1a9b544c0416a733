"""Rows of figures, and the table that they make."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

HEADINGS = ("", "lazyckpt", "spread", "extra memory", "beside", "its time", "its memory", "ratio", "bar")
_NAMES = {"seconds": "", "ratio": "ratio ", "extra": "extra ", "peak": "peak of all memory "}


@dataclass(frozen=True)
class Figures:
    """What was measured of one side: seconds of each turn, and bytes of memory (extra: beyond what imports took)."""

    label: str
    seconds: list[float]
    extra: int | None = None
    peak: int | None = None

    @property
    def median(self) -> float | None:
        """Of the seconds."""
        return statistics.median(self.seconds) if self.seconds else None

    def as_json(self) -> dict[str, Any]:
        """As the file of `--json` has it."""
        return {
            "label": self.label,
            "seconds": self.seconds,
            "median": self.median,
            "extra_bytes": self.extra,
            "peak_bytes": self.peak,
        }


@dataclass(frozen=True)
class Bar:
    """What a row should reach: `seconds`, `ratio` (to the peer's time), `extra` or `peak` (bytes) at most so much."""

    what: str
    at_most: float


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: what was done.
        mine: lazyckpt's figures.
        peer: those of what stands beside it.
        bars: what should be reached, at full size.
        note: why there are no figures.
    """

    name: str
    mine: Figures
    peer: Figures | None = None
    bars: tuple[Bar, ...] = ()
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """The time of lazyckpt in units of the peer's."""
        beside = self.peer and self.peer.median
        return self.mine.median / beside if beside and self.mine.median is not None else None

    def met(self, bar: Bar) -> bool | None:
        """Whether a bar is met; None if that was not measured."""
        told = {"seconds": self.mine.median, "ratio": self.ratio, "extra": self.mine.extra, "peak": self.mine.peak}
        figure = told[bar.what]
        return None if figure is None else figure <= bar.at_most

    def as_json(self) -> dict[str, Any]:
        """As the file of `--json` has it."""
        return {
            "row": self.name,
            "lazyckpt": self.mine.as_json(),
            "peer": self.peer and self.peer.as_json(),
            "ratio": self.ratio,
            "bars": [{"what": bar.what, "at_most": bar.at_most, "met": self.met(bar)} for bar in self.bars],
            "note": self.note,
        }


def render(rows: list[Row], full: bool) -> str:
    """The rows as an aligned table. Bars are judged only for files of full size."""
    lines = [HEADINGS, *(_cells(row, full) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def _cells(row: Row, full: bool) -> tuple[str, ...]:
    peer = row.peer or Figures("-", [])
    return (
        row.name,
        _or_dash(duration, row.mine.median),
        f"{duration(min(row.mine.seconds))} - {duration(max(row.mine.seconds))}" if row.mine.seconds else "-",
        _or_dash(memory, row.mine.extra),
        peer.label,
        _or_dash(duration, peer.median),
        _or_dash(memory, peer.extra),
        _or_dash("{:.3g} x".format, row.ratio),
        row.note or "; ".join(_judged(row, bar, full) for bar in row.bars) or "-",
    )


def _judged(row: Row, bar: Bar, full: bool) -> str:
    unit: Callable[[float], str] = {"seconds": duration, "ratio": "{:g} x".format}.get(bar.what, memory)
    verdict = {True: "met", False: "NOT MET", None: "not measured"}[row.met(bar)] if full else "not judged"
    found = f" ({memory(row.mine.peak)})" if bar.what == "peak" and row.mine.peak is not None else ""
    return f"{_NAMES[bar.what]}<= {unit(bar.at_most)}: {verdict}{found}"


def _or_dash(form: Callable[[float], str], figure: float | None) -> str:
    return "-" if figure is None else form(figure)


def duration(seconds: float) -> str:
    """Three digits and a unit."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} us"


def memory(size: float) -> str:
    """Mebibytes."""
    return f"{size / 2**20:.1f} MiB" if size < 10 * 2**20 else f"{size / 2**20:,.0f} MiB"
