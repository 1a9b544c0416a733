"""Arrays for values, and the requests that fill them: pure planning between an entry and what is read for it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lazyckpt.errors import CorruptFile, StaleIndex
from lazyckpt.model.dtypes import DType
from lazyckpt.model.entry import Entry, Extent
from lazyckpt.model.tensor_runs import LONGEST, SMALL
from lazyckpt.sources.base import Request, Source
from lazyckpt.sources.ranges import Plan, coalesce

_ALIGNMENT: Final = 64  # bytes; what SIMD code and other frameworks like best
_HUGE_PAGE: Final = 2**21  # bytes of what the system clears and maps at once, where it can
_WORTH_HUGE: Final = 2**22  # bytes from which numpy asks for huge pages
_MOST_WASTED: Final = 16  # the last huge page may have room for this part of the array again, and no more
_SHARED: Final = 2**12  # bytes of memory that several small values may share: who keeps one of them keeps all that
AnyArray = npt.NDArray[Any]


def aligned(shape: tuple[int, ...], dtype: DType) -> AnyArray:
    """An uninitialised C-ordered array that begins on a 64-byte boundary, or, if it is large, on that of a huge page.

    Cost: up to 2 MiB more of addresses for a large one, and at most a sixteenth more memory.
    """
    kind = dtype.numpy
    room, start = _room(math.prod(shape) * kind.itemsize)
    made: AnyArray = np.ndarray(shape, kind, room, start)
    return made


def copied(shape: tuple[int, ...], dtype: DType, data: memoryview) -> AnyArray:
    """The array that some bytes are, as `aligned` makes one."""
    room, start = _room(data.nbytes)
    room.data[start : start + data.nbytes] = data
    made: AnyArray = np.ndarray(shape, dtype.numpy, room, start)
    return made


def shared(values: AnyArray) -> list[AnyArray]:
    """Each of many small values, as `aligned` makes one, but that neighbours share memory of `_SHARED` bytes at most.

    Args:
        values: of shape (how many, *shape), contiguous.
    """
    count, shape, kind = len(values), values.shape[1:], values.dtype
    padded = -(-values[0].nbytes // _ALIGNMENT) * _ALIGNMENT
    strides = (padded, *values.strides[1:])
    step = max(1, _SHARED // padded)
    made: list[AnyArray] = []
    for first in range(0, count, step):
        some = values[first : first + step]
        room, start = _room(len(some) * padded)
        own: AnyArray = np.ndarray((len(some), *shape), kind, room, start, strides)
        own[...] = some
        made.extend(own[number, ...] for number in range(len(some))) if not shape else made.extend(own)
    return made


def _room(size: int) -> tuple[npt.NDArray[np.uint8], int]:
    """Room for so many bytes, and where in it the first one goes.

    An array that begins anywhere has hundreds of small pages before its first huge one, and after its last.
    """
    alignment = _HUGE_PAGE if size >= _WORTH_HUGE and -size % _HUGE_PAGE * _MOST_WASTED <= size else _ALIGNMENT
    room = np.empty(size + alignment, np.uint8)
    return room, -room.__array_interface__["data"][0] % alignment


def dtype_of(entry: Entry) -> DType:
    """A tensor's dtype.

    Raises:
        TypeError: the entry is no tensor.
    """
    if entry.dtype is None:
        raise TypeError(f"{entry.name!r} is a {entry.kind}, not a tensor")
    return entry.dtype


def is_plain(entry: Entry) -> bool:
    """Whether the bytes of the file are those of the array: nothing is widened or packed."""
    return not entry.extents or entry.stored == entry.nbytes


def array_of(entry: Entry, content: memoryview) -> AnyArray:
    """The array that a tensor's content in one piece is."""
    return np.frombuffer(content, dtype_of(entry).numpy).reshape(entry.shape)


def elements(entry: Entry, data: npt.NDArray[np.uint8]) -> AnyArray:
    """Stored bytes (whole elements) as a flat array of their values; of a string as they are."""
    if entry.dtype is None:
        return data
    made: AnyArray
    if is_plain(entry):
        made = data.view(entry.dtype.numpy)
    elif entry.dtype.is_packed:  # the first of two in the lower half of the byte
        made = np.stack([data & 0xF, data >> 4], axis=1).reshape(-1).view(entry.dtype.numpy)
    else:  # bfloat16 kept as float32: its upper half
        made = data.view("<u2")[1::2].copy().view(entry.dtype.numpy)
    return made


def bytes_of(array: AnyArray) -> memoryview:
    """An array's bytes, in C order."""
    return array.reshape(-1).view(np.uint8).data if array.size else memoryview(b"")


def requests_for(extents: tuple[Extent, ...], target: AnyArray) -> list[Request]:
    """What fills an array from the extents of its value, in their order."""
    requests, destination, done = [], bytes_of(target), 0
    for offset, length in extents:
        requests.append((offset, destination[done : done + length]))
        done += length
    return requests


def gather(
    extents: tuple[Extent, ...], planned: Plan, destination: memoryview
) -> tuple[list[Request], Callable[[], None]]:
    """Requests for the planned runs of a value that lies in `extents`, and what puts them in their order."""
    starts, length = planned.starts, planned.length
    if len(starts) == 1:
        return within(extents, int(starts[0]), destination), lambda: None
    order = np.argsort(starts, kind="stable")
    requests: list[Request] = []
    pieces: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.uint8]]] = []
    for offset, size, covered in coalesce(starts[order], length) if length else []:
        piece = np.empty(size, np.uint8)
        requests += within(extents, offset, piece.data)
        pieces.append((order[covered], starts[order[covered]] - offset, piece))

    def scatter() -> None:
        for rows, inside, piece in pieces:
            windows = np.lib.stride_tricks.sliding_window_view(piece, length)
            np.frombuffer(destination, np.uint8).reshape(-1, length)[rows] = windows[inside]

    return requests, scatter


def within(extents: tuple[Extent, ...], offset: int, destination: memoryview) -> list[Request]:
    """Requests that fill `destination` from byte `offset` of the value that `extents` make up together."""
    requests, done = [], 0
    for begin, length in extents:
        count = min(length - offset, destination.nbytes - done)
        if count > 0:
            requests.append((begin + offset, destination[done : done + count]))
            done += count
        offset = max(0, offset - length)
    return requests


def neighbours(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    """Entries, in their order, in groups: small tensors that follow one another in the file without a gap, or one each.

    A group's bytes, headers included, are one run of at most `LONGEST`. Nothing has been proven of the entries.
    """
    group: list[Entry] = []
    for entry in entries:
        if group and not (
            _may_share(entry) and entry.start == group[-1].stop and entry.stop - group[0].start <= LONGEST
        ):
            yield group
            group = []
        group.append(entry)
        if len(group) == 1 and not _may_share(entry):
            yield group
            group = []
    if group:
        yield group


def _may_share(entry: Entry) -> bool:
    """Whether a value is small, and nothing is to be done with its bytes but to copy them."""
    small = entry.stop - entry.start <= SMALL and entry.dtype is not None and len(entry.extents) == 1
    return small and not entry.apart and not entry.digest and is_plain(entry)


def text_of(entry: Entry, data: bytes, file: str) -> str:
    """The text of a string entry, as numpy reads a UTF-32 scalar: trailing NULs are not part of it."""
    try:
        return data.decode("utf-32-le", "surrogatepass").rstrip("\0")
    except UnicodeDecodeError as error:
        raise CorruptFile(
            f"the string is not UTF-32: {error.reason}",
            offset=entry.extents[0].offset + error.start,
            parameter=entry.name,
            file=file,
        ) from None


def check_sense(entry: Entry, source: Source) -> None:
    """Refuse an entry that no file can hold, before room is made for its value."""
    if len(entry.extents) == 1 and not entry.arrays and _is_sound(entry, source.size):
        return
    position = entry.start
    makes_sense = 0 <= entry.start <= entry.stop <= source.size
    for offset, length in sorted(entry.all_extents):
        makes_sense &= position <= offset and length >= 0
        position = offset + length
    for dtype, shape, extents in entry.arrays or ((entry.dtype, entry.shape, entry.extents),):
        stored = sum(extent.length for extent in extents)
        expected = dtype.stored_size(math.prod(shape)) if dtype is not None else stored
        widened = dtype is not None and dtype.name == "BFloat16" and stored == 2 * expected
        makes_sense &= min(shape, default=0) >= 0 and (stored == expected or widened or (stored == 0 and shape == ()))
    if not makes_sense or position > entry.stop:
        raise StaleIndex(
            "the index claims what no file can hold; delete it or rebuild it (lazyckpt index --force)",
            parameter=entry.name,
            file=source.name,
        )


def _is_sound(entry: Entry, size: int) -> bool:
    """`check_sense` for a tensor in one piece, of a file of `size` bytes; False leaves it to the general rule."""
    (offset, length), dtype, shape = entry.extents[0], entry.dtype, entry.shape
    inside = 0 <= entry.start <= offset <= offset + length <= entry.stop <= size
    return inside and dtype is not None and min(shape, default=0) >= 0 and length == dtype.stored_size(math.prod(shape))
