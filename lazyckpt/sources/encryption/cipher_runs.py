"""In what runs a block goes through the cipher: straight to where its bytes are wanted, or through a scratch buffer.

Rules. A block must be decrypted from its first byte to its last to be authenticated, wanted or not. Runs are short
enough to stay in the processor's cache while they are scattered, and long enough that a call costs nothing beside them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from lazyckpt.sources.base import Request

SCRATCH: Final = 2**20  # bytes that go through the scratch buffer at once
_LONGEST_RUN: Final = 2**23  # bytes of ciphertext in memory at once


def passes(length: int, pieces: list[Request]) -> Iterator[tuple[int, int, memoryview | None]]:
    """Cut a block into runs: (begin, end, destination), None where a run must go through the scratch buffer.

    Of the pieces, which are in ascending order, long ones that share no byte with another are filled in place.
    """
    position = reach = 0
    starts = [inside for inside, _ in pieces[1:]] + [length]
    for (inside, destination), following in zip(pieces, starts, strict=False):
        end = inside + destination.nbytes
        if destination.nbytes >= SCRATCH and reach <= inside and end <= following:
            yield from _scratch_runs(position, inside)
            for start in range(inside, end, _LONGEST_RUN):
                stop = min(start + _LONGEST_RUN, end)
                yield start, stop, destination[start - inside : stop - inside]
            position = end
        reach = max(reach, end)
    yield from _scratch_runs(position, length)


def _scratch_runs(begin: int, end: int) -> Iterator[tuple[int, int, None]]:
    for start in range(begin, end, SCRATCH):
        yield start, min(start + SCRATCH, end), None


def scatter(begin: int, data: memoryview, pieces: list[Request], first: int) -> int:
    """Copy what the pieces want of a run that begins at `begin`.

    Args:
        begin: where the run stands in its block.
        data: its bytes.
        pieces: in ascending order.
        first: the number of the first piece that may want something of it.

    Returns:
        `first` for the next run.
    """
    end = begin + data.nbytes
    while first < len(pieces) and pieces[first][0] + pieces[first][1].nbytes <= begin:
        first += 1
    for number in range(first, len(pieces)):
        inside, destination = pieces[number]
        if inside >= end:
            break
        start, stop = max(inside, begin), min(inside + destination.nbytes, end)
        if start < stop:
            destination[start - inside : stop - inside] = data[start - begin : stop - begin]
    return first
