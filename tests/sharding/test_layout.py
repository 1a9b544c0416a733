"""Layouts as pure functions: what a layout cuts, it also assembles."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from checkpoints import checkpoint, counting
from hypothesis import given
from hypothesis import strategies as st
from tracing import TracingSource

from lazyckpt.checkpoint import Checkpoint
from lazyckpt.formats import FORMATS
from lazyckpt.index.footer import Meta
from lazyckpt.index.open_file import OpenFile
from lazyckpt.index.selection import AllNames
from lazyckpt.index.store import MemoryStore
from lazyckpt.index.stored import StoredIndex
from lazyckpt.model.entry import Fingerprint
from lazyckpt.sharding.concatenated import concatenated_format
from lazyckpt.sharding.layout import ImpossibleLayout, box_of, devices_of, partition_of, whole_of
from lazyckpt.sharding.shard_index import Rank, ShardedIndex, ShardResolver
from lazyckpt.sharding.shard_reader import ShardReader
from lazyckpt.sharding.strategy import Layout
from lazyckpt.sources.base import BytesSource
from lazyckpt.sources.concatenated import ConcatenatedSource


@st.composite
def layouts(draw):
    """Any layout of up to three axes over up to 24 devices, nested cuts and optimizer shards among them."""
    devices = tuple(draw(st.lists(st.sampled_from([1, 2, 3]), min_size=1, max_size=4)))
    free = draw(st.permutations(range(len(devices))))
    maps = []
    for _ in range(draw(st.integers(0, 3))):
        taken, free = free[: (count := draw(st.integers(0, min(2, len(free)))))], free[count:]
        maps.append(tuple(taken) or (-1,))
    optimizer = draw(st.booleans())
    copies = math.prod(devices[len(devices) - 1 - axis] for axis in free)
    size = draw(st.sampled_from([-1, *(size for size in range(1, copies + 1) if copies % size == 0)]))
    return Layout(devices, tuple(maps), optimizer, size if optimizer else 0)


def slow_pieces(layout, whole):
    """The slice of every rank, cut step by step with numpy."""
    devices, pieces = layout.devices, []
    used = {len(devices) - 1 - axis for axes in layout.maps for axis in axes if axis != -1}
    for coordinates in itertools.product(*map(range, devices)):
        piece = whole
        for number, axes in enumerate(layout.maps):
            for axis in axes:
                if axis != -1:
                    device = len(devices) - 1 - axis
                    piece = np.split(piece, devices[device], number)[coordinates[device]]
        if layout.optimizer and layout.maps:
            replica, copies = 0, 1
            for device in range(len(devices)):
                if device not in used:
                    replica = replica * devices[device] + coordinates[device]
                    copies *= devices[device]
            size = copies if layout.optimizer_size == -1 else layout.optimizer_size
            piece = np.split(piece, size, 0)[replica % size]
        pieces.append(piece)
    return pieces


def tensor_for(layout, unit=2):
    """A tensor that a layout cuts evenly."""
    return counting(tuple(unit * parts for parts in partition_of(layout).parts), "int32")


@given(layouts())
def test_every_rank_holds_the_box_that_it_was_given(layout):
    """A rank's slice, cut step by step, equals the layout's box, and its shape gives the shape of the whole."""
    whole = tensor_for(layout)
    cut = partition_of(layout)
    pieces = slow_pieces(layout, whole)

    assert len(pieces) == devices_of(layout)
    for local, piece in enumerate(pieces):
        place = cut.place_of(local)
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
    for place in cut.every_place():
        start = box_of(layout, place, shard)
        counts[tuple(slice(begin, begin + size) for begin, size in zip(start, shard, strict=True))] += 1

    assert (counts == 1).all()


@given(layouts())
def test_the_holders_of_a_part_are_the_ranks_whose_part_it_is(layout):
    """Ranks to parts and parts to ranks is the same relation, and each part's ranks ascend."""
    cut = partition_of(layout)
    by_rank = {}
    for local in range(devices_of(layout)):
        by_rank.setdefault(cut.place_of(local), []).append(local)

    assert {place: list(cut.holders_of(place)) for place in cut.every_place()} == by_rank


def distributed(layout, whole, lost=(), source_of=BytesSource):
    """A checkpoint of the slices of `w`, from the files of every rank but the lost ones, and its reader."""
    files = {
        number: checkpoint({"w": piece})
        for number, piece in enumerate(slow_pieces(layout, whole))
        if number not in lost
    }
    ranks, base = {}, 0
    for number, data in files.items():
        entries = StoredIndex(MemoryStore(FORMATS["ckpt"].find(BytesSource(data)), Meta(Fingerprint(0, 0, bytes(16)))))
        ranks[number] = Rank(f"rank_{number}", entries, base)
        base += len(data)
    source = ConcatenatedSource("all", [source_of(data) for data in files.values()])
    resolver = ShardResolver(ranks, {0: {"w": layout}})
    index = ShardedIndex(resolver, ranks)
    form = concatenated_format(FORMATS["ckpt"], source)
    return Checkpoint(ShardReader(OpenFile(source, form, index)), AllNames(index))


def keys_of(shape):
    """Any key that numpy accepts for this shape: indexes, slices, an ellipsis, a leading array."""
    axis = [st.one_of(st.integers(-size, size - 1), st.slices(size)) if size else st.slices(size) for size in shape]
    whole = st.tuples(*axis)
    arrays = st.lists(st.integers(-shape[0], shape[0] - 1), max_size=4).map(lambda rows: np.array(rows, int))
    masks = st.lists(st.booleans(), min_size=shape[0], max_size=shape[0]).map(lambda rows: np.array(rows, bool))
    ends = [st.slices(size) for size in shape[1:]]
    return st.one_of(
        whole,
        whole.flatmap(lambda key: st.integers(0, len(key)).map(lambda count: key[:count])),
        whole.flatmap(lambda key: st.integers(0, len(key)).map(lambda count: (*key[:count], ..., *key[count:]))),
        st.tuples(arrays, *ends),
        st.tuples(masks, *ends),
    )


@given(st.data(), layouts().filter(lambda layout: layout.maps))
def test_reads_of_any_slice_are_those_of_the_whole(data, layout):
    """For any cut and any key, the answer assembled from boxes equals numpy's."""
    whole = tensor_for(layout, unit=data.draw(st.integers(1, 3)))
    key = data.draw(keys_of(whole.shape))
    found = distributed(layout, whole)["w"][key]

    assert type(found) is type(whole[key])
    assert (found.shape, found.dtype, found.tolist()) == (whole[key].shape, whole.dtype, whole[key].tolist())


@given(st.data(), layouts().filter(lambda layout: layout.maps))
def test_rows_are_read_of_the_shards_that_hold_them_and_of_no_others(data, layout):
    """A range of rows reads only its own bytes of the slices that it meets, and headers."""
    whole = tensor_for(layout, unit=3)
    start = data.draw(st.integers(0, len(whole) - 1))
    stop = data.draw(st.integers(start + 1, len(whole)))
    ckpt = distributed(layout, whole, source_of=TracingSource)
    param = ckpt["w"]
    for part in ckpt._access.stored.source.parts:
        part.reads.clear()
    param[start:stop]
    allowed = 0
    for box in ckpt._access.reader._boxes("w"):
        rows = min(stop, box.start[0] + box.entry.shape[0]) - max(start, box.start[0])
        if rows > 0:
            headers = sum(extent.length for extent in FORMATS["ckpt"].header_extents(box.entry))
            allowed += headers + rows * box.entry.nbytes // box.entry.shape[0]

    assert sum(length for part in ckpt._access.stored.source.parts for _, length in part.reads) <= allowed


@given(st.data(), layouts())
def test_any_copy_will_do(data, layout):
    """If one rank of each group of copies is left, nothing is lost."""
    whole = tensor_for(layout)
    cut = partition_of(layout)
    groups = [list(cut.holders_of(place)) for place in cut.every_place()]
    lost = [rank for ranks in groups for rank in set(ranks) - {data.draw(st.sampled_from(ranks))}]
    ckpt = distributed(layout, whole, lost)

    assert ckpt["w"].asnumpy().tolist() == whole.tolist()
    assert ckpt.load()["w"].tolist() == whole.tolist()


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

    assert [box_of(layout, cut.place_of(local), (rows, 4)) for local, rows in enumerate((5, 1, 2))] == [
        (0, 0), (5, 0), (6, 0)
    ]  # fmt: skip
    assert whole_of(layout, cut, (5, 4)) == (8, 4)
    with pytest.raises(ImpossibleLayout, match="4 rows, the strategy says 5"):
        box_of(layout, (0, 0), (4, 4))


def test_slices_of_another_number_of_axes_are_refused():
    """A strategy and a file with different numbers of axes belong to different models."""
    with pytest.raises(ImpossibleLayout, match="1 axes, the strategy cuts 2"):
        box_of(Layout((2,), ((0,), (-1,))), (0, 0), (4,))
