"""Check and remove PKCS#7 padding: the only integrity check that CBC files allow."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lazyckpt.errors import DamagedBlock, WrongKey
from lazyckpt.sources.base import Source
from lazyckpt.sources.encryption.cipher import BLOCK, CipherKey
from lazyckpt.sources.encryption.frames import FrameTable


def unpadded(raw: Source, lock: CipherKey, table: FrameTable) -> FrameTable:
    """Check the padding of every block of a file, and subtract it from the lengths.

    Only the last 16 bytes of each block are decrypted, those of all blocks in one call. CBC allows that: plaintext =
    decrypt(last 16 bytes) xor the 16 bytes before them.

    Raises:
        DamagedBlock, WrongKey: the padding of a block is impossible.
    """
    padding, wrong = paddings(raw, lock, table)
    if wrong.any():
        raise _bad_padding(raw, table, wrong)
    return without_padding(table, padding)


def without_padding(table: FrameTable, padding: npt.NDArray[np.int64]) -> FrameTable:
    """A table whose lengths are those of the plaintexts."""
    stored = np.array([table[number].stored for number in range(len(table))], np.int64)
    return table.with_lengths(stored - padding)


def paddings(raw: Source, lock: CipherKey, table: FrameTable) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """The bytes of padding of every block, and whether its padding is impossible."""
    if not len(table):
        return np.zeros(0, np.int64), np.zeros(0, np.bool_)
    frames = [table[number] for number in range(len(table))]
    tails = [
        raw.snapshot(frame.offset + frame.stored - 2 * BLOCK, 2 * BLOCK)
        if frame.stored > BLOCK
        else frame.iv + bytes(raw.snapshot(frame.offset, BLOCK))
        for frame in frames
    ]
    pairs = np.frombuffer(b"".join(tails), np.uint8).reshape(-1, 2, BLOCK)
    opened = np.frombuffer(lock.single_blocks(pairs[:, 1].tobytes()), np.uint8).reshape(-1, BLOCK)
    plain = opened ^ pairs[:, 0]
    padding = plain[:, -1].astype(np.int64)
    padded = np.arange(BLOCK)[None, :] >= BLOCK - padding[:, None]
    wrong = (padding < 1) | (padding > BLOCK) | ((plain != padding[:, None]) & padded).any(axis=1)
    return padding, wrong


def _bad_padding(raw: Source, table: FrameTable, wrong: Any) -> Exception:
    number = int(np.flatnonzero(wrong)[0])
    if wrong.mean() > 0.5:
        what = "the key does not fit (the blocks do not end in a valid padding)"
        what += ", or the file is damaged" if len(table) == 1 else ""
        return WrongKey(what, file=raw.name)
    return DamagedBlock(
        f"encrypted block {number} of {len(table)} is damaged: its padding is impossible",
        offset=table[number].offset,
        file=raw.name,
    )
