"""A window gives byte access to a source and fetches no more than needed."""

from __future__ import annotations

import pytest
from checkpoints import pattern
from hypothesis import given
from hypothesis import strategies as st
from tracing import TracingSource

from lazyckpt.sources.base import BytesSource
from lazyckpt.sources.window import SparseBuffer, Window, as_buffer

DATA = pattern(1000)
_offsets = st.integers(0, len(DATA) - 1)
_slices = st.builds(slice, st.none() | st.integers(0, 1100), st.none() | st.integers(0, 1100))
_windows = st.builds(
    TracingSource, st.just(DATA), st.sampled_from([1, 2, 7, 64, 999, 1000, 5000]), st.sampled_from([0, 32, 512])
)


def test_an_addressable_source_is_looked_at_as_it_is():
    """Bytes in memory are read without a window."""
    seen = as_buffer(BytesSource(DATA))

    assert isinstance(seen, memoryview)
    assert seen == DATA


def test_any_other_source_is_looked_at_through_a_window():
    """Creating a window reads nothing."""
    source = TracingSource(DATA)

    assert (type(as_buffer(source)), source.reads) == (Window, [])


@given(_windows, st.lists(_offsets | _slices, max_size=30))
def test_a_window_is_indexed_as_bytes_are(source, keys):
    """Any byte or slice, in any order, through a window of any size, equals the bytes'."""
    window = as_buffer(source)
    found = [bytes(window[key]) if isinstance(key, slice) else window[key] for key in keys]

    assert (len(window), found) == (len(DATA), [DATA[key] for key in keys])


@given(_windows, st.lists(_offsets, min_size=1, max_size=30), st.booleans())
def test_a_run_shows_the_bytes_from_its_beginning(source, positions, fresh):
    """`run_from` gives bytes that contain the position, and begin there on request."""
    window = as_buffer(source)
    for position in positions:
        run, base = window.run_from(position, fresh)

        assert base == position if fresh else base <= position < base + len(run)
        assert run == DATA[base : base + len(run)]


@pytest.mark.parametrize("offset", [1000, 1001, 2**40])
def test_no_byte_stands_past_the_end(offset):
    """A single byte there raises IndexError, as for bytes, and nothing is read."""
    source = TracingSource(DATA, window=64)

    with pytest.raises(IndexError):
        as_buffer(source)[offset]
    assert source.reads == []


def test_an_empty_source_can_be_looked_at():
    """An empty source has no byte, and its slices are empty."""
    window = as_buffer(TracingSource(b"", window=64))

    assert (len(window), bytes(window[0:10])) == (0, b"")


def test_what_was_fetched_is_not_fetched_again():
    """Bytes inside the last fetch are not fetched again."""
    source = TracingSource(DATA, window=100)
    window = as_buffer(source)
    seen = [window[50], window[60], window[149], bytes(window[70:150]), bytes(window[150:150])]

    assert source.reads == [(50, 100)]
    assert seen == [DATA[50], DATA[60], DATA[149], DATA[70:150], b""]


def test_a_fetch_ends_with_the_source():
    """No bytes beyond the source's end are requested."""
    source = TracingSource(DATA, window=100)

    assert (as_buffer(source)[950], source.reads) == (DATA[950], [(950, 50)])


def test_a_long_slice_is_one_fetch():
    """A slice longer than the window takes one fetch."""
    source = TracingSource(DATA, window=10)

    assert (bytes(as_buffer(source)[5:500]), source.reads) == (DATA[5:500], [(5, 495)])


def fetched(source, offsets):
    """The lengths of the fetches when these bytes are read, one after another."""
    window = as_buffer(source)
    for offset in offsets:
        window[offset]
    return [length for _, length in source.reads]


def test_fetches_grow_while_headers_lie_close_together():
    """Each fetch that continues the last one is twice as long, up to the source's limit."""
    source = TracingSource(pattern(10_000), window=16, window_limit=100)

    assert fetched(source, range(600)) == [16, 32, 64, 100, 100, 100, 100, 100]


def test_fetches_shrink_again_after_a_long_hop():
    """A header far from the last one is fetched with the source's own window."""
    source = TracingSource(pattern(10_000), window=16, window_limit=100)

    assert fetched(source, [0, 16, 48, 5000, 9000, 9016]) == [16, 32, 64, 16, 16, 32]


def test_fetches_do_not_grow_without_a_limit():
    """A source without a limit is read only in its own window."""
    source = TracingSource(pattern(1000), window=16)

    assert fetched(source, range(160)) == [16] * 10


PIECES = [(10, memoryview(b"abcdef")), (100, memoryview(b"?")), (200, memoryview(b"xyz"))]


def test_a_patch_is_indexed_by_offsets_in_the_source():
    """Bytes and runs of pieces read before are found at their offsets."""
    patch = SparseBuffer(PIECES)

    assert [patch[10], patch[15], bytes(patch[11:14]), bytes(patch[200:203])] == [97, 102, b"bcd", b"xyz"]


def test_an_empty_run_is_in_every_patch():
    """An empty run needs no bytes."""
    assert [bytes(SparseBuffer(PIECES)[place:place]) for place in (0, 12, 100, 5000)] == [b""] * 4


@pytest.mark.parametrize("key", [9, 16, 99, 101, 203, slice(8, 12), slice(14, 17), slice(15, 201), slice(300, 301)])
def test_what_is_not_in_a_patch_is_an_index_error(key):
    """A byte beside the pieces, or a run that leaves one, raises IndexError."""
    with pytest.raises(IndexError):
        SparseBuffer(PIECES)[key]
