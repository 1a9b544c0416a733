"""Text for people: what came out of a file must not disturb where it is shown."""

from __future__ import annotations


def printable(name: str) -> str:
    """A name that cannot disturb a terminal: control characters are escaped."""
    return name if name.isprintable() else repr(name)[1:-1]
