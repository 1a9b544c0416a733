"""safetensors headers are accepted and refused as by the safetensors package."""

from __future__ import annotations

import json

import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from checkpoints import counting
from hypothesis import given
from hypothesis import strategies as st
from safetensors_files import file_of, item, raw
from tracing import TracingSource, places

from lazyckpt.errors import CorruptFile, StaleIndex, TruncatedFile
from lazyckpt.formats import FORMATS, format_of
from lazyckpt.formats.safetensors import metadata, read_header, verify_header
from lazyckpt.index.open_file import without_index
from lazyckpt.model.dtypes import DTYPES
from lazyckpt.model.entry import Extent
from lazyckpt.reading.reader import FileReader
from lazyckpt.sources.base import BytesSource
from lazyckpt.sources.window import SparseBuffer

FORM = FORMATS["safetensors"]
ARRAYS = {
    "z.weight": counting((3, 4)),
    "a.bias": counting((5,), "float16"),
    "scalar": np.array(7, "int64"),
    "nothing": np.zeros((0, 3), "float32"),
    'quoted "name"\n': counting((2,), "int8"),
    "模型.ß": counting((3,), "uint8"),
}


def entries_of(data):
    """All entries of a file."""
    return list(FORM.scan(BytesSource(data)))


@pytest.mark.parametrize("spaces", [False, True])
def test_tensors_are_found_sorted_by_name(spaces):
    """Names, dtypes, shapes and offsets equal the header's, in any notation."""
    data = file_of(ARRAYS, {"made": "by hand"}, spaces)
    found = {entry.name: (str(entry.dtype), entry.shape) for entry in entries_of(data)}
    contents = {entry.name: [data[at : at + size] for at, size in entry.extents] for entry in entries_of(data)}

    assert list(found) == sorted(ARRAYS)
    assert found == {
        name: ({"float32": "Float32", "float16": "Float16", "int64": "Int64", "int8": "Int8", "uint8": "UInt8"}[
            array.dtype.name], array.shape) for name, array in ARRAYS.items()
    }  # fmt: skip
    assert contents == {name: [array.tobytes()] if array.size else [] for name, array in ARRAYS.items()}


@pytest.mark.parametrize("spaces", [False, True])
def test_an_entry_knows_where_its_item_stands(spaces):
    """The bytes of an entry's header are exactly its item in the JSON."""
    data = file_of(ARRAYS, {"made": "by hand"}, spaces)

    for entry in entries_of(data):
        (name, facts), = json.loads(b"{" + data[entry.start : entry.start + entry.apart] + b"}").items()  # fmt: skip
        assert (name, facts["shape"]) == (entry.name, list(entry.shape))
    assert [FORM.header_extents(entry)[1] for entry in entries_of(data)] == [
        Extent(entry.start, entry.apart) for entry in entries_of(data)
    ]


def test_the_walk_reads_the_header_alone():
    """No byte of a content is read."""
    data = file_of(ARRAYS)
    source = TracingSource(data)
    entries = list(FORM.scan(source))

    assert source.looked_at().isdisjoint(places([extent for entry in entries for extent in entry.extents]))


def test_metadata_are_what_the_file_says():
    """`__metadata__` is a mapping; without it there is none."""
    assert metadata(BytesSource(file_of(ARRAYS, {"format": "pt", "ü": ""}))) == {"format": "pt", "ü": ""}
    assert metadata(BytesSource(file_of(ARRAYS))) == {}
    assert metadata(BytesSource(raw('{"__metadata__":null}'))) == {}


def test_int4_is_recognized_by_the_metadata():
    """MindSpore stores Int4 as integers of a byte, and records that beside the tensor's name."""
    data = file_of({"q": counting((4,), "int8"), "w": counting((4,), "int8")}, {"q": "Int4"})

    assert [str(entry.dtype) for entry in entries_of(data)] == ["Int4", "Int8"]


@pytest.mark.parametrize("dtype", sorted({dtype.safetensors for dtype in DTYPES.values() if dtype.is_known_here}))
def test_every_dtype_is_read(dtype):
    """All dtypes that numpy or ml_dtypes can hold are read; packed ones are unpacked."""
    mine = next(one for one in DTYPES.values() if one.safetensors == dtype)
    stored = bytes(range(16, 16 + mine.stored_size(4)))
    (entry,) = entries_of(raw({"w": item(dtype, [2, 2], 0, len(stored))}, stored))
    source = BytesSource(raw({"w": item(dtype, [2, 2], 0, len(stored))}, stored))
    array = FileReader(without_index(source, FORM)).copy(entry)
    codes = bytes(half for byte in stored for half in (byte & 15, byte >> 4)) if mine.is_packed else stored

    assert (entry.kind, str(entry.dtype), entry.shape) == ("tensor", mine.name, (2, 2))
    assert (array.dtype, array.shape, array.tobytes()) == (mine.numpy, (2, 2), codes)


@pytest.mark.parametrize(("dtype", "size"), [("F6_E2M3", 3), ("F6_E3M2", 3)])
def test_types_that_nothing_holds_are_refused_alone(dtype, size):
    """Other tensors of the file load."""
    data = raw({"a": item(dtype, [4], 0, size), "b": item("U8", [1], size, size + 1)}, bytes(size + 1))
    refused, other = entries_of(data)

    assert (refused.kind, other.kind) == ("refused", "tensor")
    assert dtype in refused.reason


BAD = {
    "empty": (b"", TruncatedFile),
    "short": (b"\x10\0\0", TruncatedFile),
    "cut in the header": (raw("{}" + " " * 40)[:20], TruncatedFile),
    "header too long": ((100_000_001).to_bytes(8, "little") + b"{}", CorruptFile),
    "no object": (raw("[]"), CorruptFile),
    "no JSON": (raw("{nonsense}"), CorruptFile),
    "comma at the end": (raw('{"__metadata__":{},}'), CorruptFile),
    "no colon": (raw('{"a" 1}'), CorruptFile),
    "unclosed": (raw('{"__metadata__":{}'), CorruptFile),
    "no UTF-8": (raw(b'{"\xff\xfe":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}'), CorruptFile),
    "half a pair": (raw('{"\\ud800":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}'), CorruptFile),
    "control character": (raw('{"a\n":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}'), CorruptFile),
    "NaN": (raw('{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0],"x":NaN}}'), CorruptFile),
    "junk behind": (raw("{} x"), CorruptFile),
    "deep": (raw('{"a":' + "[" * 100_000 + "]" * 100_000 + "}"), CorruptFile),
    "a list of facts": (raw({"a": [1]}), CorruptFile),
    "no dtype": (raw({"a": {"shape": [], "data_offsets": [0, 0]}}), CorruptFile),
    "unknown dtype": (raw({"a": item("F99", [0], 0, 0)}), CorruptFile),
    "dtype no text": (raw({"a": {"dtype": 1, "shape": [0], "data_offsets": [0, 0]}}), CorruptFile),
    "shape no list": (raw({"a": {"dtype": "U8", "shape": 1, "data_offsets": [0, 1]}}, b"x"), CorruptFile),
    "negative": (raw({"a": item("U8", [-1], 0, 1)}, b"x"), CorruptFile),
    "fraction": (raw({"a": item("U8", [1.0], 0, 1)}, b"x"), CorruptFile),
    "true": (raw({"a": item("U8", [True], 0, 1)}, b"x"), CorruptFile),
    "over 64 bits": (raw({"a": item("U8", [2**64], 0, 1)}, b"x"), CorruptFile),
    "product over 64 bits": (raw({"a": item("U8", [2**40, 2**40], 0, 0)}), CorruptFile),
    "huge number": (raw('{"a":{"dtype":"U8","shape":[' + "9" * 5000 + '],"data_offsets":[0,1]}}', b"x"), CorruptFile),
    "three offsets": (raw({"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1, 2]}}, b"x"), CorruptFile),
    "too long": (raw({"a": item("U8", [2], 0, 1)}, b"x"), CorruptFile),
    "backwards": (raw({"a": item("U8", [1], 1, 0)}, b"x"), CorruptFile),
    "gap": (raw({"a": item("U8", [1], 1, 2)}, b"xy"), CorruptFile),
    "overlap": (raw({"a": item("U8", [2], 0, 2), "b": item("U8", [2], 1, 3)}, b"xyz"), CorruptFile),
    "half a byte": (raw({"a": item("F4", [3], 0, 1)}, b"x"), CorruptFile),
    "cut in the contents": (raw({"a": item("U8", [4], 0, 4)}, b"xyz"), TruncatedFile),
    "bytes behind": (raw({"a": item("U8", [1], 0, 1)}, b"xyz"), CorruptFile),
    "metadata no object": (raw('{"__metadata__":[]}'), CorruptFile),
    "metadata no text": (raw('{"__metadata__":{"a":1}}'), CorruptFile),
    "metadata twice": (raw('{"__metadata__":{},"__metadata__":{}}'), CorruptFile),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_files_are_refused_as_the_package_refuses_them(what):
    """Each fault has its error, and the package refuses the file too."""
    data, kind = BAD[what]

    with pytest.raises(kind):
        entries_of(data)
    with pytest.raises(safetensors.SafetensorError):
        safetensors.deserialize(data)


@pytest.mark.parametrize("dim", [0, 1, 7, 2**64 - 1])
@pytest.mark.parametrize("count", [33, 100_000])
def test_a_tensor_of_more_dimensions_than_numpy_has_is_refused(dim, count):
    """Its dimensions are not multiplied, however many or large they are. The other tensors are read."""
    data = raw({"a": item("U8", [1], 0, 1), "b": item("F32", [dim] * count, 1, 5)}, b"abcde")
    entries = entries_of(data)

    assert [entry.kind for entry in entries] == ["tensor", "refused"]
    assert entries[1].reason == "more than 32 dimensions, which no array can have"


@pytest.mark.parametrize("shape", [[2**63] * 32, [2**64 - 1] * 20, [2**63, 2**63, 0, 2**63]])
def test_a_shape_beyond_any_memory_is_a_fault_of_the_header(shape):
    """The error is ours and gives the shape, where its size is no float."""
    with pytest.raises(CorruptFile, match=r"of U8 needs|data_offsets give"):
        entries_of(raw({"a": item("U8", shape, 0, 1)}, b"x"))


def test_a_name_that_comes_twice_is_refused():
    """The package silently takes the last one; two readers that take different ones would disagree."""
    text = '{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"I8","shape":[1],"data_offsets":[0,1]}}'

    with pytest.raises(CorruptFile, match=r"comes twice.*'a'"):
        entries_of(raw(text, b"x"))


def test_a_header_begins_with_its_brace():
    """The format requires a brace first, though newer packages skip a space."""
    with pytest.raises(CorruptFile, match=r"begin with '\{'"):
        entries_of(raw(" {}"))


def test_faults_say_where_they_are():
    """The error has the item's offset and name."""
    data = raw('{"good":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"bad":{"dtype":"U8","shape":[2],'
               '"data_offsets":[0,1]}}', b"x")  # fmt: skip

    with pytest.raises(CorruptFile, match=r"shape \(2,\) of U8 needs 2 bytes.*at byte 64, in parameter 'bad'"):
        entries_of(data)


_json = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-2, 2**66), st.text(max_size=4), st.just("U8")),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=6,
)
_sizes = st.lists(st.integers(0, 3), max_size=3)


@st.composite
def _headers(draw):
    """Almost valid headers: sound items, some of them damaged."""
    header, position = {}, 0
    for name in draw(st.lists(st.text(max_size=5), max_size=4, unique=True)):
        shape = draw(_sizes)
        dtype, width = draw(st.sampled_from([("U8", 1), ("F32", 4), ("BF16", 2), ("F8_E4M3", 1)]))
        size = int(np.prod(shape, dtype=int)) * width
        header[name] = item(dtype, shape, position, position + size)
        position += size
        if draw(st.integers(0, 9)) == 0:
            header[name] = draw(_json)
        elif draw(st.integers(0, 9)) == 0:
            header[name][draw(st.sampled_from(["dtype", "shape", "data_offsets", "more"]))] = draw(_json)
    if draw(st.booleans()):
        header["__metadata__"] = draw(st.one_of(_json, st.dictionaries(st.text(max_size=3), st.text(max_size=3))))
    contents = bytes(max(0, position + draw(st.sampled_from([0, 0, 0, 0, -1, 1]))))
    text = json.dumps(header, ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from([None, 1])))
    data = bytearray(raw(text.encode("utf-8", "surrogatepass"), contents))
    if data and draw(st.integers(0, 5)) == 0:
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data)


def _by_package(data):
    try:
        return {name: (facts["dtype"], facts["shape"], bytes(facts["data"]))
                for name, facts in safetensors.deserialize(data)}  # fmt: skip
    except safetensors.SafetensorError:
        return None


def _by_us(data):
    source = BytesSource(data)
    try:
        header = read_header(source)
    except CorruptFile:
        return None
    base = 8 + header.size
    return {
        one.name.decode(): (one.facts.dtype, list(one.facts.shape), data[base + one.begin : base + one.end])
        for one in header.items
    }


@given(_headers())
def test_we_accept_what_the_package_accepts(data):
    """Any header, valid or damaged, gives the same tensors or is refused by both."""
    assert _by_us(data) == _by_package(data)


@given(st.binary(max_size=60), st.binary(max_size=20))
def test_any_bytes_are_a_file_or_refused(text, contents):
    """No header raises any other error."""
    data = raw(text, contents)

    assert _by_us(data) == _by_package(data)


@given(st.dictionaries(st.text(max_size=8), st.sampled_from([counting((2, 3)), counting((5,), "int8"), counting(())]),
                       max_size=5))  # fmt: skip
def test_files_of_the_package_are_read(arrays):
    """The tensors of a file saved by the package are found with their values."""
    arrays.pop("__metadata__", None)
    data = safetensors.numpy.save(arrays)
    source = BytesSource(data)
    read = {entry.name: FileReader(without_index(source, FORM)).view(entry) for entry in FORM.scan(source)}

    assert list(read) == sorted(arrays)
    assert all((read[name] == arrays[name]).all() and read[name].shape == arrays[name].shape for name in arrays)


def test_an_entry_is_proven_by_its_item():
    """Every entry is confirmed, on the source and on its header's bytes alone."""
    data = file_of(ARRAYS, {"q": "Int4"})
    source = BytesSource(data)
    for entry in FORM.scan(source):
        verify_header(source, entry)
        pieces = [(at, memoryview(data)[at : at + size]) for at, size in FORM.header_extents(entry)]
        FORM.verify_header_in(SparseBuffer(pieces), entry)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "b.bias"},
        {"shape": (1, 5)},
        {"dtype": DTYPES["BFloat16"]},
        {"extents": (Extent(400, 10),)},
        {"start": 9},
        {"apart": 20},
        {"stop": 10},
        {"start": 2**40},
        {"kind": "string"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_forged_entry_is_noticed(change):
    """An entry that differs from the header in anything is stale."""
    source = BytesSource(file_of(ARRAYS))
    entry = next(entry for entry in FORM.scan(source) if entry.name == "a.bias")

    with pytest.raises(StaleIndex):
        verify_header(source, entry._replace(**change))


def test_a_header_that_grew_is_noticed():
    """If contents begin elsewhere, the old offsets are refused."""
    data = file_of(ARRAYS)
    entry = next(FORM.scan(BytesSource(data)))
    grown = (int.from_bytes(data[:8], "little") + 8).to_bytes(8, "little") + data[8:] + bytes(8)

    with pytest.raises(StaleIndex):
        verify_header(BytesSource(grown), entry)


def test_a_file_is_known_by_its_beginning():
    """The format is recognized under any name."""
    assert format_of(BytesSource(file_of(ARRAYS))) == "safetensors"
    assert format_of(BytesSource(b"")) == "ckpt"
    assert format_of(BytesSource(b"\x0a\x10\x0a\x01w\x12\x0b")) == "ckpt"


def test_bfloat16_is_read_as_ml_dtypes_has_it():
    """bfloat16 values, which numpy lacks, equal those of ml_dtypes."""
    array = np.array([1, -2], ml_dtypes.bfloat16)
    source = BytesSource(raw({"w": item("BF16", [2], 0, 4)}, array.tobytes()))

    assert (FileReader(without_index(source, FORM)).view(next(FORM.scan(source))) == array).all()
