"""Items to be written: a name, and one array (three for a map) whose bytes come in pieces.

Strategy: an item has the facts for its header now and its content on request, so that a file of any size is written
with one piece in memory. The source of the content is hidden in a closure: an array, a value of another checkpoint, a
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
from lazyckpt.reading.reader import PIECE, Reader
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
        pieces: yields the bytes, little-endian, in C order.
        lasts: whether the bytes are the same at any later time, because they are in a file.
    """

    dtype: DType | None
    shape: tuple[int, ...]
    nbytes: int
    pieces: Pieces
    lasts: bool = False

    def whole(self) -> Iterator[memoryview]:
        """Yield the pieces, and check that they have the announced number of bytes.

        Raises:
            ArgumentValueError: they do not; the file that they were written to must be discarded.
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
    """One parameter to be written.

    Attributes:
        name: the name in the new file.
        kind: `tensor`, `string` or `map`.
        contents: one; for a map keys, values and status, repeated for each slice.
        offset: of the content in the source file, the sort key for reading in file order.
    """

    name: str
    kind: str
    contents: tuple[Content, ...]
    offset: int = 0

    @property
    def nbytes(self) -> int:
        """Bytes of all contents."""
        return sum(content.nbytes for content in self.contents)


def tensor(name: str, content: Content) -> Item:
    """A tensor."""
    return Item(name, TENSOR, (content,))


def string(name: str, text: str) -> Item:
    """A string, encoded as UTF-32; an empty one as a single zero, as in numpy."""
    data = (text or "\0").encode("utf-32-le", "surrogatepass")
    return Item(name, STRING, (Content(None, (0,), len(data), lambda: iter([memoryview(data)])),))


def map_of(name: str, slices: Sequence[Sequence[AnyArray]]) -> Item:
    """A map: keys, values and status, several of each if it is written in slices."""
    return Item(name, MAP, tuple(array_content(array) for arrays in slices for array in arrays))


def array_content(array: AnyArray) -> Content:
    """The content of a numpy array of any layout and byte order.

    Raises:
        ArgumentTypeError: MindSpore has no such dtype.
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
    """The content of a value that gives its bytes only as a whole."""
    return Content(dtype, shape, math.prod(shape) * dtype.itemsize, lambda: _cut(memoryview(data())))


def stored(name: str, entry: Entry, payloads: Reader) -> Item:
    """A value of a checkpoint, to be written under `name`.

    Raises:
        ArgumentValueError: its entry contradicts itself.
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
        return Item(name, MAP, tuple(contents), entry.offset)
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
    return Item(name, entry.kind, (Content(entry.dtype, shape, size, pieces, True),), entry.offset)


def number_content(value: bool | float) -> Content:
    """The content of a Python number, as in MindSpore: Bool, Int64, or Float32.

    A float out of Float32's range becomes infinite.

    Raises:
        ArgumentValueError: the integer does not fit into 64 bits.
    """
    kind = next(dtype for kind, dtype in _SCALARS.items() if isinstance(value, kind))
    try:
        with np.errstate(over="ignore"):
            return array_content(np.asarray(value, kind))
    except OverflowError:
        raise ArgumentValueError(f"{value} does not fit into 64 bits") from None


def snapshot(item: Item) -> Item:
    """A copy of an item that later changes in memory do not affect. Contents in a file are not copied."""
    return item._replace(contents=tuple(map(_snapshot, item.contents)))


def _snapshot(content: Content) -> Content:
    if content.lasts:
        return content
    data = b"".join(content.pieces())
    return content._replace(pieces=lambda: _cut(memoryview(data)), lasts=True)


def _cut(data: memoryview) -> Iterator[memoryview]:
    return (data[start : start + PIECE] for start in range(0, data.nbytes, PIECE))


Items = Collection[Item]  # iterated more than once; it may make its items on each iteration


class WriteProgress:
    """Counts the bytes read from items, and reports them."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._done = 0
        self._total = total
        self._progress = progress

    def of(self, items: Items) -> Items:
        """The same items, whose reads are counted."""
        return items if self._progress is None else _Counted(items, self.add)

    def add(self, nbytes: int) -> None:
        """Add to the count, and report it."""
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
