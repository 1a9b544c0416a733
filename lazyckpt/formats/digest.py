"""Digests of contents: made when an index is built, compared when a value is read."""

from __future__ import annotations

from typing import Any, Final

from lazyckpt.errors import CorruptFile
from lazyckpt.model.entry import Entry
from lazyckpt.sources import Source

SIZE: Final = 32  # bytes of a blake2b digest
_CHUNK: Final = 2**20


def digest_of(source: Source, entry: Entry) -> bytes:
    """A blake2b digest (32 bytes) of an entry's content. Cost: reads the content, 1 MiB at a time."""
    digest: Any = _blake2b(SIZE)
    for offset, length in entry.all_extents:
        for start in range(offset, offset + length, _CHUNK):
            digest.update(source.read(start, min(_CHUNK, offset + length - start)))
    made: bytes = digest.digest()
    return made


def _blake2b(size: int) -> Any:
    import hashlib  # brings OpenSSL with it

    return hashlib.blake2b(digest_size=size)


class Digesting:
    """The comparison of a content, as it is read, with its digest, if the index has one."""

    def __init__(self, entry: Entry, file: str) -> None:
        self._entry = entry
        self._file = file
        self._digest: Any = _blake2b(len(entry.digest)) if entry.digest else None

    def update(self, content: memoryview) -> None:
        """Take the next bytes."""
        if self._digest is not None:
            self._digest.update(content)

    def finish(self) -> None:
        """All bytes have been taken.

        Raises:
            CorruptFile: they are not those that were indexed.
        """
        if self._digest is not None and self._digest.digest() != self._entry.digest:
            raise CorruptFile(
                "the value is not the one that was indexed: its digest differs; the file was damaged or changed",
                offset=self._entry.start,
                parameter=self._entry.name,
                file=self._file,
            )
