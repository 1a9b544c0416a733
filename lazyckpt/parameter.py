"""`Parameter`: one lazy tensor of a checkpoint. Name, shape and dtype come from the index.

The contract (tests/test_parameter.py checks each sentence):

- `name shape dtype size nbytes ndim itemsize requires_grad`, `repr` and `len` never touch payload bytes.
- `asnumpy()` is a zero-copy read-only view where the source allows it, else one new array.
- `param[key]` equals `param.asnumpy()[key]` and reads only what the answer needs.
- `set_data` replaces the value in memory; the file is never written.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lazyckpt.display import one_line
from lazyckpt.model.dtypes import DType, of_array
from lazyckpt.model.entry import Entry
from lazyckpt.reading.decoding import dtype_of
from lazyckpt.reading.reader import Reader
from lazyckpt.runtime.optional import optional_import

if TYPE_CHECKING:
    from lazyckpt.statistics.table import Statistics


class Parameter:
    """One lazy tensor of a checkpoint. Safe for many threads.

    >>> weight = lazyckpt.load_checkpoint("LeNet5-1_32.ckpt")["conv1.weight"]
    >>> weight
    Parameter (name=conv1.weight, shape=(6, 1, 5, 5), dtype=Float32, requires_grad=True)
    >>> weight[0, 0, 0].shape  # reads 20 bytes
    (5,)

    Attributes:
        name: the name in the file, stripped of white space at its ends, as in MindSpore.
        requires_grad: True; kept for code that was written for MindSpore.
    """

    __slots__ = ("__weakref__", "_data", "_entry", "_reader", "name", "requires_grad")

    def __init__(self, entry: Entry, reader: Reader) -> None:
        self.name = entry.name.strip()
        self.requires_grad = True
        self._entry = entry
        self._reader = reader
        self._data: npt.NDArray[Any] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The dimensions; `()` for a scalar. Reads nothing."""
        return self._entry.shape if self._data is None else self._data.shape

    @property
    def dtype(self) -> DType:
        """The element type: equal to numpy's, MindSpore's and torch's, `str()` is MindSpore's name. Reads nothing."""
        if self._data is not None:
            return of_array(self._data)
        return dtype_of(self._entry)

    @property
    def size(self) -> int:
        """The number of elements. Reads nothing."""
        return math.prod(self.shape)

    @property
    def ndim(self) -> int:
        """The number of dimensions. Reads nothing."""
        return len(self.shape)

    @property
    def itemsize(self) -> int:
        """Bytes of one element. Reads nothing."""
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of the value in memory. Reads nothing."""
        return self.size * self.itemsize

    @property
    def is_edited(self) -> bool:
        """Whether `set_data` replaced the file's value. Reads nothing."""
        return self._data is not None

    @property
    def origin(self) -> tuple[Entry, Reader] | None:
        """The entry and the reader of the value; None if it was replaced in memory. Reads nothing."""
        return (self._entry, self._reader) if self._data is None else None

    def asnumpy(self, *, copy: bool = False) -> npt.NDArray[Any]:
        """The values as a numpy array.

        Args:
            copy: return a new, aligned, writable array.

        Returns:
            For a plain local file a read-only view of the memory-mapped file, whose pages are read on first access (it
            may be unaligned, because MindSpore does not align values). For any other source, or with `copy=True`, a
            new array.

        Raises:
            StaleIndex: this parameter is no longer where the index says.
            ChangedFile: the file has shrunk since it was opened.

        Cost: parses the header again (about 60 bytes); a copy allocates `nbytes`.
        """
        if self._data is not None:
            return self._data.copy() if copy else self._data
        return self._reader.copy(self._entry) if copy else self._reader.view(self._entry)

    def writable(self) -> npt.NDArray[Any]:
        """The values as a private, writable array, for handing to a framework.

        For a large value of a plain local file this is a private copy-on-write map of its pages (nothing is copied
        until it is written to, and the file never changes), otherwise a copy. Raises as `asnumpy` does.

        Cost: parses the header again; a copy allocates `nbytes`.
        """
        return self._data.copy() if self._data is not None else self._reader.writable(self._entry)

    def to_torch(self) -> Any:
        """The values as a torch tensor that shares no memory with this one (see `writable`).

        Raises:
            MissingPackage: torch is not installed.
            TypeError: torch has no such dtype.

        Cost: see `writable`.
        """
        with optional_import("torch"):
            from lazyckpt.tensors import torch

        return torch.to_tensor(self.writable())

    def to_dask(self, chunks: Any = None) -> Any:
        """The values as a dask array, whose tasks each read their part of the file.

        Workers receive how to open the file (see `__reduce__`), never a value; they must find it under the same path.
        A value that was set in memory is embedded in the graph, as a numpy array is.

        Args:
            chunks: dask's `chunks` argument; None for runs of about 64 MiB in the file: rows, or parts of larger rows.

        Raises:
            MissingPackage: dask is not installed.

        Returns:
            A `dask.array.Array` of this shape and numpy dtype.

        Cost: reads nothing. Each task opens the file with its index, unless its process has it open, and reads one
        chunk. A slice of the array reads only the bytes of the slice.
        """
        from lazyckpt.tensors import dask

        return dask.to_array(self, self._token(), chunks) if self._data is None else dask.of_memory(self._data, chunks)

    def to_mindspore(self) -> Any:
        """The values as a MindSpore Parameter of its own (see `writable`; bfloat16 and Int4 are copied).

        Raises:
            MissingPackage: MindSpore is not installed.

        Cost: see `writable`.
        """
        with optional_import("mindspore"):
            from lazyckpt.tensors import mindspore

        return mindspore.to_parameter(self.name, self.writable(), self.dtype.name)

    def set_data(self, data: npt.ArrayLike) -> None:
        """Replace the value in memory, with its shape and dtype. The file is not touched.

        >>> bias = lazyckpt.load_checkpoint("LeNet5-1_32.ckpt")["fc3.bias"]
        >>> bias.set_data([1.0, 2.0])
        >>> bias.shape, str(bias.dtype)
        ((2,), 'Float64')

        Args:
            data: an array of any shape, or anything that `numpy.asarray` accepts.

        Raises:
            ArgumentTypeError: MindSpore has no such dtype.

        Cost: none for a little-endian array, which is kept without a copy. Reads nothing.
        """
        array = np.asarray(data)
        self._data = array.astype(of_array(array).numpy, copy=False)  # in little-endian order

    def item(self) -> Any:
        """The value of a one-element parameter as a Python number.

        Raises:
            ValueError: it does not have exactly one element.

        Cost: as `asnumpy`.
        """
        return self.asnumpy(copy=math.prod(self.shape) == 1).item()

    def tobytes(self) -> bytes:
        """The values as little-endian bytes in C order. Cost: reads the value, allocates twice `nbytes`."""
        return (self.asnumpy(copy=True) if self._data is None else self._data).tobytes()

    def stats(self) -> Statistics:
        """Moments, extremes, L2 norm, and counts of zeros, NaNs and infinities: a table of one row.

        Cost: reads the value once, with a few MiB of memory however large it is.
        """
        from lazyckpt.statistics.stream import statistics_of

        return statistics_of(self._reader, {self.name: self._entry if self._data is None else self._data})

    def __getitem__(self, key: Any) -> Any:
        """`asnumpy()[key]`, reading only the bytes that the answer needs."""
        if self._data is not None:
            return self._data[key]
        return self._reader.part(self._entry, key)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the handle of the file, the location of the value, and a value set in memory.

        Raises:
            NotPicklable: the checkpoint was opened with a key that is not a `KeyReference`, or from bytes in memory.
        """
        return _unpickled, (self.name, self._entry, self._reader, self.requires_grad, self._data)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of a scalar parameter")
        return self.shape[0]

    def __bool__(self) -> bool:
        return bool(self.asnumpy(copy=math.prod(self.shape) == 1))

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """The numpy array protocol (version 2): a view where possible, a copy where requested or needed."""
        wanted = None if dtype is None else np.dtype(dtype)
        converts = wanted is not None and wanted != self.dtype.numpy
        if converts and copy is False:
            raise ValueError(f"{self.dtype} cannot be seen as {wanted} without a copy")
        if not converts:
            return self.asnumpy(copy=bool(copy))
        return (self.asnumpy(copy=True) if self._data is None else self._data).astype(wanted)

    def __dlpack__(self, *, copy: bool | None = None, **options: Any) -> Any:
        """DLPack, over writable memory (see `writable`), because the consumer may write to it.

        Raises:
            BufferError: `copy=False`, and the value is in a file, which cannot be shared.
        """
        return self._exportable(copy).__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)  # the CPU

    def _exportable(self, copy: bool | None) -> npt.NDArray[Any]:
        if self._data is not None and not copy and self._data.flags.aligned and self._data.flags.writeable:
            return self._data
        if copy is False:
            raise BufferError(f"{self.name!r} cannot be shared without a copy: it lies in a file, which is read-only")
        array = self.writable()
        return array if array.flags.aligned else self.asnumpy(copy=True)

    def __repr__(self) -> str:
        name = one_line(self.name)
        return f"Parameter (name={name}, shape={self.shape}, dtype={self.dtype}, requires_grad={self.requires_grad})"

    def _token(self) -> tuple[Any, ...]:
        """A key that identifies this value, and the version of its file."""
        file = self._reader.file
        opened = id(self._reader) if file.handle is None else (file.handle.arguments, file.index.fingerprint)
        return opened, self._entry

    def _repr_html_(self) -> str:
        """The facts that need no read."""
        from lazyckpt.display import facts_html, human_size

        extents = self._entry.all_extents
        place = "in memory, set_data() was called" if self.is_edited else "no bytes"
        if extents and not self.is_edited:
            pieces = f", in {len(extents):,} pieces" if len(extents) > 1 else ""
            place = f"bytes {extents[0].offset:,} to {sum(extents[-1]):,} of the file{pieces}"
        facts = {
            "dtype": str(self.dtype),
            "shape": " × ".join(map(str, self.shape)) or "scalar",
            "elements": f"{self.size:,}",
            "size": f"{human_size(self.nbytes)} ({self.nbytes:,} bytes)",
            "place": place,
        }
        return facts_html(self.name, facts.items())


def _unpickled(
    name: str, entry: Entry, reader: Reader, requires_grad: bool, data: npt.NDArray[Any] | None
) -> Parameter:
    """A parameter, as it was when it was pickled."""
    made = Parameter(entry, reader)
    made.name, made.requires_grad, made._data = name, requires_grad, data
    return made
