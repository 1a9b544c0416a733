"""The frames of an encrypted file are found by their headers alone; invalid headers are refused."""

from __future__ import annotations

import re

import numpy as np
import pytest
from checkpoints import pattern
from encryption import (
    CLEAR_TRAILER,
    CONTENT,
    HEADER,
    MAGICS,
    MODES,
    cut,
    encrypted,
    flipped,
    frame,
    framed,
    iv_of,
    split,
)
from hypothesis import given
from hypothesis import strategies as st
from tracing import TracingSource

from lazyckpt.errors import CorruptFile, TruncatedFile
from lazyckpt.sources.base import BaseSource, BytesSource
from lazyckpt.sources.encryption.cipher import MODES as OURS
from lazyckpt.sources.encryption.frames import FRAME_PLAINTEXT, Frame, FrameTable, read_frame_headers

DATA = pattern(300)
THREE = {mode: encrypted(DATA, mode, block=100) for mode in MODES}


def hopped(file, mode):
    """The frames of a file."""
    table = read_frame_headers(BytesSource(file, "net.ckpt"), OURS[mode])
    return [table[number] for number in range(len(table))]


@pytest.mark.parametrize("mode", MODES)
def test_every_frame_is_found(mode):
    """Each frame is found with its offset, iv and tag; CBC padding still counts as plaintext."""
    frames, place, plain = [], 0, 0
    for number, piece in enumerate(split(THREE[mode], mode)):
        stored = len(piece) - HEADER[mode]
        tag = piece[4:20] if mode == "AES-GCM" else bytes(16)
        frames.append(Frame(plain, stored, place + HEADER[mode], stored, iv_of(number), tag))
        place += len(piece)
        plain += stored

    assert hopped(THREE[mode], mode) == frames


@pytest.mark.parametrize("mode", MODES)
def test_only_headers_are_read(mode):
    """Finding the frames reads 48 bytes each, 32 for CBC, and no ciphertext."""
    source = TracingSource(THREE[mode])
    table = read_frame_headers(source, OURS[mode])
    starts = [table[number].offset - HEADER[mode] for number in range(3)]

    assert source.reads == [(start, HEADER[mode]) for start in starts]


@pytest.mark.parametrize("mode", MODES)
def test_an_empty_file_has_no_frames(mode):
    """MindSpore saves no parameters as an empty file, without frames or plaintext."""
    table = read_frame_headers(BytesSource(b""), OURS[mode])

    assert (len(table), table.size) == (0, 0)


def refusal(file, mode):
    """The message for a refused file."""
    with pytest.raises(CorruptFile) as caught:
        read_frame_headers(BytesSource(file, "net.ckpt"), OURS[mode])
    return str(caught.value)


FAULTS = {
    "another magic first": (lambda mode: flipped(THREE[mode], 0, 7), 0, "the file does not begin with a frame"),
    "iv_len 12": (lambda mode: framed(bytes(32), mode, iv_len=12), 0, "its iv has 12 bytes, not 16"),
    "iv_len -1": (lambda mode: framed(bytes(32), mode, iv_len=-1), 0, "its iv has -1 bytes, not 16"),
    "block_len 0": (lambda mode: framed(bytes(32), mode, block_len=0), 0, "its lengths are impossible (0 for"),
    "block_len -1": (lambda mode: framed(bytes(32), mode, block_len=-1), 0, "its lengths are impossible (-1 for"),
    "block_len + 1": (lambda mode: framed(bytes(32), mode, block_len=57), 0, "impossible (57 for a ciphertext of 32)"),
    "block_len - 1": (lambda mode: framed(bytes(32), mode, block_len=55), 0, "impossible (55 for a ciphertext of 32)"),
    "huge block_len": (lambda mode: framed(bytes(32), mode, block_len=2**31 - 1), 0, "(2,147,483,647 for"),
    "cipher_len 0": (lambda mode: framed(b"", mode), 0, "impossible (24 for a ciphertext of 0)"),
    "cipher_len -16": (lambda mode: framed(bytes(32), mode, cipher_len=-16, block_len=8), 0, "a ciphertext of -16)"),
    "too long": (lambda mode: framed(bytes(32), mode, cipher_len=2**26 + 32, block_len=2**26 + 56), 0, "67,108,896)"),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("fault", FAULTS)
def test_an_impossible_header_is_refused(fault, mode):
    """The error names the fault, the file, the number of the block and its offset."""
    make, number, words = FAULTS[fault]

    assert re.fullmatch(
        rf"net\.ckpt: encrypted block {number} is damaged: .*{re.escape(words)}.*\(at byte 0\)",
        refusal(make(mode), mode),
    )


@pytest.mark.parametrize("mode", MODES)
def test_what_follows_the_last_frame_must_be_a_frame(mode):
    """Other bytes after a frame are refused, and so is a frame of another mode."""
    place = len(THREE[mode])
    others = [bytes(60), *(encrypted(DATA, other) for other in MODES if other != mode), frame(DATA, mode)[1:]]
    messages = {refusal(THREE[mode] + other, mode) for other in others}

    assert messages == {f"net.ckpt: encrypted block 3 is damaged: its bytes are not a frame (at byte {place:,})"}


@pytest.mark.parametrize("mode", MODES[1:])
def test_a_cbc_ciphertext_is_whole_pieces(mode):
    """In CBC the length of a ciphertext must be a multiple of 16."""
    assert "its ciphertext has 40 bytes, not a multiple of 16" in refusal(framed(bytes(40), mode), mode)


class _Claimed(BaseSource):
    """A file of any size that holds only a header and zeros."""

    def __init__(self, head, size):
        self.name, self.size, self._head = "<claimed>", size, head

    def _fill(self, offset, destination):
        destination[:] = (self._head[offset:] + bytes(destination.nbytes))[: destination.nbytes]


@pytest.mark.parametrize(
    ("mode", "longest"), [("AES-GCM", 2**26 + 26), ("AES-CBC", 2**26 + 16), ("SM4-CBC", 2**26 + 16)]
)
def test_a_block_is_as_long_as_mindspore_reads_it(mode, longest):
    """As in MindSpore's reader, block_len may be 64 MiB + 50; for CBC that is 64 MiB and its padding."""
    head = framed(b"", mode, cipher_len=longest, block_len=longest + 24)
    table = read_frame_headers(_Claimed(head, len(head) + longest), OURS[mode])

    assert table.size == longest >= FRAME_PLAINTEXT
    assert "impossible" in refusal(framed(b"", mode, cipher_len=2**26 + 27, block_len=2**26 + 51), mode)


@pytest.mark.parametrize("mode", MODES)
def test_a_file_cut_inside_a_frame_is_reported_as_cut(mode):
    """For a cut in a header or in a ciphertext, the error has the block's number and both lengths."""
    file = THREE[mode]
    borders = {0: 0}
    for number, piece in enumerate(split(file, mode), 1):
        borders[max(borders) + len(piece)] = number
    wrong = []
    for length in range(len(file)):
        before = max(border for border in borders if border <= length)
        head = length - before
        if head == 0:
            continue
        number, content = borders[before], before + HEADER[mode]
        whole = len(split(file, mode)[number]) - HEADER[mode]
        place, words = before, f"{head} bytes follow, its header has {HEADER[mode]}"
        if head >= HEADER[mode]:
            place, words = content, f"it has {whole:,} bytes, the file ends after {length - content:,}"
        expected = f"net.ckpt: the file is cut in encrypted block {number}: {words} (at byte {place:,})"
        with pytest.raises(TruncatedFile) as caught:
            read_frame_headers(BytesSource(file[:length], "net.ckpt"), OURS[mode])
        if str(caught.value) != expected:
            wrong.append((length, str(caught.value), expected))

    assert wrong == []


@pytest.mark.parametrize("mode", MODES)
def test_a_file_cut_between_frames_is_whole(mode):
    """The format has no count of frames, so without the last ones a file is a shorter file."""
    whole = hopped(THREE[mode], mode)
    pieces = split(THREE[mode], mode)

    assert [hopped(b"".join(pieces[:count]), mode) for count in range(4)] == [whole[:count] for count in range(4)]


@pytest.mark.parametrize("mode", MODES)
def test_a_clear_trailer_is_passed_over(mode):
    """The 17 bytes that `crc_check` writes in clear after the last frame are skipped."""
    assert hopped(THREE[mode] + CLEAR_TRAILER, mode) == hopped(THREE[mode], mode)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "end", [CLEAR_TRAILER[:-1], CLEAR_TRAILER + b"\0", CLEAR_TRAILER * 2, b"crc_nun" + bytes(10), b"\0"]
)
def test_nothing_else_is_a_trailer(mode, end):
    """With one byte more or less, or another word, the file is refused."""
    with pytest.raises(CorruptFile, match="encrypted block 3"):
        read_frame_headers(BytesSource(THREE[mode] + end), OURS[mode])


@pytest.mark.parametrize("mode", MODES)
def test_a_trailer_alone_is_no_encrypted_file(mode):
    """A file that begins with a trailer, without frames, is refused."""
    with pytest.raises(TruncatedFile):
        read_frame_headers(BytesSource(CLEAR_TRAILER), OURS[mode])


@pytest.mark.parametrize("mode", MODES)
def test_a_changed_bit_in_a_header_changes_the_frames_or_is_refused(mode):
    """Any changed bit outside iv and tag, which are kept as they are, is a fault."""
    whole = hopped(THREE[mode], mode)
    kept = {*range(4, 20)} if mode == "AES-GCM" else set()
    kept |= {*range(CONTENT[mode] + 4, CONTENT[mode] + 20)}
    unnoticed = []
    for place in range(HEADER[mode]):
        for bit in range(8):
            try:
                same = hopped(flipped(THREE[mode], place, bit), mode) == whole
            except CorruptFile:
                same = None
            if same is not (False if place in kept else None):
                unnoticed.append((place, bit))

    assert unnoticed == []


ROWS = st.lists(st.tuples(st.integers(1, 50), st.integers(0, 15)), max_size=20)


def table_of(lengths, padding=()):
    """The table of GCM frames with these lengths, and of CBC frames with these paddings."""
    file = b"".join(frame(bytes(length), "AES-GCM", iv=iv_of(number)) for number, length in enumerate(lengths))
    table = read_frame_headers(BytesSource(file), OURS["AES-GCM"])
    return table.with_lengths(np.array(lengths, np.int64) - np.array(padding, np.int64)) if padding else table


@given(st.lists(st.integers(1, 50), max_size=20))
def test_every_byte_of_the_plaintext_has_its_frame(lengths):
    """`holding` names the frame of each byte, for any sizes of blocks."""
    table = table_of(lengths)
    owners = [number for number, length in enumerate(lengths) for _ in range(length)]

    assert [table.holding(offset) for offset in range(table.size)] == owners


@given(st.lists(st.tuples(st.integers(17, 50), st.integers(1, 16)), min_size=1, max_size=20))
def test_padding_is_taken_off(rows):
    """`with_lengths` shortens the blocks and shifts the following ones; ciphertexts keep their offsets."""
    lengths, padding = zip(*rows, strict=True)
    before, after = table_of(lengths), table_of(lengths, padding)
    plain = [length - pad for length, pad in rows]

    assert [after[number] for number in range(len(rows))] == [
        before[number]._replace(plain=sum(plain[:number]), length=plain[number]) for number in range(len(rows))
    ]


@given(st.lists(st.integers(1, 50), max_size=20))
def test_a_table_is_kept_as_bytes(lengths):
    """A table written as 64 bytes a frame is read back unchanged."""
    table = table_of(lengths)
    again = FrameTable.from_bytes(table.to_bytes())

    assert len(table.to_bytes()) == 64 * len(lengths)
    assert (again.size, again.to_bytes()) == (table.size, table.to_bytes())
    assert [again[number] for number in range(len(lengths))] == [table[number] for number in range(len(lengths))]


def changed_row(data, place, value):
    """A table as bytes, with one number changed."""
    changed = bytearray(data)
    changed[place : place + 8] = value.to_bytes(8, "little")
    return bytes(changed)


TABLE = table_of([10, 20, 30]).to_bytes()


@pytest.mark.parametrize(
    "data",
    [
        TABLE[:-1],
        TABLE + b"\0",
        b"\0",
        changed_row(TABLE, 0, 1),
        changed_row(TABLE, 64, 11),
        changed_row(TABLE, 72, 21),
    ],
    ids=["cut", "longer", "one byte", "first not at 0", "a gap", "an overlap"],
)
def test_a_table_that_contradicts_itself_is_refused(data):
    """Invalid bytes, and blocks that do not follow each other, are refused."""
    with pytest.raises(ValueError, match=r"multiple|size|contradicts"):
        FrameTable.from_bytes(data)


def test_the_blocks_are_those_that_were_cut():
    """The builder cuts evenly, or by a list of lengths and the rest."""
    assert [len(block) for block in cut(DATA, 120)] == [120, 120, 60]
    assert [len(block) for block in cut(DATA, [1, 0, 7])] == [1, 7, 292]
    assert MAGICS["AES-GCM"] == THREE["AES-GCM"][:4]
