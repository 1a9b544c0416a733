"""What is optional: a package that is not there is told together with the extra that brings it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from lazyckpt.errors import MissingPackage


@contextlib.contextmanager
def optional_import(extra: str) -> Iterator[None]:
    """Around an import of what one of our extras brings.

    Raises:
        MissingPackage: it is not there. (One that is there and broken raises what it raises.)
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingPackage(
            f"{error.name} is not installed: pip install 'lazyckpt[{extra}]'", name=error.name
        ) from error
