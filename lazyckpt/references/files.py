"""The files of a checkpoint by offset, and their URLs in references.

References point to plain bytes, so an encrypted file is refused. A URL that a template engine would interpret is
refused too.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator
from typing import Final, NamedTuple
from urllib.parse import quote

from lazyckpt.errors import ArgumentTypeError, ArgumentValueError, ChangedFile, EncryptedFile
from lazyckpt.model.entry import Fingerprint
from lazyckpt.references.metadata import TEMPLATES
from lazyckpt.sources import Source
from lazyckpt.sources.concatenated import ConcatenatedSource
from lazyckpt.sources.encryption.decryption import DecryptedSource

REFUSED: Final = (
    "the file is encrypted, and a reference leads to bytes as they stand in it: write a plain copy first"
    " (lazyckpt convert)"
)


class File(NamedTuple):
    """A plain file: its URL, and the range of its bytes within the checkpoint."""

    url: str
    base: int
    stop: int


class Files:
    """The files of a checkpoint, by offset.

    Attributes:
        inputs: the local files, and those that describe how they belong together.
    """

    def __init__(self, source: Source, fingerprint: Fingerprint, url: str | None = None) -> None:
        """Take the files of a source.

        Args:
            source: of the checkpoint.
            fingerprint: of all its files together, when they were opened.
            url: where the file is to be found, or the folder of several (it ends with `/`); None for where it is now.

        Raises:
            EncryptedFile: a file is encrypted.
            ArgumentValueError: a URL is impossible, or missing.
            ArgumentTypeError: it is not a string.
        """
        if url is not None and not isinstance(url, str):
            raise ArgumentTypeError(f"url must be a string, not {type(url).__name__}")
        self._files: list[File] = []
        parts = list(_plain(source))
        folder = os.path.commonpath([os.path.dirname(part.name) for part in parts]) if len(parts) > 1 else ""
        base = 0
        for part in parts:
            name = os.path.relpath(part.name, folder) if folder else os.path.basename(part.name)
            found = _here(part.name) if url is None else _there(url, name, alone=len(parts) == 1)
            self._files.append(File(_uninterpreted(found), base, base + part.size))
            base += part.size
        self._bases = [file.base for file in self._files]
        self._paths = [part.name for part in parts]
        self._fingerprint = fingerprint
        self.inputs = source.files

    def check(self) -> None:
        """Check that the files under their names are still those that were opened.

        Raises:
            ChangedFile: one is not.
        """
        if not all(map(os.path.isabs, self._paths)):
            return
        try:
            found = [os.stat(path) for path in self._paths]
        except OSError as error:
            raise ChangedFile(f"it was opened and is gone: {error.strerror}", file=error.filename) from error
        now = sum(one.st_size for one in found), max(one.st_mtime_ns for one in found)
        if now != (self._fingerprint.size, self._fingerprint.mtime_ns):
            where = self._paths[0] if len(self._paths) == 1 else os.path.commonpath(self._paths)
            raise ChangedFile("it changed since it was opened: open it again", file=where)

    def at(self, offset: int) -> File:
        """The file that contains the byte at an offset."""
        return self._files[bisect_right(self._bases, offset) - 1]


def _plain(source: Source) -> Iterator[Source]:
    if isinstance(source, ConcatenatedSource):
        for part in source.parts:
            yield from _plain(part)
    elif isinstance(source, DecryptedSource):
        raise EncryptedFile(REFUSED, file=source.name)
    else:
        yield source


def _here(name: str) -> str:
    """The URL of a file, given its path or its URL."""
    if "://" in name:
        return name
    if not os.path.isabs(name):
        raise ArgumentValueError(f"{name} is not a file: give the URL that it will have, url=…")
    return f"file://{name}"


def _there(url: str, name: str, *, alone: bool) -> str:
    """The URL that a file will have elsewhere."""
    if "://" not in url:
        raise ArgumentValueError(f"{url!r} is not a URL: it must begin with file://, s3://, https:// or the like")
    if url.endswith("/"):
        return url + (quote(name) if url.startswith(("http://", "https://")) else name)
    if not alone:
        raise ArgumentValueError(f"there are several files: {url!r} must be their folder, and end with '/'")
    return url


def _uninterpreted(url: str) -> str:
    if any(mark in url for mark in TEMPLATES):
        raise ArgumentValueError(
            f"the URL {url!r} looks like a template, which readers of references would fill in: rename the file or its"
            " folder, or give another URL"
        )
    return url
