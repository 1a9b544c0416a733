"""One pass over a GCM file authenticates every block once, read or not, in little memory."""

from __future__ import annotations

import tracemalloc

import pytest
from checkpoints import LAYERS, MIXED, checkpoint, counting, pattern, sliced_value
from decryptions import counted
from encryption import CBC_MODES, KEY, encrypted, flipped, split
from hypothesis import given, settings
from hypothesis import strategies as st

from lazyckpt.errors import ChangedFile, CorruptFile, DamagedBlock, WrongKey
from lazyckpt.formats import scan
from lazyckpt.sources.base import BytesSource
from lazyckpt.sources.encryption import sequential as sweep_module
from lazyckpt.sources.encryption.cipher import MODES as OURS
from lazyckpt.sources.encryption.cipher import CipherKey
from lazyckpt.sources.encryption.decryption import THREADS, open_encrypted
from lazyckpt.sources.encryption.keys import Secret
from lazyckpt.sources.encryption.sequential import GcmSweep, sequential_view

BLOCK = 2**14
DATA = pattern(20 * BLOCK + 5)


def opened(file, mode="AES-GCM", key=KEY):
    """The plaintext of a file in memory."""
    return open_encrypted(BytesSource(file, "net.ckpt"), CipherKey(OURS[mode], Secret(key)))


@pytest.fixture
def seen(monkeypatch):
    """Counts decryptions."""
    return counted(monkeypatch)


@pytest.mark.parametrize("mode", CBC_MODES)
def test_only_gcm_is_swept(mode):
    """CBC files and files without blocks have nothing to authenticate, so the source itself is read."""
    source, empty = opened(encrypted(DATA, mode), mode), opened(b"")
    with sequential_view(source) as sweep, sequential_view(empty) as nothing:
        assert (sweep, nothing) == (source, empty)


@pytest.mark.parametrize("step", [1, 7, 100])
@pytest.mark.parametrize("block", [1, 5, 16, 90, 1000])
def test_reading_forward_gives_the_plaintext(block, step):
    """Steps of any length, within blocks and across their borders, give the plaintext."""
    data = pattern(700)
    with sequential_view(opened(encrypted(data, block=block))) as sweep:
        found = b"".join(bytes(sweep.read(place, min(step, 700 - place))) for place in range(0, 700, step))

    assert found == data


def test_a_range_outside_is_refused():
    """A sequential view has the bounds of its source."""
    with sequential_view(opened(encrypted(DATA, block=BLOCK))) as sweep, pytest.raises(ChangedFile):
        sweep.read(len(DATA) - 1, 2)


def test_what_was_read_is_read_only():
    """Buffers are reused, so their contents are read-only."""
    with sequential_view(opened(encrypted(DATA, block=BLOCK))) as sweep:
        assert [sweep.read(place, 9).readonly for place in (0, BLOCK - 4)] == [True, True]


READS = {
    "nothing": [],
    "the beginning": [0],
    "the end": [len(DATA) - 9],
    "some of it": [5, 3 * BLOCK, 3 * BLOCK + 99, 4 * BLOCK - 4, 9 * BLOCK],
    "all of it": list(range(0, len(DATA) - 9, BLOCK // 3)),
}


@pytest.mark.parametrize("reads", READS.values(), ids=READS)
def test_every_block_is_authenticated_once(reads, seen):
    """After a forward pass with any reads, each block was decrypted exactly once."""
    source = opened(encrypted(DATA, block=BLOCK))
    with sequential_view(source) as sweep:
        found = [bytes(sweep.read(place, 9)) for place in reads]

    assert found == [DATA[place : place + 9] for place in reads]
    assert sorted(seen.blocks) == sorted(source.table[number].tag for number in range(21))


@pytest.mark.parametrize("sizes", [[BLOCK] * 4, [BLOCK, 3, 4, 5], [1] * 40, [BLOCK, 16], [BLOCK, 17], [5]], ids=str)
def test_the_end_may_be_looked_at_first(sizes, seen):
    """A format may look for a trailer in the last 17 bytes, in any blocks, before the walk begins."""
    data = pattern(sum(sizes))
    source = opened(encrypted(data, block=sizes))
    end = min(17, len(data))
    with sequential_view(source) as sweep:
        found = [bytes(sweep.read(place, end)) for place in (len(data) - end, 0)]

    assert found == [data[-end:], data[:end]]
    assert sorted(seen.blocks) == sorted(source.table[number].tag for number in range(len(sizes)))


def test_a_look_far_back_is_right(seen):
    """Released blocks are decrypted again, with the same bytes."""
    places = [15 * BLOCK, 0, 14 * BLOCK, 3 * BLOCK + 1, 16 * BLOCK, 15 * BLOCK, 2 * BLOCK - 4]
    with sequential_view(opened(encrypted(DATA, block=BLOCK))) as sweep:
        found = [bytes(sweep.read(place, 9)) for place in places]

    assert found == [DATA[place : place + 9] for place in places]
    assert len(set(seen.blocks)) == 21


def test_a_look_back_over_one_border_costs_nothing(seen):
    """The block before the newest one is still cached."""
    with sequential_view(opened(encrypted(DATA, block=BLOCK))) as sweep:
        for number in range(1, 20):
            sweep.read(number * BLOCK + 7, 5)
            sweep.read(number * BLOCK - 7, 5)

    assert len(seen.blocks) == 21


@pytest.mark.parametrize("number", range(21))
def test_damage_is_noticed_wherever_it_is(number):
    """Blocks that were not read are authenticated before the pass ends."""
    pieces = split(encrypted(DATA, block=BLOCK))
    pieces[number] = flipped(pieces[number], -1)
    with (
        pytest.raises(DamagedBlock, match=rf"^net\.ckpt: encrypted block {number} of 21 does not authenticate"),
        sequential_view(opened(b"".join(pieces))) as sweep,
    ):
        sweep.read(5, 3) if number else sweep.read(9 * BLOCK, 3)


def test_a_damaged_block_gives_no_byte():
    """Reading a damaged block raises an error and returns no bytes."""
    pieces = split(encrypted(DATA, block=BLOCK))
    pieces[2] = flipped(pieces[2], 100)
    seen = bytearray()

    def walk():
        with sequential_view(opened(b"".join(pieces))) as sweep:
            for place in range(0, 4 * BLOCK, 1000):
                seen.extend(sweep.read(place, 1000))

    with pytest.raises(DamagedBlock, match="block 2 "):
        walk()

    assert seen == DATA[: 2 * BLOCK // 1000 * 1000]


def test_a_wrong_key_is_reported_as_such(seen):
    """If no block authenticates, the key is wrong; only a few blocks are tried."""
    with (
        pytest.raises(WrongKey, match=r"^net\.ckpt: the key does not fit"),
        sequential_view(opened(encrypted(DATA, block=BLOCK), key=bytes(16))),
    ):
        pass

    assert len(set(seen.blocks)) <= 2 + 3  # the end, and what proves the key


def test_a_fault_of_the_reader_passes_through():
    """An exception of the reader is raised unchanged."""
    with pytest.raises(CorruptFile, match="mine"), sequential_view(opened(encrypted(DATA, block=BLOCK))):
        raise CorruptFile("mine")


def test_buffers_are_used_again(monkeypatch):
    """A pass over many blocks allocates as much as one over a few: fresh memory costs more than AES."""
    asked = []
    real = sweep_module.allocate
    monkeypatch.setattr(sweep_module, "allocate", lambda size: asked.append(size) or real(size))
    with sequential_view(opened(encrypted(pattern(200 * BLOCK), block=BLOCK))) as sweep:
        for place in range(0, 200 * BLOCK, BLOCK // 2):
            sweep.read(place, 100)

    assert 1 <= len(asked) <= THREADS + 4


def test_a_pass_takes_the_memory_of_a_few_blocks():
    """A pass over 64 blocks holds only a few of them at a time."""
    file = encrypted(pattern(64 * BLOCK), block=BLOCK)
    source = opened(file)
    tracemalloc.start()
    with sequential_view(source) as sweep:
        for place in range(0, 64 * BLOCK, BLOCK // 2):
            sweep.read(place, 100)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    # In flight, each beside a scratch buffer; the last, the one that is read and the one before; and one spare.
    assert peak < (2 * THREADS + 5) * BLOCK + 64 * 1024


ROW = b"".join(
    [
        checkpoint(MIXED),
        *(sliced_value(f"sliced{number}", counting((30, number + 1)), [40, 7]) for number in range(6)),
        checkpoint({f"layer{number}.weight": counting((number, 7)) for number in range(30)}),
        checkpoint(LAYERS),
    ]
)
ENTRIES = list(scan(BytesSource(ROW), "ckpt"))


@settings(max_examples=40)
@given(block=st.integers(20, 3000), window=st.integers(1, 400))
def test_what_a_walk_finds_does_not_depend_on_blocks_and_windows(block, window):
    """Slices make the scan read backwards and buffers are reused; the entries equal the plain file's."""
    with sequential_view(opened(encrypted(ROW, block=block))) as sweep:
        sweep.window = window
        assert list(scan(sweep, "ckpt")) == ENTRIES


def test_a_sequential_view_differs_from_its_source():
    """A GCM file is read through a sequential view, which serves only one pass."""
    with sequential_view(opened(encrypted(DATA))) as sweep:
        assert isinstance(sweep, GcmSweep)
