"""CBC padding: removed and checked in every block; wrong keys and damage."""

from __future__ import annotations

import pytest
from checkpoints import pattern
from decryptions import counted
from encryption import CBC_MODES, HEADER, KEY, encrypted, frame
from hypothesis import given
from hypothesis import strategies as st
from tracing import TracingSource

from lazyckpt.errors import DamagedBlock, WrongKey
from lazyckpt.sources.base import BytesSource
from lazyckpt.sources.encryption.cbc_padding import unpadded
from lazyckpt.sources.encryption.cipher import MODES, CipherKey
from lazyckpt.sources.encryption.decryption import open_encrypted
from lazyckpt.sources.encryption.frames import read_frame_headers
from lazyckpt.sources.encryption.keys import Secret

TEN = {mode: encrypted(pattern(10 * 64), mode, block=64) for mode in CBC_MODES}


def lock_of(mode, key=KEY):
    """A key of this mode."""
    return CipherKey(MODES[mode], Secret(key))


def opened(file, mode, key=KEY):
    """The plaintext of a file that is in memory."""
    return open_encrypted(BytesSource(file, "net.ckpt"), lock_of(mode, key))


@pytest.fixture
def seen(monkeypatch):
    """Counts decrypted bytes."""
    return counted(monkeypatch)


@given(st.lists(st.integers(1, 70), max_size=20), st.sampled_from(CBC_MODES))
def test_every_block_has_its_own_length(lengths, mode):
    """Each block's length without padding is found with one read at its end."""
    file = encrypted(pattern(sum(lengths)), mode, block=lengths)
    source = TracingSource(file)
    table = read_frame_headers(BytesSource(file), MODES[mode])
    found = unpadded(source, lock_of(mode), table)
    ends = [row.offset + row.stored for row in map(table.__getitem__, range(len(table)))]

    assert [found[number].length for number in range(len(found))] == lengths
    assert [found[number].plain for number in range(len(found))] == [sum(lengths[:n]) for n in range(len(lengths))]
    assert [offset + length for offset, length in source.reads] == ends
    assert sum(length for _, length in source.reads) <= 32 * len(lengths)


@pytest.mark.parametrize("mode", CBC_MODES)
def test_a_wrong_cbc_key_is_detected_by_the_padding(mode, seen):
    """Opening a file with a wrong key raises after 16 bytes of each block were decrypted."""
    with pytest.raises(WrongKey, match=r"^net\.ckpt: the key does not fit \(the blocks do not end in a valid padding"):
        opened(TEN[mode], mode, bytes(16))

    assert seen.bytes == 16 * 10


BAD_PADDINGS = [b"\0", b"\x11" * 16, b"\x02", b"\x05\x05\x03", b"\x00" * 16, b"\xff" * 16, b"\x10" * 15 + b"\x0f"]


@pytest.mark.parametrize("mode", CBC_MODES)
@pytest.mark.parametrize("number", [0, 2, 3])
@pytest.mark.parametrize("padding", BAD_PADDINGS, ids=bytes.hex)
def test_an_impossible_padding_is_reported(padding, number, mode):
    """The padding of every block is checked, and the error has the block's number and offset."""
    good = frame(pattern(32), mode)
    bad = frame(pattern(-len(padding) % 16), mode, padding=padding)
    pieces = [bad if place == number else good for place in range(4)]
    place = sum(map(len, pieces[:number])) + HEADER[mode]
    with pytest.raises(DamagedBlock) as caught:
        opened(b"".join(pieces), mode)

    assert str(caught.value) == (
        f"net.ckpt: encrypted block {number} of 4 is damaged: its padding is impossible (at byte {place:,})"
    )


@pytest.mark.parametrize("mode", CBC_MODES)
def test_a_lone_block_with_an_impossible_padding_may_be_either(mode):
    """With a single block a wrong key cannot be distinguished from damage, and the message says so."""
    with pytest.raises(WrongKey, match=r"the key does not fit .*, or the file is damaged"):
        opened(frame(b"", mode, padding=bytes(16)), mode)


@pytest.mark.parametrize(("damaged", "error"), [(2, DamagedBlock), (3, WrongKey)])
def test_a_key_is_wrong_if_it_fits_less_than_half_of_the_blocks(damaged, error):
    """Invalid padding in most blocks means a wrong key; in fewer, damage."""
    good, bad = frame(pattern(32), "AES-CBC"), frame(b"", "AES-CBC", padding=bytes(16))
    file = good * (4 - damaged) + bad * damaged

    with pytest.raises(error):
        unpadded(BytesSource(file), lock_of("AES-CBC"), read_frame_headers(BytesSource(file), MODES["AES-CBC"]))
