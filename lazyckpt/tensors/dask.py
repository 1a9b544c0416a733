"""dask arrays over lazy values: each task reads its own chunk from the file.

Strategy: dask can slice any object with a shape and a `__getitem__`, and a lazy value has both. What the graph holds is
its pickle: instructions to open the file, no data. By default a chunk is one contiguous range of the file. dask merges
slices of the array into the slices that tasks read, so a task reads no more than it needs.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lazyckpt.runtime.optional import optional_import

CHUNK_BYTES: Final = 2**26


def to_array(lazy: Any, token: tuple[Any, ...], chunks: Any = None) -> Any:
    """A dask array over a lazy value.

    Args:
        lazy: a value with `name`, `shape`, `ndim` and a `dtype` that has `numpy`; it can be indexed and pickled.
        token: identifies the value among all others; its `repr` becomes part of dask's key.
        chunks: as in dask; None for `runs`.
    """
    with optional_import("dask"):
        import dask.array as da

    dtype = lazy.dtype.numpy
    if chunks is None:
        chunks = runs(lazy.shape, dtype.itemsize)
    identity = hashlib.blake2b(repr((token, chunks)).encode(errors="surrogatepass"), digest_size=16).hexdigest()
    return da.from_array(
        _Sliced(lazy, dtype), chunks, name=f"lazyckpt-{identity}", lock=False, asarray=True, inline_array=True,
        meta=np.empty((0,) * len(lazy.shape), dtype),
    )  # fmt: skip


def of_memory(array: npt.NDArray[Any], chunks: Any = None) -> Any:
    """A dask array over an array in memory, which becomes part of the graph."""
    with optional_import("dask"):
        import dask.array as da

    return da.from_array(array, runs(array.shape, array.itemsize) if chunks is None else chunks)


class _Sliced:
    """A lazy value with a numpy dtype, as dask expects."""

    __slots__ = ("_lazy", "dtype")

    def __init__(self, lazy: Any, dtype: np.dtype[Any]) -> None:
        self._lazy = lazy
        self.dtype = dtype

    def __reduce__(self) -> tuple[Any, ...]:
        return _Sliced, (self._lazy, self.dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        shape: tuple[int, ...] = self._lazy.shape
        return shape

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __getitem__(self, key: Any) -> Any:
        return np.asarray(self._lazy[key])


def runs(shape: tuple[int, ...], itemsize: int, most: int = CHUNK_BYTES) -> tuple[int, ...]:
    """The shape of contiguous chunks of a C-ordered array with at most `most` bytes.

    A chunk cuts one axis: it has length 1 on all axes before that one, and the full length on all axes after it.
    """
    room = max(1, most // itemsize)
    chunk: list[int] = []
    for axis, size in enumerate(shape):
        inner = math.prod(shape[axis + 1 :])
        chunk.append(max(1, min(size, room // max(1, inner))) if math.prod(chunk) == 1 else size)
    return tuple(chunk)
