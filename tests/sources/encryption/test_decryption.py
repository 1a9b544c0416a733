"""The plaintext of an encrypted file as a source: any range, only verified bytes, no more work than needed."""

from __future__ import annotations

import random
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from checkpoints import MIXED, checkpoint, counting, pattern, sliced_value
from decryptions import counted
from encryption import (
    CBC_MODES,
    CONTENT,
    HEADER,
    KEY,
    KEY_SIZES,
    MODES,
    encrypted,
    flipped,
    frame,
    iv_of,
    key_of,
    split,
    swapped,
)
from hypothesis import given
from hypothesis import strategies as st
from source_contract import SourceContract
from tracing import TracingSource

from lazyckpt.errors import CorruptFile, DamagedBlock, LazyCkptError, TruncatedFile, WrongKey
from lazyckpt.formats import scan
from lazyckpt.sources.base import BytesSource
from lazyckpt.sources.encryption.cipher import MODES as OURS
from lazyckpt.sources.encryption.cipher import CipherKey
from lazyckpt.sources.encryption.decryption import THREADS, open_encrypted, prove_key
from lazyckpt.sources.encryption.frames import FrameTable, read_frame_headers
from lazyckpt.sources.encryption.keys import Secret

TINY = (1, 2, 15, 16, 17, 31, 32, 33, 100)
BLOCK = 2**14  # the block size of files with counted blocks


def lock_of(mode, key=KEY):
    """A cipher key."""
    return CipherKey(OURS[mode], Secret(key))


def opened(file, mode="AES-GCM", key=KEY, **options):
    """The plaintext of a file in memory."""
    return open_encrypted(BytesSource(file, "net.ckpt"), lock_of(mode, key), **options)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("block", [100, 4096, 2**20])
class TestDecrypted(SourceContract):
    """The contract of a source, for encrypted files with blocks smaller and larger than the reads."""

    data = pattern(8_501)

    @pytest.fixture(autouse=True)
    def _kind(self, mode, block):
        self.mode, self.block = mode, block

    def make(self, data, folder):
        """Makes a source in memory."""
        return opened(encrypted(data, self.mode, block=self.block), self.mode, cache=2 * self.block)


class TestDecryptedFromCopies(SourceContract):
    """The contract of a source, for an encrypted file that is read in copies, as over a network."""

    data = pattern(8_501)

    def make(self, data, folder):
        """Makes a source in memory."""
        return open_encrypted(TracingSource(encrypted(data, block=1000)), lock_of("AES-GCM"))


@pytest.mark.parametrize("mode", MODES)
def test_no_plaintext_is_a_source_too(mode):
    """A file without frames is a source of no bytes."""
    source = opened(b"", mode)

    assert (source.size, bytes(source.read(0, 0))) == (0, b"")


@pytest.mark.parametrize(("mode", "size"), [(mode, size) for mode in MODES for size in KEY_SIZES[mode]])
def test_keys_of_every_length_open_their_file(mode, size):
    """AES keys have 128, 192 or 256 bits, SM4 keys 128."""
    data = pattern(500)

    assert opened(encrypted(data, mode, key_of(size), block=200), mode, key_of(size)).read(0, 500) == data


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("block", TINY)
def test_every_range_across_tiny_blocks(block, mode):
    """With tiny blocks, each range of a few bytes equals the plaintext, wherever it begins."""
    data = pattern(120)
    source = opened(encrypted(data, mode, block=block), mode, cache=60)
    ranges = [(start, length) for start in range(0, 120, 7) for length in (0, 1, 2, 15, 16, 17, 33, 120 - start)]
    ranges = [(start, length) for start, length in ranges if start + length <= 120]

    assert [bytes(source.read(*range_)) for range_ in ranges] == [data[start : start + n] for start, n in ranges]


FILES = st.fixed_dictionaries(
    {
        "mode": st.sampled_from(MODES),
        "data": st.binary(max_size=600),
        "block": st.one_of(st.integers(1, 700), st.lists(st.integers(0, 90), max_size=20)),
    }
)


@given(file=FILES, cache=st.integers(0, 300), pick=st.randoms(use_true_random=False))
def test_any_reads_of_any_file_give_its_plaintext(file, cache, pick):
    """For any mode, blocks and cache, reads in any order, alone or together, overlapping or not, give the plaintext."""
    data = file["data"]
    source = opened(encrypted(**file), file["mode"], cache=cache)
    asked = []
    for _ in range(pick.randint(0, 12)):
        start = pick.randint(0, len(data))
        asked.append((start, pick.randint(0, len(data) - start)))
    rooms = [(start, memoryview(bytearray(length))) for start, length in asked]
    source.read_many(rooms)
    expected = [data[start : start + length] for start, length in asked]

    assert [bytes(room) for _, room in rooms] == expected
    assert [bytes(source.read(*range_)) for range_ in asked] == expected
    assert source.size == len(data)


LONG = 2**20 + 3  # more than what is decrypted at once
PIECES = {
    "apart": [(0, 10), (20, LONG), (LONG + 50, LONG), (3 * LONG, 9), (4 * LONG, LONG)],
    "side by side": [(0, LONG), (LONG, LONG), (2 * LONG, LONG)],
    "one in another": [(0, 3 * LONG), (10, 10), (LONG, LONG)],
    "one over another": [(0, LONG), (LONG - 4, LONG), (LONG + 4, 9), (2 * LONG - 8, LONG)],
    "the same": [(7, LONG), (7, LONG), (7, 20)],
    "all ways": [
        *((0, 10), (5, LONG), (100, 50), (7, 2 * LONG), (LONG - 4, 9), (LONG, LONG), (2 * LONG, 2 * LONG)),
        *((5 * LONG - 20, 20), (0, 5 * LONG), (LONG, 0)),
    ],
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("asked", PIECES.values(), ids=PIECES)
def test_long_pieces_are_filled_beside_short_ones(asked, mode):
    """Pieces decrypted in place, short pieces and overlapping ones all get their bytes."""
    data = pattern(5 * LONG)
    source = opened(encrypted(data, mode, block=4 * LONG - 9), mode)
    rooms = [(start, memoryview(bytearray(length))) for start, length in asked]
    source.read_many(rooms)

    wrong = [(start, len(room)) for start, room in rooms if room != data[start : start + len(room)]]
    assert wrong == []


@pytest.mark.parametrize("mode", MODES)
def test_blocks_may_be_empty(mode):
    """A block of only padding is empty, and does not disturb its neighbours."""
    if mode == "AES-GCM":  # has no padding: an empty block of it has no ciphertext, which is refused
        with pytest.raises(CorruptFile, match="a ciphertext of 0"):
            opened(frame(b""))
        return
    data = pattern(90)
    nothing = frame(b"", mode, iv=iv_of(9))
    pieces = [nothing, frame(data[:50], mode), nothing, nothing, frame(data[50:], mode, iv=iv_of(1)), nothing]
    source = opened(b"".join(pieces), mode)
    pinned = open_encrypted(
        BytesSource(b"".join(pieces)), lock_of(mode), FrameTable.from_bytes(source.table.to_bytes())
    )

    assert [source.read(0, 90), source.read(49, 2), pinned.read(0, 90)] == [data, data[49:51], data]


ODD = b"".join(
    [
        checkpoint(MIXED),
        sliced_value("sliced", counting((40, 3)), [100, 7, 200]),
        checkpoint({"n" * 300: counting((5,), "int8"), "last": np.array(1.5)}),
    ]
)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("block", [1, 7, 16, 17, 100, 1000, 2**20])
def test_entries_do_not_depend_on_the_blocks(block, mode):
    """Names, headers and contents across blocks are found as in the plain file."""
    assert list(scan(opened(encrypted(ODD, mode, block=block), mode), "ckpt")) == list(scan(BytesSource(ODD), "ckpt"))


# A file that is cut


@pytest.mark.parametrize("mode", MODES)
def test_a_file_that_ends_inside_a_block_is_refused(mode):
    """Wherever the last block is cut, the error comes before any decryption and names the block."""
    pieces = split(encrypted(pattern(120), mode, block=40), mode)
    whole = b"".join(pieces)

    for missing in range(1, len(pieces[-1])):
        with pytest.raises(TruncatedFile, match=r"^net\.ckpt: the file is cut in encrypted block 2: "):
            opened(whole[:-missing], mode)


# GCM: nothing leaves unverified

DATA = pattern(120)
THREE = encrypted(DATA, block=40)
PINNED = read_frame_headers(BytesSource(THREE), OURS["AES-GCM"])
IGNORED = range(CONTENT["AES-GCM"] + 16, CONTENT["AES-GCM"] + 20)  # the last 4 bytes of an iv


def attempt(source, number, length=40):
    """Read one block into filled memory; returns the bytes left there, and whether an error came."""
    room = bytearray(b"\xee" * length)
    try:
        source.read_into(number * 40, memoryview(room))
    except DamagedBlock:
        return bytes(room), True
    return bytes(room), False


@pytest.mark.parametrize("bit", [0, 7])
def test_a_changed_byte_spoils_its_block_and_no_other(bit):
    """A changed byte of a tag, nonce or ciphertext gives an error and zeros for its block; other blocks are right."""
    size = len(THREE) // 3
    wrong = []
    for place in range(len(THREE)):
        owner, inside = divmod(place, size)
        if not (4 <= inside < 20 or CONTENT["AES-GCM"] + 4 <= inside < CONTENT["AES-GCM"] + 20 or inside >= 48):
            continue  # lengths and magic, which hopping judges
        source = opened(flipped(THREE, place, bit))
        for number in range(3):
            damaged = number == owner and inside not in IGNORED
            expected = (bytes(40), True) if damaged else (DATA[number * 40 : number * 40 + 40], False)
            if attempt(source, number) != expected:
                wrong.append((place, number))

    assert wrong == []


@pytest.mark.parametrize("cache", [0, 10**6])
def test_a_damaged_block_is_reported_each_time(cache):
    """With or without a cache, each read of a damaged block gives an error and no bytes."""
    source = opened(flipped(THREE, 60), cache=cache)

    found = [attempt(source, 0, length) for length in (5, 5, 40, 1, 5)]

    assert [({*room} in ({0}, {0xEE}), refused) for room, refused in found] == [(True, True)] * 5


def test_a_damaged_block_is_named():
    """The error has the block's number, the count of blocks, its offset, the file, and the likely cause."""
    with pytest.raises(DamagedBlock) as caught:
        opened(flipped(THREE, 88 + 60)).read(40, 1)

    assert str(caught.value) == (
        "net.ckpt: encrypted block 1 of 3 does not authenticate: it is damaged, or was encrypted with another key"
        " (at byte 136)"
    )


def test_long_pieces_of_a_damaged_block_are_wiped():
    """If the tag is wrong, bytes decrypted in place are wiped; short pieces get none."""
    file = encrypted(pattern(3 * 2**20))
    source = opened(flipped(file, len(file) - 1))
    rooms = [(start, memoryview(bytearray(b"\xee" * length))) for start, length in [(10, 5), (20, 2**21), (2**21, 99)]]
    with pytest.raises(DamagedBlock):
        source.read_many(rooms)

    assert [{*room} for _, room in rooms] == [{0}, {0}, {0}]


def test_a_read_over_several_blocks_fails_with_the_damaged_one():
    """A range that touches a damaged block raises, and no plaintext of that block is left."""
    room = memoryview(bytearray(120))
    with pytest.raises(DamagedBlock, match="block 1 of 3"):
        opened(flipped(THREE, 88 + 60)).read_into(0, room)

    assert room[40:80] == bytes(40)


@pytest.mark.parametrize("nonce", [12, 16])
def test_a_nonce_has_twelve_bytes_or_all_sixteen(nonce):
    """MindSpore stores 16 bytes and uses 12; files that use all 16 are read as well."""
    assert opened(encrypted(DATA, block=50, nonce=nonce)).read(0, 120) == DATA


@pytest.mark.parametrize(
    "changed",
    [swapped(THREE, 0, 1), b"".join([*split(THREE)[:2], split(THREE)[1]]), b"".join(split(THREE)[:1] * 3)],
    ids=["swapped", "repeated", "all the same"],
)
def test_a_pinned_table_holds_blocks_to_their_places(changed):
    """With the indexed file's table, a block moved to another position does not authenticate."""
    source = opened(changed, table=PINNED)
    found = [attempt(source, number) for number in range(3)]
    intact = [split(changed)[number] == split(THREE)[number] for number in range(3)]

    assert found == [
        (DATA[number * 40 : number * 40 + 40], False) if intact[number] else (bytes(40), True) for number in range(3)
    ]


def test_a_pinned_table_misses_blocks_that_are_gone():
    """With the whole file's table, a missing block is an error, and the others can be read."""
    source = opened(b"".join(split(THREE)[:2]), table=PINNED)

    assert source.read(0, 80) == DATA[:80]
    with pytest.raises(LazyCkptError):
        source.read(80, 1)


# GCM: how often a block is decrypted

EIGHT = encrypted(pattern(8 * BLOCK), block=BLOCK)


@pytest.fixture
def seen(monkeypatch):
    """Counts decryptions."""
    return counted(monkeypatch)


def many_blocks(count, cache, data=None):
    """A source of `count` blocks of 16 KiB."""
    data = pattern(count * BLOCK) if data is None else data
    return opened(encrypted(data, block=BLOCK), cache=cache)


def test_a_read_decrypts_the_blocks_it_touches_once(seen):
    """One read, or several together, decrypt each needed block once and no other."""
    source = many_blocks(8, cache=0)
    tags = [source.table[number].tag for number in range(8)]
    source.read(BLOCK - 1, 2)
    source.read_many([(place, memoryview(bytearray(9))) for place in range(5 * BLOCK, 8 * BLOCK, 100)])

    assert sorted(seen.blocks) == sorted([*tags[:2], *tags[5:]])


def test_looking_again_and_again_decrypts_a_block_twice(seen):
    """The second read caches the block, so it is never decrypted a third time."""
    source = many_blocks(2, cache=BLOCK)
    found = [bytes(source.read(place, 3)) for place in range(0, 900, 3)]

    assert (b"".join(found), len(seen.blocks)) == (pattern(900), 2)


def test_a_walk_in_file_order_decrypts_each_block_once(seen):
    """Small reads from front to back decrypt every block but the first once, though only one is cached."""
    source = many_blocks(6, cache=BLOCK)
    found = b"".join(bytes(source.read(place, 512)) for place in range(0, source.size, 512))
    repeated = len(seen.blocks) - len(set(seen.blocks))

    assert (found, len(set(seen.blocks)), repeated) == (pattern(6 * BLOCK), 6, 1)


@pytest.mark.parametrize("cache", [0, 1, BLOCK - 1])
def test_without_room_no_block_is_kept(cache, seen):
    """A cache smaller than a block keeps none: each read decrypts, and is right."""
    source = many_blocks(1, cache)
    found = {bytes(source.read(7, 5)) for _ in range(4)}

    assert (found, len(seen.blocks)) == ({pattern(12)[7:]}, 4)


def walked(source, step=BLOCK // 8):
    """The whole source, read in file order in small steps."""
    return b"".join(bytes(source.read(place, min(step, source.size - place))) for place in range(0, source.size, step))


@pytest.mark.parametrize("cache", [2 * BLOCK, 3 * BLOCK, 4 * BLOCK, 100 * BLOCK])
def test_a_walk_brings_blocks_ahead_once(cache, seen):
    """For any number of blocks read ahead only the first is decrypted twice, and all bytes are right."""
    source = many_blocks(12, cache)
    found = walked(source)
    repeated = len(seen.blocks) - len(set(seen.blocks))

    assert (found, len(set(seen.blocks)), repeated) == (pattern(12 * BLOCK), 12, 1)


@pytest.mark.skipif(THREADS < 2, reason="one core has nobody to bring blocks ahead")
def test_a_walk_has_the_next_blocks_decrypted(seen):
    """After a step to the next block, the following two are decrypted, and no others."""
    source = many_blocks(9, cache=4 * BLOCK)
    for place in (3 * BLOCK + 1, 4 * BLOCK + 1):
        source.read(place, 9)
    source._blocks.wait()

    assert set(seen.blocks) == {source.table[number].tag for number in (3, 4, 5, 6)}


LOOKS = {
    "one block": [5, 900, 5, 77, 1200],
    "here and there": [5, 4 * BLOCK, BLOCK, 7 * BLOCK, 2 * BLOCK, 4 * BLOCK],
    "backwards": [number * BLOCK + 5 for number in range(8, 0, -1)],
}


@pytest.mark.parametrize("looks", LOOKS.values(), ids=LOOKS)
def test_looking_around_brings_nothing_ahead(looks, seen):
    """A reader that does not move forward decrypts only the blocks that it requests."""
    source = many_blocks(9, cache=100 * BLOCK)
    for place in looks:
        source.read(place, 9)
    source._blocks.wait()

    assert set(seen.blocks) == {source.table[place // BLOCK].tag for place in looks}


def test_nothing_is_brought_ahead_of_what_is_fetched(seen):
    """If the file is not in memory, only requested ranges are read."""
    source = open_encrypted(TracingSource(encrypted(pattern(6 * BLOCK), block=BLOCK)), lock_of("AES-GCM"), cache=10**7)
    for place in range(0, 3 * BLOCK, BLOCK // 4):
        source.read(place, 9)
    source._blocks.wait()

    assert set(seen.blocks) == {source.table[number].tag for number in range(3)}


def test_a_damaged_block_ahead_is_reported_when_it_is_read():
    """An error ahead of the reader is raised when he gets there, each time."""
    pieces = split(encrypted(pattern(8 * BLOCK), block=BLOCK))
    pieces[4] = flipped(pieces[4], -1)
    source = opened(b"".join(pieces), cache=100 * BLOCK)

    assert b"".join(bytes(source.read(place, 512)) for place in range(0, 4 * BLOCK, 512)) == pattern(4 * BLOCK)
    for _ in range(2):
        with pytest.raises(DamagedBlock, match="block 4 of 8"):
            source.read(4 * BLOCK, 512)


def test_closing_in_the_middle_of_a_walk_ends_its_threads():
    """Closing waits for blocks that are loading, and drops them."""
    source = many_blocks(9, cache=100 * BLOCK)
    for number in range(5):
        source.read(number * BLOCK, 9)
    source.close()

    assert [thread.name for thread in threading.enumerate() if thread.name == "lazyckpt-ahead"] == []


@given(st.integers(0, 8 * BLOCK), st.lists(st.integers(1, BLOCK), max_size=30), st.integers(0, 6))
def test_a_walk_in_any_steps_reads_what_is_there(start, steps, room):
    """A walk from any start, in any steps, with any size of cache, reads the plaintext."""
    source = opened(EIGHT, cache=room * BLOCK)
    found = bytearray()
    for step in steps:
        found += source.read(start + len(found), min(step, 8 * BLOCK - start - len(found)))

    assert found == pattern(8 * BLOCK)[start : start + len(found)]


def test_the_cache_is_bounded_in_memory():
    """After every block was read twice the cache is within its limit."""
    source = many_blocks(64, cache=3 * BLOCK)
    tracemalloc.start()
    for place in range(64):
        source.read(place * BLOCK + 5, 9)
        source.read(place * BLOCK + 500, 9)
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()

    assert held < 4 * BLOCK


def test_closing_forgets_what_was_decrypted():
    """After closing no plaintext is left in memory."""
    source = many_blocks(16, cache=16 * BLOCK)
    tracemalloc.start()
    for place in range(0, 16 * BLOCK, BLOCK // 2):
        source.read(place, 9)
    held = tracemalloc.get_traced_memory()[0]
    source.close()
    left = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()

    assert held > 15 * BLOCK
    assert left < BLOCK


@pytest.mark.parametrize("cache", [0, BLOCK, 3 * BLOCK, 100 * BLOCK])
def test_threads_that_share_a_cache_get_their_own_bytes(cache):
    """Threads that read the same and other blocks, while blocks are evicted, get the right bytes."""
    data = pattern(8 * BLOCK)
    source = many_blocks(8, cache, data)
    pick = random.Random(1)
    asked = [(pick.randrange(8 * BLOCK - 3000), pick.choice([1, 50, 3000])) for _ in range(600)]
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda range_: bytes(source.read(*range_)), asked))

    assert found == [data[start : start + length] for start, length in asked]


def test_many_small_pieces_of_one_block_are_read_at_once(seen):
    """Ten thousand pieces of a block that takes several runs cost one decryption."""
    data = pattern(2**21 + 2**19)
    source = opened(encrypted(data))
    pieces = [(place, memoryview(bytearray(16))) for place in range(0, len(data) - 16, 250)]
    source.read_many(pieces)

    assert [place for place, room in pieces if room != data[place : place + 16]] == []
    assert len(seen.blocks) == 1


# The key

TEN = {mode: encrypted(pattern(10 * 64), mode, block=64) for mode in MODES}


def test_the_key_is_proven_by_the_first_block_that_opens(seen):
    """One block that authenticates proves the key."""
    prove_key(BytesSource(TEN["AES-GCM"]), lock_of("AES-GCM"))

    assert len(seen.blocks) == 1


def test_a_wrong_key_is_detected_after_three_blocks(seen):
    """Only the first, the middle and the last block are tried, each with both nonces."""
    with pytest.raises(WrongKey, match=r"the key does not fit \(no block authenticates with it\), or the file is"):
        prove_key(BytesSource(TEN["AES-GCM"]), lock_of("AES-GCM", bytes(16)))

    assert (len(set(seen.blocks)), len(seen.blocks)) == (3, 6)


@pytest.mark.parametrize("damaged", [{0}, {0, 5}, {0, 9}])
def test_damage_does_not_look_like_a_wrong_key(damaged):
    """If one of the first three blocks authenticates, the key is right."""
    pieces = [flipped(piece, 50) if number in damaged else piece for number, piece in enumerate(split(TEN["AES-GCM"]))]

    assert prove_key(BytesSource(b"".join(pieces)), lock_of("AES-GCM")) is None


# CBC: what is decrypted


class _Traced:
    """The reads of the file below an encrypted source."""

    def __init__(self, data, mode, block):
        self.raw = TracingSource(encrypted(data, mode, block=block))
        self.source = open_encrypted(self.raw, lock_of(mode))
        self.opening = sum(length for _, length in self.raw.reads)
        self.raw.reads.clear()

    def read(self, start, length):
        """Read a range; returns its bytes, and how many bytes of the file were read."""
        found = bytes(self.source.read(start, length))
        cost = sum(length for _, length in self.raw.reads)
        self.raw.reads.clear()
        return found, cost


@pytest.mark.parametrize("mode", CBC_MODES)
def test_opening_reads_a_header_and_a_tail_of_each_block(mode, seen):
    """To find the blocks and check their paddings, 32 + 32 bytes of each are read and 16 decrypted."""
    traced = _Traced(pattern(50_000), mode, 10_000)

    assert (traced.opening, seen.bytes) == (5 * 64, 5 * 16)


@pytest.mark.parametrize("mode", CBC_MODES)
def test_a_read_decrypts_what_it_needs(mode, seen):
    """Reading k bytes of a block decrypts fewer than k + 32, after 16 more are read; distant ones are not."""
    data = pattern(5000)
    traced = _Traced(data, mode, 5000)
    wrong = []
    for start in (0, 1, 15, 16, 17, 2000, 4987):
        for wanted in (1, 2, 13, 16, 17, 100, 1000):
            seen.clear()
            length = min(wanted, 5000 - start)
            found, cost = traced.read(start, length)
            if found != data[start : start + length] or seen.bytes >= length + 32 or cost > seen.bytes + 16:
                wrong.append((start, length, seen.bytes, cost))

    assert wrong == []


@pytest.mark.parametrize("mode", CBC_MODES)
def test_changed_bytes_of_cbc_are_not_noticed(mode):
    """CBC authenticates nothing: a changed byte garbles 16 bytes, and one bit of the 16 after them."""
    data = pattern(160)
    file = encrypted(data, mode)
    found = bytes(opened(flipped(file, HEADER[mode] + 32, 3), mode).read(0, 160))
    changed = [place for place in range(160) if found[place] != data[place]]

    assert {*changed} <= {*range(32, 49)}
    assert found[48] == data[48] ^ 8


@pytest.mark.parametrize("mode", MODES)
def test_large_reads_use_several_threads_and_are_right(mode):
    """A value of several blocks is decrypted on threads, each piece into its position."""
    data = pattern(9 * 2**20 + 1) if mode != "SM4-CBC" else pattern(3 * 2**20 + 1)
    source = opened(encrypted(data, mode, block=2**21 + 3), mode)
    room = bytearray(len(data) - 5)
    source.read_into(5, memoryview(room))

    assert bytes(room) == data[5:]
