"""From a plan of bytes to reads in bounded memory, and the answer made of them.

Strategy: runs of a plan that lie close together are read into a small buffer (a tile), and copied from there into the
answer. Runs that are long are read straight into the answer. Both come as pieces in ascending order, and are read in
batches: a batch may hold as much as the answer, or a fixed amount if that is more, and then goes on to the next offset
at which the source can stop at no cost, so that an encrypted block is decrypted once.

A tile holds whole runs along one axis or several. Its place in the answer is an index of few numbers, and no list of
runs is made of a regular plan: a column of a tall value costs no memory for each row.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from lazyckpt.reading.allocation import AnyArray
from lazyckpt.reading.decoding import bytes_of
from lazyckpt.reading.extent_map import ExtentMap
from lazyckpt.reading.slicing import Axis, Plan
from lazyckpt.sources.base import Request, Source
from lazyckpt.sources.ranges import COALESCE_GAP, coalesce

_TILE: Final = 2**20  # bytes of a tile, unless a single run is longer
_DIRECT: Final = 2**14  # bytes of a run from which it is read straight into the answer
_FEW: Final = 2**8  # runs that make a tile, however far apart
_BATCH: Final = 2**23  # bytes of a batch of which the answer is smaller
_OBJECTS: Final = 256  # bytes that a request takes in memory besides its buffer
Bytes = npt.NDArray[np.uint8]
_Block = tuple[npt.NDArray[np.int64], tuple[npt.NDArray[np.int64], ...]]  # offsets, and their places in the answer


class Piece(NamedTuple):
    """A contiguous read.

    Attributes:
        offset: of the first byte in the source.
        destination: the buffer to fill.
        place: called when this piece and all before it are filled; copies a finished tile into the answer.
    """

    offset: int
    destination: memoryview
    place: Callable[[], None] | None


def fill_planned(source: Source, header: list[Request], extents: ExtentMap, planned: Plan, answer: AnyArray) -> None:
    """Read the planned runs of a value into `answer`, a C-ordered array, and its header with them.

    Raises:
        ChangedFile, DamagedBlock: see `Source.read_many`; what was filled by then must not be returned.

    Cost: linear in the runs and extents that are read. Memory: `answer` and what `batches` says.
    """
    if not planned.axes:
        source.read_many([*header, *extents.requests(planned.start, bytes_of(answer))])
        return
    beside = (Piece(offset, buffer, None) for offset, buffer in header)
    pieces = heapq.merge(beside, gather(extents, planned, answer), key=itemgetter(0))
    for requests, complete in batches(source, pieces, answer.nbytes):
        source.read_many(requests)
        for piece in complete:
            if piece.place is not None:
                piece.place()


def gather(extents: ExtentMap, planned: Plan, answer: AnyArray) -> Iterator[Piece]:
    """The reads that fill `answer` with the runs of a plan that has axes; ascending where extents are."""
    if not answer.size:
        return
    flat: Bytes = answer.reshape(-1).view(np.uint8)
    target = flat.reshape([len(axis) for axis in planned.axes] + [planned.length])
    axes, target = _ascending(planned.axes, target)
    if planned.length >= _DIRECT:
        for offsets, places in _blocks(planned.start, axes, _FEW):
            for offset, place in zip(offsets.tolist(), zip(*places, strict=True), strict=True):
                yield from _pieces(extents, offset, target[place].data)
        return
    yield from _tiles(extents, planned, axes, target)


def batches(source: Source, pieces: Iterable[Piece], answered: int) -> Iterator[tuple[list[Request], list[Piece]]]:
    """Group pieces into reads. The buffers of one take as much memory as the answer and one unit of the source.

    Args:
        source: where they are read from.
        pieces: the pieces, mostly ascending.
        answered: bytes of the answer.

    Yields:
        Requests for one `read_many`, and the pieces that are complete afterwards.
    """
    most = max(_BATCH, answered)
    requests: list[Request] = []
    complete: list[Piece] = []
    size, position, border = 0, 0, None
    for piece in pieces:
        offset, destination = piece.offset, piece.destination
        while border is not None and not position <= offset <= offset + destination.nbytes <= border:
            inside = border - offset if position <= offset < border else 0
            if inside:
                requests.append((offset, destination[:inside]))
                offset, destination = offset + inside, destination[inside:]
            yield requests, complete
            requests, complete, size, border = [], [], 0, None
        requests.append((offset, destination))
        complete.append(piece)
        position = offset + destination.nbytes
        size += destination.nbytes + _OBJECTS
        if size > most and border is None:
            border = source.border(position - 1)
    if requests:
        yield requests, complete


def _pieces(
    extents: ExtentMap, start: int, destination: memoryview, place: Callable[[], None] | None = None
) -> Iterator[Piece]:
    """The reads of one range of the value, which may cross extents."""
    requests = extents.requests(start, destination)
    for offset, buffer in requests[:-1]:
        yield Piece(offset, buffer, None)
    yield Piece(*requests[-1], place)


@dataclass(frozen=True)
class _Ordered:
    """An array axis in ascending order.

    Attributes:
        offsets: the offsets, ascending.
        order: their places in the answer; None if these ascend, too.
    """

    offsets: npt.NDArray[np.int64]
    order: npt.NDArray[np.int64] | None

    def __len__(self) -> int:
        return len(self.offsets)


def _ascending(axes: tuple[Axis, ...], target: Bytes) -> tuple[list[range | _Ordered], Bytes]:
    """Axes whose offsets ascend, and the answer in their order."""
    made: list[range | _Ordered] = []
    backwards: list[slice] = []
    for axis in axes:
        is_backward = isinstance(axis, range) and axis.step < 0
        backwards.append(slice(None, None, -1 if is_backward else 1))
        if isinstance(axis, range):
            made.append(axis[::-1] if is_backward else axis)
        elif (axis[1:] >= axis[:-1]).all():
            made.append(_Ordered(axis, None))
        else:
            order = np.argsort(axis, kind="stable")
            made.append(_Ordered(axis[order], order))
    return made, target[tuple(backwards)]


class _Folded(NamedTuple):
    """Runs that lie close together, along inner axes.

    Attributes:
        counts: the runs along each inner axis.
        steps: the bytes from one to the next.
        span: bytes from the first of all to the end of the last.
    """

    counts: tuple[int, ...]
    steps: tuple[int, ...]
    span: int

    def along(self, count: int, step: int) -> _Folded:
        """The same, repeated along another axis."""
        return _Folded((count, *self.counts), (step, *self.steps), (count - 1) * step + self.span)


def _tiles(extents: ExtentMap, planned: Plan, axes: list[range | _Ordered], target: Bytes) -> Iterator[Piece]:
    """The pieces of tiles, for runs too short to be read one by one."""
    folded = _Folded((), (), planned.length)
    outer, start = list(axes), planned.start
    while outer:
        axis = outer[-1]
        if not isinstance(axis, range) or (len(axis) > 1 and axis.step - folded.span > COALESCE_GAP):
            break
        outer.pop()
        start += axis.start
        whole = folded.along(len(axis), axis.step)
        if whole.span > _TILE:
            yield from _cut_tiles(extents, start, outer, axis, folded, target)
            return
        folded = whole
    yield from _joined_tiles(extents, start, outer, folded, target)


def _cut_tiles(
    extents: ExtentMap, start: int, outer: list[range | _Ordered], axis: range, folded: _Folded, target: Bytes
) -> Iterator[Piece]:
    """The pieces of tiles along an axis that is longer than a tile."""
    size = max(1, _TILE // axis.step)
    for offsets, places in _blocks(start, outer, _FEW):
        for offset, place in zip(offsets.tolist(), zip(*places, strict=True) if places else [()], strict=True):
            for first in range(0, len(axis), size):
                count = min(size, len(axis) - first)
                tile = folded.along(count, axis.step)
                # The gap before the next tile is read, too: then a block that is covered by tiles is read whole.
                room = np.empty(tile.span if first + count == len(axis) else count * axis.step, np.uint8)
                goal = target[place][first : first + count]
                yield from _pieces(extents, offset + first * axis.step, room.data, partial(_place, goal, room, tile))


def _place(goal: Bytes, room: Bytes, tile: _Folded) -> None:
    """Copy the runs of a tile to their place in the answer."""
    goal[...] = np.ndarray((*tile.counts, goal.shape[-1]), np.uint8, room, 0, (*tile.steps, 1))


def _joined_tiles(
    extents: ExtentMap, start: int, outer: list[range | _Ordered], folded: _Folded, target: Bytes
) -> Iterator[Piece]:
    """The pieces of tiles that hold several groups of runs, each read with its neighbours where these are close."""
    if not outer:
        room = np.empty(folded.span, np.uint8)
        yield from _pieces(extents, start, room.data, partial(_place, target, room, folded))
        return
    for offsets, places in map(_sorted, _blocks(start, outer, max(1, _TILE // (folded.span + COALESCE_GAP)))):
        reads = coalesce(offsets, folded.span)
        room = np.empty(sum(size for _, size, _ in reads), np.uint8)
        inside = np.empty(len(offsets), np.int64)
        done = 0
        for offset, size, covered in reads:
            inside[covered] = offsets[covered] - (offset - done)
            last = done + size == len(room)
            place = partial(_place_groups, target, places, room, inside, folded) if last else None
            yield from _pieces(extents, offset, room[done : done + size].data, place)
            done += size


def _sorted(block: _Block) -> _Block:
    """A block in ascending order: the runs of a row that is wanted twice begin again before the next row."""
    offsets, places = block
    if (offsets[1:] >= offsets[:-1]).all():
        return block
    order = np.argsort(offsets, kind="stable")
    return offsets[order], tuple(along[order] for along in places)


def _place_groups(
    target: Bytes, places: tuple[npt.NDArray[np.int64], ...], room: Bytes, inside: npt.NDArray[np.int64], tile: _Folded
) -> None:
    """Copy groups of runs to their places in the answer."""
    length = target.shape[-1]
    shape = (len(room) - tile.span + 1, *tile.counts, length)
    target[places] = np.ndarray(shape, np.uint8, room, 0, (1, *tile.steps, 1))[inside]


def _blocks(start: int, axes: list[range | _Ordered], least: int) -> Iterator[_Block]:
    """The offsets of all crossings of axes in ascending order, some at a time, with their places in the answer.

    Args:
        start: what is added to each offset.
        axes: the axes, the outermost first.
        least: how many come at a time; more if they are rows that lie within a tile.
    """
    counts = [len(axis) for axis in axes]
    total, first = int(np.prod(counts, dtype=np.int64)), 0
    rows = axes[0].offsets if len(axes) == 1 and isinstance(axes[0], _Ordered) else None
    while first < total:
        stop = min(first + least, total)
        if rows is not None:
            stop = max(stop, int(np.searchsorted(rows, rows[first] + _TILE)))
        numbers = np.arange(first, stop)
        offsets = np.full(len(numbers), start, np.int64)
        places: list[npt.NDArray[np.int64]] = []
        for axis, count in zip(reversed(axes), reversed(counts), strict=True):
            numbers, along = np.divmod(numbers, count)
            if isinstance(axis, range):
                offsets += along * axis.step + axis.start
                places.append(along)
            else:
                offsets += axis.offsets[along]
                places.append(along if axis.order is None else axis.order[along])
        yield offsets, tuple(places[::-1])
        first = stop
