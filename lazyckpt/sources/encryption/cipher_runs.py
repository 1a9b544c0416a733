"""Split a block into runs for the cipher: into destinations, or through a scratch buffer.

Rules. To authenticate a block, all of it must pass through the cipher, wanted or not. A run through the scratch buffer
is short enough to stay in the processor's cache until it has been copied out, and long enough that the cost of the call
does not matter.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from lazyckpt.sources.base import Request

SCRATCH: Final = 2**20  # bytes of the scratch buffer
_LONGEST_RUN: Final = 2**23  # bytes of ciphertext that are in memory at once


def passes(length: int, pieces: list[Request]) -> Iterator[tuple[int, int, memoryview | None]]:
    """Split a block into runs: (begin, end, destination), with None for the scratch buffer.

    A long piece that shares no byte with another piece is decrypted directly into its destination; the pieces must be
    in ascending order.
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
    """Copy a run to the destinations of the pieces that overlap it.

    Args:
        begin: the offset of the run in its block.
        data: the bytes of the run.
        pieces: the pieces in ascending order.
        first: the index of the first piece that may overlap the run.

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
