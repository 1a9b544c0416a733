"""Whole tensors from boxes in many files: whatever is asked for is what numpy gives of the whole."""

from __future__ import annotations

import numpy as np
import pytest
from checkpoints import array_value, checkpoint, counting
from hypothesis import given
from hypothesis import strategies as st
from rank_slices import distributed, layouts, merged, tensor_for
from sharded_sets import facts, opened, truth
from tracing import TracingSource

from lazyckpt.errors import CorruptFile
from lazyckpt.formats import FORMATS
from lazyckpt.model.entry import TENSOR
from lazyckpt.sharding.strategy import Layout

HALVES = Layout((2,), ((0,), (-1,)))  # two ranks, each with half of the rows
COPIES = Layout((2,), ((-1,), (-1,)))  # two ranks, each with all of the tensor
WHOLE = counting((4, 3))


def two_ways():
    """A tensor in two boxes (`cut`), one in one box (`copied`), and a string and a tensor that are not cut."""
    files = {
        rank: checkpoint({"cut": half, "copied": WHOLE, "s": "text", "free": WHOLE + 1})
        for rank, half in enumerate(np.split(WHOLE, 2))
    }
    return merged(files, {0: {"cut": HALVES, "copied": COPIES}})


def reader_and_entry(name):
    """The reader of `two_ways`, and an entry."""
    ckpt = two_ways()
    return ckpt._access.reader, ckpt.entry(name)


@given(layouts(), st.integers(1, 100))
def test_every_way_of_reading_gives_the_whole_tensor(layout, size):
    """A view, a copy, a writable array, a value, and the joined pieces of a stream, however small."""
    whole = tensor_for(layout)
    ckpt = distributed(layout, whole)
    reader, entry = ckpt._access.reader, ckpt.entry("w")
    ways = [
        reader.view(entry),
        reader.copy(entry),
        reader.writable(entry),
        reader.value(entry),
        *reader.values([entry]),
    ]

    assert all((way.shape, way.tolist()) == (whole.shape, whole.tolist()) for way in ways)
    assert b"".join(reader.stored(entry, size)) == whole.tobytes()


@pytest.mark.parametrize(("name", "shared"), [("cut", False), ("copied", True), ("free", True)])
def test_a_tensor_in_one_place_is_a_view(name, shared):
    """Two views of it share their memory; of a tensor in several boxes each is a new array."""
    reader, entry = reader_and_entry(name)

    assert np.shares_memory(reader.view(entry), reader.view(entry)) is shared


@pytest.mark.parametrize("name", ["cut", "copied", "free"])
def test_copies_are_writable_and_apart(name):
    """What is written to one shows in no other, nor in a view."""
    reader, entry = reader_and_entry(name)
    before = reader.copy(entry)
    for make in (reader.copy, reader.writable):
        make(entry)[...] = -1

    assert reader.view(entry).tolist() == reader.copy(entry).tolist() == before.tolist()


@pytest.mark.parametrize(("name", "done"), [("cut", False), ("copied", True), ("free", True)])
def test_an_array_is_filled_from_one_place_only(name, done):
    """Otherwise it stays as it is, and the answer says so."""
    reader, entry = reader_and_entry(name)
    target = np.full(entry.shape, -1, "float32")
    expected = reader.copy(entry) if done else target.copy()

    assert reader.fill(entry, target) is done
    assert target.tolist() == expected.tolist()


def test_values_come_in_the_order_asked_for():
    """Of cut tensors, whole ones and strings in any mixture."""
    ckpt = two_ways()
    names = ["s", "cut", "free", "copied", "cut"]
    found = ckpt._access.reader.values([ckpt.entry(name) for name in names])

    assert [value if isinstance(value, str) else value.tolist() for value in found] == [
        "text", WHOLE.tolist(), (WHOLE + 1).tolist(), WHOLE.tolist(), WHOLE.tolist()
    ]  # fmt: skip


def test_the_boxes_of_a_tensor_begin_where_its_parts_begin():
    """Two of a tensor that is cut in two, one at the origin of any other."""
    ckpt = two_ways()
    starts = {
        name: [start for start, _ in ckpt._access.reader.boxes(ckpt.entry(name))]
        for name in ckpt
        if ckpt.entry(name).kind == TENSOR
    }

    assert starts == {"cut": [(0, 0), (2, 0)], "copied": [(0, 0)], "free": [(0, 0)]}


@pytest.mark.parametrize(
    "read",
    [
        lambda reader, entry: reader.view(entry),
        lambda reader, entry: reader.copy(entry),
        lambda reader, entry: reader.writable(entry),
        lambda reader, entry: reader.value(entry),
        lambda reader, entry: reader.values([entry]),
        lambda reader, entry: reader.part(entry, 0),
        lambda reader, entry: reader.fill(entry, np.empty((4, 3), "float32")),
        lambda reader, entry: list(reader.stored(entry)),
        lambda reader, entry: reader.piece_count(entry),
        lambda reader, entry: reader.boxes(entry),
    ],
    ids=["view", "copy", "writable", "value", "values", "part", "fill", "stored", "piece_count", "boxes"],
)
def test_a_refused_value_is_refused_by_every_read(read):
    """The error has the reason of its entry, and the parameter's name."""
    ckpt = merged({0: array_value("w", counting((2, 3)))}, {0: {"w": HALVES}})

    with pytest.raises(CorruptFile, match=r"rank 1 has no file.*in parameter 'w'"):
        read(ckpt._access.reader, ckpt.entry("w"))


def keys_of(shape):
    """Any key that numpy takes for a tensor of this shape: indexes, slices, an ellipsis, an array in front."""
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
    """Whatever the cut and whatever the key, an answer put together from boxes is numpy's."""
    whole = tensor_for(layout, unit=data.draw(st.integers(1, 3)))
    key = data.draw(keys_of(whole.shape))
    found = distributed(layout, whole)["w"][key]

    assert type(found) is type(whole[key])
    assert (found.shape, found.dtype, found.tolist()) == (whole[key].shape, whole.dtype, whole[key].tolist())


@given(st.data(), layouts().filter(lambda layout: layout.maps))
def test_rows_are_read_of_the_shards_that_hold_them_and_of_no_others(data, layout):
    """A range of rows reads bytes of the slices that it meets, at most those that it wants of each, and headers."""
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


KEYS = [0, -1, slice(1, 3), slice(None, None, 2), slice(None, None, -1), slice(6, 1, -3), ..., (slice(None), 1),
        (slice(2, 5), slice(1, 3)), (-1, slice(None, None, -2)), [0, 5, 5, -1], (slice(3, 3), 0), (..., 2),
        (slice(-3, None), ...), (np.array([1, 0]), slice(1, 2))]  # fmt: skip


def outcome(indexed, key):
    """What indexing gives, as something to compare."""
    try:
        value = indexed[key]
    except IndexError:
        return "IndexError"
    return type(value).__name__, value.shape, str(value.dtype), value.tobytes()


@pytest.mark.parametrize("name", ["mixed_2x4/protobuf", "opt8/all", "opt16_layout/all", "manual_split/uneven"])
def test_slices_are_numpys(name):
    """Whatever the cut, `param[key]` is what numpy gives of the whole: values, shape, or the same kind of error."""
    with opened(name) as ckpt:
        for one in truth(name):
            whole = ckpt[one].asnumpy(copy=True)
            for key in [*KEYS, np.arange(len(whole)) % 3 == 0] if whole.ndim else [(), ...]:
                assert outcome(ckpt[one], key) == outcome(whole, key), (one, key)


def test_loads_and_streams_are_the_whole_tensors():
    """`load`, `save` and the pieces of a stream give what `asnumpy` gives."""
    with opened("mixed_2x4/protobuf") as ckpt:
        loaded = ckpt.load()
        for name, array in loaded.items():
            entry = ckpt.entry(name)
            pieces = b"".join(piece.tobytes() for piece in ckpt._access.reader.pieces(entry, 64))

            assert facts(array) == facts(ckpt[name].asnumpy())
            assert pieces == array.tobytes()


def test_pieces_of_a_stream_can_be_asked_for_by_number():
    """Each is the one that the whole stream has at its place; they are rows, of however many files."""
    with opened("mixed_2x4/protobuf") as ckpt:
        for name in ckpt:
            entry = ckpt.entry(name)
            pieces = [piece.tobytes() for piece in ckpt._access.reader.pieces(entry, 64)]
            some = [
                b"".join(p.tobytes() for p in ckpt._access.reader.pieces(entry, 64, n, 2)) for n in range(len(pieces))
            ]

            assert ckpt._access.reader.piece_count(entry, 64) == len(pieces)
            assert some == [b"".join(pieces[number : number + 2]) for number in range(len(pieces))]


def test_nothing_is_read_but_the_slices_that_a_row_needs(monkeypatch):
    """One row of a tensor cut by rows touches the file of one rank."""
    with opened("llama2_tp2/tp2") as ckpt:
        name = next(name for name in ckpt if len(ckpt._access.reader._boxes(name) or ckpt.entry(name).extents) == 2
                    and ckpt[name].ndim == 2 and ckpt._access.reader._boxes(name)[1].start[0])  # fmt: skip
        touched = []
        for number, part in enumerate(ckpt._access.stored.source.parts):
            real = part._view
            monkeypatch.setattr(
                part, "_view", lambda at, size, number=number, real=real: (touched.append(number), real(at, size))[1]
            )
        ckpt[name][0]

        assert set(touched) == {0}
