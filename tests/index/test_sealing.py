"""Sealed sidecars: only the checkpoint's key opens them, and every record is authenticated."""

from __future__ import annotations

import os

import lmdb
import pytest
from checkpoints import LAYERS, MIXED, checkpoint
from encryption import KEY, MODES, encrypted
from entries import MARK, tensor_entry
from forging import forged
from hypothesis import given
from hypothesis import strategies as st
from store_contract import MIXED as STORED
from store_contract import StoreContract, dump

import lazyckpt
from lazyckpt.errors import ArgumentValueError, EncryptedFile, LazyCkptError, StaleIndex, WrongKey
from lazyckpt.index.footer import Meta, decode_meta, encode_meta
from lazyckpt.index.records import encode
from lazyckpt.index.schema import FACTS, FRAMES, NAMES, record_key
from lazyckpt.index.sealing import SealedCodec
from lazyckpt.index.sidecar import Sidecar
from lazyckpt.index.write import write
from lazyckpt.sources.encryption.cipher import MODES as CIPHERS
from lazyckpt.sources.encryption.cipher import CipherKey
from lazyckpt.sources.encryption.keys import Secret

OTHER = KEY[::-1]
NAMED = [tensor_entry(f"backbone.layer{place}.attention.weight", place, shape=(7, 11)) for place in range(200)]


def lock_of(key=KEY):
    """The cipher for this key."""
    return CipherKey(CIPHERS["AES-GCM"], Secret(key))


def sealed_at(path, entries, digests=False):
    """Write a sealed sidecar, and return its cipher."""
    codec = SealedCodec(lock_of())
    write(str(path), entries, Meta(MARK, digests=digests, sealed=True, salt=codec.salt, check=codec.check), codec)
    return codec


def unlocked(path, key=KEY):
    """A store over a sealed sidecar, with the codec for a key."""
    store = Sidecar(str(path))
    store.unlock(SealedCodec(lock_of(key), store.meta.salt))
    return store


class TestSealedSidecar(StoreContract):
    """A sealed sidecar opened with its key meets the contract of stores."""

    def make(self, folder, entries, digests=False):
        """Makes a sealed sidecar, opened with a codec from the salt in the file."""
        sealed_at(folder / "index.lmdb", entries, digests)
        return unlocked(folder / "index.lmdb")


def items_of(path):
    """Every key and value in a sidecar."""
    with (
        lmdb.open(str(path), subdir=False, readonly=True, lock=False) as environment,
        environment.begin() as transaction,
        transaction.cursor() as cursor,
    ):
        return list(cursor)


def test_nothing_of_the_model_can_be_read(tmp_path):
    """The file contains no part of a name and no record."""
    sealed_at(tmp_path / "index.lmdb", NAMED)
    data = (tmp_path / "index.lmdb").read_bytes()
    secrets = [b"backbone", b"attention", b"weight", *(encode(entry, b"")[:24] for entry in NAMED)]

    assert [secret for secret in secrets if secret in data] == []


def test_keys_have_one_length_and_records_a_few(tmp_path):
    """A record's length reveals only the multiple of 64 bytes that it fits."""
    sealed_at(tmp_path / "index.lmdb", [tensor_entry("n" * length, length) for length in range(1, 300)])
    items = items_of(tmp_path / "index.lmdb")

    assert {len(key) for key, _ in items if key.startswith(NAMES)} == {1 + 16}
    assert {(len(value) - 24) % 64 for key, value in items if key[:1] == b"\x01"} == {0}


def test_no_number_is_used_twice(tmp_path):
    """No nonce is repeated, even for repeated names: a repeated nonce would break AES-GCM."""
    codec = SealedCodec(lock_of())
    numbers = [codec.seal(b"key", b"value")[:8] for _ in range(1000)]

    assert len(set(numbers)) == 1000


def test_two_sidecars_of_one_file_have_nothing_in_common(tmp_path):
    """The salt is random, so two sidecars have no key or value in common."""
    for name in ("one", "two"):
        sealed_at(tmp_path / name, NAMED)
    one, two = (
        {part for key, value in items_of(tmp_path / name) for part in (key, value) if key[:1] in (b"\x01", NAMES)}
        - {record_key(place) for place in range(len(NAMED))}
        for name in ("one", "two")
    )

    assert {part for part in one & two if len(part) > 4} == set()


def test_a_wrong_key_is_known_at_once(tmp_path):
    """The check value detects a wrong key before any record is read, and differs for each salt."""
    codec, again = SealedCodec(lock_of()), SealedCodec(lock_of())

    assert SealedCodec(lock_of(), codec.salt).fits(codec.check)
    assert not SealedCodec(lock_of(KEY[::-1]), codec.salt).fits(codec.check)
    assert codec.check != again.check


def test_a_wrong_key_finds_no_name_and_opens_no_record(tmp_path):
    """A wrong key is detected even without the check value."""
    sealed_at(tmp_path / "index.lmdb", NAMED)
    store = unlocked(tmp_path / "index.lmdb", KEY[::-1])

    assert store.position(NAMED[0].name) is None
    for read in (lambda: store.record(0), lambda: dump(store), lambda: store.with_prefix("")):
        with pytest.raises(StaleIndex, match="damaged"):
            read()


def test_a_record_at_anothers_place_is_refused(tmp_path):
    """Values are bound to their keys: two exchanged records are damage."""
    path = tmp_path / "index.lmdb"
    sealed_at(path, NAMED)
    with forged(path) as transaction:
        transaction.put(record_key(0), transaction.get(record_key(1)))

    with pytest.raises(StaleIndex, match="damaged"):
        unlocked(path).record(0)


def test_the_facts_are_in_clear(tmp_path):
    """The facts needed before the key is used are in clear: fingerprint, salt, check value."""
    codec = sealed_at(tmp_path / "index.lmdb", STORED)
    meta = Sidecar(str(tmp_path / "index.lmdb")).meta

    assert (meta.fingerprint, meta.sealed, meta.salt, meta.check) == (MARK, True, codec.salt, codec.check)
    assert dict(items_of(tmp_path / "index.lmdb"))[FACTS]


CODEC = SealedCodec(lock_of(), bytes(16))


@given(st.binary(max_size=300), st.binary(max_size=20))
def test_what_is_closed_can_be_opened(value, key):
    """Any value is restored, also one that ends in zeros or in the padding's bytes."""
    assert CODEC.unseal(key, CODEC.seal(key, value)) == value


@given(st.binary(max_size=100), st.data())
def test_what_was_touched_cannot_be_opened(value, data):
    """A changed, truncated or extended value, or another key, gives None."""
    stored = CODEC.seal(b"key", value)
    place = data.draw(st.integers(0, len(stored) - 1))
    bit = data.draw(st.integers(0, 7))
    flipped = bytes([*stored[:place], stored[place] ^ 1 << bit, *stored[place + 1 :]])

    assert [CODEC.unseal(b"key", other) for other in (flipped, stored[:place], stored + b"\0")] == [None] * 3
    assert CODEC.unseal(b"kez", stored) is None


@pytest.fixture(params=MODES)
def mode(request):
    """Each encryption mode."""
    return request.param


@pytest.fixture
def file(tmp_path, mode):
    """An encrypted checkpoint of several blocks."""
    path = tmp_path / "net.ckpt"
    path.write_bytes(encrypted(checkpoint(MIXED), mode, block=512))
    return path


def names(file, mode, key=KEY, **options):
    """The names in an index, which is closed again."""
    index = lazyckpt.build_index(file, key, mode, **options)
    found = list(index)
    index.close()
    return found


def sidecar(file):
    """The bytes of the sidecar."""
    with open(f"{file}.lmdb", "rb") as opened:
        return opened.read()


def test_an_encrypted_file_is_walked_once(file, mode, walks):
    """The second open finds the index fresh, as for a plain file."""
    assert names(file, mode) == names(file, mode) == list(MIXED)
    assert len(walks) == 1


def test_its_index_gives_nothing_away(file, mode):
    """The sidecar contains no name of the model."""
    names(file, mode)

    assert [name for name in MIXED if name.encode() in sidecar(file)] == []


def test_an_index_in_clear_is_made_only_when_asked_for(file, mode, walks):
    """With `sealed=False` names are readable; the values still need the key."""
    names(file, mode, sealed=False)

    assert b"conv1.weight" in sidecar(file)
    assert (names(file, mode), len(walks)) == (list(MIXED), 1)
    with pytest.raises(EncryptedFile):
        lazyckpt.load_checkpoint(str(file))


def test_without_the_key_there_is_no_index(file):
    """Without the key there is no index, even where one exists for the file."""
    with pytest.raises(EncryptedFile, match=r"net\.ckpt"):
        lazyckpt.build_index(file)


def test_a_wrong_key_is_refused_and_the_index_stays(file, mode):
    """A wrong key is refused cold and warm, and does not remove the index built with the right one."""
    with pytest.raises(LazyCkptError):
        names(file, mode, OTHER)
    assert os.listdir(file.parent) == ["net.ckpt"]
    names(file, mode)
    before = sidecar(file)

    with pytest.raises(LazyCkptError):
        names(file, mode, OTHER)
    assert sidecar(file) == before


def test_a_wrong_key_of_an_authenticated_file_is_called_so(tmp_path):
    """GCM distinguishes a wrong key from a damaged file."""
    path = tmp_path / "net.ckpt"
    path.write_bytes(encrypted(checkpoint(MIXED), "AES-GCM", block=512))
    names(path, "AES-GCM")

    with pytest.raises(WrongKey, match="the key does not fit"):
        names(path, "AES-GCM", OTHER)


def test_a_key_of_an_impossible_length_is_refused(file, mode):
    """The key's length is checked before anything is decrypted."""
    with pytest.raises(ArgumentValueError, match="must have 16"):
        names(file, mode, KEY[:7])


def test_a_file_encrypted_anew_gets_an_index_anew(file, mode, walks):
    """After encryption with another key, the old index is replaced."""
    names(file, mode)
    file.write_bytes(encrypted(checkpoint(LAYERS), mode, key=OTHER, block=512))

    assert names(file, mode, OTHER) == list(LAYERS)
    assert (names(file, mode, OTHER), len(walks)) == (list(LAYERS), 2)


def test_an_index_that_was_sealed_with_another_key_is_built_again(file, mode, walks):
    """If the key opens the file but not the index, the index is rebuilt."""
    names(file, mode)
    with forged(f"{file}.lmdb") as transaction:
        facts = decode_meta(transaction.get(FACTS))
        transaction.put(FACTS, encode_meta(facts._replace(check=facts.check[::-1])))

    assert (names(file, mode), len(walks)) == (list(MIXED), 2)


@pytest.mark.parametrize("sealed", [True, False], ids=["sealed", "clear"])
@pytest.mark.parametrize("damage", [None, b"", b"no table"], ids=["gone", "empty", "garbage"])
def test_a_damaged_table_of_blocks_is_built_again(damage, sealed, file, mode, walks):
    """The index is replaced, and the file is not reported as damaged."""
    names(file, mode, sealed=sealed)
    with forged(f"{file}.lmdb") as transaction:
        transaction.delete(FRAMES) if damage is None else transaction.put(FRAMES, damage)

    assert (names(file, mode), len(walks)) == (list(MIXED), 2)


def test_values_are_the_same_cold_and_warm(file, mode):
    """Values decrypted through a fresh index equal those decrypted while it was built."""
    found = []
    for _ in ("cold", "warm"):
        with lazyckpt.load_checkpoint(str(file), dec_key=KEY, dec_mode=mode) as ckpt:
            found.append([ckpt[name].tobytes() for name in LAYERS])

    assert found == [[array.tobytes() for array in LAYERS.values()]] * 2


def test_an_index_in_memory_serves_an_encrypted_file(file, mode):
    """An index in memory serves an encrypted file and writes nothing."""
    assert names(file, mode, index_path="memory") == list(MIXED)
    assert os.listdir(file.parent) == ["net.ckpt"]
