"""The pages of a sidecar; each is compared with its checksum whenever it is read.

A sidecar is an LMDB file with a few bytes behind it, which LMDB ignores:

    LMDB's pages | CRC-32 of each page, u32 | CRC-32 of each 1024 bytes of those, u32 | summary | tail

    tail = page size u32 | pages u64 | bytes of the summary u32 | "lzckpage" | CRC-32 u32 of all from the second row of
    checksums on

All numbers are little-endian. The summary is what a reader needs before it reads any page. Opening is one read, of the
last 4 KiB, which hold the summary (and the checksums of a small file, too). A page costs one `pread` and one checksum,
3 us together: cheap enough to check every page on every read, so that no earlier check needs to be trusted. Nothing is
mapped: a file that is cut short or written over while it is open gives an error, never a signal.

CRC-32 detects any damage of up to 32 bits in a row, and misses about one in four billion of other accidents. It does
not authenticate: anyone who may write the file can compute it. Such a file must still be a valid tree (`lmdb_tree`) of
valid records (`records`) that match the checkpoint itself (`formats.verify_header`).
"""

from __future__ import annotations

import os
import stat
import struct
from typing import Final
from zlib import crc32

from lazyckpt.index.records import BadRecord
from lazyckpt.runtime.descriptor_pool import Descriptor, PooledFile, open_descriptor

TAIL_MAGIC: Final = b"lzckpage"
TAIL_MAGIC_FROM_END: Final = 12  # bytes from the magic to the end of the file
_TAIL: Final = struct.Struct("<I Q I 8s I")
_SUM: Final = struct.Struct("<I")
_BLOCK: Final = 1024  # bytes of checksums that have a checksum
_SHIFT: Final = 8  # of a page's number, for that of its block
_MASK: Final = 2**_SHIFT - 1
_END: Final = 4096  # bytes that are read when a file is opened
_SIZES: Final = frozenset(2**power for power in range(9, 16))  # of LMDB's pages, whose offsets have 16 bits
_AT_ONCE: Final = 2**20


class Pages:
    """The pages of one file, read-only. Safe for many threads, and across fork.

    Attributes:
        page_size: bytes of a page.
        count: number of pages.
        summary: the bytes that were written behind them.
    """

    def __init__(self, path: str) -> None:
        """Open a file and read its end.

        Raises:
            BadRecord: it was not made by `add_checksums`, or is cut short.
            TooManyOpenFiles: the process can open no more files.
            OSError: it does not exist, or cannot be read.
        """
        held = Descriptor(open_descriptor(path))
        status = os.fstat(held.number)
        if not stat.S_ISREG(status.st_mode):
            raise BadRecord("no file")
        self._file = PooledFile(path, held, status)
        self._pread = self._file.pread
        size = status.st_size
        end = self._read(max(0, size - _END), min(size, _END))
        if len(end) < _TAIL.size:
            raise BadRecord("no lazyckpt index")
        self.page_size, self.count, length, magic, expected = _TAIL.unpack_from(end, len(end) - _TAIL.size)
        self._sums = self.page_size * self.count
        blocks = -(-self.count * _SUM.size // _BLOCK)
        top = self._sums + self.count * _SUM.size
        if (
            magic != TAIL_MAGIC
            or self.page_size not in _SIZES
            or top + blocks * _SUM.size + length + _TAIL.size != size
            or crc32(seen := self._from(top, end, size)[: -_SUM.size]) != expected
        ):
            raise BadRecord("no lazyckpt index, another version's, or cut short")
        self._tops = struct.unpack_from(f"<{blocks}I", seen)
        self.summary = seen[blocks * _SUM.size : blocks * _SUM.size + length]
        self._blocks: dict[int, memoryview] = {}
        if blocks == 1 and size - self._sums <= len(end):
            self._blocks[0] = self._checked(0, self._from(self._sums, end, size)[: self.count * _SUM.size])

    def is_at(self, path: str) -> bool:
        """Whether a path leads to this very file."""
        return self._file.is_at(path)

    def page(self, number: int) -> bytes:
        """Read one page, and check it.

        Raises:
            BadRecord: there is none of this number, or it was changed.
            OSError: the disk fails.
            ChangedFile, …: it was closed for other files, and cannot be opened again: see `PooledFile.descriptor`.
        """
        if number >= self.count:
            raise BadRecord(f"no page {number}")
        size = self.page_size
        return self._sound(number, self._pread(size, number * size))

    def run(self, first: int, count: int) -> list[bytes]:
        """Read consecutive pages with one system call, and check them. Raises: as `page`."""
        if first + count > self.count:
            raise BadRecord(f"no page {first + count - 1}")
        size = self.page_size
        data = self._pread(count * size, first * size)
        return [self._sound(first + number, data[number * size : (number + 1) * size]) for number in range(count)]

    def _sound(self, number: int, data: bytes) -> bytes:
        sums = self._blocks.get(number >> _SHIFT) or self._sums_of(number >> _SHIFT)
        if crc32(data) != sums[number & _MASK] or len(data) != self.page_size:
            raise BadRecord(f"page {number} was changed")
        return data

    def _sums_of(self, block: int) -> memoryview:
        start = block * _BLOCK
        sums = self._read(self._sums + start, min(_BLOCK, self.count * _SUM.size - start))
        made = self._blocks[block] = self._checked(block, sums)
        return made

    def _checked(self, block: int, sums: bytes) -> memoryview:
        if crc32(sums) != self._tops[block]:
            raise BadRecord("its checksums were changed")
        return memoryview(sums).cast("I")

    def _from(self, start: int, end: bytes, size: int) -> bytes:
        """The bytes of a file of `size` bytes from `start` on; `end` holds the last ones."""
        missing = size - len(end) - start
        return self._read(start, missing) + end if missing > 0 else end[-missing:]

    def _read(self, offset: int, length: int) -> bytes:
        data = self._pread(length, offset)
        if len(data) != length:
            raise BadRecord("it was cut short")
        return data


def add_checksums(path: str, page_size: int, count: int, summary: bytes = b"") -> None:
    """Truncate a file to `count` pages, append checksums and a summary, and sync it.

    Cost: reads the file once, 1 MiB at a time: 0.1 s for a million parameters, and the disk.

    Raises:
        OSError: the disk is full or fails.
    """
    sums = bytearray()
    with open(path, "r+b", buffering=0) as file:
        file.truncate(count * page_size)
        step = _AT_ONCE // page_size * page_size
        for start in range(0, count * page_size, step):
            data = memoryview(os.pread(file.fileno(), step, start))
            for offset in range(0, len(data), page_size):
                sums += _SUM.pack(crc32(data[offset : offset + page_size]))
        tops = b"".join(_SUM.pack(crc32(sums[offset : offset + _BLOCK])) for offset in range(0, len(sums), _BLOCK))
        seen = tops + summary + _TAIL.pack(page_size, count, len(summary), TAIL_MAGIC, 0)[: -_SUM.size]
        file.seek(0, os.SEEK_END)
        rest = memoryview(sums + seen + _SUM.pack(crc32(seen)))
        while rest:
            rest = rest[file.write(rest) :]
        os.fsync(file.fileno())
