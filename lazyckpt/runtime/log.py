"""The package's logger, `lazyckpt`, created on first use.

`logging` is imported with the first message: the import takes a tenth of the time that numpy's does, and most loads
log nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

_shown_by: Callable[[str], object] | None = None


@contextmanager
def warnings_as(show: Callable[[str], object]) -> Iterator[None]:
    """Pass warnings to a function instead of the logger: for a command, which prints them. One at a time."""
    global _shown_by
    _shown_by = show
    try:
        yield
    finally:
        _shown_by = None


def info(message: str, *values: object) -> None:
    """Log a detail that few users need."""
    import logging

    logging.getLogger("lazyckpt").info(message, *map(_printable, values), stacklevel=2)


def warning(message: str, *values: object) -> None:
    """Log something that the user should know and that stops nothing."""
    values = tuple(map(_printable, values))
    if _shown_by is not None:
        _shown_by(message % values)
        return
    import logging

    logging.getLogger("lazyckpt").warning(message, *values, stacklevel=2)


def exception(message: str, *values: object) -> None:
    """Log the exception being handled, where no caller could catch it. Call it in an `except` block."""
    import logging

    values = tuple(map(_printable, values))
    logging.getLogger("lazyckpt").error(message, *values, exc_info=True, stacklevel=2)  # noqa: LOG014 (see above)


def _printable(value: object) -> object:
    """A value for a line of the log: names come from files, and could forge lines or move a terminal's cursor."""
    from lazyckpt.display import one_line

    return value if isinstance(value, (int, float)) else one_line(str(value))
