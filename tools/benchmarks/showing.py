"""Rows about looking at checkpoints: trees of many parameters, statistics of all values."""

from __future__ import annotations

from benchmarks.measure import Side, compare
from benchmarks.run import Run
from benchmarks.table import Bar, Row

MIB = 2**20


def many_html(run: Run) -> Row:
    """What a notebook shows of many parameters."""
    file = run.files.many
    mine = Side("lazyckpt", "html", {"path": file.path})
    bars = (Bar("seconds", 1.0),)
    return compare(f"tree as HTML, {len(file.values):,} parameters", mine, repeat=run.turns(5), bars=bars)


def terabyte_html(run: Run) -> Row:
    """What it shows of a huge file, each parameter looked at."""
    file = run.files.terabyte
    mine = Side("lazyckpt", "html", {"path": file.path})
    bars = (Bar("seconds", 1.0),)
    return compare(f"tree as HTML, {len(file.values):,} parameters", mine, repeat=run.turns(5), bars=bars)


def large_statistics(run: Run) -> Row:
    """All values in a few numbers, against numpy doing the same over a map of the file."""
    file = run.files.large
    mine = Side("lazyckpt", "statistics", {"path": file.path})
    places = [(value.offset, value.length) for value in file.values]
    peer = Side("numpy on a memmap", "numpy_statistics", {"path": file.path, "places": places}, ("numpy",))
    size = sum(value.length for value in file.values)
    name = f"statistics of {size / MIB:,.0f} MiB"
    return compare(name, mine, peer, repeat=run.turns(5), bars=(Bar("ratio", 1.0), Bar("extra", 64 * MIB)))


SHOW = (many_html, terabyte_html, large_statistics)
