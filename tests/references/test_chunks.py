"""Values are cut into chunks so that zarr's assembly of their bytes gives the value."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyckpt.model.entry import Extent
from lazyckpt.references.chunks import COPIED, MOST, Grid, cuts, plan

MIB = 2**20


@st.composite
def values(draw):
    """A shape, an item size, offsets of pieces (with gaps), the requested chunk size, and the end of the file."""
    shape = tuple(draw(st.lists(st.integers(0, 9), max_size=4)))
    itemsize = draw(st.sampled_from([1, 2, 4, 8]))
    total = math.prod(shape) * itemsize
    borders = sorted(draw(st.lists(st.integers(0, total), max_size=3)))
    lengths = [stop - start for start, stop in itertools.pairwise([0, *borders, total])]
    offset, extents = draw(st.integers(0, 5)), []
    for length in lengths:
        extents.append(Extent(offset, length))
        offset += length + draw(st.integers(0, 5))
    most = draw(st.none() | st.integers(1, 200))
    end = sum(extents[-1]) + draw(st.integers(0, 300))
    return shape, itemsize, extents, most, end


def content_of(shape, itemsize, extents, end):
    """A file of different bytes, and a value in it."""
    file = np.random.default_rng(0).integers(0, 256, end, np.uint8).tobytes()
    data = b"".join(file[offset : offset + length] for offset, length in extents)
    return file, np.frombuffer(data, f"V{itemsize}").reshape(shape)


@given(values())
def test_chunks_put_together_are_the_value(case):
    """A chunk that is one run is read from the file, whole, as readers do; one in several runs is a copy."""
    shape, itemsize, extents, most, end = case
    file, value = content_of(shape, itemsize, extents, end)
    grid = plan(shape, itemsize, tuple(length for _, length in extents), most, end - sum(extents[-1]))
    made = np.zeros([count * size for count, size in zip(grid.counts, grid.chunk, strict=True)], value.dtype)
    for place, runs in zip(itertools.product(*map(range, grid.counts)), cuts(grid, extents), strict=False):
        offset = runs[0].offset
        if len(runs) == 1 and offset + grid.nbytes <= end:
            content = file[offset : offset + grid.nbytes]
        else:
            assert grid.across
            content = b"".join(file[at : at + length] for at, length in runs).ljust(grid.nbytes, b"\0")
        at = tuple(slice(n * size, (n + 1) * size) for n, size in zip(place, grid.chunk, strict=True))
        made[at] = np.frombuffer(content, value.dtype).reshape(grid.chunk)

    assert made[tuple(map(slice, shape))].tobytes() == value.tobytes()


@given(values())
def test_there_is_a_run_for_each_chunk(case):
    """The runs cover all of the value's bytes, one for each chunk."""
    shape, itemsize, extents, most, end = case
    grid = plan(shape, itemsize, tuple(length for _, length in extents), most, end - sum(extents[-1]))
    found = list(cuts(grid, extents))

    assert len(found) == (math.prod(grid.counts) if math.prod(shape) else 0)
    assert sum(run.length for runs in found for run in runs) == math.prod(shape) * itemsize


@given(values())
def test_a_value_in_one_piece_is_never_copied(case):
    """A contiguous value is not copied, for any requested size."""
    shape, itemsize, extents, most, _ = case
    total = sum(length for _, length in extents)

    assert not plan(shape, itemsize, (total,), most, 0).across


def test_a_value_is_one_chunk_by_default():
    """A value of any size, also a scalar, is one chunk."""
    assert plan((7, 5), 4, (140,)) == Grid((7, 5), (1, 1), 140)
    assert plan((), 8, (8,)) == Grid((), (), 8)


def test_an_empty_value_has_no_chunks():
    """The chunks of an empty value still have a shape, which zarr requires."""
    assert plan((0, 5), 4, ()) == Grid((1, 5), (0, 0), 0)


def test_large_values_are_cut_into_rows():
    """Chunks are equal and have as many rows as fit."""
    assert plan((4096, 4096), 4, (64 * MIB,), 16 * MIB) == Grid((1024, 4096), (4, 1), 16 * MIB)


def test_rows_that_do_not_divide_are_read_on_into_the_file():
    """The last chunk extends a few rows into the following bytes of the file, which readers cut off."""
    rows, row = 151_643, 8192

    grid = plan((rows, row // 2), 2, (rows * row,), 64 * MIB, room=MIB)

    assert grid.counts == (19, 1)
    assert 0 < 19 * grid.chunk[0] - rows < 19
    assert grid.nbytes <= 64 * MIB


def test_at_the_end_of_a_file_only_divisors_will_do():
    """At the end of the file no bytes follow, so only divisors of the rows are possible."""
    assert plan((1000, 256), 4, (1_024_000,), 300_000).chunk == (250, 256)


def test_a_number_of_rows_that_nothing_divides_stays_whole():
    """Chunks of one row would be too many, and a value is copied only on request."""
    assert plan((10_007, 256), 4, (10_007 * 1024,), MIB) == Grid((10_007, 256), (1, 1), 10_007 * 1024)


def test_rows_that_are_too_long_are_cut_themselves():
    """A long row has several chunks of its own."""
    assert plan((3, 8 * MIB), 4, (96 * MIB,), 4 * MIB) == Grid((1, MIB), (3, 8), 4 * MIB)


def test_pieces_whose_borders_are_rows_need_no_copies():
    """MindSpore cuts large values every 512 MiB, which is a border of rows of a power of two."""
    half = 512 * MIB
    rows, row = 151_936, 16_384
    pieces = (half, half, half, half, rows * row - 4 * half)

    assert plan((rows, row // 4), 4, pieces) == Grid((128, 4096), (1187, 1), 128 * row)


def test_pieces_that_end_within_a_row_need_few_copies():
    """Chunks are then small, and only those across a border are copied."""
    half = 512 * MIB
    rows, row = 49_153, 12_288
    extents = [Extent(100, half), Extent(half + 200, rows * row - half)]

    grid = plan((rows, row // 2), 2, tuple(length for _, length in extents), room=0)

    assert grid.across
    assert grid.nbytes <= COPIED
    assert sum(len(runs) > 1 for runs in cuts(grid, extents)) == 1


@pytest.mark.parametrize("most", [1, 2, 100])
def test_a_wish_for_tiny_chunks_has_limits(most):
    """There are at most 65,536 chunks."""
    grid = plan((1000, 1000, 10), 4, (40_000_000,), most)

    assert math.prod(grid.counts) <= MOST


def test_a_long_string_in_pieces_is_no_array():
    """A string is one element, so a long one in pieces cannot be copied."""
    assert plan((), 4 * MIB, (3 * MIB, MIB)) is None
