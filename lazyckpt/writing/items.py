"""What is to be written: a name, and one array (three for a map) whose bytes come a piece at a time.

Strategy: an item knows its header's facts at once and its content on request, so that a file of any size is written
with one piece in memory. Where the content comes from is closed over: an array, a value of another checkpoint, a
framework's tensor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from lazyckpt.errors import ArgumentTypeError, ArgumentValueError
from lazyckpt.model.dtypes import DType, of_array
from lazyckpt.model.entry import MAP, STRING, TENSOR, Entry
from lazyckpt.reading.decoding import bytes_of
from lazyckpt.reading.reader import PIECE, Payloads
from lazyckpt.runtime.workers import Progress

AnyArray = npt.NDArray[Any]
Pieces = Callable[[], Iterator[memoryview]]
MAP_ARRAYS: Final = 3  # keys, values, status
_SCALARS: Final = {bool: "?", int: "<i8", float: "<f4"}  # what MindSpore makes of Python's numbers; a bool is an int


class Content(NamedTuple):
    """One array.

    Attributes:
        dtype: the element type; None for the characters of a string.
        shape: the dimensions.
        nbytes: of all pieces together.
        pieces: gives the bytes, little-endian, in C order.
        lasts: whether the bytes will be the same whenever they are asked for: they lie in a file.
    """

    dtype: DType | None
    shape: tuple[int, ...]
    nbytes: int
    pieces: Pieces
    lasts: bool = False

    def whole(self) -> Iterator[memoryview]:
        """The pieces, to the last: how many bytes come is how many were announced.

        Raises:
            ArgumentValueError: it is not; what was written of them must not be kept.
        """
        left = self.nbytes
        for piece in self.pieces():
            left -= piece.nbytes
            if left < 0:
                raise ArgumentValueError("a value that changed while it was written gave more bytes than it has")
            yield piece
        if left:
            raise ArgumentValueError(f"a value that changed while it was written gave {left:,} bytes less than it has")


class Item(NamedTuple):
    """One parameter on its way to a file.

    Attributes:
        name: as it will stand in the file.
        kind: `tensor`, `string` or `map`.
        contents: one; of a map keys, values and status, again and again if it is written in slices.
        place: where it lies in the file that it comes from: the order in which reading is cheapest.
    """

    name: str
    kind: str
    contents: tuple[Content, ...]
    place: int = 0

    @property
    def nbytes(self) -> int:
        """Bytes of all contents."""
        return sum(content.nbytes for content in self.contents)


def tensor(name: str, content: Content) -> Item:
    """A tensor."""
    return Item(name, TENSOR, (content,))


def string(name: str, text: str) -> Item:
    """A string, kept as UTF-32; an empty one as one zero, as numpy keeps it."""
    data = (text or "\0").encode("utf-32-le", "surrogatepass")
    return Item(name, STRING, (Content(None, (0,), len(data), lambda: iter([memoryview(data)])),))


def map_of(name: str, slices: Sequence[Sequence[AnyArray]]) -> Item:
    """A map: keys, values and status; several of each if it is written in slices."""
    return Item(name, MAP, tuple(array_content(array) for arrays in slices for array in arrays))


def array_content(array: AnyArray) -> Content:
    """The content of a numpy array of any layout and byte order.

    Raises:
        ArgumentTypeError: there is no dtype for it.
    """
    dtype = of_array(array)

    def pieces() -> Iterator[memoryview]:
        flat = np.ascontiguousarray(array, dtype.numpy).reshape(-1)
        if dtype.is_packed:
            codes = flat.view(np.uint8)
            flat = codes[0::2] | codes[1::2] << 4
        return _cut(bytes_of(flat))

    if dtype.is_packed and array.size % 2:
        raise ArgumentTypeError(f"{array.size} elements of {dtype} do not fill whole bytes")
    return Content(dtype, array.shape, dtype.stored_size(array.size), pieces)


def bytes_content(dtype: DType, shape: tuple[int, ...], data: Callable[[], bytes | memoryview]) -> Content:
    """The content of a value that can only be had as bytes, all at once."""
    return Content(dtype, shape, math.prod(shape) * dtype.itemsize, lambda: _cut(memoryview(data())))


def stored(name: str, entry: Entry, payloads: Payloads) -> Item:
    """A value of a checkpoint, to be written under `name`.

    Raises:
        ArgumentValueError: the file's claims about it are impossible.
    """
    if entry.kind == MAP:
        if len(entry.arrays) != MAP_ARRAYS:
            raise ArgumentValueError(
                f"{entry.name!r} cannot be written: a map has three arrays (keys, values, status), this one"
                f" {len(entry.arrays)}; leave it out"
            )
        arrays: list[AnyArray] = []

        def nth(number: int) -> Pieces:
            def pieces() -> Iterator[memoryview]:
                if not arrays:
                    arrays.extend(payloads.value(entry))  # type: ignore[arg-type]
                return array_content(arrays[number]).pieces()

            return pieces

        contents = [
            Content(array.dtype, array.shape, math.prod(array.shape) * array.dtype.itemsize, nth(number), True)
            for number, array in enumerate(entry.arrays)
        ]
        return Item(name, MAP, tuple(contents), entry.place)
    if entry.kind not in (TENSOR, STRING):
        raise ArgumentValueError(f"{entry.name!r} cannot be written: {entry.reason}; leave it out")

    packed = entry.dtype is not None and entry.dtype.is_packed
    size = entry.stored if packed else entry.nbytes

    def pieces() -> Iterator[memoryview]:
        if not entry.extents and entry.nbytes:  # a scalar that the file gives no bytes for: zero
            return _cut(memoryview(bytes(entry.nbytes)))
        if packed:
            return payloads.stored(entry)
        return (bytes_of(piece) for piece in payloads.pieces(entry))

    shape = (0,) if entry.kind == STRING else entry.shape
    return Item(name, entry.kind, (Content(entry.dtype, shape, size, pieces, True),), entry.place)


def number_content(value: bool | float) -> Content:
    """The content of one of Python's numbers: Bool, Int64 or Float32 (infinite if it must), as MindSpore makes it.

    Raises:
        ArgumentValueError: an integer that 64 bits cannot hold.
    """
    kind = next(dtype for kind, dtype in _SCALARS.items() if isinstance(value, kind))
    try:
        with np.errstate(over="ignore"):
            return array_content(np.asarray(value, kind))
    except OverflowError:
        raise ArgumentValueError(f"{value} does not fit into 64 bits") from None


def cast(item: Item, dtype: DType, told: Callable[[str, int], object]) -> Item:
    """A tensor of another element type, converted a piece at a time as numpy's `astype` does.

    Args:
        item: a tensor.
        dtype: the new type.
        told: called with the name and how many finite values became infinite, if any did.
    """
    (content,) = item.contents
    if content.dtype is None or content.dtype is dtype:
        return item
    old, new = content.dtype.numpy, dtype.numpy

    def pieces() -> Iterator[memoryview]:
        lost = 0
        # numpy tells of an overflow at no cost; ml_dtypes does not, so there it is looked for.
        overflows = [] if old.kind == new.kind == "f" else [True]
        for piece in content.pieces():
            before = np.frombuffer(piece, old)
            with np.errstate(over="call", call=lambda *_: overflows.append(True), invalid="ignore"):
                after = before.astype(new)
            if overflows:
                lost += int(np.count_nonzero(~np.isfinite(after))) - int(np.count_nonzero(~np.isfinite(before)))
            yield bytes_of(after)
        if lost > 0:
            told(item.name, lost)

    size = math.prod(content.shape) * dtype.itemsize
    return item._replace(contents=(Content(dtype, content.shape, size, pieces, content.lasts),))


def snapshot(item: Item) -> Item:
    """An item that stays as it is now, whatever becomes of the memory that it looks at. Copies what is in memory."""
    return item._replace(contents=tuple(map(_snapshot, item.contents)))


def _snapshot(content: Content) -> Content:
    if content.lasts:
        return content
    data = b"".join(content.pieces())
    return content._replace(pieces=lambda: _cut(memoryview(data)), lasts=True)


def _cut(data: memoryview) -> Iterator[memoryview]:
    return (data[start : start + PIECE] for start in range(0, data.nbytes, PIECE))


Items = Collection[Item]  # iterated more than once; may make its items each time


class Count:
    """Bytes that are written, of all that will be."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._done = 0
        self._total = total
        self._progress = progress

    def of(self, items: Items) -> Items:
        """The items; what is read of them is counted."""
        return items if self._progress is None else _Counted(items, self.add)

    def add(self, nbytes: int) -> None:
        """So many more."""
        self._done += nbytes
        if self._progress is not None:
            self._progress(self._done, self._total)


class _Counted(Collection[Item]):
    def __init__(self, items: Items, add: Callable[[int], None]) -> None:
        self._items = items
        self._add = add

    def __iter__(self) -> Iterator[Item]:
        return map(self._item, self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, item: object) -> bool:
        return item in self._items

    def _item(self, item: Item) -> Item:
        return item._replace(contents=tuple(map(self._content, item.contents)))

    def _content(self, content: Content) -> Content:
        def pieces() -> Iterator[memoryview]:
            for piece in content.pieces():
                yield piece
                self._add(piece.nbytes)

        return content._replace(pieces=pieces)
