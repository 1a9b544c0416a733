"""Where a reader is in a file of blocks, and whether it walks forward: pure reckoning."""

from __future__ import annotations

from typing import Final, NamedTuple

from lazyckpt.sources.encryption.frames import Frame


class Place(NamedTuple):
    """Where a reader was last, as offsets in the plaintext.

    Attributes:
        number: of the block.
        start: where that block begins.
        stop: where it ends.
        until: how far reads of this block tell nothing new: to its middle, or to its end once the middle is behind.
        reach: where the last read ended that told something.
    """

    number: int
    start: int
    stop: int
    until: int
    reach: int

    def leads_to(self, first: int, begin: int, last: int, end: int) -> bool:
        """Whether a read looks like a step of a walk through the file.

        It does if it goes on in the next block, or passes the middle of the same one: early enough for the blocks to
        come to be there in time, late enough that looking around in one block is not taken for a walk.

        Args:
            first: the first block that is read.
            begin: the first byte.
            last: the last block.
            end: where it ends.
        """
        if last == self.number:
            return first == last and self.reach <= begin and self.until < min(end, self.stop)
        return last == self.number + 1 and self.number >= 0 and begin >= self.start


NOWHERE: Final = Place(-2, 0, 0, 0, 0)


def place_in(number: int, frame: Frame, end: int) -> Place:
    """The place after a read that ended in a block.

    Args:
        number: of the block.
        frame: where it is.
        end: where the read ended.
    """
    middle, stop = frame.plain + frame.length // 2, frame.plain + frame.length
    return Place(number, frame.plain, stop, middle if end <= middle else stop, end)
