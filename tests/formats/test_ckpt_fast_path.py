"""The fast path recognises values as MindSpore writes them, with the result of the general scan."""

from __future__ import annotations

import contextlib

import pytest
from checkpoints import (
    ITEMSIZES,
    array_value,
    checkpoint,
    chunk,
    counting,
    map_value,
    number,
    pattern,
    string_value,
    tensor,
    tensor_value,
    value,
)
from generated import damaged_files, files, plain_files
from hypothesis import given
from hypothesis import strategies as st
from items import values, written
from tracing import TracingSource

from lazyckpt.errors import CorruptFile, StaleIndex
from lazyckpt.formats.ckpt import header_extents, scan, verify_header_in
from lazyckpt.formats.ckpt_fast_path import recogniser
from lazyckpt.model.entry import entry_of
from lazyckpt.sources.base import BytesSource
from lazyckpt.sources.window import SparseBuffer, as_buffer


def recognised(data, start=0, stop=None):
    """The entry recognised at the beginning of these bytes, or None."""
    found = recogniser(memoryview(data))(start, len(data) if stop is None else stop)
    return None if found is None else entry_of(found)


def outcome(source):
    """The entries of a source, or its fault."""
    try:
        return list(scan(source))
    except CorruptFile as error:
        return type(error), str(error)


def walked(data):
    """The result of the general scan: through a window of one byte the fast path takes nothing."""
    source = TracingSource(data, window=1)
    source.name = BytesSource.__init__.__defaults__[0]
    return outcome(source)


@pytest.mark.parametrize("padding", range(64))
def test_a_value_is_recognised_however_long_its_padding_is(padding):
    """No length of the padding before an aligned content looks like another field."""
    facts = b"".join([number(1, 3), chunk(2, b"Float32"), chunk(15, bytes(padding))])
    data = value(chunk(1, b"w"), chunk(2, facts + chunk(3, bytes(12))))

    assert recognised(data) == outcome(BytesSource(data))[0]


@given(st.one_of(plain_files, files, damaged_files()), st.sampled_from([2, 16, 30, 64, 300, 4096]), st.booleans())
def test_recognised_or_walked_the_answer_is_the_same(data, window, growing):
    """Entries, errors and messages are equal from memory, by the byte, and in windows."""
    in_memory = outcome(BytesSource(data))
    in_windows = outcome(TracingSource(data, window, 4 * window * growing))

    assert in_memory == walked(data)
    assert in_windows == in_memory


@pytest.mark.parametrize("dtype", ITEMSIZES)
@pytest.mark.parametrize("shape", [[], [1], [7], [2, 3], [1, 2, 1, 2, 1], [1] * 32, [300], [128, 130]])
def test_what_mindspore_writes_is_recognised(dtype, shape):
    """Tensors of every dtype and of any non-empty shape are recognised."""
    size = ITEMSIZES[dtype]
    for dim in shape:
        size *= dim
    data = tensor_value("layer.weight", shape, dtype, pattern(size))
    entry = recognised(data)

    assert [entry] == walked(data)
    assert (entry.name, str(entry.dtype), entry.shape) == ("layer.weight", dtype, tuple(shape))


@pytest.mark.parametrize("length", [0, 1, 127, 128, 129, 1000, 16_383])
def test_names_of_any_length_are_recognised(length):
    """Names of any length are recognised, also where the varint of their length grows."""
    data = tensor_value("é" * (length // 2) + "n" * (length % 2), [2], "Int8", b"ab")

    assert [recognised(data)] == walked(data)


@pytest.mark.parametrize("count", [1, 90, 100, 110, 127, 128, 16_340, 16_384, 2_097_100, 2_097_152])
def test_contents_of_any_length_are_recognised(count):
    """Contents of any length are recognised, as the varints of the three lengths around them grow."""
    data = tensor_value("w", [count, 1], "UInt8", bytes(count))

    assert [recognised(data)] == walked(data)


def test_a_value_is_recognised_where_it_stands():
    """A value is recognised among other bytes at any position, with offsets in the whole."""
    before, data = pattern(1000), array_value("w", counting((3, 4)))
    entry = recognised(before + data + before, 1000)
    (alone,) = walked(data)

    assert entry == alone._replace(
        start=1000, stop=1000 + len(data), extents=(alone.extents[0]._replace(offset=1000 + alone.extents[0].offset),)
    )


@pytest.mark.parametrize(
    "after",
    [
        array_value("b", counting((3, 2))),
        array_value("b", counting((6,)).reshape(2, 3).view("<i4")),
        array_value("b", counting((2, 3)))[:-1],
        array_value("b", counting((2, 3))).replace(b"b", b"\xff"),
        array_value("bb", counting((2, 3))),
        array_value("é", counting((2, 3))),
        array_value("b", counting((2, 3))).replace(b"\x08\x03", b"\x08\x04"),
    ],
    ids=["other dims", "other type", "cut off", "no UTF-8", "longer name", "no ASCII", "other size"],
)
def test_a_value_is_not_taken_for_the_one_before(after):
    """A value that begins as the previous one and then differs is judged by its own bytes."""
    data = array_value("a", counting((2, 3))) * 2 + after

    assert outcome(BytesSource(data)) == walked(data)


@given(st.one_of(plain_files, damaged_files()), st.integers(0, 400), st.binary(max_size=3))
def test_an_entry_is_proven_as_by_the_general_walk(data, place, other):
    """From memory, a window or header bytes alone, also after changes, the check equals the general scan's."""
    with contextlib.suppress(CorruptFile):
        entries = list(scan(BytesSource(data)))
        changed = data[:place] + other + data[place + len(other) :]
        for entry in entries:
            if entry.stop <= len(changed):
                pieces = [(offset, memoryview(changed)[offset:][:size]) for offset, size in header_extents(entry)]
                assert proven(memoryview(changed), entry) == proven(TracingSource(changed, window=1), entry)
                assert proven(SparseBuffer(pieces), entry) == proven(TracingSource(changed, window=1), entry)


def proven(buffer, entry):
    """Whether an entry is confirmed at its offset."""
    try:
        verify_header_in(as_buffer(buffer) if isinstance(buffer, TracingSource) else buffer, entry)
    except StaleIndex:
        return False
    return True


def test_a_value_ends_before_the_end_that_is_given():
    """A value that reaches past its stream, such as into a trailer, is not recognised."""
    data = array_value("w", counting((3, 4)))

    assert recognised(data + b"more", 0, len(data)) is not None
    assert recognised(data + b"more", 0, len(data) - 1) is None


DIMS, TYPE, CONTENT = tensor([2, 3], "Int8", pattern(6))
TAG = chunk(1, b"w")
WHOLE = chunk(2, DIMS + TYPE + CONTENT)
FOUND = {
    "a string": (string_value("note", "text"), "string", (16,)),
    "no rows": (tensor_value("w", [0, 3], "Int8", b""), "tensor", ()),
}


@pytest.mark.parametrize(("data", "kind", "lengths"), FOUND.values(), ids=FOUND)
def test_strings_and_empty_tensors_are_recognised(data, kind, lengths):
    """They are found as by the general scan, at any offset."""
    entry = recognised(data)

    assert (entry.kind, tuple(extent.length for extent in entry.extents)) == (kind, lengths)
    assert [entry] == list(scan(BytesSource(data)))
    assert outcome(TracingSource(data * 2, window=16)) == outcome(BytesSource(data * 2))


LEFT = {
    "nothing": b"",
    "one byte": b"\x0a",
    "an unknown field": number(9, 5),
    "an empty string": tensor_value("w", [0], "str", b""),
    "half a character": tensor_value("w", [0], "str", bytes(6)),
    "a map": map_value("table", [counting((1,), "int32")] * 3),
    "no content": tensor_value("w", [3], "Int8", b""),
    "dims [0]": tensor_value("w", [0], "Int8", b"1"),
    "packed dims": tensor_value("w", [2, 3], "Int8", pattern(6), packed=True),
    "another order of fields": value(TAG, chunk(2, TYPE + DIMS + CONTENT)),
    "content first": value(TAG, chunk(2, CONTENT + DIMS + TYPE)),
    "tensor first": value(WHOLE, TAG),
    "no name": value(WHOLE),
    "two names": value(TAG, TAG, WHOLE),
    "no tensor": value(TAG),
    "two tensors": value(TAG, WHOLE, WHOLE),
    "an unknown field behind the tensor": value(TAG, WHOLE, number(9, 5)),
    "an unknown field in the tensor": value(TAG, chunk(2, DIMS + TYPE + CONTENT + number(9, 5))),
    "an unknown field between the dims": value(TAG, chunk(2, DIMS + number(9, 5) + TYPE + CONTENT)),
    "a second content": value(TAG, chunk(2, DIMS + TYPE + CONTENT + CONTENT)),
    "no type": value(TAG, chunk(2, DIMS + CONTENT)),
    "a type longer than its letters": value(TAG, chunk(2, DIMS + chunk(2, b"Int8\x1a2") + CONTENT)),
    "a type shorter than its letters": value(TAG, chunk(2, DIMS + b"\x12\x04Int88" + CONTENT)),
    "an unknown type": tensor_value("w", [2, 3], "Complex64", pattern(48)),
    "content too short": tensor_value("w", [2, 3], "Int8", pattern(5)),
    "content too long": tensor_value("w", [2, 3], "Int8", pattern(7)),
    "bfloat16 as float32": tensor_value("w", [2], "BFloat16", pattern(8)),
    "a negative dimension": tensor_value("w", [-1], "Int8", b""),
    "33 dimensions": tensor_value("w", [1] * 33, "Int8", b"1"),
    "a name that is not UTF-8": value(chunk(1, b"\xff"), WHOLE),
    "a padded key": value(chunk(1, b"w", key_pad=1), WHOLE),
    "a cut content": tensor_value("w", [2, 3], "Int8", pattern(6))[:-1],
    "a cut header": tensor_value("w", [2, 3], "Int8", pattern(6))[:12],
    "a tensor that is shorter than its Value says": chunk(1, TAG + WHOLE + b"\0"),
    "a tensor that is longer than its Value says": b"\x0a\x05" + TAG + WHOLE,
}


@pytest.mark.parametrize("data", LEFT.values(), ids=LEFT)
def test_anything_else_is_left_to_the_walk(data):
    """Strings, maps, unusual fields and invalid ones are left to the general scan."""
    assert recognised(data) is None


@pytest.mark.parametrize("data", LEFT.values(), ids=LEFT)
def test_what_is_left_is_judged_by_the_walk(data):
    """Other fields between MindSpore's values give the outcome of the general scan alone."""
    whole = array_value("a", counting((2,))) + data + array_value("b", counting((2,)))

    assert outcome(BytesSource(whole)) == walked(whole)


@pytest.mark.parametrize("window", [2, 7, 20, 33, 64, 4096])
def test_values_are_recognised_in_windows(window):
    """A header cut by a window of any size is examined again from its beginning."""
    data = checkpoint({f"layer{place}.weight": counting((place + 1, 3)) for place in range(30)})
    source = TracingSource(data, window)

    assert outcome(source) == walked(data)


def test_a_header_in_hand_is_recognised_without_a_read():
    """When the window holds the whole header, the content is not fetched."""
    data = array_value("w", counting((1000,)))
    source = TracingSource(data, window=100)
    found = recogniser(as_buffer(source))(0, len(data))

    assert [entry_of(found)] == walked(data)
    assert source.reads == [(0, 100)]


def test_pieces_are_left_to_the_walk():
    """Pieces of a header, as in a check, are left to the general scan."""
    data = array_value("w", counting((2,)))

    assert recogniser(SparseBuffer([(0, memoryview(data))]))(0, len(data)) is None


def test_claims_are_remembered_by_their_bytes():
    """Headers that differ in one byte are not confused."""
    values = [("a", [2, 3], "Int8", 6), ("b", [3, 2], "Int8", 6), ("c", [2, 3], "UInt8", 6), ("d", [2, 3], "Int8", 6)]
    data = b"".join(tensor_value(name, dims, dtype, pattern(size)) for name, dims, dtype, size in values)

    assert [
        (entry.name, list(entry.shape), str(entry.dtype), entry.stored) for entry in scan(BytesSource(data))
    ] == values


def test_more_headers_than_are_remembered(monkeypatch):
    """The cache of headers is cleared when it is full, and its entries are computed again."""
    monkeypatch.setattr("lazyckpt.formats.ckpt_fast_path._REMEMBERED", 3)
    data = checkpoint({f"w{place}": counting((place % 7 + 1,), "int8") for place in range(100)})

    assert outcome(BytesSource(data)) == walked(data)


@given(values, st.sampled_from([2, 8, 64, 128, 4096]), st.sampled_from([7, 2**20]))
def test_aligned_values_recognised_or_walked_are_the_same(contents, align, slice_size):
    """Padding before contents does not change the result."""
    data, _ = written(contents, align=align, slice_size=slice_size)

    assert outcome(BytesSource(data)) == walked(data)
