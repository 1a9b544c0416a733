"""Which file a byte of a checkpoint lies in, and under what URL that file is to be found by others.

References are for whoever reads plain bytes: of an encrypted file there are none. A URL that a template engine would
look into is refused: nothing that is written may be interpreted.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator
from typing import Final, NamedTuple
from urllib.parse import quote

from lazyckpt.errors import ArgumentTypeError, ArgumentValueError, EncryptedFile
from lazyckpt.sources import Source
from lazyckpt.sources.encrypted import DecryptedSource
from lazyckpt.sources.joined import JoinedSource

REFUSED: Final = (
    "the file is encrypted, and a reference leads to bytes as they stand in it: write a plain copy first"
    " (lazyckpt convert)"
)
_TEMPLATES: Final = ("{{", "{%", "{#")


class File(NamedTuple):
    """A plain file: its URL, and where its bytes are among those of the checkpoint."""

    url: str
    base: int
    stop: int


class Files:
    """The files of a checkpoint, by the places of their bytes."""

    def __init__(self, source: Source, url: str | None = None) -> None:
        """Find them.

        Args:
            source: of the checkpoint.
            url: where the file is to be found, or the folder of several (it ends with `/`); None for where it is now.

        Raises:
            EncryptedFile: a file is encrypted.
            ArgumentValueError: a URL is impossible, or missing.
            ArgumentTypeError: it is no string.
        """
        if url is not None and not isinstance(url, str):
            raise ArgumentTypeError(f"url must be a string, not {type(url).__name__}")
        self._files: list[File] = []
        parts = list(_plain(source))
        folder = os.path.commonpath([os.path.dirname(part.name) for part in parts]) if len(parts) > 1 else ""
        base = 0
        for part in parts:
            name = os.path.relpath(part.name, folder) if folder else os.path.basename(part.name)
            told = _here(part.name) if url is None else _there(url, name, alone=len(parts) == 1)
            self._files.append(File(_uninterpreted(told), base, base + part.size))
            base += part.size
        self._bases = [file.base for file in self._files]

    def __iter__(self) -> Iterator[File]:
        return iter(self._files)

    def at(self, offset: int) -> File:
        """The file that has a byte."""
        return self._files[bisect_right(self._bases, offset) - 1]


def _plain(source: Source) -> Iterator[Source]:
    if isinstance(source, JoinedSource):
        for part in source.parts:
            yield from _plain(part)
    elif isinstance(source, DecryptedSource):
        raise EncryptedFile(REFUSED, file=source.name)
    else:
        yield source


def _here(name: str) -> str:
    """The URL of a file that is known by its path, or by a URL already."""
    if "://" in name:
        return name
    if not os.path.isabs(name):
        raise ArgumentValueError(f"{name} is no file: give the URL that it will have, url=…")
    return f"file://{name}"


def _there(url: str, name: str, *, alone: bool) -> str:
    """The URL that a file will have elsewhere."""
    if "://" not in url:
        raise ArgumentValueError(f"{url!r} is no URL: it must begin with file://, s3://, https:// or the like")
    if url.endswith("/"):
        return url + (quote(name) if url.startswith(("http://", "https://")) else name)
    if not alone:
        raise ArgumentValueError(f"there are several files: {url!r} must be their folder, and end with '/'")
    return url


def _uninterpreted(url: str) -> str:
    if any(mark in url for mark in _TEMPLATES):
        raise ArgumentValueError(
            f"the URL {url!r} looks like a template, which readers of references would fill in: rename the file or its"
            " folder, or give another URL"
        )
    return url
