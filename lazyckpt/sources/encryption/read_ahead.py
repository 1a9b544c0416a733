"""Detect sequential access, to decide when to read ahead. Pure functions."""

from __future__ import annotations

from typing import Final, NamedTuple

from lazyckpt.sources.encryption.frames import Frame


class Place(NamedTuple):
    """The position of the last read; all offsets are in the plaintext.

    Attributes:
        number: the block of the last read.
        start: the offset of that block.
        stop: the offset after that block.
        until: reads that end before this offset do not change the decision: the block's middle, or its end once the
            reader has passed the middle.
        reach: the offset after the last read that did.
    """

    number: int
    start: int
    stop: int
    until: int
    reach: int

    def leads_to(self, first: int, begin: int, last: int, end: int) -> bool:
        """Whether a read continues a sequential scan of the file.

        It does if it starts in the next block, or passes the middle of the current one. The middle is early enough for
        the next blocks to be decrypted in time, and late enough that random reads within one block do not count.

        Args:
            first: the first block of the read.
            begin: the first offset of the read.
            last: the last block of the read.
            end: the offset after the read.
        """
        if last == self.number:
            return first == last and self.reach <= begin and self.until < min(end, self.stop)
        return last == self.number + 1 and self.number >= 0 and begin >= self.start


NOWHERE: Final = Place(-2, 0, 0, 0, 0)


def place_in(number: int, frame: Frame, end: int) -> Place:
    """The position after a read that ended in a block.

    Args:
        number: the block.
        frame: its frame.
        end: the offset after the read.
    """
    middle, stop = frame.plain + frame.length // 2, frame.plain + frame.length
    return Place(number, frame.plain, stop, middle if end <= middle else stop, end)
