"""The pages of a sidecar, each of which is compared with its checksum before anything in it is looked at.

A sidecar is an LMDB file with a few bytes behind it, which LMDB does not look at:

    LMDB's pages | CRC-32 of each page, u32 | CRC-32 of each 4096 bytes of those, u32 | tail

    tail = "lzckpage" | page size u32 | pages u64 | CRC-32 u32 of all from the second row of checksums on

All numbers are little-endian. Opening reads the tail and the second row (160 bytes for a million parameters); a page
costs one `pread` and one checksum, 2 us together, which is why every page is checked whenever it is read, and no part
of a file needs to be believed for having been checked before. Nothing is mapped: a file that is cut short or written
over while it is open gives an error, never a signal.

CRC-32 finds any damage of up to 32 bits in a row, a page in another's place, and all but one of four billion of other
accidents. It is no seal: whoever may write the file can compute it. What they write must then still pass for a tree
(`tree`), for records (`record`), and for what the checkpoint itself says (`formats.confirm`).
"""

from __future__ import annotations

import os
import stat
import struct
from typing import Final
from zlib import crc32

from lazyckpt.index.record import BadRecord

_MAGIC: Final = b"lzckpage"
_TAIL: Final = struct.Struct("<8sIQ")
_SUM: Final = struct.Struct("<I")
_BLOCK: Final = 4096  # bytes of checksums that have a checksum
_SHIFT: Final = 10  # of a page's number, for that of its block
_MASK: Final = 2**_SHIFT - 1
_TAIL_SIZE: Final = _TAIL.size + _SUM.size
_SIZES: Final = frozenset(2**power for power in range(9, 16))  # of LMDB's pages, whose offsets have 16 bits
_AT_ONCE: Final = 2**20


class Pages:
    """The pages of one file, read-only. Safe for many threads, and across fork.

    Attributes:
        page_size: bytes of each.
        count: how many there are.
    """

    def __init__(self, path: str) -> None:
        """Open a file and look at its tail.

        Raises:
            BadRecord: it is none that `add_checksums` made, or is cut short.
            OSError: it is not there, or may not be read.
        """
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # not to wait for a pipe
        status = os.fstat(self._descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise BadRecord("no file")
        size = status.st_size
        tail = self._read(max(0, size - _TAIL_SIZE), min(size, _TAIL_SIZE))
        magic, self.page_size, self.count = _TAIL.unpack_from(tail) if len(tail) == _TAIL_SIZE else (b"", 0, 0)
        self._sums = self.page_size * self.count
        blocks = -(-self.count * _SUM.size // _BLOCK)
        top = self._sums + self.count * _SUM.size
        if (
            magic != _MAGIC
            or self.page_size not in _SIZES
            or top + blocks * _SUM.size + _TAIL_SIZE != size
            or crc32(seen := self._read(top, size - top - _SUM.size)) != _SUM.unpack_from(tail, _TAIL.size)[0]
        ):
            raise BadRecord("no lazyckpt index, another version's, or cut short")
        self._tops = struct.unpack_from(f"<{blocks}I", seen)
        self._blocks: dict[int, memoryview] = {}

    def __del__(self) -> None:
        descriptor = getattr(self, "_descriptor", -1)
        if descriptor >= 0:
            os.close(descriptor)

    def is_at(self, path: str) -> bool:
        """Whether this very file is what stands at a path."""
        try:
            return os.path.samestat(os.fstat(self._descriptor), os.stat(path))
        except OSError:
            return False

    def page(self, number: int) -> bytes:
        """A page.

        Raises:
            BadRecord: there is none of this number, or it was changed.
            OSError: the disk fails.
        """
        size = self.page_size
        if number >= self.count:
            raise BadRecord(f"no page {number}")
        sums = self._blocks.get(number >> _SHIFT) or self._sums_of(number >> _SHIFT)
        data = os.pread(self._descriptor, size, number * size)
        if crc32(data) != sums[number & _MASK] or len(data) != size:
            raise BadRecord(f"page {number} was changed")
        return data

    def _sums_of(self, block: int) -> memoryview:
        start = block * _BLOCK
        sums = self._read(self._sums + start, min(_BLOCK, self.count * _SUM.size - start))
        if crc32(sums) != self._tops[block]:
            raise BadRecord("its checksums were changed")
        made = self._blocks[block] = memoryview(sums).cast("I")
        return made

    def _read(self, offset: int, length: int) -> bytes:
        data = os.pread(self._descriptor, length, offset)
        if len(data) != length:
            raise BadRecord("it was cut short")
        return data


def add_checksums(path: str, page_size: int, count: int) -> None:
    """Put checksums behind `count` pages, in place of whatever is there, and sync the file.

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
            for place in range(0, len(data), page_size):
                sums += _SUM.pack(crc32(data[place : place + page_size]))
        tops = b"".join(_SUM.pack(crc32(sums[place : place + _BLOCK])) for place in range(0, len(sums), _BLOCK))
        seen = tops + _TAIL.pack(_MAGIC, page_size, count)
        file.seek(0, os.SEEK_END)
        rest = memoryview(sums + seen + _SUM.pack(crc32(seen)))
        while rest:
            rest = rest[file.write(rest) :]
        os.fsync(file.fileno())
