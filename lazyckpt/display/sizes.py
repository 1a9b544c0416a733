"""Byte counts for people."""

from __future__ import annotations


def human_size(count: int) -> str:
    """A byte count with three digits or so and a binary unit: `1.5 MiB`."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:,.0f} PiB"
