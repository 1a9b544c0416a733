"""Sinks write a stream plain, or in encrypted blocks that MindSpore's readers open."""

from __future__ import annotations

import io
import zlib

import pytest
from checkpoints import pattern
from encryption import KEY, KEY_SIZES, MODES, WHOLE, cut, frame, key_of, split
from hypothesis import given
from hypothesis import strategies as st

from lazyckpt.sources.base import BytesSource
from lazyckpt.sources.encryption.cipher import MODES as CIPHER_MODES
from lazyckpt.sources.encryption.cipher import CipherKey
from lazyckpt.sources.encryption.decryption import open_encrypted
from lazyckpt.sources.encryption.frames import table_of
from lazyckpt.sources.encryption.keys import Secret
from lazyckpt.writing.sink import EncryptingSink, PlainSink

EVERY = [(mode, size) for mode in MODES for size in KEY_SIZES[mode]]
pieces = st.lists(st.binary(max_size=70), max_size=12)


def encrypted_by_us(parts, mode, size, frame_size):
    """A file in encrypted blocks, and the sink that wrote it."""
    file = io.BytesIO()
    sink = EncryptingSink(file, CipherKey(CIPHER_MODES[mode], Secret(key_of(size))), frame_size)
    for part in parts:
        sink.write(part)
    sink.finish()
    return file.getvalue(), sink


@given(pieces)
def test_a_plain_sink_writes_what_it_is_given(parts):
    """The sink keeps the bytes' count, their checksum, and the last of them."""
    file, whole = io.BytesIO(), b"".join(parts)
    sink = PlainSink(file, crc=True)
    for part in parts:
        sink.write(memoryview(part))

    assert file.getvalue() == whole
    assert (sink.position, sink.crc, sink.tail) == (len(whole), zlib.crc32(whole), whole[-32:])


@pytest.mark.parametrize(("mode", "size"), EVERY)
@given(parts=pieces, frame_size=st.sampled_from([1, 15, 16, 17, 32, 64, 1000]))
def test_blocks_are_opened_again(mode, size, parts, frame_size):
    """Decryption returns the stream for any borders of pieces and blocks."""
    data, sink = encrypted_by_us(parts, mode, size, frame_size)
    source = open_encrypted(BytesSource(data), CipherKey(CIPHER_MODES[mode], Secret(key_of(size))))

    assert bytes(source.read(0, source.size)) == b"".join(parts)
    assert (sink.position, sink.tail) == (source.size, b"".join(parts)[-32:])
    assert table_of(sink.frames).to_bytes() == source.table.to_bytes()


@pytest.mark.parametrize(("mode", "size"), EVERY)
def test_blocks_are_mindspores(mode, size):
    """Each block equals one encrypted by hand, byte by byte, and has its own iv."""
    plain = pattern(1000)
    data, sink = encrypted_by_us([plain], mode, size, 300)
    ivs = [one.iv for one in sink.frames]

    assert len(set(ivs)) == 4
    assert split(data, mode) == [
        frame(part, mode, key_of(size), iv) for part, iv in zip(cut(plain, 300), ivs, strict=True)
    ]


def test_nothing_is_no_block():
    """An empty stream is an empty file, as MindSpore writes it."""
    assert encrypted_by_us([], "AES-GCM", 16, 64)[0] == b""


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("length", [WHOLE - 1, WHOLE, WHOLE + 1])
def test_a_block_is_64_mib(mode, length):
    """Blocks have MindSpore's length to the byte, because its reader takes no longer ones."""
    data, sink = encrypted_by_us([bytes(length)], mode, 16, None)
    lengths = [length] if length <= WHOLE else [WHOLE, length - WHOLE]

    assert [one.length for one in sink.frames] == lengths
    assert data[-16:] == frame(bytes(lengths[-1]), mode, KEY, sink.frames[-1].iv)[-16:]
