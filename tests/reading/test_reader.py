"""FileReader reads values whole, into their own memory, and only after the entry is verified."""

from __future__ import annotations

import os

import numpy as np
import pytest
from checkpoints import MIXED, array_value, checkpoint, counting, map_value, sliced_value, tensor_value
from hypothesis import given
from hypothesis import strategies as st
from opening import opened_over
from tracing import TracingSource, places

from lazyckpt.errors import ChangedFile, CorruptFile, StaleIndex
from lazyckpt.formats import FORMATS
from lazyckpt.index.open_file import without_index
from lazyckpt.loading import open_all
from lazyckpt.model.dtypes import DTYPES
from lazyckpt.model.entry import STRING, TENSOR, Array, Extent
from lazyckpt.reading.allocation import aligned
from lazyckpt.reading.reader import FileReader
from lazyckpt.sources import BytesSource, open_source

FORM = FORMATS["ckpt"]
A, B = counting((4, 3)), counting((4, 3)) + 100
DATA = array_value("a", A) + array_value("b", B) + sliced_value("s", A, [20]) + checkpoint(MIXED)
ENTRIES = {entry.name: entry for entry in FORM.scan(BytesSource(DATA))}
EXPECTED = {"a": A, "b": B, "s": A, **MIXED}


@pytest.fixture(params=[BytesSource, TracingSource], ids=["addressable", "copying"])
def payloads(request):
    """A reader over a source that gives views, and one over a source that gives copies."""
    return FileReader(without_index(request.param(DATA), FORM))


def plain(value):
    """A value in a form that can be compared."""
    if isinstance(value, list):
        return [plain(part) for part in value]
    return value if isinstance(value, str) else (value.shape, value.dtype.name, value.tobytes())


def test_values_of_every_kind_are_read(payloads):
    """Tensors, strings and maps."""
    assert {name: plain(payloads.value(entry)) for name, entry in ENTRIES.items()} == {
        name: plain(value) for name, value in EXPECTED.items()
    }


def test_many_values_are_read_at_once():
    """Values are read in one request of the source, in entry order, each byte once."""
    source = TracingSource(DATA)
    values = FileReader(without_index(source, FORM)).values([*ENTRIES.values()])

    assert [plain(value) for value in values] == [plain(EXPECTED[name]) for name in ENTRIES]
    assert sum(length for _, length in source.reads) == len(source.looked_at())


MANY = {f"layer{number}": counting((number % 7 + 1, 40)) + number for number in range(3_000)}


def test_small_neighbours_are_read_together():
    """Thousands of small values take one request per MiB, and are separate, aligned arrays."""
    source = TracingSource(checkpoint(MANY))
    entries = list(FORM.scan(source))
    source.reads.clear()
    values = FileReader(without_index(source, FORM)).values(entries)

    assert [plain(value) for value in values] == [plain(value) for value in MANY.values()]
    assert len(source.reads) == -(-source.size // 2**20)
    assert all(value.flags.writeable and value.ctypes.data % 64 == 0 for value in values)


def test_what_lies_between_values_is_not_read():
    """Every second value, in any order, is read by itself."""
    source = TracingSource(checkpoint(MANY))
    entries = list(FORM.scan(source))[::-2]
    source.reads.clear()
    values = FileReader(without_index(source, FORM)).values(entries)

    assert [plain(value) for value in values] == [plain(MANY[entry.name]) for entry in entries]
    assert sum(length for _, length in source.reads) == sum(entry.stop - entry.start for entry in entries)


def test_the_value_of_a_copying_source_is_filled_in_place():
    """The returned array is the buffer that the source wrote into, without a second copy."""
    source = TracingSource(DATA)
    filled = []
    source._fill = lambda offset, destination: (
        TracingSource._fill(source, offset, destination),
        filled.append(np.frombuffer(destination, np.uint8)),
    )
    value = FileReader(without_index(source, FORM)).view(ENTRIES["a"])

    assert any(np.shares_memory(value, run) for run in filled)


A_ENTRY, B_ENTRY = ENTRIES["a"], ENTRIES["b"]
FORGED = {
    "the bytes of another": A_ENTRY._replace(extents=B_ENTRY.extents),
    "the whole place of another": B_ENTRY._replace(name="a"),
    "one byte on": A_ENTRY._replace(extents=(Extent(A_ENTRY.extents[0].offset + 1, 48),)),
    "a shorter content": A_ENTRY._replace(extents=(Extent(A_ENTRY.extents[0].offset, 24),), shape=(2, 3)),
    "another shape": A_ENTRY._replace(shape=(3, 4)),
    "another dtype": A_ENTRY._replace(dtype=DTYPES["Int32"]),
    "a shape that is too large": A_ENTRY._replace(shape=(100_000, 100_000)),
    "a negative shape": A_ENTRY._replace(shape=(-4, -3)),
    "a content that is too long": A_ENTRY._replace(extents=(Extent(A_ENTRY.extents[0].offset, 10**15),)),
    "a content outside the file": A_ENTRY._replace(extents=(Extent(2**62, 48),)),
    "forty gigabytes": A_ENTRY._replace(
        shape=(100_000, 100_000), extents=(Extent(A_ENTRY.extents[0].offset, 4 * 10**10),), stop=10**12
    ),
    "the first of two names": A_ENTRY._replace(stop=B_ENTRY.stop),
    "a start inside another": A_ENTRY._replace(start=A_ENTRY.start + 1),
    "a stop before the start": A_ENTRY._replace(stop=A_ENTRY.start - 1),
    "no place at all": A_ENTRY._replace(start=2**63, stop=2**63),
    "no content": A_ENTRY._replace(extents=(), shape=()),
    "a half of the slices": ENTRIES["s"]._replace(extents=ENTRIES["s"].extents[1:], shape=(28 // 4,)),
    "the slices in another order": ENTRIES["s"]._replace(extents=ENTRIES["s"].extents[::-1]),
    "a string that is a tensor": A_ENTRY._replace(kind=STRING, dtype=None, shape=()),
    "a tensor that is a string": ENTRIES["note"]._replace(kind=TENSOR, dtype=DTYPES["Int32"], shape=(13,)),
    "a map with arrays of another size": ENTRIES["table"]._replace(
        arrays=(Array(DTYPES["Int32"], (1,), ENTRIES["table"].arrays[0].extents),)
    ),
}


@pytest.mark.parametrize("entry", FORGED.values(), ids=FORGED)
def test_a_forged_entry_gives_no_bytes(entry, payloads):
    """An entry that contradicts the file is refused before memory is allocated or bytes are returned."""
    reads = [payloads.value, lambda entry: payloads.values([ENTRIES["b"], entry])]
    reads.append(lambda entry: payloads.values([entry, ENTRIES["b"]]))  # which stand beside each other
    if entry.dtype is not None:
        reads += [payloads.view, payloads.copy, lambda entry: payloads.part(entry, 0)]
    for read in reads:
        with pytest.raises(StaleIndex):
            read(entry)


@given(
    st.sampled_from(["a", "b", "s"]),
    st.sampled_from(["start", "stop", "shape", "dtype", "extents"]),
    st.data(),
)
def test_any_change_of_an_entry_is_refused(name, field, data):
    """No changed number in an entry is accepted."""
    true = ENTRIES[name]
    number = st.integers(0, len(DATA) + 8)
    changes = {
        "start": number,
        "stop": number,
        "shape": st.lists(st.integers(-2, 50), max_size=3).map(tuple),
        "dtype": st.sampled_from([*DTYPES.values()]),
        "extents": st.lists(st.builds(Extent, number, number), max_size=3).map(tuple),
    }
    forged = true._replace(**{field: data.draw(changes[field])})
    if forged != true:
        for source in (BytesSource(DATA), TracingSource(DATA)):
            with pytest.raises(StaleIndex):
                FileReader(without_index(source, FORM)).value(forged)


def test_names_that_change_places_in_the_file_are_noticed():
    """The header is compared with the file's present state, not with that at opening."""
    for kind in (BytesSource, TracingSource):
        data = bytearray(DATA)
        source = kind(data)
        source._data = memoryview(data)
        payloads = FileReader(without_index(source, FORM))
        data[A_ENTRY.start : A_ENTRY.stop], data[B_ENTRY.start : B_ENTRY.stop] = (
            data[B_ENTRY.start : B_ENTRY.stop],
            data[A_ENTRY.start : A_ENTRY.stop],
        )
        for read in (payloads.view, payloads.copy, lambda entry, payloads=payloads: payloads.part(entry, 1)):
            with pytest.raises(StaleIndex, match="'a'"):
                read(A_ENTRY)


def test_a_part_is_proven_again_when_the_header_has_changed():
    """The header is verified again for each part, even after other parts were returned."""
    for kind in (BytesSource, TracingSource):
        data = bytearray(DATA)
        source = kind(data)
        source._data = memoryview(data)
        payloads = FileReader(without_index(source, FORM))
        first = [payloads.part(A_ENTRY, 1).tolist() for _ in range(2)]
        data[A_ENTRY.start : A_ENTRY.stop] = data[B_ENTRY.start : B_ENTRY.stop]

        assert first == [A[1].tolist()] * 2
        with pytest.raises(StaleIndex, match="'a'"):
            payloads.part(A_ENTRY, 1)


def test_parts_of_many_values_in_turn_are_their_own():
    """Parts stay correct with more values than the cache holds, each read more than once."""
    arrays = {f"w{number}": counting((4, 3)) + number for number in range(200)}
    source = BytesSource(checkpoint(arrays))
    payloads, entries = FileReader(without_index(source, FORM)), {entry.name: entry for entry in FORM.scan(source)}

    for row in (0, 3, 1):
        found = {name: payloads.part(entry, row).tolist() for name, entry in entries.items()}
        assert found == {name: array[row].tolist() for name, array in arrays.items()}


@pytest.mark.parametrize("access", ["mmap", "pread"])
def test_a_file_that_shrank_is_an_error_and_not_a_crash(access, tmp_path):
    """Missing bytes raise an error from a view, a copy and a part."""
    path = tmp_path / "net.ckpt"
    path.write_bytes(array_value("a", counting((4096, 4))))
    with opened_over(open_source(str(path), access=access).source) as ckpt:
        param = ckpt["a"]
        param[:2]  # once, while it is whole
        os.truncate(path, 20_000)
        for read in (param.asnumpy, lambda: param.asnumpy(copy=True), lambda: param[4000:]):
            with pytest.raises(ChangedFile, match=r"net\.ckpt"):
                read()


@pytest.mark.parametrize("name", [name for name, value in EXPECTED.items() if isinstance(value, np.ndarray)])
def test_an_array_that_is_there_is_filled_only_with_what_lies_in_one_piece(name, payloads):
    """The array of an addressable source gets the value's bytes, or is left unchanged."""
    target = EXPECTED[name].copy(order="C")
    target.reshape(-1).view(np.uint8)[...] = 77
    before = target.tobytes()
    filled = payloads.fill(ENTRIES[name], target)

    assert target.tobytes() == (EXPECTED[name].tobytes() if filled else before)
    assert filled == (payloads.is_addressable and ENTRIES[name].kind == TENSOR and len(ENTRIES[name].extents) == 1)


def test_an_array_is_not_filled_with_what_is_not_proven():
    """An array is not filled if the file has another entry, or if a digest must be compared."""
    target = np.zeros_like(A)
    payloads = FileReader(without_index(BytesSource(DATA), FORM))
    with pytest.raises(StaleIndex):
        payloads.fill(ENTRIES["a"]._replace(name="b"), target)

    assert not payloads.fill(with_digest(b"x" * 16), target)
    assert not target.any()


def test_a_string_that_is_no_text_is_corrupt(payloads):
    """The message has the offset and the name."""
    data = tensor_value("s", [0], "str", b"a\0\0\0\0\0\xff\xff")
    for source in (BytesSource(data), TracingSource(data)):
        (entry,) = FORM.scan(source)
        with pytest.raises(CorruptFile, match=r"not UTF-32: .*'s'"):
            FileReader(without_index(source, FORM)).value(entry)


def test_a_strings_trailing_nuls_are_not_part_of_it():
    """As in numpy's fixed-length text, trailing NULs are dropped; lone surrogates survive."""
    data = tensor_value("s", [0], "str", "a\0b\ud800\0\0".encode("utf-32-le", "surrogatepass"))
    (entry,) = FORM.scan(BytesSource(data))

    assert FileReader(without_index(BytesSource(data), FORM)).value(entry) == "a\0b\ud800"


def test_a_map_in_slices_is_joined(payloads):
    """Keys, values and status of adjacent pieces are concatenated."""
    parts = [[counting((n,), "int32"), counting((n, 2)) + n, counting((n,), "int8")] for n in (1, 3, 2)]
    data = b"".join(map_value("m", arrays) for arrays in parts)
    for source in (BytesSource(data), TracingSource(data)):
        (entry,) = FORM.scan(source)
        found = FileReader(without_index(source, FORM)).value(entry)

        assert plain(found) == [plain(np.concatenate(arrays)) for arrays in zip(*parts, strict=True)]


@pytest.mark.parametrize("read", ["view", "copy"])
def test_what_is_no_tensor_is_not_read_as_one(read, payloads):
    """A string and a map have no dtype."""
    for name in ("note", "table"):
        with pytest.raises(TypeError, match=f"{name}.* not a tensor"):
            getattr(payloads, read)(ENTRIES[name])


def test_old_bfloat16_is_the_upper_half_of_each_float():
    """Old versions stored bfloat16 as float32: its upper two bytes are the value, truncated."""
    wide = np.array([1.0, -2.5, 3.14159, np.inf], "float32")
    data = tensor_value("w", [4], "BFloat16", wide.tobytes())
    (entry,) = FORM.scan(BytesSource(data))
    found = FileReader(without_index(BytesSource(data), FORM)).view(entry)

    assert found.view("uint16").tolist() == (wide.view("uint32") >> 16).tolist()


@pytest.mark.parametrize("size", [8, 24, 1000])
def test_pieces_can_be_asked_for_by_number(size, payloads):
    """Pieces requested by number equal those of a full stream."""
    for entry in (ENTRIES["a"], ENTRIES["note"]):
        pieces = [piece.tobytes() for piece in payloads.pieces(entry, size)]
        some = [
            [piece.tobytes() for piece in payloads.pieces(entry, size, first, count)] == pieces[first:][:count]
            for first in range(len(pieces) + 2)
            for count in (None, 0, 1, 2, 99)
        ]

        assert payloads.piece_count(entry, size) == len(pieces)
        assert all(some)


def test_some_pieces_are_not_compared_with_the_digest_of_all(payloads):
    """The digest covers the whole content, so it is compared only if all pieces are requested by number."""
    wrong = with_digest(bytes(32))
    some = list(payloads.pieces(wrong, 8, 0, 1))
    with pytest.raises(CorruptFile, match="digest differs"):
        list(payloads.pieces(wrong, 8, 0, payloads.piece_count(wrong, 8)))

    assert len(some) == 1


def with_digest(digest):
    """The first tensor's entry, with a digest."""
    return A_ENTRY._replace(digest=digest)


def test_a_content_that_is_not_the_indexed_one_is_refused(payloads):
    """If the index has a digest, a whole copy is compared with it."""
    with pytest.raises(CorruptFile, match="digest differs"):
        payloads.copy(with_digest(bytes(32)))


@pytest.mark.parametrize("shape", [(), (0,), (3,), (5, 7), (2, 0, 3), (64,)])
@pytest.mark.parametrize("dtype", ["Bool", "Float16", "BFloat16", "Float64"])
def test_new_arrays_are_aligned(shape, dtype):
    """The first byte lies on a 64-byte boundary, and shape and dtype are the requested ones."""
    made = aligned(shape, DTYPES[dtype])

    assert (made.shape, made.dtype, made.ctypes.data % 64 if made.size else 0) == (shape, DTYPES[dtype].numpy, 0)


@pytest.mark.parametrize("size", [2**22, 2**23 + 2**21, 2**25 - 1, 2**25 + 5])
def test_large_arrays_begin_on_huge_pages(size):
    """Large arrays begin at a 2 MiB boundary, so that the system can clear and map whole huge pages."""
    assert aligned((size,), DTYPES["UInt8"]).ctypes.data % 2**21 == 0


@pytest.mark.parametrize("size", [2**21, 2**22 + 1, 2**23 + 100])
def test_an_array_does_not_begin_on_a_huge_page_if_the_last_would_be_wasted(size):
    """Alignment may waste at most a sixteenth of an array."""
    made = aligned((size,), DTYPES["UInt8"])

    assert made.base.nbytes - size == 64


LARGE = {f"layer{number}": np.arange(number, number + 2**19, dtype=np.float32) for number in range(3)}


@pytest.mark.parametrize("read", ["copy", "values"])
def test_a_large_value_cut_short_is_an_error_and_not_a_crash(read, tmp_path):
    """After a file shrank, values of megabytes are refused one by one and together."""
    path = tmp_path / "net.ckpt"
    path.write_bytes(checkpoint(LARGE))
    opened = open_source(str(path), access="mmap").source
    payloads, entries = FileReader(without_index(opened, FORM)), [*FORM.scan(opened)]
    os.truncate(path, 5 * 2**20)

    with pytest.raises(ChangedFile, match=r"net\.ckpt.*(shrank|ends at byte)"):
        payloads.copy(entries[0]) if read == "copy" else payloads.values(entries)
    opened.close()


@pytest.mark.parametrize("access", ["mmap", "pread"])
def test_large_values_are_the_same_one_by_one_and_together(access, tmp_path):
    """Values of megabytes, copied from a map or read, are right and writable."""
    path = tmp_path / "net.ckpt"
    path.write_bytes(checkpoint(LARGE))
    opened = open_source(str(path), access=access).source
    payloads, entries = FileReader(without_index(opened, FORM)), [*FORM.scan(opened)]
    opened.drop_pages(0, opened.size)
    values = [*payloads.values(entries), *map(payloads.copy, entries)]
    opened.close()

    assert [plain(value) for value in values] == 2 * [plain(value) for value in LARGE.values()]
    assert all(value.flags.writeable for value in values)


def test_reading_a_value_reads_no_other(payloads):
    """A value costs its own bytes and its header's."""
    source = TracingSource(DATA)
    for name, entry in ENTRIES.items():
        source.reads.clear()
        FileReader(without_index(source, FORM)).value(entry)

        assert (name, source.looked_at()) == (name, places([Extent(entry.start, entry.stop - entry.start)]))


def test_a_refused_value_is_an_error(tmp_path):
    """The reason is raised, alone and among other values; before, the value read as an empty list."""
    path = tmp_path / "net.ckpt"
    path.write_bytes(tensor_value("q", [2], "Float8E4M3FN", b"ab") + array_value("w", np.ones(3)))
    with open_all(path, index="memory") as ckpt:
        with pytest.raises(CorruptFile, match=r"Float8E4M3FN.*'q'"):
            ckpt["q"]
        with pytest.raises(CorruptFile, match=r"Float8E4M3FN.*'q'"):
            ckpt.load()
        assert ckpt["w"].asnumpy().tolist() == [1, 1, 1]
