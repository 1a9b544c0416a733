"""Chunks of dask arrays: runs of the file, of a size that suits a task. (Arrays themselves: tests/interop/dask.)"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyckpt.tensors.dask import runs

MIB = 2**20


@pytest.mark.parametrize(
    ("shape", "itemsize", "chunk"),
    [
        ((), 8, ()),
        ((3, 4), 4, (3, 4)),
        ((0, 5), 4, (1, 5)),
        ((3, 0), 4, (3, 0)),
        ((1000, MIB), 4, (16, MIB)),
        ((4, 1000 * MIB), 4, (1, 16 * MIB)),
        ((2, 3, 100 * MIB, 10), 1, (1, 1, 64 * MIB // 10, 10)),
    ],
)
def test_chunks_are_rows_or_parts_of_rows(shape, itemsize, chunk):
    """64 MiB at most: as many rows as that holds, or, of rows that are larger, as much of one."""
    assert runs(shape, itemsize) == chunk


@given(st.lists(st.integers(1, 7), max_size=4), st.integers(1, 200))
def test_every_chunk_is_one_run_of_the_array(shape, most):
    """Whatever the shape: the elements of a chunk follow each other, and there are at most so many."""
    chunk = runs(tuple(shape), 1, most)
    places = np.arange(math.prod(shape)).reshape(shape)
    for corner in itertools.product(*(range(0, size, step) for size, step in zip(shape, chunk, strict=True))):
        part = places[tuple(slice(start, start + step) for start, step in zip(corner, chunk, strict=True))].reshape(-1)

        assert part.size <= most
        assert part.tolist() == list(range(part[0], part[0] + part.size))
