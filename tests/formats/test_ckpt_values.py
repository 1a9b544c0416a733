"""Values in slices: they are joined, and hostile ones cost little memory."""

from __future__ import annotations

import tracemalloc

import pytest
from checkpoints import array_value, chunk, counting, map_value, tensor, tensor_value, value

from lazyckpt.formats import find, scan
from lazyckpt.formats.ckpt_header import TensorHeader
from lazyckpt.formats.ckpt_values import MOST_ARRAYS, MOST_SLICES, Slice, join, judged
from lazyckpt.model.entry import entry_of
from lazyckpt.sources.base import BytesSource

MAP_OF_A_BYTE = value(chunk(1, b"w"), chunk(3, chunk(1, b"".join(tensor([1], "int8", b"x")))))
HOSTILE = {
    "empty values": b"\x0a\x00" * 150_000,
    "slices of a byte": tensor_value("w", [1], "Int8", b"x") * 15_000,
    "slices without a type": value(chunk(2, chunk(3, b"x"))) * 40_000,
    "slices of a map": MAP_OF_A_BYTE * 15_000,
    "dims": value(chunk(1, b"w"), chunk(2, b"\x08\x01" * 150_000)),
    "packed dims": value(chunk(1, b"w"), chunk(2, chunk(1, b"\x01" * 300_000))),
    "arrays of a map": value(chunk(1, b"w"), chunk(3, b"\x0a\x00" * 150_000)),
    "tensors of one value": value(chunk(1, b"w"), b"\x12\x00" * 150_000),
}


def header(dims, dtype, content):
    """The header of a tensor, with an extent."""
    made = TensorHeader()
    made.dims, made.type, made.content = dims, dtype, content
    return made


def slice_of(*headers, is_map=False, name=b"w", start=0):
    """A Value with these headers."""
    return Slice(name, is_map, list(headers), start, start + 10)


@pytest.mark.parametrize(("more", "kind"), [(0, "tensor"), (1, "refused")])
def test_a_value_has_a_limited_number_of_slices(more, kind):
    """As many as 8 TiB would have are joined; with one more the value is refused, and the next one is read."""
    size = MOST_SLICES + more
    data = tensor_value("w", [size], "Int8", b"1") * size + array_value("v", 2)

    assert [entry[:2] for entry in scan(BytesSource(data), "ckpt")] == [("w", kind), ("v", "tensor")]


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_hostile_values_take_little_memory(data):
    """A walk over values of many small items takes at most four bytes for each byte of the file."""
    source = BytesSource(data)
    list(find(BytesSource(MAP_OF_A_BYTE), "ckpt"))
    tracemalloc.start()
    found = list(find(source, "ckpt"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert (len(found), peak < 4 * len(data)) == (1, True)


def test_slices_are_joined_in_place():
    """The first slice becomes the joined value, which the next ones are added to."""
    first = slice_of(header([4], "Int8", (5, 2)))
    joined = join(first, slice_of(header([4], "Int8", (15, 2)), start=10))

    assert join(joined, slice_of(header([4], "Int8", (25, 0)), start=20)) is joined
    assert entry_of(judged(joined))[:7] == (
        "w",
        "tensor",
        entry_of(judged(joined)).dtype,
        (4,),
        ((5, 2), (15, 2)),
        0,
        30,
    )


def test_a_map_and_a_tensor_are_not_joined():
    """A Value of another kind replaces the one before it."""
    assert join(slice_of(header([1], "Int8", (5, 1))), slice_of(is_map=True)) is None


@pytest.mark.parametrize("count", range(MOST_ARRAYS + 3))
def test_a_map_has_up_to_three_arrays(count):
    """A map of more arrays is refused, as MindSpore refuses it; a map of fewer is read."""
    (entry,) = scan(BytesSource(map_value("w", [counting((2,), "int32")] * count)), "ckpt")

    assert (entry.kind, len(entry.arrays)) == (("map", count) if count <= MOST_ARRAYS else ("refused", 0))
