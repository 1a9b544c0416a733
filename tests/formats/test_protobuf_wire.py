"""The wire format is accepted or refused as by protobuf's own parser, with the offset of a fault."""

from __future__ import annotations

import pytest
import reference_parser
from checkpoints import chunk, fixed32, fixed64, group, key, nested_groups, number, pattern, tensor_value, varint
from hypothesis import given
from hypothesis import strategies as st
from tracing import TracingSource

from lazyckpt.errors import CorruptFile, TruncatedFile
from lazyckpt.formats.protobuf_wire import FIXED32, FIXED64, LENGTH, START_GROUP, VARINT, fields, read_varint, signed
from lazyckpt.sources.window import as_buffer

UNKNOWN = 77  # a field that no message has
TOO_LONG = b"\xff" * 10 + b"\x01"


def walk(data, end=None):
    """All fields of a message in memory."""
    return list(fields(memoryview(data), 0, len(data) if end is None else end))


def test_the_oracle_is_the_parser_that_mindspore_forces():
    """The reference for all comparisons is protobuf's pure-Python parser, not the one in C."""
    assert reference_parser.IMPLEMENTATION == "python"


@given(st.integers(0, 2**64 - 1), st.integers(0, 9))
def test_a_number_is_read_however_it_is_padded(value, pad):
    """Seven bits a byte, lowest first, in up to 10 bytes, in the shortest form or not."""
    data = b"\xee" + varint(value, min(pad, 10 - len(varint(value)))) + b"\xee"

    assert read_varint(memoryview(data), 1, len(data)) == (value, len(data) - 1)


@pytest.mark.parametrize(
    ("data", "value"), [(b"\xff" * 9 + b"\x7f", 2**64 - 1), (b"\x80" * 9 + b"\x02", 0), (b"\x80" * 9 + b"\x01", 2**63)]
)
def test_ten_bytes_keep_their_low_64_bits(data, value):
    """Bits of the tenth byte beyond the 64th are lost."""
    assert read_varint(memoryview(data), 0, 10) == (value, 10)


def test_eleven_bytes_are_no_number():
    """The message has the offset of the number."""
    with pytest.raises(CorruptFile, match=r"longer than 10 bytes \(at byte 2\)"):
        read_varint(memoryview(b"\0\0" + TOO_LONG), 2, 13)


@pytest.mark.parametrize("end", [2, 3, 5])
def test_a_number_does_not_run_past_its_message(end):
    """Bytes beyond the end are not read, even if they exist."""
    with pytest.raises(TruncatedFile, match=r"cut off .*\(at byte 2\)"):
        read_varint(memoryview(b"\0\0\x80\x80\x80\x01"), 2, end)


@pytest.mark.parametrize("value", [0, 1, -1, 2**63 - 1, -(2**63), -5])
def test_negative_numbers_are_twos_complements(value):
    """Negative numbers follow protobuf's int64."""
    assert signed(read_varint(memoryview(varint(value)), 0, 10)[0]) == value


FIELDS = number(1, 300) + chunk(2, b"content") + fixed64(3) + fixed32(4) + group(5, number(1, 1)) + chunk(6, b"")


def test_fields_are_found_with_their_places():
    """Each field has its key, start, start of the value, end, and the number if it is one."""
    assert [tuple(field) for field in walk(FIELDS)] == [
        (1 << 3 | VARINT, 0, 1, 3, 300),
        (2 << 3 | LENGTH, 3, 5, 12, 0),
        (3 << 3 | FIXED64, 12, 13, 21, 0),
        (4 << 3 | FIXED32, 21, 22, 26, 0),
        (5 << 3 | START_GROUP, 26, 27, 30, 0),
        (6 << 3 | LENGTH, 30, 32, 32, 0),
    ]


def test_a_message_may_stand_anywhere():
    """Offsets are in the buffer; bytes around the message are not read."""
    data = b"\xff" * 7 + FIELDS + b"\xff" * 7
    moved = list(fields(memoryview(data), 7, 7 + len(FIELDS)))

    assert [(field.key, field.start - 7, field.end - 7) for field in moved] == [
        (field.key, field.start, field.end) for field in walk(FIELDS)
    ]


def test_an_empty_message_has_no_fields():
    """No bytes are a valid message."""
    assert walk(b"") == []


@pytest.mark.parametrize("pad", [1, 2, 8])
def test_a_key_that_is_not_in_shortest_form_is_another_field(pad):
    """As in protobuf's pure-Python parser, such a key is an unknown field and is skipped."""
    (field,) = walk(chunk(1, b"xyz", key_pad=pad))

    assert (field.key < 0, field.end) == (True, len(chunk(1, b"xyz", key_pad=pad)))


def test_contents_are_not_looked_at():
    """Chunks are skipped: through a window of one byte only keys and lengths are read."""
    data = chunk(3, pattern(1000)) + number(1, 5) + chunk(2, pattern(500))
    source = TracingSource(data)
    found = list(fields(as_buffer(source), 0, len(data)))

    assert [(field.begin, field.end) for field in found] == [(3, 1003), (1004, 1005), (1008, 1508)]
    assert source.looked_at() == {0, 1, 2, 1003, 1004, 1005, 1006, 1007}


ACCEPTED = {
    "nothing": b"",
    "a known field": chunk(1, b""),
    "an unknown number": number(UNKNOWN, 5),
    "an unknown number of ten bytes": number(UNKNOWN, -1),
    "a padded unknown number": number(UNKNOWN, 5, pad=9),
    "an unknown chunk": chunk(UNKNOWN, b"\xff" * 20),
    "a padded length": chunk(UNKNOWN, b"abc", pad=9),
    "unknown fixed fields": fixed64(UNKNOWN) + fixed32(UNKNOWN),
    "an empty group": group(UNKNOWN),
    "a group of everything": group(UNKNOWN, number(1, 1), chunk(1, b"\xff"), fixed32(9), fixed64(9), group(1)),
    "field number 0 in a group": group(UNKNOWN, number(0, 1)),
    "the highest field number": number(2**29 - 1, 1),
    "groups 99 deep": nested_groups(99),
    "a known number as a number": number(1, 5),
    "a known number as a group": group(1, number(1, 1)),
    "a known number as eight bytes": fixed64(1),
    "a padded key": chunk(1, b"\xff\xff\xff", key_pad=1),
    "a padded key of an unknown field": number(UNKNOWN, 1, key_pad=3),
}
REFUSED = {
    "a cut key": b"\x8a",
    "a cut number": key(UNKNOWN, 0) + b"\x80",
    "no number": key(UNKNOWN, 0),
    "no length": key(UNKNOWN, 2),
    "a cut length": key(UNKNOWN, 2) + b"\x80",
    "a cut chunk": chunk(UNKNOWN, b"abc")[:-1],
    "a cut known chunk": chunk(1, b"\x0a\x01a")[:-1],
    "a cut field of eight bytes": fixed64(UNKNOWN)[:-1],
    "a cut field of four bytes": fixed32(UNKNOWN)[:-1],
    "a length of 2**32-1": key(UNKNOWN, 2) + varint(2**32 - 1) + b"abc",
    "a length of 2**63": key(1, 2) + varint(2**63),
    "a length of 2**64-1": key(1, 2) + varint(2**64 - 1),
    "a number of eleven bytes": key(UNKNOWN, 0) + TOO_LONG,
    "a length of eleven bytes": key(UNKNOWN, 2) + b"\x80" * 10 + b"\0",
    "a key of eleven bytes": b"\x80" * 10 + b"\0",
    "wire type 6": key(UNKNOWN, 6) + b"\0" * 8,
    "wire type 7": key(UNKNOWN, 7) + b"\0" * 8,
    "wire type 6 in a group": group(UNKNOWN, key(5, 6)),
    "field number 0": number(0, 1),
    "field number 0 as a chunk": chunk(0, b""),
    "a padded field number 0": number(0, 1, key_pad=1),
    "an end without a beginning": key(UNKNOWN, 4),
    "an end of a known field": key(1, 4),
    "a group without an end": key(UNKNOWN, 3) + number(1, 1),
    "groups 100 deep": nested_groups(100),
    "groups 50,000 deep": nested_groups(50_000),
    "a cut field in a group": key(UNKNOWN, 3) + fixed64(5)[:-1],
    "a chunk that reaches out of its group": key(UNKNOWN, 3) + key(1, 2) + varint(50) + key(UNKNOWN, 4),
    "text": b"version https://example.org\n",
}


def judged(data):
    """Whether protobuf's own parser accepts these bytes as a checkpoint."""
    return reference_parser.parse(data) is not None


@pytest.mark.parametrize("data", ACCEPTED.values(), ids=ACCEPTED)
def test_what_protobuf_accepts_is_walked_to_its_end(data):
    """Unknown fields of every kind are skipped."""
    found = walk(data)

    assert judged(tensor_value("w", [], "Int8", b"1") + (b"" if data.startswith((b"\x0a", b"\x8a")) else data))
    assert (found[-1].end if found else 0) == len(data)


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED)
def test_what_protobuf_refuses_is_corrupt(data):
    """The scan raises CorruptFile with an offset inside the message."""
    assert not judged(data)

    with pytest.raises(CorruptFile) as caught:
        walk(data)
    assert 0 <= caught.value.offset <= len(data)


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED)
def test_what_is_refused_by_itself_is_refused_in_a_window(data):
    """A source fetched byte by byte gives the same error message."""
    with pytest.raises(CorruptFile) as expected:
        walk(data)
    with pytest.raises(CorruptFile) as caught:
        list(fields(as_buffer(TracingSource(data)), 0, len(data)))

    assert str(caught.value) == str(expected.value)


_fields = st.recursive(
    st.one_of(
        st.builds(number, st.integers(1, 20), st.integers(0, 2**64 - 1)),
        st.builds(chunk, st.integers(1, 20), st.binary(max_size=10)),
        st.builds(fixed32, st.integers(1, 20), st.binary(min_size=4, max_size=4)),
        st.builds(fixed64, st.integers(1, 20), st.binary(min_size=8, max_size=8)),
    ),
    lambda inner: st.builds(
        lambda field, inside: group(field, *inside), st.integers(1, 20), st.lists(inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.lists(_fields, max_size=6))
def test_fields_are_taken_apart_where_they_were_put_together(written):
    """The offsets of found fields equal those of the written ones."""
    joints = [sum(map(len, written[:count])) for count in range(len(written) + 1)]

    assert [0, *(field.end for field in walk(b"".join(written)))] == joints


_nearly = st.lists(
    st.one_of(_fields, st.builds(key, st.integers(0, 20), st.integers(0, 7)), st.binary(max_size=3)), max_size=8
).map(b"".join)


@given(_nearly)
def test_nothing_is_accepted_that_protobuf_refuses(data):
    """Almost valid bytes in a group, where both skip them, are accepted only if protobuf parses them."""
    whole = group(UNKNOWN, data)
    try:
        accepted = walk(whole) is not None
    except CorruptFile:
        accepted = False

    assert judged(whole) or not accepted


# Protobuf's versions differ in how well they compare the end of an unknown group with its beginning.
ENDS = {
    "another's": key(UNKNOWN, 3) + key(UNKNOWN + 1, 4),
    "padded": key(UNKNOWN, 3) + key(UNKNOWN, 4, pad=1),
    "crossed": key(5, 3) + key(6, 3) + key(5, 4) + key(6, 4),
    "part of a fixed field": key(UNKNOWN, 3) + key(5, 1) + b"\xff" * 6 + key(UNKNOWN, 4),
    "part of a number": key(UNKNOWN, 3) + key(5, 0) + key(UNKNOWN, 4),
    "part of a longer key": key(UNKNOWN, 3) + b"\xcc" + key(UNKNOWN, 4),
}


@pytest.mark.parametrize("data", ENDS.values(), ids=ENDS)
def test_a_group_ends_with_its_own_end(data):
    """The end of another group, or of something else, does not close a group."""
    with pytest.raises(CorruptFile, match="group"):
        walk(data)
