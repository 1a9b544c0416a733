"""Text for people: what came out of a file must not disturb where it is shown."""

from __future__ import annotations


def printable(name: str) -> str:
    """A name that cannot disturb a terminal: control characters are escaped."""
    return name if name.isprintable() else repr(name)[1:-1]


def without_controls(name: str) -> str:
    """A name as it is, but for what moves a terminal's cursor or turns its text around; tabs and line ends stay."""
    if name.isprintable():
        return name
    return "".join(letter if letter.isprintable() or letter in "\t\n" else repr(letter)[1:-1] for letter in name)
