"""Rows about looking at checkpoints: trees of many parameters, statistics of all values."""

from __future__ import annotations

from benchmarks.bars import MIB, PEER
from benchmarks.checkpoints import Made
from benchmarks.figures import Bar, Row
from benchmarks.processes import Side
from benchmarks.run import Run


def many_html(run: Run) -> Row:
    """What a notebook shows of many parameters."""
    return _html(run, run.files.many)


def terabyte_html(run: Run) -> Row:
    """What it shows of a huge file, each parameter looked at."""
    return _html(run, run.files.terabyte)


def _html(run: Run, file: Made) -> Row:
    mine = Side("lazyckpt", "tasks.html", {"path": file.path})
    return run.compare(f"tree as HTML, {len(file.values):,} parameters", mine, turns=5, bars=(Bar("seconds", 1.0),))


def large_statistics(run: Run) -> Row:
    """All values in a few numbers, against numpy doing the same over a map of the file."""
    file = run.files.large
    return _statistics(run, file, f"statistics of {file.size / MIB:,.0f} MiB", (PEER, Bar("extra", 64 * MIB)))


def small_statistics(run: Run) -> Row:
    """The same of many small values: what counts is the cost of each."""
    file = run.files.hundred_thousand
    return _statistics(run, file, f"statistics of {len(file.values):,} small values", (PEER,))


def _statistics(run: Run, file: Made, name: str, bars: tuple[Bar, ...]) -> Row:
    mine = Side("lazyckpt", "tasks.statistics", {"path": file.path})
    arguments = {"path": file.path, "values": file.places}
    peer = Side("numpy on a memmap", "tasks.numpy_statistics", arguments, ("numpy",))
    return run.compare(name, mine, (peer,), turns=5, bars=bars)


SHOW = (many_html, terabyte_html)
STATS = (large_statistics, small_statistics)
