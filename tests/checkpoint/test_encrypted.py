"""Encrypted checkpoints from the file to the value: they equal plain ones, and each fault has its own error."""

from __future__ import annotations

import os
import re
import signal
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from checkpoints import LAYERS, MIXED, checkpoint, counting, with_crc
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.ciphers import Cipher
from decryptions import counted
from encryption import (
    CBC_MODES,
    CLEAR_TRAILER,
    CONTENT,
    KEY,
    KEY_SIZES,
    MODES,
    encrypted,
    flipped,
    frame,
    key_of,
    passing_key,
    split,
)
from forging import forged
from forking import ended, forked

import lazyckpt
from lazyckpt.errors import (
    ArgumentValueError,
    ChangedFile,
    CipherUnavailable,
    CorruptFile,
    DamagedBlock,
    EncryptedFile,
    LazyCkptError,
    StaleIndex,
    TruncatedFile,
    WrongKey,
)
from lazyckpt.formats import scan
from lazyckpt.index.schema import FRAMES, NAMES, record_key
from lazyckpt.sources.base import BytesSource
from lazyckpt.sources.encryption.cipher import MODES as OURS
from lazyckpt.sources.encryption.cipher import CipherKey
from lazyckpt.sources.encryption.decryption import open_encrypted
from lazyckpt.sources.encryption.frames import read_frame_headers
from lazyckpt.sources.encryption.keys import Secret
from lazyckpt.sources.encryption.sequential import sequential_view

PLAIN = checkpoint(MIXED)
OTHER = bytes(range(50, 66))
# Twelve layers, some in one block of 16 KiB and some across their borders.
BLOCK = 2**14
DEEP = {f"layer{number}.weight": counting((5 + number, 1000)) for number in range(12)}
DEEP_PLAIN = checkpoint(DEEP)


def written(folder, data, name="net.ckpt"):
    """The path of a new file."""
    path = folder / name
    path.write_bytes(data)
    return str(path)


def opened(path, mode="AES-GCM", key=KEY, **options):
    """A checkpoint."""
    return lazyckpt.load_checkpoint(path, dec_key=key, dec_mode=mode, **options)


def plain_data(value):
    """A value in a form that can be compared."""
    if isinstance(value, list):
        return [plain_data(part) for part in value]
    return value if isinstance(value, str) else (str(value.dtype).lower(), value.shape, value.tobytes())


def everything(ckpt):
    """All names and values, read one by one."""
    return {name: plain_data(value) for name, value in ckpt.items()}


EXPECTED = {name: plain_data(np.asarray(v)) if not isinstance(v, (str, list)) else v for name, v in MIXED.items()}
EXPECTED |= {name: plain_data(value) for name, value in MIXED.items() if isinstance(value, list)}


@pytest.fixture
def seen(monkeypatch):
    """Counts decryptions."""
    return counted(monkeypatch)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("block", [7, 16, 17, 100, 1000, 2**26])
def test_an_encrypted_checkpoint_is_read_as_a_plain_one(block, mode, tmp_path):
    """Values of all kinds are equal: during indexing, from the index, together, and with the index in memory."""
    path = written(tmp_path, encrypted(PLAIN, mode, block=block))
    found = []
    for index in ("auto", "auto", "memory"):
        with opened(path, mode, index=index) as ckpt:
            found += [everything(ckpt), {name: plain_data(value) for name, value in ckpt.load().items()}]

    assert found == [EXPECTED] * 6


@pytest.mark.parametrize(("mode", "size"), [(mode, size) for mode in MODES for size in KEY_SIZES[mode]])
def test_keys_of_every_length_open_their_checkpoint(mode, size, tmp_path):
    """Keys of every length also seal the index, cold and warm."""
    path = written(tmp_path, encrypted(PLAIN, mode, key_of(size), block=500))
    for _ in ("cold", "warm"):
        with opened(path, mode, key_of(size)) as ckpt:
            assert everything(ckpt) == EXPECTED


@pytest.mark.parametrize("mode", MODES)
def test_parts_of_values_are_those_of_the_plain_values(mode, tmp_path):
    """Rows, columns, steps, elements, masks and lists of rows are equal, also across blocks."""
    path = written(tmp_path, encrypted(DEEP_PLAIN, mode, block=BLOCK))
    keys = [0, -1, (2, 5), slice(1, 4), (slice(None), 7), slice(None, None, -2), ..., [3, 0, 3], (slice(0, 0), 1)]
    keys += [np.arange(16) % 3 == 0, (slice(2, 9, 3), slice(900, None))]
    value = DEEP["layer11.weight"]
    with opened(path, mode) as ckpt:
        found = [ckpt["layer11.weight"][key] for key in keys]

    for key, part in zip(keys, found, strict=True):
        np.testing.assert_array_equal(part, value[key], strict=True)


@pytest.mark.parametrize("cache", [0, 3 * BLOCK, 2**28])
@pytest.mark.parametrize("mode", MODES)
def test_threads_read_one_checkpoint(mode, cache, tmp_path):
    """Threads that read all values at once get the right ones, for any size of the block cache."""
    path = written(tmp_path, encrypted(DEEP_PLAIN, mode, block=BLOCK))
    jobs = [(name, row) for row in range(5) for name in DEEP] * 4
    with opened(path, mode, block_cache=cache) as ckpt, ThreadPoolExecutor(12) as pool:
        found = list(pool.map(lambda job: ckpt[job[0]][job[1]], jobs))

    wrong = [job for job, row in zip(jobs, found, strict=True) if not np.array_equal(row, DEEP[job[0]][job[1]])]
    assert wrong == []


# What is decrypted


def test_indexing_authenticates_every_block_once(seen, tmp_path):
    """The first open of a GCM file decrypts each block once; the second decrypts nothing."""
    path = written(tmp_path, encrypted(DEEP_PLAIN, block=BLOCK))
    tags = [piece[4:20] for piece in split(encrypted(DEEP_PLAIN, block=BLOCK))]
    opened(path).close()
    cold = sorted(seen.blocks)
    seen.clear()
    with opened(path) as ckpt:
        names = list(ckpt)
        shapes = [ckpt[name].shape for name in names]

    assert cold == sorted(tags)
    assert (names, shapes, seen.blocks) == (list(DEEP), [value.shape for value in DEEP.values()], [])


def test_loading_many_values_decrypts_each_block_once(seen, tmp_path):
    """`load` reads each block once for all values that share it."""
    path = written(tmp_path, encrypted(DEEP_PLAIN, block=BLOCK))
    with opened(path) as ckpt:
        seen.clear()
        values = ckpt.load()

    assert {name: value.tobytes() for name, value in values.items()} == {n: v.tobytes() for n, v in DEEP.items()}
    assert len(seen.blocks) == len(set(seen.blocks)) == len(split(encrypted(DEEP_PLAIN, block=BLOCK)))


def test_a_value_decrypts_its_own_blocks(seen, tmp_path):
    """Header and content together decrypt each of their blocks once, and no other."""
    path = written(tmp_path, encrypted(DEEP_PLAIN, block=BLOCK))
    with opened(path) as ckpt:
        entry = ckpt.entry("layer5.weight")
        seen.clear()
        ckpt["layer5.weight"].asnumpy()
    tags = [piece[4:20] for piece in split(encrypted(DEEP_PLAIN, block=BLOCK))]

    assert sorted(seen.blocks) == sorted(tags[entry.start // BLOCK : (entry.stop - 1) // BLOCK + 1])


@pytest.mark.parametrize("mode", CBC_MODES)
def test_indexing_cbc_decrypts_a_few_hundred_bytes_a_parameter(mode, seen, tmp_path):
    """In a CBC file only headers are decrypted, and 16 bytes of each block for the padding."""
    file = encrypted(DEEP_PLAIN, mode, block=BLOCK)
    opened(written(tmp_path, file), mode).close()
    paddings = 16 * len(split(file, mode))

    assert 40 * len(DEEP) < seen.bytes - paddings < 400 * len(DEEP)


@pytest.mark.parametrize("mode", CBC_MODES)
def test_a_value_of_cbc_decrypts_little_more_than_itself(mode, seen, tmp_path):
    """Reading a row decrypts little more than the row and the header; opening an index decrypts nothing."""
    path = written(tmp_path, encrypted(DEEP_PLAIN, mode, block=BLOCK))
    opened(path, mode).close()
    seen.clear()
    with opened(path, mode) as ckpt:
        before = seen.bytes
        row = ckpt["layer3.weight"][2]

    assert row.tobytes() == DEEP["layer3.weight"][2].tobytes()
    assert before == 0
    assert seen.bytes < row.nbytes + 200


# What is noticed


def walked(file):
    """The entries of an AES-GCM file in memory, with all blocks verified."""
    source = open_encrypted(BytesSource(file, "net.ckpt"), CipherKey(OURS["AES-GCM"], Secret(KEY)))
    with sequential_view(source) as sweep:
        return list(scan(sweep, "ckpt"))


def test_every_changed_byte_of_a_gcm_file_is_noticed():
    """A scan fails for any changed byte, except those of an iv outside the nonce."""
    file = encrypted(checkpoint({"w": counting((20,)), "b": counting((3,), "int8")}), block=60)
    truth = walked(file)
    places = [0]
    for piece in split(file):
        places.append(places[-1] + len(piece))
    ignored = {start + CONTENT["AES-GCM"] + inside for start in places[:-1] for inside in range(16, 20)}
    noticed = set()
    for place in range(len(file)):
        try:
            found = walked(flipped(file, place, place % 8))
        except LazyCkptError:
            noticed.add(place)
        else:
            assert found == truth

    assert noticed == {*range(len(file))} - ignored


def exchange(path, change):
    """Change a file in place, and restore its times."""
    before = os.stat(path)
    with open(path, "r+b") as file:
        changed = change(file.read())
        file.seek(0)
        file.write(changed)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert os.stat(path).st_size == before.st_size


def with_blocks(mode, order):
    """Change a file by reordering its blocks."""
    return lambda file: b"".join(split(file, mode)[number] for number in order)


COUNT = len(split(encrypted(DEEP_PLAIN, block=BLOCK)))
SWAPPED = [*range(8), 9, 8, *range(10, COUNT)]
REPEATED = [*range(8), 8, 8, *range(10, COUNT)]


@pytest.mark.parametrize("order", [SWAPPED, REPEATED], ids=["swapped", "repeated"])
def test_moved_blocks_of_gcm_are_noticed(order, tmp_path):
    """Nothing in the file protects the order of its blocks; the index does, even with the same size, time and ends."""
    path = written(tmp_path, encrypted(DEEP_PLAIN, block=BLOCK))
    opened(path).close()
    exchange(path, with_blocks("AES-GCM", order))
    moved = [number for number in range(COUNT) if order[number] != number]
    wrong = {}
    with opened(path) as ckpt:
        for name, value in DEEP.items():
            entry = ckpt.entry(name)
            touched = {*range(entry.start // BLOCK, (entry.stop - 1) // BLOCK + 1)} & {*moved}
            try:
                right = ckpt[name].tobytes() == value.tobytes()
            except DamagedBlock:
                right = None
            if right is not (None if touched else True):
                wrong[name] = right

    assert wrong == {}


@pytest.mark.parametrize("mode", CBC_MODES)
def test_moved_blocks_of_cbc_are_noticed_by_digests(mode, tmp_path):
    """CBC authenticates nothing; an index with digests detects the change when a value is read whole."""
    path = written(tmp_path, encrypted(DEEP_PLAIN, mode, block=BLOCK))
    lazyckpt.build_index(path, KEY, mode, digest="blake2b").close()
    exchange(path, with_blocks(mode, SWAPPED))
    silent = []
    refused = 0
    with opened(path, mode) as ckpt:
        for name, value in DEEP.items():
            try:
                if ckpt[name].tobytes() != value.tobytes():
                    silent.append(name)
            except (CorruptFile, StaleIndex):
                refused += 1

    assert silent == []
    assert refused >= 2


@pytest.mark.parametrize("mode", MODES)
def test_a_file_without_its_last_block_is_another_file(mode, tmp_path):
    """The old index is not used; the rest is scanned anew, and ends inside a value."""
    path = written(tmp_path, encrypted(DEEP_PLAIN, mode, block=BLOCK))
    opened(path, mode).close()
    written(tmp_path, b"".join(split(encrypted(DEEP_PLAIN, mode, block=BLOCK), mode)[:-1]))

    with pytest.raises(TruncatedFile, match=r"after 1\d whole parameters"):
        opened(path, mode)


def test_a_file_that_shrinks_while_it_is_open_is_reported(tmp_path):
    """A missing block is an error of the file."""
    path = written(tmp_path, encrypted(DEEP_PLAIN, block=BLOCK))
    with opened(path) as ckpt:
        os.truncate(path, 2 * BLOCK)
        with pytest.raises(ChangedFile, match="the file ends at byte"):
            ckpt["layer11.weight"].asnumpy()


# Forged indexes


def forge(path, change):
    """Change the items of a sidecar, as an attacker without the key would."""
    with forged(f"{path}.lmdb") as transaction:
        change(transaction)


def swap_records(transaction):
    """Two valid records, swapped."""
    one, two = (transaction.get(record_key(place)) for place in (2, 3))
    transaction.put(record_key(2), two)
    transaction.put(record_key(3), one)


def name_items(transaction):
    """The keys of names, with their places."""
    return {key: place for key, place in transaction.cursor() if key.startswith(NAMES)}


def swap_places(transaction):
    """Two names that lead to each other's record."""
    keys = {place: key for key, place in name_items(transaction).items()}
    one, two = (place.to_bytes(4, "big") for place in (2, 3))
    transaction.put(keys[one], two)
    transaction.put(keys[two], one)


def one_place(transaction):
    """All names that lead to one record."""
    for key in name_items(transaction):
        transaction.put(key, (2).to_bytes(4, "big"))


def looked_at(ckpt, name):
    """A value's bytes, or None if the index is refused."""
    try:
        return ckpt[name].tobytes()
    except StaleIndex:
        return None


def loaded(ckpt, name):
    """The same through `load`."""
    try:
        return ckpt.load([name])[name].tobytes()
    except StaleIndex:
        return None


@pytest.mark.parametrize("forgery", [swap_records, swap_places, one_place])
@pytest.mark.parametrize("kind", ["plain", "clear", *MODES])
def test_a_forged_index_never_gives_another_tensor(forgery, kind, tmp_path):
    """In plain files, encrypted ones with an index in clear, and sealed ones, a name gets its own value or an error."""
    layers = {f"layer{number}": counting((4,)) + number for number in range(6)}  # alike in all but name and value
    mode = {"plain": None, "clear": "AES-GCM"}.get(kind, kind)
    key = {} if mode is None else {"dec_key": KEY, "dec_mode": mode}
    file = checkpoint(layers)
    path = written(tmp_path, file if mode is None else encrypted(file, mode, block=100))
    lazyckpt.build_index(path, **key, sealed=kind != "clear").close()
    forge(path, forgery)
    found = {}
    with lazyckpt.load_checkpoint(path, **key) as ckpt:
        for name in [*layers, *reversed(layers)] * 2:
            found.setdefault(name, set()).update((looked_at(ckpt, name), loaded(ckpt, name)))

    assert [name for name, values in found.items() if values - {None, layers[name].tobytes()}] == []
    assert found["layer3"] in ({None}, {layers["layer3"].tobytes()})  # refused, or the index was built again


@pytest.mark.parametrize("sealed", [True, False], ids=["sealed", "clear"])
def test_a_table_of_blocks_cannot_be_forged(sealed, tmp_path):
    """The table is sealed even if names are in clear, so a table with a moved block is refused."""
    path = written(tmp_path, encrypted(DEEP_PLAIN, block=BLOCK))
    lazyckpt.build_index(path, KEY, sealed=sealed).close()
    table = read_frame_headers(BytesSource(encrypted(DEEP_PLAIN, block=BLOCK)), OURS["AES-GCM"]).to_bytes()
    rows = [table[start : start + 64] for start in range(0, len(table), 64)]
    forged = b"".join(row[:16] + rows[number][16:] for row, number in zip(rows, SWAPPED, strict=True))
    forge(path, lambda transaction: transaction.put(FRAMES, forged))
    with opened(path) as ckpt:
        assert {name: ckpt[name].tobytes() for name in DEEP} == {n: v.tobytes() for n, v in DEEP.items()}


# What is said


def refusal(path, **options):
    """The type and message of the load's error, which is a ValueError and one of lazyckpt's."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (what it says is looked at by who calls this)
        lazyckpt.load_checkpoint(path, **options)
    assert isinstance(caught.value, LazyCkptError)
    return type(caught.value), str(caught.value).removeprefix(f"{path}: ")


GCM_FILE = encrypted(PLAIN, block=500)
CBC_FILE = encrypted(PLAIN, "AES-CBC", block=500)
SM4_FILE = encrypted(PLAIN, "SM4-CBC", block=500)
LAST = len(split(GCM_FILE)) - 1
LAST_AT = len(GCM_FILE) - len(split(GCM_FILE)[-1])
TEN = [flipped(piece, -1) if number == 3 else piece for number, piece in enumerate(split(GCM_FILE))]
ERRORS = {
    "wrong key, GCM": (GCM_FILE, "AES-GCM", OTHER, WrongKey, "the key does not fit (no block authenticates with it)"),
    "wrong key, CBC": (CBC_FILE, "AES-CBC", OTHER, WrongKey, "the key does not fit (the blocks do not end in a valid"),
    "wrong key, SM4": (SM4_FILE, "SM4-CBC", OTHER, WrongKey, "the key does not fit (the blocks do not end in a valid"),
    "a longer key": (GCM_FILE, "AES-GCM", key_of(32), WrongKey, "the key does not fit"),
    "wrong mode": (
        GCM_FILE, "AES-CBC", KEY, WrongKey,
        "the file is encrypted with AES-GCM, not AES-CBC: give dec_mode='AES-GCM'",
    ),
    "wrong mode, SM4": (
        SM4_FILE, "AES-GCM", KEY, WrongKey,
        "the file is encrypted with SM4-CBC, not AES-GCM: give dec_mode='SM4-CBC'",
    ),
    "bad length": (
        GCM_FILE, "AES-GCM", b"short", ArgumentValueError,
        "a key for AES-GCM must have 16 or 24 or 32 bytes, the one given has 5",
    ),
    "bad length, SM4": (
        SM4_FILE,
        "SM4-CBC",
        key_of(32),
        ArgumentValueError,
        "a key for SM4-CBC must have 16 bytes, the one given has 32",
    ),
    "bad mode": (
        GCM_FILE, "aes-gcm", KEY, ArgumentValueError,
        "dec_mode must be one of AES-GCM, AES-CBC, SM4-CBC, not 'aes-gcm'",
    ),
    "damaged block": (
        b"".join(TEN), "AES-GCM", KEY, DamagedBlock,
        f"encrypted block 3 of {LAST + 1} does not authenticate: it is damaged, or was encrypted with another key",
    ),
    "damaged padding": (
        b"".join([*split(CBC_FILE, "AES-CBC")[:2], frame(b"", "AES-CBC", padding=bytes(16))]), "AES-CBC", KEY,
        DamagedBlock, f"encrypted block 2 of 3 is damaged: its padding is impossible (at byte {2 * 544 + 32:,})",
    ),
    "cut in a header": (
        GCM_FILE[: LAST_AT + 7], "AES-GCM", KEY, TruncatedFile,
        f"the file is cut in encrypted block {LAST}: 7 bytes follow, its header has 48 (at byte {LAST_AT:,})",
    ),
    "cut in a ciphertext": (
        GCM_FILE[: 548 + 48 + 100], "AES-GCM", KEY, TruncatedFile,
        "the file is cut in encrypted block 1: it has 500 bytes, the file ends after 100 (at byte 596)",
    ),
    "trailing bytes": (
        GCM_FILE + bytes(50), "AES-GCM", KEY, CorruptFile,
        f"encrypted block {LAST + 1} is damaged: its bytes are not a frame",
    ),
    "a trailing byte": (
        GCM_FILE + b"\0", "AES-GCM", KEY, TruncatedFile,
        f"the file is cut in encrypted block {LAST + 1}: 1 bytes follow, its header has 48",
    ),
    "plain file": (
        PLAIN, "AES-GCM", KEY, WrongKey, "a key was given, but the file is not encrypted: leave dec_key out"
    ),
    "no key": (
        SM4_FILE, "AES-GCM", None, EncryptedFile,
        "the file is encrypted: give its key, dec_key=…, and dec_mode='SM4-CBC'",
    ),
    "no key, other mode": (
        GCM_FILE, "SM4-CBC", None, EncryptedFile,
        "the file is encrypted: give its key, dec_key=…, and dec_mode='AES-GCM'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", ERRORS)
def test_each_fault_has_its_own_sentence(fault, tmp_path):
    """A fault of key, mode or file gives the same message twice, and leaves nothing beside the file."""
    data, mode, key, kind, words = ERRORS[fault]
    path = written(tmp_path, data)
    refusals = [refusal(path, dec_key=key, dec_mode=mode) for _ in range(2)]

    assert refusals[0] == refusals[1]
    assert (refusals[0][0], refusals[0][1][: len(words)]) == (kind, words)
    assert os.listdir(tmp_path) == ["net.ckpt"]


def test_the_sentences_differ():
    """Two faults share a message only if they are the same fault with another mode or key."""
    words = {fault.partition(",")[0]: sentence for fault, (*_, sentence) in ERRORS.items() if fault != "a longer key"}

    assert len(set(words.values())) == len(words)


def test_a_cipher_that_openssl_lacks_is_refused_with_its_remedy(tmp_path, monkeypatch):
    """Without SM4 the message says where to get it; files in other modes still open."""
    real = Cipher.decryptor

    def decryptor(self):
        if type(self.algorithm).__name__ == "SM4":
            raise UnsupportedAlgorithm("cipher SM4 in CBC mode is not supported by this backend")
        return real(self)

    monkeypatch.setattr(Cipher, "decryptor", decryptor)
    kind, words = refusal(written(tmp_path, SM4_FILE), dec_key=KEY, dec_mode="SM4-CBC")
    with opened(written(tmp_path, CBC_FILE), "AES-CBC") as ckpt:
        names = list(ckpt)

    assert kind is CipherUnavailable
    assert re.search(r"without SM4; .*pip install .*cryptography", words)
    assert names == list(MIXED)


@pytest.mark.parametrize("mode", CBC_MODES)
def test_a_wrong_key_whose_padding_passes_is_detected_by_the_first_bytes(mode, tmp_path):
    """One wrong key of 256 fits a lone block's padding, but its first bytes are not a checkpoint's."""
    file = encrypted(PLAIN, mode)
    kind, words = refusal(written(tmp_path, file), dec_key=passing_key(file, mode), dec_mode=mode)

    assert kind is WrongKey
    assert words.startswith("the key does not fit (with it the file does not begin like a checkpoint), or the file is")


@pytest.mark.parametrize("mode", CBC_MODES)
def test_a_wrong_key_whose_padding_passes_leaves_the_index_alone(mode, tmp_path):
    """With an index the same key gets the same error, and the right key still finds the index fresh."""
    file = encrypted(PLAIN, mode)
    path = written(tmp_path, file)
    opened(path, mode).close()
    index = (tmp_path / "net.ckpt.lmdb").read_bytes()
    kind, _ = refusal(path, dec_key=passing_key(file, mode), dec_mode=mode)

    assert kind is WrongKey
    assert (tmp_path / "net.ckpt.lmdb").read_bytes() == index


@pytest.mark.parametrize("mode", CBC_MODES)
def test_damage_further_on_does_not_doubt_the_key(mode, tmp_path):
    """If the beginning is valid, the key is right."""
    file = encrypted(with_crc(PLAIN)[:-30], mode)
    kind, words = refusal(written(tmp_path, file), dec_key=KEY, dec_mode=mode)

    assert issubclass(kind, CorruptFile)
    assert "wrong key" not in words


def test_a_wrong_key_is_detected_from_the_index(seen, tmp_path):
    """With an index, a wrong key is detected after at most three blocks of a GCM file of any size."""
    path = written(tmp_path, encrypted(DEEP_PLAIN, block=BLOCK))
    opened(path).close()
    seen.clear()
    kind, _ = refusal(path, dec_key=OTHER)

    assert kind is WrongKey
    assert len(set(seen.blocks)) <= 3 < COUNT
    assert 1 <= len(seen.blocks) <= 2 * 3  # each with both nonces


@pytest.mark.parametrize("mode", CBC_MODES)
def test_a_wrong_cbc_key_is_detected_from_the_index(mode, seen, tmp_path):
    """With an index, a wrong key is detected after 16 bytes of each block were decrypted."""
    path = written(tmp_path, encrypted(DEEP_PLAIN, mode, block=BLOCK))
    opened(path, mode).close()
    seen.clear()
    kind, _ = refusal(path, dec_key=OTHER, dec_mode=mode)

    assert (kind, seen.bytes) == (WrongKey, 16 * COUNT)


@pytest.mark.parametrize("mode", MODES)
def test_a_key_and_a_checksum_are_read(mode, tmp_path, caplog):
    """MindSpore writes the trailer in clear, with the number 0, and cannot read it: it is skipped."""
    path = written(tmp_path, encrypted(PLAIN, mode, block=500, trailer=CLEAR_TRAILER))
    for check in (False, False, True):
        with opened(path, mode, crc_check=check) as ckpt:
            assert everything(ckpt) == EXPECTED

    assert [record.getMessage() for record in caplog.records] == [
        f"{path} was saved without a crc: there is nothing to check"
    ]


@pytest.mark.parametrize("mode", MODES)
def test_a_checksum_inside_is_compared(mode, tmp_path):
    """A trailer encrypted with the rest is found, also across two blocks, and must be right."""
    body = checkpoint(LAYERS)
    right, wrong = (encrypted(with_crc(body, crc), mode, block=len(body) + 5) for crc in (None, 1))
    with opened(written(tmp_path, right), mode, crc_check=True) as ckpt:
        names = list(ckpt)
    kind, words = refusal(written(tmp_path, wrong), dec_key=KEY, dec_mode=mode, crc_check=True)

    assert names == list(LAYERS)
    assert (kind, words.partition(":")[0]) == (CorruptFile, "the crc check failed")


def test_nothing_is_decrypted_of_an_empty_file(tmp_path):
    """MindSpore saves no parameters as no blocks, so any key of a valid length opens the file."""
    kind, words = refusal(written(tmp_path, b""), dec_key=OTHER)

    assert (kind.__name__, words) == ("NothingLoaded", "the file is empty (0 bytes): get or save it again")


def test_a_child_reads_on_whatever_other_threads_were_doing(tmp_path):
    """A forked child does not wait for a thread of its parent that is using the block cache."""
    path = written(tmp_path, encrypted(DEEP_PLAIN, block=BLOCK))

    def read():
        signal.alarm(20)
        assert ckpt["layer11.weight"].tobytes() == truth

    with opened(path) as ckpt:
        truth = ckpt["layer11.weight"].tobytes()
        with ckpt._access.stored.source._blocks._turn:
            child = forked(read)
        assert ended(child) == 0
