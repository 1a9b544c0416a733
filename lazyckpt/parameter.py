"""`Parameter`: one tensor of a checkpoint, known by name, shape and dtype, read when looked at.

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

from lazyckpt.display import without_controls
from lazyckpt.model.dtypes import DType, of_array
from lazyckpt.model.entry import Entry
from lazyckpt.reading.decoding import dtype_of
from lazyckpt.reading.reader import Payloads
from lazyckpt.runtime.optional import optional_import

if TYPE_CHECKING:
    from lazyckpt.statistics.table import Statistics


class Parameter:
    """One lazy tensor. Made by `load_checkpoint`; safe for many threads.

    Attributes:
        name: the name in the file, without white space at its ends, as MindSpore has it.
        requires_grad: True; kept for the sake of code written for MindSpore.
    """

    __slots__ = ("__weakref__", "_data", "_dtype", "_entry", "_payloads", "name", "requires_grad")

    def __init__(self, entry: Entry, payloads: Payloads) -> None:
        self.name = entry.name.strip()
        self.requires_grad = True
        self._entry = entry
        self._payloads = payloads
        self._dtype = dtype_of(entry)
        self._data: npt.NDArray[Any] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The dimensions; `()` for a scalar. Reads nothing."""
        return self._entry.shape if self._data is None else self._data.shape

    @property
    def dtype(self) -> DType:
        """The element type: `str()` is MindSpore's name, `.numpy` the numpy dtype. Reads nothing."""
        if self._data is not None:
            return of_array(self._data)
        return self._dtype

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
    def origin(self) -> tuple[Entry, Payloads] | None:
        """Where the value lies in its file; None if it was replaced in memory. Reads nothing."""
        return (self._entry, self._payloads) if self._data is None else None

    def asnumpy(self, *, copy: bool = False) -> npt.NDArray[Any]:
        """The values as a numpy array.

        Args:
            copy: give an aligned, writable array of its own.

        Returns:
            For a plain local file a read-only view of the file's pages (it may be unaligned, as MindSpore leaves
            contents), at no cost until it is looked at. From any other source, or with `copy=True`, a new array.

        Raises:
            StaleIndex: the file no longer has this parameter where the index says.
            ChangedFile: the file shrank since it was opened.

        Cost: parses the header again (about 60 bytes); a copy allocates `nbytes`.
        """
        if self._data is not None:
            return self._data.copy() if copy else self._data
        return self._payloads.copy(self._entry) if copy else self._payloads.view(self._entry)

    def writable(self) -> npt.NDArray[Any]:
        """The values in writable memory that nobody else sees: for handing to a framework.

        For a large value of a plain local file a private copy-on-write map of just its pages (no copy until it is
        written to, and the file never changes), else a copy. Raises as `asnumpy` does.

        Cost: parses the header again; a copy allocates `nbytes`.
        """
        return self._data.copy() if self._data is not None else self._payloads.writable(self._entry)

    def to_torch(self) -> Any:
        """The values as a torch tensor in memory of its own (see `writable`).

        Raises:
            MissingPackage: torch is not installed.
            TypeError: torch has no such dtype.

        Cost: see `writable`.
        """
        with optional_import("torch"):
            from lazyckpt.tensors import torch

        return torch.to_tensor(self.writable())

    def to_dask(self, chunks: Any = None) -> Any:
        """The values as a dask array whose tasks read their own part of the file.

        What travels to workers is how the file is opened (see `__reduce__`), never a value; they must see it under the
        same path. A value that was set in memory is in the graph, as any array of numpy's is.

        Args:
            chunks: as dask takes them; None for runs of the file of about 64 MiB: rows, or parts of rows that are
                larger.

        Raises:
            MissingPackage: dask is not installed.

        Returns:
            A `dask.array.Array` of this shape and numpy dtype.

        Cost: reads nothing. Each task opens the file warm, unless its process has it open, and reads one chunk; a
        slice of the array reads the bytes of the slice.
        """
        from lazyckpt.tensors import dask

        return dask.to_array(self, self._token(), chunks) if self._data is None else dask.of_memory(self._data, chunks)

    def to_mindspore(self) -> Any:
        """The values as a MindSpore Parameter in memory of its own (see `writable`; bfloat16 and Int4 are copied).

        Raises:
            MissingPackage: MindSpore is not installed.

        Cost: see `writable`.
        """
        with optional_import("mindspore"):
            from lazyckpt.tensors import mindspore

        return mindspore.to_parameter(self.name, self.writable(), self.dtype.name)

    def set_data(self, data: npt.ArrayLike) -> None:
        """Replace the value in memory; shape and dtype follow it. The file is not touched.

        Args:
            data: an array of any shape, or what numpy makes one of.

        Raises:
            ArgumentTypeError: MindSpore has no dtype for it.

        Cost: none for a little-endian array, which is kept and not copied. Reads nothing.
        """
        array = np.asarray(data)
        self._data = array.astype(of_array(array).numpy, copy=False)  # in little-endian order

    def item(self) -> Any:
        """The value of a one-element parameter as a Python number.

        Raises:
            ValueError: there is not exactly one element.

        Cost: as `asnumpy`.
        """
        return self.asnumpy().item()

    def tobytes(self) -> bytes:
        """The values as little-endian bytes in C order. Cost: reads the value, allocates `nbytes`."""
        return self.asnumpy().tobytes()

    def stats(self) -> Statistics:
        """Count, minimum, maximum, mean, standard deviation, L2 norm, zeros, NaNs and infinities, as a table of a row.

        Cost: reads the value once; some MiB of memory, however large it is.
        """
        from lazyckpt.statistics.stream import statistics_of

        return statistics_of(self._payloads, {self.name: self._entry if self._data is None else self._data})

    def __getitem__(self, key: Any) -> Any:
        """`asnumpy()[key]`, reading only the bytes that the answer needs."""
        if self._data is not None:
            return self._data[key]
        return self._payloads.part(self._entry, key)

    def __reduce__(self) -> tuple[Any, ...]:
        """What pickles: how the file was opened, where the value lies in it, and what was set in memory.

        Raises:
            NotPicklable: the checkpoint was opened with a key that is no `KeyReference`, or from bytes in memory.
        """
        return _unpickled, (self.name, self._entry, self._payloads, self.requires_grad, self._data)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of a scalar parameter")
        return self.shape[0]

    def __bool__(self) -> bool:
        return bool(self.asnumpy())

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """Numpy's protocol (version 2): a view where possible, a copy where asked for or needed."""
        wanted = None if dtype is None else np.dtype(dtype)
        converts = wanted is not None and wanted != self.dtype.numpy
        if converts and copy is False:
            raise ValueError(f"{self.dtype} cannot be seen as {wanted} without a copy")
        array = self.asnumpy(copy=bool(copy) and not converts)
        return array.astype(wanted) if converts else array

    def __dlpack__(self, *, copy: bool | None = None, **options: Any) -> Any:
        """DLPack, over memory that may be written to (see `writable`): who takes it may write to it.

        Raises:
            BufferError: the value is to be shared (`copy=False`), and lies in a file.
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
        name = without_controls(self.name)
        return f"Parameter (name={name}, shape={self.shape}, dtype={self.dtype}, requires_grad={self.requires_grad})"

    def _token(self) -> tuple[Any, ...]:
        """What tells this value from any other, also of another version of its file."""
        hold = self._payloads.hold
        return (id(self._payloads) if hold is None else (hold.handle.arguments, hold.entries.fingerprint), self._entry)

    def _repr_html_(self) -> str:
        """What is known without reading the value."""
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
    name: str, entry: Entry, payloads: Payloads, requires_grad: bool, data: npt.NDArray[Any] | None
) -> Parameter:
    """A parameter as it was when it was pickled."""
    made = Parameter(entry, payloads)
    made.name, made.requires_grad, made._data = name, requires_grad, data
    return made
