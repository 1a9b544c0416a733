"""The plaintext of a damaged encrypted file: its whole blocks, with zeros in place of the others.

A block of an AES-GCM file is whole if its tag is right. CBC authenticates nothing: there the blocks before the first
one whose padding is impossible, or that has zeros up to the end of the file, are taken for whole.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lazyckpt.errors import CorruptFile, DamagedBlock, WrongKey
from lazyckpt.model.entry import Extent
from lazyckpt.sources.base import BaseSource, LocalFile, Source
from lazyckpt.sources.encryption.cbc_padding import paddings, without_padding
from lazyckpt.sources.encryption.cipher import CipherKey
from lazyckpt.sources.encryption.decryption import CbcSource, DecryptedSource, GcmSource
from lazyckpt.sources.encryption.frames import FrameTable, whole_frames
from lazyckpt.sources.zeros import FEWEST, zeros_begin


class WholeBlocks(NamedTuple):
    """What is whole of an encrypted file.

    Attributes:
        source: the plaintext up to the first damaged frame header, zeros in place of damaged blocks.
        lost: the ranges of it that are such zeros.
        fault: the damage; None if there is none.
    """

    source: Source
    lost: tuple[Extent, ...]
    fault: CorruptFile | None


def open_whole_blocks(raw: Source, lock: CipherKey, cache: int = 0) -> WholeBlocks:
    """Open a damaged encrypted file.

    Raises:
        WrongKey: no block is whole with this key.

    Cost: decrypts the file once (AES-GCM), or the last 16 bytes of each block (CBC). Each read decrypts again.
    """
    table, fault = whole_frames(raw, lock.mode)
    source, damaged = (_gcm if lock.mode.tagged else _cbc)(raw, lock, table, cache)
    if len(damaged) == len(table):
        if fault is not None and not len(table):
            raise fault
        raise WrongKey("the key does not fit, or the file is damaged throughout", file=raw.name)
    if damaged and fault is None:
        some = ", ".join(map(str, damaged[:5])) + (" …" if len(damaged) > 5 else "")
        what = f"{len(damaged):,} of {len(table):,} encrypted blocks are damaged: {some}"
        fault = DamagedBlock(what, offset=table[damaged[0]].offset, file=raw.name)
    frames = [source.table[number] for number in damaged if number < len(source.table)]
    lost = tuple(Extent(frame.plain, frame.length) for frame in frames)
    return WholeBlocks(_Patched(source, lost) if lost else source, lost, fault)


_Opened = tuple[DecryptedSource, list[int]]  # the plaintext, and the numbers of the damaged blocks


def _gcm(raw: Source, lock: CipherKey, table: FrameTable, cache: int) -> _Opened:
    source = GcmSource(raw, lock, table, cache)
    return source, [number for number in range(len(table)) if not source.is_authentic(number)]


def _cbc(raw: Source, lock: CipherKey, table: FrameTable, cache: int) -> _Opened:  # noqa: ARG001 (as `_gcm`)
    padding, wrong = paddings(raw, lock, table)
    zeros = zeros_begin(raw)
    if raw.size - zeros >= FEWEST:
        frames = map(table.__getitem__, range(len(table)))
        wrong |= np.array([frame.offset + frame.stored > zeros for frame in frames], np.bool_)
    # The length of a block is unknown without its padding, and so are the offsets of what follows.
    count = int(wrong.argmax()) if wrong.any() else len(table)
    source = CbcSource(raw, lock, without_padding(table.first(count), padding[:count]))
    return source, list(range(count, len(table)))


class _Patched(BaseSource):
    """A source whose damaged ranges read as zeros."""

    def __init__(self, source: DecryptedSource, lost: tuple[Extent, ...]) -> None:
        self.name, self.size, self.window = source.name, source.size, source.window
        self._source = source
        self._lost = lost

    @property
    def files(self) -> tuple[LocalFile, ...]:
        """See `Source.files`."""
        return self._source.files

    def close(self) -> None:
        """See `Source.close`."""
        self._source.close()

    def _fill(self, offset: int, destination: memoryview) -> None:
        position, end = offset, offset + destination.nbytes
        for begin, length in self._lost:
            stop = min(begin + length, end)
            if stop <= position or begin >= end:
                continue
            if begin > position:
                self._source.read_into(position, destination[position - offset : begin - offset])
            start = max(begin, position)
            destination[start - offset : stop - offset] = bytes(stop - start)
            position = stop
        if position < end:
            self._source.read_into(position, destination[position - offset :])
