"""The package's logger, `lazyckpt`, created on first use.

`logging` is imported with the first message: the import takes a tenth of the time that numpy's does, and most loads
log nothing.
"""

from __future__ import annotations


def info(message: str, *values: object) -> None:
    """Log a detail that few users need."""
    import logging

    logging.getLogger("lazyckpt").info(message, *values, stacklevel=2)


def warning(message: str, *values: object) -> None:
    """Log something that the user should know and that stops nothing."""
    import logging

    logging.getLogger("lazyckpt").warning(message, *values, stacklevel=2)


def exception(message: str, *values: object) -> None:
    """Log the exception being handled, where no caller could catch it. Call it in an `except` block."""
    import logging

    logging.getLogger("lazyckpt").error(message, *values, exc_info=True, stacklevel=2)  # noqa: LOG014 (see above)
