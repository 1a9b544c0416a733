"""Digests of values: computed when an index is built, compared when a value is read."""

from __future__ import annotations

from typing import Any, Final

from lazyckpt.errors import CorruptFile
from lazyckpt.model.entry import Entry
from lazyckpt.sources import Source
from lazyckpt.sources.window import pieces_of

SIZE: Final = 32  # bytes of a blake2b digest


def digest_of(source: Source, entry: Entry) -> bytes:
    """A blake2b digest (32 bytes) of an entry's content. Cost: reads the content, 1 MiB at a time."""
    digest: Any = _blake2b(SIZE)
    for extent in entry.all_extents:
        for piece in pieces_of(source, *extent):
            digest.update(piece)
    made: bytes = digest.digest()
    return made


def _blake2b(size: int) -> Any:
    import hashlib  # deferred: it loads OpenSSL

    return hashlib.blake2b(digest_size=size)


class Digesting:
    """Compares a value, while it is read, with its digest in the index (if there is one)."""

    def __init__(self, entry: Entry, file: str) -> None:
        self._entry = entry
        self._file = file
        self._digest: Any = _blake2b(len(entry.digest)) if entry.digest else None

    def update(self, content: memoryview) -> None:
        """Add the next bytes."""
        if self._digest is not None:
            self._digest.update(content)

    def finish(self) -> None:
        """Compare the digests, after all bytes have been added.

        Raises:
            CorruptFile: the value is not the one that was indexed.
        """
        if self._digest is not None and self._digest.digest() != self._entry.digest:
            raise CorruptFile(
                "the value is not the one that was indexed: its digest differs; the file was damaged or changed",
                offset=self._entry.start,
                parameter=self._entry.name,
                file=self._file,
            )
