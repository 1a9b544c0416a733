"""Offsets in a value become offsets in its file, however many slices it has."""

from __future__ import annotations

import pytest
from checkpoints import pattern
from hypothesis import example, given
from hypothesis import strategies as st
from steps import steps_in

from lazyckpt.model.entry import Extent
from lazyckpt.reading import extent_map
from lazyckpt.reading.extent_map import ExtentMap
from lazyckpt.sources.base import BytesSource

FILE = BytesSource(pattern(400))
EXTENTS = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 100)), max_size=6).map(
    lambda pairs: tuple(Extent(*pair) for pair in pairs)
)


def content_of(extents):
    """The content of these extents."""
    return b"".join(bytes(FILE.read(*extent)) for extent in extents)


@given(EXTENTS, st.data())
@example((Extent(3, 0), Extent(9, 4), Extent(5, 0), Extent(1, 0), Extent(40, 2)), None)
def test_a_range_of_a_content_may_cross_extents(extents, data):
    """Requests read any range of a content, in one request for each extent that it meets, and no byte outside of it."""
    content = content_of(extents)
    start, stop = (
        (0, len(content)) if data is None else sorted(data.draw(st.tuples(*[st.integers(0, len(content))] * 2)))
    )
    made = memoryview(bytearray(stop - start))
    requests = ExtentMap(extents).requests(start, made)
    FILE.read_many(requests)

    assert bytes(made) == content[start:stop]
    assert sum(part.nbytes for _, part in requests) == stop - start
    assert all(part.nbytes for _, part in requests)
    assert len(requests) <= len(extents)


def test_a_range_beyond_the_content_is_an_error():
    """A range that ends after the last extent raises, and is not filled in part."""
    with pytest.raises(IndexError):
        ExtentMap((Extent(0, 4), Extent(9, 4))).requests(6, memoryview(bytearray(3)))


@pytest.mark.parametrize("count", [1, 2, 2000, 50_000])
def test_a_search_takes_few_steps_among_many_extents(count):
    """A range in the last of many extents is found in as many steps as one in a single extent."""
    extents = ExtentMap(tuple(Extent(10 * number, 2) for number in range(count)))
    buffer = memoryview(bytearray(2))

    assert steps_in([extent_map], lambda: extents.requests(2 * count - 2, buffer)) < 20
    assert extents.requests(2 * count - 2, buffer)[0][0] == 10 * (count - 1)
