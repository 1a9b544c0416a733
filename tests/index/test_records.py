"""Records: entries and an index's facts, as bytes."""

from __future__ import annotations

import contextlib

import pytest
from entries import MARK, any_entry, any_plain, map_entry, plain, refused_entry, string_entry, tensor_entry
from hypothesis import given
from hypothesis import strategies as st

from lazyckpt.formats import FORMAT_NAMES
from lazyckpt.index.footer import SCHEMA, Meta, decode_meta, encode_meta
from lazyckpt.index.records import FORGED_REASON, BadRecord, decode, encode, encode_plain, encode_run, name_of, names_of
from lazyckpt.model.dtypes import DTYPES
from lazyckpt.model.entry import Extent, entry_of

KINDS = [tensor_entry("w"), string_entry("s"), map_entry("m"), refused_entry("r")]


@given(any_entry)
def test_a_record_gives_back_its_entry(entry):
    """Every field of an entry survives being written and read."""
    assert decode(encode(entry, entry.name.encode())) == entry


def test_a_scalar_without_content_is_an_empty_vector():
    """Earlier versions recorded an empty vector so; no scalar is without content."""
    older = tensor_entry("w", shape=(), extents=())

    assert decode(encode(older, b"w")) == older._replace(shape=(0,))


@given(any_entry)
def test_the_name_can_be_read_alone(entry):
    """`name_of` gives the name of a record of any kind."""
    assert name_of(encode(entry, entry.name.encode())) == entry.name


@given(any_plain)
def test_the_short_way_gives_the_same_bytes(found):
    """The fast path's record of a tensor equals the record of its entry."""
    assert encode_plain(found) == encode(entry_of(found), found.name)


def test_a_record_is_the_bytes_that_the_schema_says():
    """The layout is pinned: a change of these bytes needs a new schema number."""
    entry = tensor_entry("w", place=1, shape=(2, 3))

    assert encode(entry, b"w") == bytes.fromhex(
        "00 0b 02 00 01000000  0200000000000000 0300000000000000"
        "6400000000000000 a400000000000000  8c00000000000000 1800000000000000  77"
    )


@pytest.mark.parametrize("entry", KINDS, ids=lambda entry: entry.kind)
def test_a_record_that_is_cut_is_refused(entry):
    """A record cut anywhere before its name is refused."""
    whole = encode(entry, entry.name.encode())
    for length in range(len(whole) - len(entry.name)):
        for read in (decode, name_of):
            with pytest.raises(BadRecord):
                read(whole[:length])


@pytest.mark.parametrize(
    "entry",
    [
        tensor_entry("w")._replace(dtype=None),
        tensor_entry("w")._replace(shape=(2, -3)),
        string_entry("s")._replace(dtype=DTYPES["Int8"]),
        string_entry("s")._replace(shape=(4,)),
        map_entry("m")._replace(dtype=DTYPES["Int8"]),
        refused_entry("r")._replace(shape=(4,)),
    ],
    ids=lambda entry: f"{entry.kind} {entry.dtype} {entry.shape}",
)
def test_a_record_that_contradicts_itself_is_refused(entry):
    """Only a tensor has a dtype, and no dimension is negative: the rest of the package may rely on it."""
    with pytest.raises(BadRecord, match="contradicts itself"):
        decode(encode(entry, b"name"))


def test_a_run_of_plain_tensors_is_written_as_each_is():
    """Records of `.ckpt` and safetensors entries are equal written together or one by one."""
    run = [plain(tensor_entry(f"w{place}", place, apart=apart)) for place, apart in enumerate((0, 60, 0))]

    assert encode_run(run) == [encode(entry_of(found), found.name) for found in run]


@pytest.mark.parametrize("entry", [*KINDS, tensor_entry("", digest=bytes(32)), tensor_entry("w", apart=60)])
def test_many_names_are_read_as_one_is(entry):
    """Names are read alike from equal records, mixed ones, and one at a time."""
    run = [encode(one, one.name.encode()) for one in (entry, entry, tensor_entry("a"), *KINDS)]

    assert names_of(run[:2]) == [entry.name] * 2
    assert names_of(run) == [name_of(record) for record in run]


@given(st.lists(st.binary(max_size=60), max_size=3))
def test_any_run_of_bytes_has_names_or_is_refused(run):
    """Either each record of a run gives a name, or the run is refused."""
    with contextlib.suppress(BadRecord):
        assert len(names_of(run)) == len(run)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_record_or_refused(data):
    """Arbitrary bytes raise only BadRecord."""
    for read in (decode, name_of, decode_meta):
        with contextlib.suppress(BadRecord):
            read(data)


@given(any_entry, st.data())
def test_a_damaged_record_is_a_record_or_refused(entry, data):
    """A record with one changed byte raises BadRecord or gives another valid record."""
    whole = bytearray(encode(entry, entry.name.encode()))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    found = None
    with contextlib.suppress(BadRecord):
        found = decode(bytes(whole))

    assert found != entry


def test_a_claim_of_four_billion_extents_allocates_nothing():
    """The count of extents is compared with the record's length before memory is allocated."""
    head = bytes([0, DTYPES["Float32"].code, 0, 0]) + b"\xff" * 4

    with pytest.raises(BadRecord, match="length"):
        decode(head + bytes(16))


@pytest.mark.parametrize("digests", [False, True])
def test_the_facts_of_an_index_survive(digests):
    """An index's metadata are read as they were written."""
    meta = Meta(MARK, 2**40, 3, digests, not digests, bytes(range(16)), bytes(range(16, 32)))

    assert decode_meta(encode_meta(meta)) == meta


def test_facts_of_another_schema_are_refused_by_number():
    """The facts of an older or newer schema are not read, and the message names both."""
    facts = bytearray(encode_meta(Meta(MARK, 1, 0, False)))
    facts[8] = 0

    with pytest.raises(BadRecord, match=f"schema 0, this version reads {SCHEMA}"):
        decode_meta(bytes(facts))


def test_facts_of_another_program_are_refused():
    """Facts without the magic, or of another length, are refused."""
    facts = encode_meta(Meta(MARK, 1, 0, False))
    for other in (b"", facts[:-1], facts + b"\0", b"X" + facts[1:]):
        with pytest.raises(BadRecord):
            decode_meta(other)


def test_extents_are_extents_again():
    """Extents come back as named values, not as bare tuples."""
    (extent,) = decode(encode(tensor_entry("w"), b"w")).extents

    assert isinstance(extent, Extent)


@pytest.mark.parametrize("form", FORMAT_NAMES)
def test_every_format_has_a_code_in_the_index(form):
    """The format of a file is stored in its index and comes back."""
    assert decode_meta(encode_meta(Meta(MARK, 1, 0, False, format=form))).format == form


@pytest.mark.parametrize("reason", ["\x1b[2J", "a\nb", "a\u202eb", "x" * 5000])
def test_a_reason_that_the_package_would_not_write_is_not_repeated(reason):
    """A reason out of an index file is one printable line; another text is replaced."""
    entry = refused_entry("w")._replace(reason=reason)
    known = entry._replace(reason="the dtype 'x' is unknown")

    assert decode(encode(entry, b"w")).reason == reason
    assert decode(encode(entry, b"w"), is_trusted=False).reason == FORGED_REASON
    assert decode(encode(known, b"w"), is_trusted=False) == known
