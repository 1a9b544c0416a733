"""From an entry to its value: the only code that touches payload bytes.

Rules. A value's header is confirmed against the file before its bytes are handed out or room for them is made. A
tensor in one piece of an addressable source is a view; anything else is one new array, filled straight from the
source. A slice reads the runs of bytes that it needs and no others (neighbours closer than 4 KiB are read together).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lazyckpt.dtypes import DType
from lazyckpt.entry import STRING, Array, Entry, Extent
from lazyckpt.errors import CorruptFile
from lazyckpt.formats import Format
from lazyckpt.sources import Source
from lazyckpt.sources.ranges import Key, Plan, coalesce, plan

_ALIGNMENT: Final = 64  # bytes; what SIMD code and other frameworks like best
AnyArray = npt.NDArray[Any]


class Payloads:
    """Values of one checkpoint. Safe for many threads."""

    def __init__(self, source: Source, form: Format) -> None:
        self._source = source
        self._form = form

    def view(self, entry: Entry) -> AnyArray:
        """A tensor's values: a read-only view where there is one, else a new array.

        Raises:
            StaleIndex: the file does not have this entry.
            ChangedFile: the file shrank.
        """
        self._form.confirm(self._source, entry)
        dtype = dtype_of(entry)
        if self._is_view(entry):
            data = self._source.read(*entry.extents[0])
            return np.frombuffer(data, dtype.numpy).reshape(entry.shape)
        return self._new(entry)

    def copy(self, entry: Entry) -> AnyArray:
        """A tensor's values in an aligned, writable array of their own."""
        self._form.confirm(self._source, entry)
        return self._new(entry)

    def part(self, entry: Entry, key: Key) -> Any:
        """`view(entry)[key]`, at the cost of the bytes that the answer needs."""
        if self._is_view(entry) or _is_widened(entry) or not entry.extents:
            return self.view(entry)[key]
        planned = plan(entry.shape, dtype_of(entry).itemsize, key)
        if planned is None:
            return self.view(entry)[key]
        self._form.confirm(self._source, entry)
        answer = np.empty(planned.shape, dtype_of(entry).numpy)
        _gather(self._source, entry.extents, planned, _bytes_of(answer))
        return answer if planned.shape or _keeps_array(key) else answer[()]

    def string(self, entry: Entry) -> str:
        """The text of a string entry, as numpy reads a UTF-32 scalar: trailing NULs are not part of it.

        Raises:
            CorruptFile: the bytes are not UTF-32.
        """
        self._form.confirm(self._source, entry)
        data = bytearray(entry.stored)
        _fill(self._source, entry.extents, memoryview(data))
        try:
            return data.decode("utf-32-le", "surrogatepass").rstrip("\0")
        except UnicodeDecodeError as error:
            raise CorruptFile(
                f"the string is not UTF-32: {error.reason}",
                offset=entry.extents[0].offset + error.start,
                parameter=entry.name,
                file=self._source.name,
            ) from None

    def arrays(self, entry: Entry) -> list[AnyArray]:
        """Keys, values and status of a map, each a new array."""
        self._form.confirm(self._source, entry)
        return [self._array(array) for array in entry.arrays]

    def value(self, entry: Entry) -> AnyArray | str | list[AnyArray]:
        """The value of an entry of any kind, in memory of its own."""
        if entry.kind == STRING:
            return self.string(entry)
        return self.copy(entry) if entry.dtype is not None else self.arrays(entry)

    def _is_view(self, entry: Entry) -> bool:
        return self._source.window == 0 and len(entry.extents) == 1 and not _is_widened(entry)

    def _array(self, array: Array) -> AnyArray:
        made = aligned(array.shape, array.dtype)
        _fill(self._source, array.extents, _bytes_of(made))
        return made

    def _new(self, entry: Entry) -> AnyArray:
        dtype = dtype_of(entry)
        if not entry.extents:  # an empty tensor, which the format cannot tell from a scalar
            return np.zeros(entry.shape, dtype.numpy)
        if _is_widened(entry):
            wide = np.empty((entry.stored // 4, 2), "<u2")
            _fill(self._source, entry.extents, _bytes_of(wide))
            return np.ascontiguousarray(wide[:, 1]).view(dtype.numpy).reshape(entry.shape)
        made = aligned(entry.shape, dtype)
        _fill(self._source, entry.extents, _bytes_of(made))
        return made


def aligned(shape: tuple[int, ...], dtype: DType) -> AnyArray:
    """An uninitialised C-ordered array whose first byte lies on a 64-byte boundary."""
    kind = dtype.numpy
    count = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
    room = np.empty(count + _ALIGNMENT, np.uint8)
    start = -room.ctypes.data % _ALIGNMENT
    return room[start : start + count].view(kind).reshape(shape)


def dtype_of(entry: Entry) -> DType:
    """A tensor's dtype.

    Raises:
        TypeError: the entry is no tensor.
    """
    if entry.dtype is None:
        raise TypeError(f"{entry.name!r} is a {entry.kind}, not a tensor")
    return entry.dtype


def _is_widened(entry: Entry) -> bool:
    """Whether bfloat16 values are stored as float32, as old versions of MindSpore did."""
    return bool(entry.extents) and entry.stored != entry.nbytes


def _bytes_of(array: AnyArray) -> memoryview:
    return array.reshape(-1).view(np.uint8).data if array.size else memoryview(b"")


def _fill(source: Source, extents: tuple[Extent, ...], destination: memoryview) -> None:
    done = 0
    for offset, length in extents:
        source.read_into(offset, destination[done : done + length])
        done += length


def _gather(source: Source, extents: tuple[Extent, ...], planned: Plan, destination: memoryview) -> None:
    """Fill `destination` with the planned runs of a value that lies in `extents`."""
    starts, length = planned.starts, planned.length
    if len(starts) == 1:
        _read_value(source, extents, int(starts[0]), destination)
        return
    if not len(starts) or not length:
        return
    order = np.argsort(starts, kind="stable")
    rows = np.frombuffer(destination, np.uint8).reshape(-1, length)
    for offset, size, covered in coalesce(starts[order], length):
        piece = np.empty(size, np.uint8)
        _read_value(source, extents, offset, piece.data)
        windows = np.lib.stride_tricks.sliding_window_view(piece, length)
        rows[order[covered]] = windows[starts[order[covered]] - offset]


def _read_value(source: Source, extents: tuple[Extent, ...], offset: int, destination: memoryview) -> None:
    """Fill `destination` from byte `offset` of the value that `extents` make up together."""
    done, wanted = 0, destination.nbytes
    for begin, length in extents:
        if done < wanted and offset < length:
            count = min(length - offset, wanted - done)
            source.read_into(begin + offset, destination[done : done + count])
            done += count
            offset = 0
        else:
            offset -= min(offset, length)


def _keeps_array(key: Key) -> bool:
    """Whether numpy answers a zero-dimensional result as an array (an ellipsis was given) and not as a scalar."""
    return any(part is Ellipsis for part in (key if isinstance(key, tuple) else (key,)))
