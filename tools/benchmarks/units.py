"""Figures as people read them."""

from __future__ import annotations

from benchmarks.figures import Bar, Figures, Row

_NAMES = {
    "seconds": "",
    "ratio": "best peer ",
    "limit": "limit ",
    "extra": "extra ",
    "peak": "peak of all memory ",
    "private": "private ",
}


def duration(seconds: float) -> str:
    """Three digits and a unit."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} us"


def memory(size: float) -> str:
    """Mebibytes."""
    return f"{size / 2**20:.1f} MiB" if size < 10 * 2**20 else f"{size / 2**20:,.0f} MiB"


def times(ratio: float) -> str:
    """A ratio."""
    return f"{ratio:.3g} x" if ratio < 1000 else f"{ratio:,.0f} x"


def figure(what: str, value: float) -> str:
    """What a bar of this kind is about."""
    return {"seconds": duration, "ratio": times, "limit": times}.get(what, memory)(value)


def spread(figures: Figures) -> str:
    """Fastest and slowest turn."""
    return f"{duration(min(figures.seconds))} - {duration(max(figures.seconds))}" if figures.seconds else "-"


def held(figures: Figures) -> str:
    """Memory: what was private where that was measured, else what was resident."""
    if figures.private is not None:
        return f"{memory(figures.private)} private"
    return "-" if figures.extra is None else memory(figures.extra)


def judged(row: Row, bar: Bar, full: bool) -> str:
    """A bar, whether it is met, and by how much it is missed. Bars are judged only for files of full size."""
    found = row.found(bar)
    verdict = {True: "met", False: "NOT MET", None: "not measured"}[row.met(bar)] if full else "not judged"
    told = f" ({figure(bar.what, found)})" if full and found is not None and bar.what != "seconds" else ""
    return f"{_NAMES[bar.what]}<= {figure(bar.what, bar.at_most)}: {verdict}{told}"
