"""Zeros at the end of a file, and holes: the traces of a download that did not finish.

Download programs often give a file its full size first, and then fill it in several places at once. Whatever they did
not write reads as zeros. A file system that allocates lazily reports such ranges as holes.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from typing import Final

from lazyckpt.model.entry import Extent
from lazyckpt.sources.base import Source

FEWEST: Final = 64  # zeros that are worth a word
_STEP: Final = 2**20  # the most bytes compared at once
_LAST: Final = 16  # the last bytes of most files are no zeros; then no more is read
_GROWTH: Final = 256  # every step is so many times the one before it, up to the longest
_EXACT: Final = 2**22  # bytes at the end that are always compared
_SAMPLE: Final = 4096
_SAMPLES: Final = 64
_ZEROS: Final = bytes(_STEP)
_MOST_HOLES: Final = 1024


def zeros_begin(source: Source, *, sampled: bool = False) -> int:
    """The offset from which on all bytes are zeros; the size of the source if its last byte is another.

    Args:
        source: the bytes.
        sampled: compare the last 4 MiB, and before these only samples, assuming that there is one run of zeros.

    Cost: 16 bytes without zeros. With them, reads them and up to 1 MiB before; if sampled, at most about 6 MiB.
    """
    floor = max(0, source.size - _EXACT) if sampled else 0
    begin = _backward(source, floor, source.size)
    if not sampled or begin > floor:
        return begin
    step = max(_STEP, floor // _SAMPLES)
    zero, other = floor, 0  # zeros begin at `zero` or before it, and not before `other`, as far as is known
    for offset in range(floor - step, -1, -step):
        if not _is_zero(source, offset):
            other = offset
            break
        zero = offset
    while zero - other > _STEP:
        middle = (zero + other) // 2
        if _is_zero(source, middle):
            zero = middle
        else:
            other = middle
    return _backward(source, other, zero)


def zeros_before(source: Source, end: int) -> int:
    """Where the zeros up to `end` begin, at most 1 MiB before it. Cost: reads up to 1 MiB."""
    return _backward(source, max(0, end - _STEP), end)


def zeros_end(source: Source, begin: int) -> int:
    """The end of the zeros from `begin` on, at most 1 MiB on. Cost: reads up to 1 MiB."""
    length = min(_STEP, source.size - begin)
    piece = bytes(source.snapshot(begin, min(_SAMPLE, length)))
    if piece == _ZEROS[: len(piece)]:
        piece = bytes(source.snapshot(begin, length))
    return begin + len(piece) - len(piece.lstrip(b"\0"))


def unfinished(begin: int, count: int, what: str) -> str:
    """The sentence for zeros up to the end of a file, after a number of whole things."""
    whole = f"{count:,} {what}{' is' if count == 1 else 's are'} whole" if count else f"no {what} is whole"
    return f"zeros from byte {begin:,} on: the download did not finish; {whole}"


def holes(path: str) -> Iterator[Extent]:
    """The ranges of a local file that were never written, as far as its file system says; the first 1,024.

    Cost: two system calls for each.
    """
    if not hasattr(os, "SEEK_HOLE"):
        return
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0))
    except OSError:
        return
    try:
        size, position = os.fstat(descriptor).st_size, 0
        for _ in range(_MOST_HOLES):
            begin = os.lseek(descriptor, position, os.SEEK_HOLE)
            if begin >= size:
                break
            position = _data_after(descriptor, begin, size)
            yield Extent(begin, position - begin)
            if position >= size:
                break
    except OSError:  # a file system or a file that cannot seek so
        return
    finally:
        os.close(descriptor)


def _data_after(descriptor: int, begin: int, size: int) -> int:
    try:
        return min(size, os.lseek(descriptor, begin, os.SEEK_DATA))
    except OSError as error:
        if error.errno == errno.ENXIO:  # no data follows
            return size
        raise


def _backward(source: Source, floor: int, end: int) -> int:
    """Where the zeros that end at `end` begin, or `floor` if they reach further back."""
    step = _LAST
    while end > floor:
        start = max(floor, end - step)
        piece = bytes(source.snapshot(start, end - start))
        if piece != _ZEROS[: len(piece)]:
            return start + len(piece.rstrip(b"\0"))
        end, step = start, min(_STEP, step * _GROWTH)
    return floor


def _is_zero(source: Source, offset: int) -> bool:
    length = min(_SAMPLE, source.size - offset)
    return bytes(source.snapshot(offset, length)) == _ZEROS[:length]
