"""Imports of optional packages, with an error that names the extra to install."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from lazyckpt.errors import MissingPackage


@contextlib.contextmanager
def optional_import(extra: str) -> Iterator[None]:
    """Guard the import of a package that one of our extras installs.

    Raises:
        MissingPackage: the package is not installed. A package that is installed and broken raises its own error.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingPackage(
            f"{error.name} is not installed: pip install 'lazyckpt[{extra}]'", name=error.name
        ) from error
