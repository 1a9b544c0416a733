"""The state of a file's indexes: each is found and classified, and none is built."""

from __future__ import annotations

import os
import shutil

import pytest
from checkpoints import LAYERS, MIXED, checkpoint, pattern
from encryption import KEY, encrypted, flipped
from forging import forged
from hypothesis import given
from hypothesis import strategies as st

import lazyckpt
from lazyckpt.errors import MissingFile
from lazyckpt.explore.index_status import damage_of, sidecars_of
from lazyckpt.index.locations import beside, cached
from lazyckpt.index.schema import FACTS


@pytest.fixture
def path(tmp_path):
    """A checkpoint without an index."""
    path = tmp_path / "net.ckpt"
    path.write_bytes(checkpoint(MIXED))
    return str(path)


def built(path, *key, **how):
    """The file's index, beside it and writable."""
    lazyckpt.build_index(path, *key, **how).close()
    os.chmod(beside(path), 0o600)
    return beside(path)


def test_without_an_index_the_result_is_empty(path, tmp_path, cache_folder):
    """Without an index, the result is empty, and no index is built."""
    assert sidecars_of(path) == []
    assert (os.listdir(tmp_path), cache_folder.exists()) == (["net.ckpt"], False)


def test_without_the_file_there_is_nothing_to_compare_with(path):
    """An index without its checkpoint raises `MissingFile`."""
    built(path)
    os.unlink(path)

    with pytest.raises(MissingFile):
        sidecars_of(path)


def test_both_places_are_looked_at(path, cache_folder):
    """Indexes are found beside the file first, then in the user's cache folder."""
    cache_folder.mkdir()
    shutil.copy(built(path), cached(path))

    assert [(one.path, one.state, one.parameters) for one in sidecars_of(path)] == [
        (beside(path), "fresh", 8),
        (cached(path), "fresh", 8),
    ]


@pytest.mark.parametrize("digest", [None, "blake2b"])
@pytest.mark.parametrize("key", [(), (KEY,)], ids=["plain", "encrypted"])
def test_the_state_shows_what_an_index_has(key, digest, path):
    """The result shows, without a key, whether an index is sealed and whether it has digests."""
    if key:
        with open(path, "wb") as file:
            file.write(encrypted(checkpoint(MIXED)))
    built(path, *key, digest=digest)
    (found,) = sidecars_of(path)
    words = ["fresh", *(["sealed"] if key else []), *(["with digests"] if digest else [])]

    assert (found.state, found.sealed, found.digests) == ("fresh", bool(key), digest is not None)
    assert str(found) == f"{beside(path)} ({', '.join(words)})"


def test_an_index_of_another_file_is_stale(path):
    """An index of another file, or of an earlier state of this one, is stale."""
    built(path)
    with open(path, "wb") as file:
        file.write(checkpoint(LAYERS))
    (found,) = sidecars_of(path)

    assert (found.state, found.why) == ("stale", "the file was changed or replaced since it was built")


def test_an_index_of_another_version_is_stale(path):
    """An index of another schema is stale, not damaged."""
    with forged(built(path)) as transaction:
        facts = transaction.get(FACTS)
        transaction.put(FACTS, facts[:8] + b"\x07" + facts[9:])

    assert [found.state for found in sidecars_of(path)] == ["stale"]


@pytest.mark.parametrize("data", [b"", pattern(9000)], ids=["empty", "other bytes"])
def test_other_bytes_are_a_damaged_index(data, path):
    """Other bytes at the index's path count as a damaged index."""
    with open(beside(path), "wb") as file:
        file.write(data)
    (found,) = sidecars_of(path)

    assert (found.state, found.why != "") == ("damaged", True)


def test_an_index_that_cannot_be_opened_is_unreadable(path):
    """An index that cannot be opened is unreadable, with the system's reason."""
    os.symlink(beside(path), beside(path))
    (found,) = sidecars_of(path)

    assert (found.state, found.why) == ("unreadable", "Too many levels of symbolic links")


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """The bytes of an undamaged index."""
    path = tmp_path_factory.mktemp("sound") / "net.ckpt"
    path.write_bytes(checkpoint(MIXED))
    with open(built(str(path)), "rb") as file:
        return file.read()


@given(st.data())
def test_any_changed_bit_is_damage(sound, tmp_path_factory, data):
    """Any changed bit of an index is found, and an undamaged index passes."""
    path = tmp_path_factory.getbasetemp() / "one.lmdb"
    path.write_bytes(sound)
    before = damage_of(str(path))
    path.write_bytes(flipped(sound, data.draw(st.integers(0, len(sound) - 1)), data.draw(st.integers(0, 7))))

    assert (before, damage_of(str(path)) != "") == ("", True)


def test_a_missing_index_is_damaged(tmp_path):
    """A missing index counts as damaged, with the system's reason."""
    assert "No such file" in damage_of(str(tmp_path / "none.lmdb"))
