"""Rows of figures as an aligned table: a line for lazyckpt, and one below it for each that stands beside it."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.figures import Figures, Row
from benchmarks.units import duration, held, judged, spread, times

HEADINGS = ("", "who", "median", "spread", "memory", "lazyckpt takes", "bars")


def render(rows: list[Row], full: bool) -> str:
    """The table. Bars are judged only for files of full size."""
    lines = [HEADINGS]
    for group in dict.fromkeys(row.group for row in rows):
        lines += [line for row in rows if row.group == group for line in _lines(row, full)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def _lines(row: Row, full: bool) -> Iterator[tuple[str, ...]]:
    bars = row.note or "; ".join(judged(row, bar, full) for bar in row.bars) or "-"
    yield row.name, *_cells(row.mine), "-", bars
    for peer in (*row.peers, *((row.limit,) if row.limit else ())):
        ratio = row.over(peer)
        kind = "limit" if peer is row.limit else "best peer" if peer is row.best else "peer"
        told = f"{times(ratio)} the {kind}" if ratio is not None else "-"
        yield "", *_cells(peer), told, peer.note or "-"


def _cells(figures: Figures) -> tuple[str, str, str, str]:
    median = "-" if figures.median is None else duration(figures.median)
    return figures.label, median, spread(figures), held(figures)
