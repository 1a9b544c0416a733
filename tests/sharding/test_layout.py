"""Layouts as pure functions: what a layout cuts, it also assembles."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from rank_slices import layouts, slow_pieces, tensor_for

from lazyckpt.sharding.layout import ImpossibleLayout, box_of, devices_of, partition_of, rank_count, whole_of
from lazyckpt.sharding.strategy import Layout


@given(layouts())
def test_every_rank_holds_the_box_that_it_was_given(layout):
    """A rank's slice, cut step by step, equals the layout's box, and its shape gives the shape of the whole."""
    whole = tensor_for(layout)
    cut = partition_of(layout)
    pieces = slow_pieces(layout, whole)

    assert len(pieces) == devices_of(layout)
    for local, piece in enumerate(pieces):
        place = cut.part_of(local)
        start = box_of(layout, place, piece.shape)
        box = tuple(slice(begin, begin + size) for begin, size in zip(start, piece.shape, strict=True))

        assert whole_of(layout, cut, piece.shape) == whole.shape
        assert np.array_equal(whole[box], piece)


@given(layouts())
def test_the_boxes_of_all_parts_fill_the_whole_once(layout):
    """Each element is in exactly one part."""
    whole = tensor_for(layout)
    cut = partition_of(layout)
    shard = tuple(size // parts for size, parts in zip(whole.shape, cut.parts, strict=True))
    counts = np.zeros(whole.shape, int)
    for place in cut.every_part():
        start = box_of(layout, place, shard)
        counts[tuple(slice(begin, begin + size) for begin, size in zip(start, shard, strict=True))] += 1

    assert (counts == 1).all()


@given(layouts())
def test_the_holders_of_a_part_are_the_ranks_whose_part_it_is(layout):
    """Ranks to parts and parts to ranks is the same relation, and each part's ranks ascend."""
    cut = partition_of(layout)
    by_rank = {}
    for local in range(devices_of(layout)):
        by_rank.setdefault(cut.part_of(local), []).append(local)

    assert {place: list(cut.holders_of(place)) for place in cut.every_part()} == by_rank


@pytest.mark.parametrize(
    ("layout", "reason"),
    [
        (Layout((2,), ((0,),), field=3), "interleaved"),
        (Layout((), ((-1,),)), "device matrix"),
        (Layout((2, 0), ((0,),)), "device matrix"),
        (Layout((2**11, 2**11), ((0,),)), "device matrix"),
        (Layout((2,), ((1,),)), "no device axis"),
        (Layout((2,), ((-2,),)), "no device axis"),
        (Layout((2, 2), ((0,), (0,))), "cuts twice"),
        (Layout((2,), ((-1,),), optimizer=True, optimizer_size=3), "2 copies cannot be cut into 3"),
        (Layout((2,), ((0,),), rows=(1, 2, 3), starts=(0, 1, 3)), "3 uneven parts"),
        (Layout((2,), (), rows=(1, 2), starts=(0, 1)), "2 uneven parts where 0"),
        (Layout((2,), ((0,),), rows=(1, 2), starts=(0, 2)), "do not fill .* one of 2 begins at 2"),
        (Layout((2,), ((0,),), rows=(2, 2), starts=(0, 1)), "do not fill .* one of 2 begins at 1"),
        (Layout((2,), ((0,),), rows=(5, -2), starts=(0, 5)), "do not fill"),
    ],
)
def test_impossible_layouts_are_refused(layout, reason):
    """Each impossible layout is refused with its own reason."""
    with pytest.raises(ImpossibleLayout, match=reason):
        partition_of(layout)


def test_uneven_parts_have_their_own_rows():
    """A part of an uneven cut has the strategy's number of rows and begins at its offset."""
    layout = Layout((3,), ((0,), (-1,)), rows=(5, 1, 2), starts=(0, 5, 6))
    cut = partition_of(layout)

    assert [box_of(layout, cut.part_of(local), (rows, 4)) for local, rows in enumerate((5, 1, 2))] == [
        (0, 0), (5, 0), (6, 0)
    ]  # fmt: skip
    assert whole_of(layout, cut, (5, 4)) == (8, 4)
    with pytest.raises(ImpossibleLayout, match="4 rows, the strategy says 5"):
        box_of(layout, (0, 0), (4, 4))


def test_slices_of_another_number_of_axes_are_refused():
    """A strategy and a file with different numbers of axes belong to different models."""
    with pytest.raises(ImpossibleLayout, match="1 axes, the strategy cuts 2"):
        box_of(Layout((2,), ((0,), (-1,))), (0, 0), (4,))


@pytest.mark.parametrize(
    ("strategy", "count"),
    [
        ({0: {"w": Layout((2, 4), ()), "v": Layout((8,), ())}}, 8),
        ({0: {"w": Layout((4,), ())}, 1: {"v": Layout((4,), ())}}, 8),
        ({0: {}, 1: {}}, 0),
    ],
)
def test_the_ranks_of_all_stages_are_counted(strategy, count):
    """Each stage has as many ranks as its device matrices."""
    assert rank_count(strategy) == count
