"""A written safetensors file equals the package's, byte by byte."""

from __future__ import annotations

import io
import json
import math
import zlib

import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from checkpoints import MIXED, counting
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from lazyckpt.errors import ArgumentTypeError, ArgumentValueError
from lazyckpt.formats import safetensors as reading
from lazyckpt.model.dtypes import DTYPES, DType
from lazyckpt.model.entry import entry_of
from lazyckpt.sources.base import BytesSource
from lazyckpt.writing import safetensors as writing
from lazyckpt.writing.adapters import item_of
from lazyckpt.writing.items import Content, tensor

# What both numpy and the package can write.
KINDS = [np.dtype(kind) for kind in ("?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", "c8")]
KINDS.append(np.dtype(ml_dtypes.bfloat16))
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=20).filter(lambda name: name != "__metadata__")
metadata = st.dictionaries(names, st.text(st.characters(exclude_categories=["Cs"]), max_size=9), max_size=1)


@st.composite
def arrays(draw):
    """Arrays of any name, dtype and shape, with arbitrary bytes."""
    values = {}
    for name in draw(st.lists(names, max_size=6, unique=True)):
        kind = draw(st.sampled_from(KINDS))
        shape = draw(npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
        size = math.prod(shape) * kind.itemsize
        data = draw(st.binary(min_size=size, max_size=size))
        values[name] = np.frombuffer(bytes(byte & 1 for byte in data) if kind.kind == "b" else data, kind).reshape(
            shape
        )
    return values


def written(values, given=None, align=1, order=None):
    """The bytes of a file of these values; their contents are written in this order of names."""
    items = [item_of(name, value) for name, value in values.items()]
    placed = writing.layout(items)
    head = writing.header(placed, writing.described(items, given or {}), align)
    file = io.BytesIO()
    by_name = {item.name: item for item in items}
    writing.write(file, placed, head, [by_name[name] for name in order or values])
    return file.getvalue()


def test_a_dtype_that_the_package_does_not_order_goes_by_its_width():
    """A new dtype is ordered by width, wider ones first, so that all tensors stay aligned."""
    kinds = [
        DTYPES["Bool"],
        DType("Narrow", 8, "N8", "<i1", 99),
        DTYPES["Int64"],
        DType("Wide", 128, "C128", "<c16", 98),
    ]
    items = [tensor(dtype.name, Content(dtype, (0,), 0, lambda: iter(()))) for dtype in kinds]

    assert [item.name for item in writing.layout(items)] == ["Wide", "Int64", "Narrow", "Bool"]


@given(arrays(), metadata)
def test_a_file_is_the_packages(values, given_metadata):
    """The bytes equal those of `safetensors.numpy.save` for the same tensors and metadata."""
    assert written(values, given_metadata) == safetensors.numpy.save(values, metadata=given_metadata or None)


@given(arrays(), st.sampled_from([1, 8, 64, 4096]), st.randoms(use_true_random=False))
def test_the_package_reads_what_is_written(values, align, random):
    """The package reads the file for any order of contents and any padding of the header."""
    order = list(values)
    random.shuffle(order)
    data = written(values, align=align, order=order)
    begin = 8 + int.from_bytes(data[:8], "little")
    read = {name: (one["shape"], bytes(one["data"])) for name, one in safetensors.deserialize(data)}

    assert begin % max(align, 8) == 0
    assert read == {name: (list(one.shape), one.tobytes()) for name, one in values.items()}


@pytest.mark.parametrize(
    "dtype", [dtype for dtype in DTYPES.values() if dtype.name != "Int4" and dtype.is_known_here], ids=str
)
def test_every_dtype_comes_back(dtype):
    """Our reader finds each value unchanged, packed ones included."""
    array = np.arange(6).astype(dtype.numpy).reshape(2, 3)
    data = written({"a": counting((1,)), "w": array})
    (_, entry) = map(entry_of, reading.find(BytesSource(data)))
    ((begin, length),) = entry.extents

    assert (entry.name, entry.dtype, entry.shape) == ("w", dtype, (2, 3))
    assert data[begin : begin + length] == b"".join(item_of("w", array).contents[0].pieces())


def test_int4_is_recorded_beside_the_name():
    """Int4 is recorded as MindSpore does; an older file's records of other tensors are dropped."""
    item = tensor("w", Content(DTYPES["Int4"], (2,), 2, lambda: iter([memoryview(b"\1\2")])))

    assert writing.described([item], {"format": "ms", "gone": "Int4", "crc_num": "17"}) == {"format": "ms", "w": "Int4"}


def test_the_checksum_is_mindspores():
    """The recorded checksum covers each name and content, in the order of names, as a reader computes it."""
    values = {"b": counting((3,)), "a": counting((2, 2), "float16"), "ä": np.zeros((0, 3), "int8")}
    crc = writing.checksum([item_of(name, value) for name, value in values.items()])

    assert reading.checksums(BytesSource(written(values, {"crc_num": "1"}))) == (None, crc)
    assert crc == zlib.crc32(b"".join(name.encode() + values[name].tobytes() for name in sorted(values)))


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("note", MIXED["note"], "is a string: safetensors files hold tensors only"),
        ("table", MIXED["table"], "is a map: safetensors files hold tensors only"),
        ("__metadata__", counting((2,)), "can have the name"),
        ("\ud800", counting((2,)), "is not valid Unicode"),
    ],
)
def test_what_the_format_cannot_hold_is_refused(name, value, reason):
    """The message names the value."""
    with pytest.raises(ArgumentValueError, match=reason) as caught:
        writing.check(item_of(name, value))

    assert repr(name) in str(caught.value)


@pytest.mark.parametrize(
    ("bad", "error"),
    [({"step": 3}, ArgumentTypeError), ({3: "step"}, ArgumentTypeError), ({"a": "\ud800"}, ArgumentValueError)],
)
def test_metadata_are_texts(bad, error):
    """Numbers and lone surrogates are refused before anything is written."""
    with pytest.raises(error, match="metadata"):
        writing.check_metadata(bad)


def test_a_header_that_no_reader_takes_is_refused(monkeypatch):
    """Too many tensors for the format are refused before writing, with what to do."""
    items = [item_of(f"layer.{number}", counting((1,))) for number in range(50)]
    size = len(writing.header(items, {})) - 8
    monkeypatch.setattr(writing, "LONGEST_HEADER", size - 1)

    with pytest.raises(ArgumentValueError, match=rf"50 tensors has {size:,} bytes.*max_shard_size"):
        writing.header(items, {})


@pytest.mark.parametrize("data", [b"a", b"abc"])
def test_contents_fill_their_places(data):
    """A value that changes size while it is written does not overlap the next one."""
    item = tensor("w", Content(DTYPES["Int8"], (2,), 2, lambda: iter([memoryview(data)])))

    with pytest.raises(ArgumentValueError, match="changed while it was written"):
        writing.write(io.BytesIO(), [item], b"", [item])


def test_nothing_is_a_header_of_nothing():
    """Without tensors the file is the one that the package and MindSpore write."""
    assert written({}) == safetensors.numpy.save({})
    assert json.loads(written({})[8:]) == {}
