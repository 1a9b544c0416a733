"""The scan finds what protobuf finds, reads nothing else, and verifies every claim before it uses it."""

from __future__ import annotations

import tracemalloc
import zlib

import numpy as np
import pytest
import reference_parser
from checkpoints import (
    LAYERS,
    MIXED,
    array_value,
    checkpoint,
    chunk,
    counting,
    map_value,
    number,
    pattern,
    sliced_value,
    string_value,
    tensor_value,
    value,
    varint,
    with_crc,
)
from generated import damaged_files, files
from hypothesis import given
from hypothesis import strategies as st
from reference_parser import Found
from tracing import TracingSource, places

from lazyckpt.errors import CorruptFile, LazyCkptError, StaleIndex, TruncatedFile
from lazyckpt.formats import FORMATS
from lazyckpt.formats.ckpt import (
    TRAILER,
    checksums,
    header_extents,
    scan,
    trailer,
    verify_header,
    verify_header_in,
)
from lazyckpt.index.open_file import without_index
from lazyckpt.model.dtypes import DTYPES, IN_CKPT
from lazyckpt.model.entry import Extent
from lazyckpt.reading.reader import FileReader
from lazyckpt.sources.base import BytesSource
from lazyckpt.sources.window import SparseBuffer


def scanned(data):
    """All entries of a file in memory."""
    return list(scan(BytesSource(data)))


def with_bytes(entry, data):
    """The reference parser's form of an entry, with the bytes of its extents."""
    arrays = entry.arrays or ((entry.dtype, entry.shape, entry.extents),)
    contents = [
        (str(dtype or ""), shape, b"".join(data[start : start + length] for start, length in extents))
        for dtype, shape, extents in arrays
    ]
    if entry.kind == "refused" or (entry.kind == "map" and not entry.arrays):
        contents = []
    return Found(entry.name, entry.kind, tuple(contents))


def outcome(data):
    """The entries with their bytes, or None for an invalid file."""
    try:
        return [with_bytes(entry, data) for entry in scanned(data)]
    except CorruptFile:
        return None


@given(files)
def test_a_scan_finds_what_protobuf_finds(data):
    """For any file that protobuf parses, names, kinds, dtypes, shapes and bytes are equal, in the same order."""
    expected = reference_parser.read(data)

    assert expected is not None
    assert outcome(data) == expected


@given(damaged_files())
def test_a_damaged_file_is_read_as_protobuf_reads_it(data):
    """A damaged file is refused if protobuf refuses it, and otherwise gives protobuf's values.

    Groups are an exception: protobuf accepts ends of groups that are missing, and the scan may refuse these.
    """
    found, expected = outcome(data), reference_parser.read(data)

    assert found == expected or (found is None and "group" in fault(data))


def fault(data):
    """The fault of a file."""
    with pytest.raises(CorruptFile) as caught:
        scanned(data)
    return str(caught.value)


@given(st.one_of(files, damaged_files(), st.binary(max_size=200)))
def test_any_bytes_give_entries_or_one_kind_of_error(data):
    """Invalid bytes raise only CorruptFile, and the values of found entries can all be read."""
    source = BytesSource(data)
    payloads = FileReader(without_index(source, FORMATS["ckpt"]))
    kind = CorruptFile
    try:
        for entry in scan(source):
            if entry.kind != "refused":
                assert payloads.value(entry) is not None
    except LazyCkptError as error:
        kind = type(error)

    assert issubclass(kind, CorruptFile)


@given(files)
def test_entries_stand_in_the_file_one_after_another(data):
    """Parameters do not overlap, and every content lies inside its own parameter."""
    position = 0
    for entry in scanned(data):
        assert position <= entry.start < entry.stop <= len(data)
        assert all(entry.start < offset and offset + length <= entry.stop for offset, length in entry.all_extents)
        position = entry.stop


# Laziness.


@given(files)
def test_a_scan_reads_no_payload(data):
    """No byte of any content is looked at, apart from the search for a trailer in the last 17 of the file."""
    source = TracingSource(data)
    trailer(source)
    sought, source.reads = source.reads, []
    found = list(scan(source))

    assert source.reads[: len(sought)] == sought
    del source.reads[: len(sought)]
    assert sought == [(len(data) - TRAILER, TRAILER)] * (len(data) >= TRAILER)
    assert source.looked_at() & {place for entry in found for place in places(entry.all_extents)} == set()


@given(files)
def test_a_confirmation_reads_no_payload(data):
    """An entry is proven from the bytes around its contents alone."""
    source = TracingSource(data)
    found = list(scan(source))
    source.reads = []
    for entry in found:
        verify_header(source, entry)

    assert source.looked_at() & {place for entry in found for place in places(entry.all_extents)} == set()


def test_a_scan_costs_one_read_a_header():
    """Through a window of 4 KiB every large parameter is one read; that of the trailer is one more."""
    data = checkpoint({f"layer{number}.weight": counting((5000,)) for number in range(20)})
    source = TracingSource(data, window=4096)

    assert len(list(scan(source))) == 20
    assert len(source.reads) == 21


def test_small_parameters_share_reads():
    """Where headers lie close together one read serves many, and reads grow as far as the source lets them."""
    data = checkpoint({f"layer{number}.bias": counting((8,)) for number in range(1000)})
    source = TracingSource(data, window=1024, window_limit=2**15)

    assert len(list(scan(source))) == 1000
    assert len(source.reads) <= 8


def test_a_scan_is_lazy():
    """Entries come one by one: the first is there before the second one's header was looked at."""
    source = TracingSource(checkpoint(LAYERS), window=1)
    first = next(scan(source))

    assert max(source.looked_at() - set(range(source.size - TRAILER, source.size))) < first.stop + 60


# Truncation.

SMALL = {"a": counting((2, 2), "int8"), "note": "ok", "t": [counting((1,), "int32")] * 3, "b": counting((3,))}
FILES = {
    "as MindSpore writes it": checkpoint(SMALL),
    "padded and packed": b"".join(
        tensor_value(name, [2, 3], "Int16", pattern(12), packed=True, pad=2) for name in ("x", "y")
    ),
    "with unknown fields": chunk(9, b"before")
    + array_value("w", counting((2,)))
    + number(9, 5)
    + array_value("v", 3.5),
}


@pytest.mark.parametrize("data", FILES.values(), ids=FILES)
def test_a_cut_file_is_corrupt_or_holds_what_stands_before_the_cut(data):
    """A cut file raises CorruptFile or gives exactly the parameters that end before the cut."""
    whole = scanned(data)
    found = {cut: outcome(data[:cut]) for cut in range(len(data))}

    assert found == {
        cut: None if entries is None else [with_bytes(entry, data) for entry in whole if entry.stop <= cut]
        for cut, entries in found.items()
    }
    assert [cut for cut, entries in found.items() if entries is not None] == joints(data)


def joints(data):
    """Where a cut leaves a whole file: between Values and unknown fields."""
    return [cut for cut in range(len(data)) if reference_parser.parse(data[:cut]) is not None]


def test_what_is_yielded_before_the_damage_stands_before_it():
    """A scan of a cut file gives whole parameters, in order, before it fails."""
    data = checkpoint(LAYERS)
    whole = scanned(data)
    found = []
    with pytest.raises(TruncatedFile):
        found.extend(scan(BytesSource(data[:-1])))

    assert found == whole[:4]


def test_slices_of_a_cut_file_are_refused():
    """When the last slice of a value is missing its shape does not fit any more: it is not taken for a whole."""
    data = sliced_value("w", counting((10,)), [16, 8])
    (whole,) = scanned(data)
    (cut,) = scanned(data[: len(data) - len(tensor_value("w", [10], "Float32", bytes(16)))])

    assert (whole.kind, [extent.length for extent in whole.extents]) == ("tensor", [16, 8, 16])
    assert (cut.kind, cut.reason) == ("refused", "shape (10,) of Float32 needs 40 bytes of content, the file has 24")


def test_a_message_says_how_far_the_file_is_whole():
    """The message has the fault, its offset, and the last whole parameter before it."""
    data = checkpoint(LAYERS)
    last = scanned(data)[-1]

    assert fault(data[:-1]) == (
        f"a field of {last.stop - last.start - 2} bytes does not fit: its message ends"
        f" {last.stop - last.start - 3} bytes on; after 4 whole parameters, the last 'step' (at byte {last.start:,})"
    )


def test_slices_before_the_damage_are_no_whole_parameter():
    """A value whose last slice is damaged is yielded as refused, and not counted as whole."""
    data = checkpoint(LAYERS) + sliced_value("w", counting((10,)), [16, 8])
    found = []
    with pytest.raises(TruncatedFile, match="after 5 whole parameters, in slices of 'w'"):
        found.extend(scan(BytesSource(data[:-1])))

    assert [entry.kind for entry in found[4:]] == ["tensor", "refused"]


def test_a_message_says_that_nothing_is_whole():
    """Damage in the first parameter leaves nothing before it."""
    assert "nothing before it" in fault(checkpoint(LAYERS)[:10])


def test_a_message_names_the_parameter_it_is_about():
    """Damage inside a parameter is reported with its name, if the name was read."""
    broken = value(chunk(1, b"fc.weight"), chunk(2, b"\x08"))

    assert "in parameter 'fc.weight'" in fault(broken)


# What values may look like.


def only(*values):
    """The single entry of a file of these Values."""
    (entry,) = scanned(b"".join(values))
    return entry


@pytest.mark.parametrize("dtype", IN_CKPT)
@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 3), (0, 3), (3, 0), (1, 1, 2, 1, 1)])
def test_tensors_of_every_dtype_and_shape_are_found(dtype, shape):
    """Name, dtype and shape are as written, and the extent leads to the content."""
    content = pattern(int(np.prod(shape)) * IN_CKPT[dtype].itemsize)
    data = tensor_value("layer.w", shape, dtype, content)
    entry = only(data)

    assert (entry.name, entry.dtype, entry.shape) == ("layer.w", IN_CKPT[dtype], shape)
    assert with_bytes(entry, data).arrays[0][2] == content


def test_a_scalar_of_old_versions_has_one_dimension_of_zero():
    """Dims [0] with the content of one element are a scalar."""
    assert only(tensor_value("w", [0], "Float32", bytes(4)))[1:4] == ("tensor", DTYPES["Float32"], ())


@pytest.mark.parametrize("dtype", IN_CKPT)
@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), (0, 0)])
@pytest.mark.parametrize("slices", [1, 3])
def test_an_empty_tensor_has_its_shape(shape, dtype, slices):
    """Dims without content are the shape of an empty tensor, also dims [0], in one slice or several."""
    entry = only(tensor_value("w", shape, dtype, b"") * slices)

    assert (entry.kind, entry.shape, entry.extents, entry.stored, entry.nbytes) == ("tensor", shape, (), 0, 0)


def test_a_scalar_needs_content():
    """Dims [] without content fit no value."""
    assert only(tensor_value("w", [], "Float32", b"")).kind == "refused"


def test_bfloat16_may_be_stored_as_float32():
    """Twice the bytes that the shape needs are taken for float32 values, as old versions wrote them."""
    entry = only(tensor_value("w", [3], "BFloat16", pattern(12)))

    assert (entry.dtype, entry.stored, entry.nbytes) == (DTYPES["BFloat16"], 12, 6)


@pytest.mark.parametrize("text", ["", "a", "späte Schicht", "x\0y", "🙂", "\ud800"])
def test_strings_are_found(text):
    """Four bytes a character; an empty one is a single NUL."""
    entry = only(string_value("note", text))

    assert (entry.kind, entry.dtype, entry.shape, entry.stored) == ("string", None, (), 4 * max(1, len(text)))


def test_maps_are_found():
    """Keys, values and status are arrays with dtypes, shapes and extents of their own."""
    arrays = [counting((3,), "int64"), counting((3, 4), "float16"), counting((3,), "int32")]
    data = map_value("table", arrays)
    entry = only(data)

    assert [(str(array.dtype), array.shape) for array in entry.arrays] == [
        ("Int64", (3,)),
        ("Float16", (3, 4)),
        ("Int32", (3,)),
    ]
    assert [content for _, _, content in with_bytes(entry, data).arrays] == [array.tobytes() for array in arrays]


def test_the_slices_of_a_map_are_joined_along_the_first_axis():
    """Adjacent maps of one tag are one, with the rows of all."""
    first = [counting((2,), "int32"), counting((2, 4)), counting((2,), "int32")]
    second = [counting((5,), "int32"), counting((5, 4)), counting((5,), "int32")]
    entry = only(map_value("table", first), map_value("table", second))

    assert [array.shape for array in entry.arrays] == [(7,), (7, 4), (7,)]
    assert [len(array.extents) for array in entry.arrays] == [2, 2, 2]


def test_a_value_that_holds_nothing_is_an_empty_map():
    """A value with neither tensor nor map is an empty list in MindSpore."""
    assert only(value(chunk(1, b"w")))[:2] == ("w", "map")


def test_slices_are_joined_across_unknown_fields():
    """An unknown field between two slices does not separate them."""
    half = tensor_value("w", [4], "Int8", b"ab")

    assert [extent.length for extent in only(half, number(9, 1), half).extents] == [2, 2]


def test_a_row_of_many_slices_is_one_value():
    """Five thousand slices are joined, and each keeps its offset."""
    entry = only(tensor_value("w", [5000], "Int8", b"1") * 5000)
    step = len(tensor_value("w", [5000], "Int8", b"1"))

    assert (entry.kind, entry.extents) == ("tensor", tuple((step * (place + 1) - 1, 1) for place in range(5000)))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (
            [array_value("w", 1), array_value("v", 2), array_value("w", 3)],
            [("w", "tensor"), ("v", "tensor"), ("w", "tensor")],
        ),
        ([array_value("w", 1), map_value("w", [])], [("w", "tensor"), ("w", "map")]),
        ([map_value("w", []), array_value("w", 1)], [("w", "map"), ("w", "tensor")]),
        ([string_value("w", "a"), array_value("w", 1.5)], [("w", "refused")]),
        ([array_value("w", 1), string_value("w", "")], [("w", "refused")]),
    ],
    ids=["apart", "tensor and map", "map and tensor", "strings", "tensor and string"],
)
def test_names_that_come_twice_come_as_they_stand(values, expected):
    """Apart, or of two kinds, both are yielded; adjacent tensors and strings are slices, of the last one's type."""
    assert [entry[:2] for entry in scanned(b"".join(values))] == expected


REASONS = {
    "content too short": (
        tensor_value("w", [2, 3], "Float32", bytes(20)),
        "needs 24 bytes of content, the file has 20",
    ),
    "content too long": (tensor_value("w", [2, 3], "Float32", bytes(28)), "needs 24 bytes of content, the file has 28"),
    "no content": (tensor_value("w", [2], "Int8", b""), "needs 2 bytes of content, the file has 0"),
    "twice the content": (tensor_value("w", [2], "Float16", bytes(8)), "needs 4 bytes of content, the file has 8"),
    "half an element": (tensor_value("w", [3], "BFloat16", bytes(5)), "needs 6 bytes of content, the file has 5"),
    "slices longer than the whole": (
        tensor_value("w", [4], "Int8", bytes(3)) * 2,
        "needs 4 bytes of content, the file has 6",
    ),
    "unknown dtype": (tensor_value("w", [2], "Complex64", bytes(16)), "the dtype 'Complex64' is unknown"),
    "no dtype": (value(chunk(1, b"w"), chunk(2, chunk(3, b"abcd"))), "the dtype '' is unknown"),
    "a long dtype": (tensor_value("w", [], "x" * 10_000, b""), "the dtype '" + "x" * 64 + "' is unknown"),
    "a negative dimension": (tensor_value("w", [-1], "Int8", b""), "negative dimension"),
    "dimensions beyond memory": (tensor_value("w", [2**40, 2**40], "Int8", b""), "larger than any memory"),
    "dimensions whose product is 0 modulo 2**64": (tensor_value("w", [2**32, 2**32], "Int8", b""), "larger than any"),
    "33 dimensions": (tensor_value("w", [1] * 33, "Int8", b"1"), "more than 32 dimensions"),
    "an empty string": (tensor_value("w", [0], "str", b""), "a string of 0 bytes"),
    "half a character": (tensor_value("w", [0], "str", bytes(6)), "a string of 6 bytes"),
    "a map's unknown dtype": (
        map_value("w", [counting((2,), "complex64")]),
        "the dtype 'complex64' of a map is unknown",
    ),
    "a map's dtype in capitals": (
        value(chunk(1, b"w"), chunk(3, chunk(1, chunk(2, b"Int8") + number(1, 0)))),
        "the dtype 'Int8' of a map",
    ),
    "a map's scalar": (map_value("w", [counting((), "int8")]), "an array of a map has no dimensions"),
    "a map's content": (
        value(chunk(1, b"w"), chunk(3, chunk(1, number(1, 5) + chunk(2, b"int8") + chunk(3, b"1234")))),
        "shape (5,) of Int8 in a map needs 5 bytes, the file has 4",
    ),
    "a map's negative rows": (
        value(chunk(1, b"w"), chunk(3, chunk(1, number(1, -5) + chunk(2, b"int8")))),
        "negative dimension",
    ),
    "a string in two pieces": (string_value("w", "a") * 2, "a string in 2 pieces"),
    "a string after an empty one": (
        tensor_value("w", [0], "str", b"") + string_value("w", "a"),
        "a string in 2 pieces",
    ),
    "an earlier slice's unknown dtype": (
        tensor_value("w", [2], "Flaot32", bytes(4)) + tensor_value("w", [2], "Float32", bytes(4)),
        "the dtype 'Flaot32' is unknown",
    ),
    "an earlier slice without a dtype": (
        value(chunk(1, b"w"), chunk(2, chunk(3, b"abcd"))) + tensor_value("w", [2], "Float32", bytes(4)),
        "the dtype '' is unknown",
    ),
    "an earlier slice's unknown dtype in a map": (
        map_value("w", [counting((2,), "complex64")]) + map_value("w", [counting((2,), "int32")]),
        "the dtype 'complex64' of a map is unknown",
    ),
    "a map of four arrays": (map_value("w", [counting((2,), "int32")] * 4), "a map of more than 3 arrays"),
    "a map of many arrays": (map_value("w", [counting((2,), "int32")] * 4000), "a map of more than 3 arrays"),
    "slices of a map of different lengths": (
        map_value("w", [counting((1,), "int8")]) + map_value("w", []),
        "the slices of a map hold [0, 1] arrays",
    ),
}


@pytest.mark.parametrize(("data", "reason"), REASONS.values(), ids=REASONS)
def test_a_claim_that_does_not_hold_is_refused(data, reason):
    """A parameter with a false claim is refused with the reason; its neighbours are unchanged."""
    before, entry, after = scanned(array_value("a", 1) + data + array_value("b", 2))

    assert (before.kind, entry.kind, after.kind) == ("tensor", "refused", "tensor")
    assert reason in entry.reason
    assert entry.all_extents == ()


@pytest.mark.parametrize(
    "data",
    [
        tensor_value("w", [2**31, 2**20], "Float64", b""),
        tensor_value("w", [0, 2**58], "Float64", b""),
        tensor_value("w", [2**40], "str", bytes(4)),
        b"\x0a" + varint(2**62) + bytes(100),
        value(chunk(1, b"w"), b"\x12" + varint(2**40)),
        map_value("w", [np.empty((0, 2**50), "int8")]),
        tensor_value("w", [1] * 100_000, "Int8", b"1", packed=True),
    ],
    ids=["16 PiB", "no rows of 2**58", "string", "length of a Value", "length of a tensor", "map", "dimensions"],
)
def test_a_claim_takes_no_memory_before_it_is_proven(data):
    """For any sizes claimed by a tiny file, the scan and the reads of values take little memory."""
    source = BytesSource(data)
    payloads = FileReader(without_index(source, FORMATS["ckpt"]))
    tracemalloc.start()
    try:
        for entry in scan(source):
            if entry.kind != "refused":
                payloads.value(entry)
    except CorruptFile:
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 200_000


# The trailer.


def test_a_trailer_is_no_part_of_the_parameters():
    """The trailer is found by its mark, and removed before the scan."""
    body = checkpoint(LAYERS)

    assert scanned(with_crc(body)) == scanned(body)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (with_crc(b"body"), (4, zlib.crc32(b"body"))),
        (with_crc(b"body", 2**80 - 1), (4, 2**80 - 1)),
        (with_crc(b""), (0, 0)),
        (with_crc(b"body") + b"x", (22, None)),
        (with_crc(b"body")[:-1], (20, None)),
        (b"crc_num", (7, None)),
        (b"", (0, None)),
    ],
)
def test_a_trailer_is_recognized_by_its_mark(data, expected):
    """Seven letters, 17 bytes before the end; its number is big-endian and may have 80 bits."""
    assert trailer(BytesSource(data)) == expected


def test_a_checksum_is_that_of_the_bytes():
    """For a file without maps the checksum is the crc32 of all bytes before the trailer."""
    body = checkpoint(LAYERS)

    assert checksums(BytesSource(with_crc(body))) == (zlib.crc32(body),) * 2
    assert checksums(BytesSource(with_crc(body, 7))) == (7, zlib.crc32(body))
    assert checksums(BytesSource(body)) == (None, zlib.crc32(body))


def test_maps_are_left_out_of_the_checksum():
    """As in MindSpore, the bytes of map parameters are not summed, wherever they are."""
    rest = [array_value("a", 1), array_value("b", 2), string_value("c", "x")]
    table = map_value("table", [counting((2,), "int32")] * 3)

    for place in range(4):
        data = b"".join([*rest[:place], table, *rest[place:]])

        assert checksums(BytesSource(data)) == (None, zlib.crc32(b"".join(rest)))


def test_a_large_file_is_summed_in_pieces():
    """No more than 1 MiB is read at once."""
    body = array_value("w", np.zeros(800_000, "float32"))
    source = TracingSource(body, window=4096)

    assert checksums(source) == (None, zlib.crc32(body))
    assert max(length for _, length in source.reads) == 2**20


# Confirmation.


@given(files, st.sampled_from([0, 1, 64]))
def test_every_entry_is_confirmed_where_it_was_found(data, window):
    """The header there gives the same entry again: in memory, through a window, and from its own bytes alone."""
    source = TracingSource(data, window) if window else BytesSource(data)
    for entry in scan(source):
        pieces = [(offset, memoryview(data)[offset : offset + length]) for offset, length in header_extents(entry)]

        assert verify_header(source, entry) is None
        assert verify_header_in(SparseBuffer(pieces), entry) is None


@given(files)
def test_header_and_contents_are_the_whole_parameter(data):
    """`header_extents` and the contents together cover the parameter, without overlap or gap."""
    for entry in scanned(data):
        header, contents = places(header_extents(entry)), places(entry.all_extents)

        assert header | contents == set(range(entry.start, entry.stop))
        assert header & contents == set()


def test_a_digest_is_not_the_headers_business():
    """Entries of an index with digests are confirmed as those without."""
    data = array_value("w", counting((3,)))

    assert verify_header(BytesSource(data), only(data)._replace(digest=bytes(32))) is None


BASE = scanned(checkpoint(MIXED))[0]


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "conv1.weighu"},
        {"kind": "string"},
        {"kind": "refused"},
        {"dtype": DTYPES["Int32"]},
        {"shape": (5, 5, 6, 1)},
        {"shape": (150,)},
        {"extents": (BASE.extents[0]._replace(offset=BASE.extents[0].offset + 4),)},
        {"extents": (BASE.extents[0]._replace(length=596),)},
        {"extents": (BASE.extents[0], Extent(BASE.stop, 0))},
        {"extents": ()},
        {"start": BASE.start + 1},
        {"stop": BASE.stop - 1},
        {"stop": BASE.stop + 1},
        {"stop": len(checkpoint(MIXED))},
        {"stop": BASE.start},
        {"start": -1},
        {"start": 10**9, "stop": 10**9 + 100},
        {"start": BASE.stop, "stop": BASE.start},
        {"reason": "because"},
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("window", [0, 1, 4096])
def test_an_entry_that_says_anything_else_is_stale(changes, window):
    """If name, type, shape, offset or length differs, the entry is stale and nothing is read through it."""
    data = checkpoint(MIXED)
    source = TracingSource(data, window) if window else BytesSource(data)

    with pytest.raises(StaleIndex, match="rebuild it"):
        verify_header(source, BASE._replace(**changes))


def test_an_entry_of_a_changed_header_is_stale():
    """Whichever bit of a header is turned over, the entry is not confirmed any more."""
    data = array_value("fc.weight", counting((2, 3)))
    entry = only(data)
    confirmed = []
    for place in sorted(places(header_extents(entry))):
        for bit in range(8):
            changed = bytearray(data)
            changed[place] ^= 1 << bit
            try:
                verify_header(BytesSource(changed), entry)
                confirmed.append((place, bit))
            except StaleIndex:
                continue

    assert confirmed == []


def test_an_entry_of_a_changed_content_is_confirmed():
    """Contents are not part of the check: a value changed in place is read as it is now."""
    data = bytearray(array_value("w", counting((2, 3))))
    entry = only(bytes(data))
    data[entry.extents[0].offset] ^= 0xFF

    assert verify_header(BytesSource(data), entry) is None


def test_an_entry_is_not_confirmed_in_other_bytes():
    """An incomplete header confirms no entry."""
    entry = only(array_value("w", counting((2, 3))))

    with pytest.raises(StaleIndex):
        verify_header_in(SparseBuffer([(entry.start, memoryview(b"\x0a"))]), entry)
