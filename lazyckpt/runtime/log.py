"""What the package says in Python's log, under the name `lazyckpt`.

The logger is made when something is said: importing `logging` takes a tenth of the time that numpy's import takes, and
most loads have nothing to say.
"""

from __future__ import annotations


def info(message: str, *values: object) -> None:
    """Say what most users need not know."""
    import logging

    logging.getLogger("lazyckpt").info(message, *values, stacklevel=2)


def warning(message: str, *values: object) -> None:
    """Say what a user should know, and what goes on all the same."""
    import logging

    logging.getLogger("lazyckpt").warning(message, *values, stacklevel=2)


def exception(message: str, *values: object) -> None:
    """Say what failed where nobody could catch it; for use in an `except` block."""
    import logging

    logging.getLogger("lazyckpt").error(message, *values, exc_info=True, stacklevel=2)  # noqa: LOG014 (see above)
