"""A treemap's layout: areas proportional to sizes, without overlap, as square as possible."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyckpt.views.treemap import Box, squarified

ROOM = Box(2, 3, 60, 40)


def test_the_published_example():
    """Areas 6 6 4 3 2 2 1 in 6 by 4: two columns of three, then the rest, as in the paper."""
    boxes = squarified([6, 6, 4, 3, 2, 2, 1], Box(0, 0, 6, 4))

    assert [tuple(round(side, 2) for side in box[2:]) for box in boxes[:4]] == [
        (3, 2),
        (3, 2),
        (1.71, 2.33),
        (1.29, 2.33),
    ]


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=40).filter(any))
def test_areas_are_as_sizes(sizes):
    """Each rectangle lies inside the area and has the share of its size."""
    boxes = squarified(sorted(sizes, reverse=True), ROOM)
    whole = ROOM.width * ROOM.height / sum(sizes)

    assert [box.width * box.height for box in boxes] == pytest.approx(
        [size * whole for size in sorted(sizes, reverse=True)], rel=1e-6, abs=1e-6
    )
    for box in boxes:
        assert box.x >= ROOM.x - 1e-6
        assert box.y >= ROOM.y - 1e-6
        assert box.x + box.width <= ROOM.x + ROOM.width + 1e-6
        assert box.y + box.height <= ROOM.y + ROOM.height + 1e-6


@given(st.lists(st.integers(1, 1000), min_size=2, max_size=20))
def test_no_two_overlap(sizes):
    """Any two rectangles are side by side, or one above the other."""
    boxes = squarified(sorted(sizes, reverse=True), ROOM)
    overlapping = [
        (one, two)
        for number, one in enumerate(boxes)
        for two in boxes[:number]
        if min(one.x + one.width, two.x + two.width) - max(one.x, two.x) > 1e-6
        and min(one.y + one.height, two.y + two.height) - max(one.y, two.y) > 1e-6
    ]

    assert overlapping == []


def test_equal_sizes_are_nearly_square():
    """No rectangle is longer than twice its width."""
    ratios = [max(box.width / box.height, box.height / box.width) for box in squarified([1] * 24, ROOM)]

    assert max(ratios) < 2


@pytest.mark.parametrize(("sizes", "room"), [([], ROOM), ([0, 0], ROOM), ([1, 2], Box(0, 0, 0, 5))])
def test_nothing_to_lay_out(sizes, room):
    """Without sizes or without area, rectangles are empty."""
    assert [box.width * box.height for box in squarified(sizes, room)] == [0] * len(sizes)
