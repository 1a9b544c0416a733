"""The index of an encrypted file: sealed with its key, pinned to its blocks, rebuilt when it does not fit."""

from __future__ import annotations

import os

import pytest
from checkpoints import LAYERS, MIXED, checkpoint
from encryption import KEY, MODES, encrypted
from forging import forged

import lazyckpt
from lazyckpt.errors import ArgumentValueError, EncryptedFile, LazyCkptError, WrongKey
from lazyckpt.index.layout import FACTS, FRAMES
from lazyckpt.index.records import decode_meta, encode_meta

OTHER = KEY[::-1]


@pytest.fixture(params=MODES)
def mode(request):
    """Each way to encrypt."""
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
    """No name of the model stands in the sidecar."""
    names(file, mode)

    assert [name for name in MIXED if name.encode() in sidecar(file)] == []


def test_an_index_in_clear_is_made_only_when_asked_for(file, mode, walks):
    """With `sealed=False` names can be read; the values still need the key."""
    names(file, mode, sealed=False)

    assert b"conv1.weight" in sidecar(file)
    assert (names(file, mode), len(walks)) == (list(MIXED), 1)
    with pytest.raises(EncryptedFile):
        lazyckpt.load_checkpoint(str(file))


def test_without_the_key_there_is_no_index(file):
    """Not even of a file whose index stands there."""
    with pytest.raises(EncryptedFile, match=r"net\.ckpt"):
        lazyckpt.build_index(file)


def test_a_wrong_key_is_refused_and_the_index_stays(file, mode):
    """Cold or warm; and what the right key built is not lost by a mistake."""
    with pytest.raises(LazyCkptError):
        names(file, mode, OTHER)
    assert os.listdir(file.parent) == ["net.ckpt"]
    names(file, mode)
    before = sidecar(file)

    with pytest.raises(LazyCkptError):
        names(file, mode, OTHER)
    assert sidecar(file) == before


def test_a_wrong_key_of_an_authenticated_file_is_called_so(tmp_path):
    """GCM can tell a wrong key from a damaged file."""
    path = tmp_path / "net.ckpt"
    path.write_bytes(encrypted(checkpoint(MIXED), "AES-GCM", block=512))
    names(path, "AES-GCM")

    with pytest.raises(WrongKey, match="the key does not fit"):
        names(path, "AES-GCM", OTHER)


def test_a_key_of_an_impossible_length_is_refused(file, mode):
    """Before anything is decrypted."""
    with pytest.raises(ArgumentValueError, match="has 16"):
        names(file, mode, KEY[:7])


def test_a_file_encrypted_anew_gets_an_index_anew(file, mode, walks):
    """With another key, the old index is of no use and is replaced."""
    names(file, mode)
    file.write_bytes(encrypted(checkpoint(LAYERS), mode, key=OTHER, block=512))

    assert names(file, mode, OTHER) == list(LAYERS)
    assert (names(file, mode, OTHER), len(walks)) == (list(LAYERS), 2)


def test_an_index_that_was_sealed_with_another_key_is_built_again(file, mode, walks):
    """If the key opens the file and not the index, the index is wrong."""
    names(file, mode)
    with forged(f"{file}.lmdb") as transaction:
        facts = decode_meta(transaction.get(FACTS))
        transaction.put(FACTS, encode_meta(facts._replace(check=facts.check[::-1])))

    assert (names(file, mode), len(walks)) == (list(MIXED), 2)


@pytest.mark.parametrize("sealed", [True, False], ids=["sealed", "clear"])
@pytest.mark.parametrize("damage", [None, b"", b"no table"], ids=["gone", "empty", "garbage"])
def test_a_damaged_table_of_blocks_is_built_again(damage, sealed, file, mode, walks):
    """The index is replaced; the file is not blamed."""
    names(file, mode, sealed=sealed)
    with forged(f"{file}.lmdb") as transaction:
        transaction.delete(FRAMES) if damage is None else transaction.put(FRAMES, damage)

    assert (names(file, mode), len(walks)) == (list(MIXED), 2)


def test_values_are_the_same_cold_and_warm(file, mode):
    """What is decrypted through a fresh index is what was decrypted while it was built."""
    found = []
    for _ in ("cold", "warm"):
        with lazyckpt.load_checkpoint(str(file), dec_key=KEY, dec_mode=mode) as ckpt:
            found.append([ckpt[name].tobytes() for name in LAYERS])

    assert found == [[array.tobytes() for array in LAYERS.values()]] * 2


def test_an_index_in_memory_serves_an_encrypted_file(file, mode):
    """And writes nothing."""
    assert names(file, mode, index_path="memory") == list(MIXED)
    assert os.listdir(file.parent) == ["net.ckpt"]
