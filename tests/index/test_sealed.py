"""Sealed sidecars: the contract of stores, and nothing to read for who lacks the key."""

from __future__ import annotations

import lmdb
import pytest
from entries import MARK, tensor_entry
from forging import forged
from hypothesis import given
from hypothesis import strategies as st
from store_contract import MIXED, StoreContract, dump

from lazyckpt.errors import StaleIndex
from lazyckpt.index.layout import FACTS, NAMES, record_key
from lazyckpt.index.records import Meta, encode
from lazyckpt.index.sealed import Sealed
from lazyckpt.index.sidecar import Sidecar
from lazyckpt.index.write import write
from lazyckpt.sources.encryption.cipher import MODES, Lock
from lazyckpt.sources.encryption.keys import Secret

KEY = bytes(range(1, 17))
NAMED = [tensor_entry(f"backbone.layer{place}.attention.weight", place, shape=(7, 11)) for place in range(200)]


def lock_of(key=KEY):
    """What opens a file with this key."""
    return Lock(MODES["AES-GCM"], Secret(key))


def sealed_at(path, entries, digests=False):
    """Write a sealed sidecar, and give what sealed it."""
    seal = Sealed(lock_of())
    write(str(path), entries, Meta(MARK, digests=digests, sealed=True, salt=seal.salt, check=seal.check), seal)
    return seal


def unlocked(path, key=KEY):
    """A store over a sealed sidecar, with the codec that a key gives."""
    store = Sidecar(str(path))
    store.unlock(Sealed(lock_of(key), store.meta.salt))
    return store


class TestSealedSidecar(StoreContract):
    """A sealed sidecar, given its key, is a store like any other."""

    def make(self, folder, entries, digests=False):
        """Sealed, and opened again with a codec made from the salt in the file."""
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
    """No piece of a name, and no record, stands in the file."""
    sealed_at(tmp_path / "index.lmdb", NAMED)
    data = (tmp_path / "index.lmdb").read_bytes()
    secrets = [b"backbone", b"attention", b"weight", *(encode(entry, b"")[:24] for entry in NAMED)]

    assert [secret for secret in secrets if secret in data] == []


def test_keys_have_one_length_and_records_a_few(tmp_path):
    """Lengths tell nothing of a name but which multiple of 64 bytes its record fits."""
    sealed_at(tmp_path / "index.lmdb", [tensor_entry("n" * length, length) for length in range(1, 300)])
    items = items_of(tmp_path / "index.lmdb")

    assert {len(key) for key, _ in items if key.startswith(NAMES)} == {1 + 16}
    assert {(len(value) - 24) % 64 for key, value in items if key[:1] == b"\x01"} == {0}


def test_no_number_is_used_twice(tmp_path):
    """Also when names come again: under a repeated nonce, AES-GCM would give its secrets away."""
    seal = Sealed(lock_of())
    numbers = [seal.close(b"key", b"value")[:8] for _ in range(1000)]

    assert len(set(numbers)) == 1000


def test_two_sidecars_of_one_file_have_nothing_in_common(tmp_path):
    """The salt is random, so neither keys nor values can be matched."""
    for name in ("one", "two"):
        sealed_at(tmp_path / name, NAMED)
    one, two = (
        {part for key, value in items_of(tmp_path / name) for part in (key, value) if key[:1] in (b"\x01", NAMES)}
        - {record_key(place) for place in range(len(NAMED))}
        for name in ("one", "two")
    )

    assert {part for part in one & two if len(part) > 4} == set()


def test_a_wrong_key_is_known_at_once(tmp_path):
    """The check value tells, before any record is touched; and it is another for each salt."""
    seal, again = Sealed(lock_of()), Sealed(lock_of())

    assert Sealed(lock_of(), seal.salt).fits(seal.check)
    assert not Sealed(lock_of(KEY[::-1]), seal.salt).fits(seal.check)
    assert seal.check != again.check


def test_a_wrong_key_finds_no_name_and_opens_no_record(tmp_path):
    """Even if nobody looked at the check value."""
    sealed_at(tmp_path / "index.lmdb", NAMED)
    store = unlocked(tmp_path / "index.lmdb", KEY[::-1])

    assert store.position(NAMED[0].name) is None
    for read in (lambda: store.record(0), lambda: dump(store), lambda: store.with_prefix("")):
        with pytest.raises(StaleIndex, match="damaged"):
            read()


def test_a_record_at_anothers_place_is_refused(tmp_path):
    """Values are bound to their keys: exchanging two sound records is damage."""
    path = tmp_path / "index.lmdb"
    sealed_at(path, NAMED)
    with forged(path) as transaction:
        transaction.put(record_key(0), transaction.get(record_key(1)))

    with pytest.raises(StaleIndex, match="damaged"):
        unlocked(path).record(0)


def test_the_facts_are_in_clear(tmp_path):
    """What must be known before the key is used: of which file it is, the salt, the check value."""
    seal = sealed_at(tmp_path / "index.lmdb", MIXED)
    meta = Sidecar(str(tmp_path / "index.lmdb")).meta

    assert (meta.fingerprint, meta.sealed, meta.salt, meta.check) == (MARK, True, seal.salt, seal.check)
    assert dict(items_of(tmp_path / "index.lmdb"))[FACTS]


SEAL = Sealed(lock_of(), bytes(16))


@given(st.binary(max_size=300), st.binary(max_size=20))
def test_what_is_closed_can_be_opened(value, key):
    """Any value, also one that ends in zeros or in the padding's own bytes."""
    assert SEAL.open(key, SEAL.close(key, value)) == value


@given(st.binary(max_size=100), st.data())
def test_what_was_touched_cannot_be_opened(value, data):
    """A changed, cut or longer value, or another key, opens to None."""
    stored = SEAL.close(b"key", value)
    place = data.draw(st.integers(0, len(stored) - 1))
    bit = data.draw(st.integers(0, 7))
    flipped = bytes([*stored[:place], stored[place] ^ 1 << bit, *stored[place + 1 :]])

    assert [SEAL.open(b"key", other) for other in (flipped, stored[:place], stored + b"\0")] == [None] * 3
    assert SEAL.open(b"kez", stored) is None
