"""The indexes that stand ready for a file: each is found, and said to be what it is; none is built."""

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
    """The file's index, which stands beside it and may be written to."""
    lazyckpt.build_index(path, *key, **how).close()
    os.chmod(beside(path), 0o600)
    return beside(path)


def test_without_an_index_there_is_nothing_to_tell(path, tmp_path, cache_folder):
    """And none is built."""
    assert sidecars_of(path) == []
    assert (os.listdir(tmp_path), cache_folder.exists()) == (["net.ckpt"], False)


def test_without_the_file_there_is_nothing_to_compare_with(path):
    """An index alone says nothing of a file that is gone."""
    built(path)
    os.unlink(path)

    with pytest.raises(MissingFile):
        sidecars_of(path)


def test_both_places_are_looked_at(path, cache_folder):
    """Beside the file first, then in the user's cache folder."""
    cache_folder.mkdir()
    shutil.copy(built(path), cached(path))

    assert [(one.path, one.state, one.parameters) for one in sidecars_of(path)] == [
        (beside(path), "fresh", 8),
        (cached(path), "fresh", 8),
    ]


@pytest.mark.parametrize("digest", [None, "blake2b"])
@pytest.mark.parametrize("key", [(), (KEY,)], ids=["plain", "encrypted"])
def test_what_an_index_has_is_told(key, digest, path):
    """Whether only the file's key opens it, and whether it has digests; also in words, and without any key."""
    if key:
        with open(path, "wb") as file:
            file.write(encrypted(checkpoint(MIXED)))
    built(path, *key, digest=digest)
    (found,) = sidecars_of(path)
    words = ["fresh", *(["sealed"] if key else []), *(["with digests"] if digest else [])]

    assert (found.state, found.sealed, found.digests) == ("fresh", bool(key), digest is not None)
    assert str(found) == f"{beside(path)} ({', '.join(words)})"


def test_an_index_of_another_file_is_stale(path):
    """Or of the same file before it was changed."""
    built(path)
    with open(path, "wb") as file:
        file.write(checkpoint(LAYERS))
    (found,) = sidecars_of(path)

    assert (found.state, found.why) == ("stale", "the file was changed or replaced since it was built")


def test_an_index_of_another_version_is_stale(path):
    """It is not damaged, and will be replaced."""
    with forged(built(path)) as transaction:
        facts = transaction.get(FACTS)
        transaction.put(FACTS, facts[:8] + b"\x07" + facts[9:])

    assert [found.state for found in sidecars_of(path)] == ["stale"]


@pytest.mark.parametrize("data", [b"", pattern(9000)], ids=["empty", "other bytes"])
def test_what_is_no_index_is_damaged(data, path):
    """Whatever stands in its place."""
    with open(beside(path), "wb") as file:
        file.write(data)
    (found,) = sidecars_of(path)

    assert (found.state, found.why != "") == ("damaged", True)


def test_an_index_that_cannot_be_opened_is_unreadable(path):
    """With the system's reason: here a link that leads to itself."""
    os.symlink(beside(path), beside(path))
    (found,) = sidecars_of(path)

    assert (found.state, found.why) == ("unreadable", "Too many levels of symbolic links")


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """The bytes of a sound index."""
    path = tmp_path_factory.mktemp("sound") / "net.ckpt"
    path.write_bytes(checkpoint(MIXED))
    with open(built(str(path)), "rb") as file:
        return file.read()


@given(st.data())
def test_any_changed_bit_is_damage(sound, tmp_path_factory, data):
    """In a page that no look-up reads as in one that all do; nothing of a sound one is called so."""
    path = tmp_path_factory.getbasetemp() / "one.lmdb"
    path.write_bytes(sound)
    before = damage_of(str(path))
    path.write_bytes(flipped(sound, data.draw(st.integers(0, len(sound) - 1)), data.draw(st.integers(0, 7))))

    assert (before, damage_of(str(path)) != "") == ("", True)


def test_an_index_that_is_gone_cannot_be_called_sound(tmp_path):
    """The system's reason is the damage."""
    assert "No such file" in damage_of(str(tmp_path / "none.lmdb"))
