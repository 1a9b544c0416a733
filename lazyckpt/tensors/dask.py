"""Values as dask arrays: each task reads its own chunk from the file.

Strategy: dask slices whatever has a shape and a `__getitem__`; a lazy value has both, and is in the graph as what it
pickles to: how its file is opened. A chunk is one run of the file unless it was asked for otherwise. Slices of the
array are merged by dask into the slices that tasks read.
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
        lazy: what has `name`, `shape`, `ndim`, a `dtype` with a `numpy`, and can be indexed and pickled.
        token: what tells it from all others; its `repr` counts.
        chunks: as dask takes them; None for `runs`.
    """
    with optional_import("dask"):
        import dask.array as da

    dtype = lazy.dtype.numpy
    if chunks is None:
        chunks = runs(lazy.shape, dtype.itemsize)
    told = hashlib.blake2b(repr((token, chunks)).encode(errors="surrogatepass"), digest_size=16).hexdigest()
    return da.from_array(
        _Sliced(lazy, dtype), chunks, name=f"lazyckpt-{told}", lock=False, asarray=True, inline_array=True,
        meta=np.empty((0,) * len(lazy.shape), dtype),
    )  # fmt: skip


def of_memory(array: npt.NDArray[Any], chunks: Any = None) -> Any:
    """A dask array over an array in memory, which is in the graph."""
    with optional_import("dask"):
        import dask.array as da

    return da.from_array(array, runs(array.shape, array.itemsize) if chunks is None else chunks)


class _Sliced:
    """A lazy value as dask wants it: its dtype is numpy's."""

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
    """The shape of chunks that are runs of a C-ordered array of at most so many bytes (or one element).

    Of one axis there are several elements in a chunk but not all; of those before it one, of those after it all.
    """
    room = max(1, most // itemsize)
    chunk: list[int] = []
    for axis, size in enumerate(shape):
        inner = math.prod(shape[axis + 1 :])
        chunk.append(max(1, min(size, room // max(1, inner))) if math.prod(chunk) == 1 else size)
    return tuple(chunk)
