"""A written `.ckpt` equals MindSpore's, and the writer returns the entries that a scan would find."""

from __future__ import annotations

import io
import zlib

import numpy as np
import pytest
from checkpoints import MIXED, array_value, checkpoint, counting, sliced_value, string_value, with_crc
from encryption import KEY, MODES
from hypothesis import given
from hypothesis import strategies as st
from items import values, written
from opening import opened_over

from lazyckpt.errors import ArgumentValueError
from lazyckpt.formats.ckpt import checksums, scan
from lazyckpt.model.dtypes import DTYPES
from lazyckpt.model.entry import entry_of
from lazyckpt.sources.base import BytesSource
from lazyckpt.sources.encryption.cipher import MODES as CIPHER_MODES
from lazyckpt.sources.encryption.cipher import CipherKey
from lazyckpt.sources.encryption.decryption import open_encrypted
from lazyckpt.sources.encryption.keys import Secret
from lazyckpt.writing import ckpt
from lazyckpt.writing.adapters import item_of
from lazyckpt.writing.items import Content, Item, bytes_content, map_of, tensor
from lazyckpt.writing.sink import EncryptingSink, PlainSink


def test_what_is_written_is_mindspores():
    """Tensors, strings and maps are written as MindSpore writes them."""
    assert written(MIXED)[0] == checkpoint(MIXED)


@given(values, st.sampled_from([1, 8, 64, 4096]), st.booleans(), st.sampled_from([1, 7, 64, 2**20]))
def test_the_writer_knows_what_a_walk_finds(contents, align, crc, slice_size):
    """The entries returned by the writer equal those of a scan of the written bytes."""
    data, entries = written(contents, align=align, crc=crc, slice_size=slice_size)

    assert list(map(entry_of, entries)) == list(scan(BytesSource(data)))


@given(values, st.sampled_from([1, 64]), st.sampled_from([3, 2**20]))
def test_every_value_comes_back(contents, align, slice_size):
    """Values read from a written file equal the given ones bit for bit."""
    data, _ = written(contents, align=align, slice_size=slice_size)
    read = opened_over(BytesSource(data)).load() if contents else {}

    assert list(read) == list(contents)
    for name, value in contents.items():
        if isinstance(value, str):
            assert read[name] == value.rstrip("\0")
        elif isinstance(value, list):
            assert [array.tobytes() for array in read[name]] == [array.tobytes() for array in value]
        else:
            assert (read[name].shape, read[name].tobytes()) == (value.shape, value.tobytes())


@given(values)
def test_a_checksum_is_of_the_whole_stream(contents):
    """With `crc` the stream ends in the checksum of all preceding bytes."""
    plain, summed = written(contents)[0], written(contents, crc=True)[0]
    body = summed[:-17]

    assert summed == with_crc(body)
    assert checksums(BytesSource(written({"w": counting((3,))}, crc=True)[0]))[0] is not None
    assert zlib.crc32(body) == int.from_bytes(summed[-10:], "big")
    assert plain.removesuffix(b"\x7a\x00") == body


def test_a_large_value_is_written_in_slices():
    """A content larger than a slice becomes several Values of one name, each with the whole shape."""
    array = counting((10, 7))

    assert written({"w": array}, slice_size=100)[0] == sliced_value("w", array, [100, 100])


def test_each_slice_is_aligned():
    """Every content of an aligned file, also of a slice, begins at a multiple of the alignment."""
    _, (entry,) = written({"w": counting((100,))}, slice_size=100, align=64)

    assert [extent.offset % 64 for extent in entry.extents] == [0] * 4


def test_a_string_is_never_cut():
    """A string longer than a slice is still one Value."""
    assert written({"s": "ab" * 300}, slice_size=100)[0] == string_value("s", "ab" * 300)


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0)])
def test_an_empty_tensor_is_written(shape):
    """An empty tensor is written, though MindSpore omits and so loses it."""
    assert written({"w": np.zeros(shape, "float32")})[0] == array_value("w", np.zeros(shape, "float32"))


def test_a_stream_that_happens_to_end_like_a_checksum_is_no_less_readable():
    """If the last content looks like a trailer, which every reader strips, a harmless field follows it."""
    content = np.frombuffer(b"crc_num" + bytes(10), "uint8")
    data, _ = written({"w": content})

    assert opened_over(BytesSource(data))["w"].tobytes() == content.tobytes()


def test_a_map_may_be_written_in_slices():
    """Slices of a map are adjacent Values, and are joined to one entry."""
    rows = [counting((4,), "int32"), counting((4, 2)), counting((4,), "int32")]
    parts = [[array[:3] for array in rows], [array[3:] for array in rows]]
    file = io.BytesIO()
    (entry,) = ckpt.write(PlainSink(file), [map_of("m", parts)])
    source = BytesSource(file.getvalue())

    assert [entry] == list(scan(source))
    assert [array.tolist() for array in opened_over(source)["m"]] == [array.tolist() for array in rows]


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (item_of("\ud800", counting((1,))), "is not valid Unicode"),
        (item_of("w", np.zeros(2, "complex64")), "Complex64.*loads from no .ckpt"),
        (map_of("m", [[counting((2,)), counting((2,))]]), "three arrays"),
        (map_of("m", []), "three arrays"),
        (map_of("m", [[np.float32(1), np.float32(1), np.float32(1)]]), "three arrays"),
        (tensor("w", bytes_content(DTYPES["Int8"], (2**31, 0), bytes)), "no dimension of more than 2,147,483,647"),
        (Item("s", "string", (Content(None, (0,), 2**31, iter),)), "too long"),
    ],
    ids=["surrogate", "complex", "pair", "nothing", "scalars", "wide", "long"],
)
def test_what_no_ckpt_can_hold_is_refused(item, reason):
    """The message names the value and says why."""
    with pytest.raises(ArgumentValueError, match=f"{item.name!r}.*{reason}" if item.name.isascii() else reason):
        ckpt.check(item)


def test_a_content_that_is_longer_than_it_said_is_refused():
    """A value that grows while it is written is refused."""
    item = tensor("w", Content(DTYPES["Int8"], (2,), 2, lambda: iter([memoryview(b"abc")])))

    with pytest.raises(ArgumentValueError, match="more bytes"):
        list(ckpt.write(PlainSink(io.BytesIO()), [item]))


@pytest.mark.parametrize("pieces", [[], [b"a"], [b"", b"a"]])
def test_a_content_that_is_shorter_than_it_said_is_refused(pieces):
    """A content that shrinks while it is written is refused."""
    item = tensor("w", Content(DTYPES["Int8"], (2,), 2, lambda: map(memoryview, pieces)))

    with pytest.raises(ArgumentValueError, match=r"\d bytes less"):
        list(ckpt.write(PlainSink(io.BytesIO()), [item]))


@pytest.mark.parametrize("mode", MODES)
def test_an_encrypted_stream_that_ends_like_a_checksum_is_no_less_readable(mode):
    """In an encrypted stream, the field after the last content is encrypted too."""
    values = {"w": np.frombuffer(b"crc_num" + bytes(10), "uint8")}
    lock = CipherKey(CIPHER_MODES[mode], Secret(KEY))
    file = io.BytesIO()
    (entry,) = ckpt.write(EncryptingSink(file, lock), [item_of(name, value) for name, value in values.items()])
    source = open_encrypted(BytesSource(file.getvalue()), lock)

    assert list(scan(source)) == [entry_of(entry)]
    assert opened_over(source)["w"].tobytes() == values["w"].tobytes()
