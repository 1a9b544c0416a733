"""What is whole of a damaged encrypted file: the blocks before damage, and around it."""

from __future__ import annotations

import pytest
from checkpoints import pattern
from encryption import CBC_MODES, HEADER, KEY, MODES, encrypted, flipped, split
from hypothesis import given
from hypothesis import strategies as st

from lazyckpt.errors import CorruptFile, DamagedBlock, TruncatedFile, WrongKey
from lazyckpt.sources.base import BytesSource
from lazyckpt.sources.encryption.cipher import MODES as CIPHERS
from lazyckpt.sources.encryption.cipher import CipherKey
from lazyckpt.sources.encryption.keys import Secret
from lazyckpt.sources.encryption.whole_blocks import open_whole_blocks

PLAIN = pattern(5000)
FILES = {mode: encrypted(PLAIN, mode, block=1000) for mode in MODES}


def opened(data, mode, key=KEY):
    """What is whole of a file."""
    return open_whole_blocks(BytesSource(data, "net.ckpt"), CipherKey(CIPHERS[mode], Secret(key)))


@pytest.mark.parametrize("mode", MODES)
def test_a_whole_file_is_whole(mode):
    """Nothing is lost, and the plaintext is that of the file."""
    source, lost, fault = opened(FILES[mode], mode)

    assert (bytes(source.read(0, source.size)), lost, fault) == (PLAIN, (), None)


@pytest.mark.parametrize("mode", MODES)
@given(st.data())
def test_blocks_before_a_cut_are_whole(mode, data):
    """A cut file has the blocks that end before the cut."""
    cut = data.draw(st.integers(1, len(FILES[mode]) - 1))
    ends = [len(b"".join(split(FILES[mode], mode)[:number])) for number in range(6)]
    count = sum(end <= cut for end in ends) - 1
    if not count:
        with pytest.raises(TruncatedFile):
            opened(FILES[mode][:cut], mode)
        return
    source, lost, fault = opened(FILES[mode][:cut], mode)

    assert bytes(source.read(0, source.size)) == PLAIN[: count * 1000]
    assert (lost, isinstance(fault, CorruptFile)) == ((), cut not in ends)


@pytest.mark.parametrize("damaged", [0, 1, 4])
def test_a_damaged_gcm_block_reads_as_zeros(damaged):
    """The others are whole, also in a read across their borders, and the fault names the block."""
    file = split(FILES["AES-GCM"])
    place = sum(map(len, file[:damaged])) + HEADER["AES-GCM"] + 5
    source, lost, fault = opened(flipped(FILES["AES-GCM"], place), "AES-GCM")
    begin = damaged * 1000
    expected = PLAIN[:begin] + bytes(1000) + PLAIN[begin + 1000 :]

    assert lost == ((begin, 1000),)
    assert (type(fault), fault.what) == (DamagedBlock, f"1 of 5 encrypted blocks are damaged: {damaged}")
    assert bytes(source.read(0, source.size)) == expected
    for start, stop in ((0, 1), (begin, begin + 1), (max(0, begin - 3), begin + 7), (begin + 990, begin + 1000)):
        assert bytes(source.read(start, stop - start)) == expected[start:stop]


@pytest.mark.parametrize("mode", CBC_MODES)
def test_cbc_blocks_after_an_impossible_padding_are_lost(mode):
    """The length of such a block is unknown, and so are the offsets of all that follows."""
    blocks = split(FILES[mode], mode)
    end = len(b"".join(blocks[:3]))
    bad = next(bad for bad in (flipped(FILES[mode], end - 17, bit) for bit in range(8)))
    source, lost, fault = opened(bad, mode)

    assert (bytes(source.read(0, source.size)), lost) == (PLAIN[:2000], ())
    assert fault.what == "3 of 5 encrypted blocks are damaged: 2, 3, 4"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kept", [0.5, 0.61, 0.7])
def test_zeros_in_place_of_blocks(mode, kept):
    """Blocks that zeros up to the end reach into are lost, in CBC, too."""
    size = int(len(FILES[mode]) * kept)
    source, _, fault = opened(FILES[mode][:size] + bytes(len(FILES[mode]) - size), mode)
    whole = source.size // 1000 if mode in CBC_MODES else size // len(split(FILES[mode], mode)[0])

    assert bytes(source.read(0, whole * 1000)) == PLAIN[: whole * 1000]
    assert whole == size // len(split(FILES[mode], mode)[0])
    assert "zeros from byte" in fault.what


@pytest.mark.parametrize("mode", MODES)
def test_zeros_in_the_first_header(mode):
    """Without a single frame there is nothing, and the fault says so."""
    with pytest.raises(CorruptFile, match="no encrypted block is whole"):
        opened(FILES[mode][:10] + bytes(1000), mode)


@pytest.mark.parametrize("mode", MODES)
def test_the_wrong_key(mode):
    """If no block is whole, the key is to blame, or there is no file left."""
    with pytest.raises(WrongKey, match="the key does not fit, or the file is damaged throughout"):
        opened(FILES[mode], mode, bytes(16))
