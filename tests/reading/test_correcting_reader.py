"""An index that fits a file by size, time and ends, and is of another one, is built again once."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

import lazyckpt
from lazyckpt.errors import StaleIndex

ENDS = {name: np.zeros(2000, "float32") for name in ("first", "last")}


def values(order, shapes):
    """Values in an order, between two that fill the ends of a file: `a` is ones, `b` is twos."""
    inner = {name: np.full(shapes[name], "_ab".index(name), "float32") for name in order}
    many = {f"name.{number:03}": np.zeros(1, "float32") for number in range(200)}  # longer than a sampled header
    return {
        "first": ENDS["first"],
        **many,
        **inner,
        **{f"{name}.": value for name, value in many.items()},
        "last": ENDS["last"],
    }


OLD = values("ab", {"a": (2, 3), "b": (2, 3)})
MOVED = values("ba", {"a": (2, 3), "b": (2, 3)})
RESHAPED = values("ab", {"a": (3, 2), "b": (2, 3)})


@pytest.fixture(params=["beside", "cache", "path"])
def where(request, tmp_path):
    """The location of the index; `cache` because something else has its name beside the file."""
    if request.param == "cache":
        (tmp_path / "net.ckpt.lmdb").mkdir()
        (tmp_path / "net.ckpt.lmdb" / "in the way").touch()
    return str(tmp_path / "my.index") if request.param == "path" else "auto"


@pytest.fixture
def stale(tmp_path):
    """Replaces a checkpoint in place by one with the same size, time and ends; returns the path."""
    path = tmp_path / "net.ckpt"

    def replace(new, where="auto"):
        lazyckpt.save_checkpoint(OLD, path, mode=0o600)
        with lazyckpt.load_checkpoint(path, index=where) as opened:
            assert (opened["a"].asnumpy() == 1).all()
        before = path.stat()
        lazyckpt.save_checkpoint(new, tmp_path / "new.ckpt")
        path.write_bytes((tmp_path / "new.ckpt").read_bytes())
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert path.stat().st_size == before.st_size
        return path

    return replace


WAYS = {
    "view": lambda ckpt: {name: ckpt[name].asnumpy() for name in "ab"},
    "copy": lambda ckpt: {name: ckpt[name].asnumpy(copy=True) for name in "ab"},
    "slice": lambda ckpt: {name: np.stack([ckpt[name][0], ckpt[name][1]]) for name in "ab"},
    "load": lambda ckpt: ckpt.load(),
    "load some": lambda ckpt: ckpt.load(["a", "b"]),
    "writable": lambda ckpt: {name: np.asarray(ckpt[name]) for name in "ab"},
}


@pytest.mark.parametrize("way", WAYS)
def test_a_value_that_moved_is_found(way, stale, where, caplog):
    """The call that meets the wrong index gives the right values, and the next open has the new index."""
    path = stale(MOVED, where)
    with lazyckpt.load_checkpoint(path, index=where) as opened:
        found = WAYS[way](opened)
    with lazyckpt.load_checkpoint(path, index=where) as opened:
        names, again = list(opened), WAYS[way](opened)

    for given in (found, again):
        assert {name: set(given[name].reshape(-1)) for name in "ab"} == {"a": {1}, "b": {2}}
    assert names == list(MOVED)


@pytest.mark.parametrize("way", [way for way in WAYS if not way.startswith("load")])
def test_a_value_of_another_shape_is_an_error_once(way, stale, where):
    """A Parameter that was given out has a shape, so the call raises; the next open has the right one."""
    path = stale(RESHAPED, where)
    with (
        lazyckpt.load_checkpoint(path, index=where) as opened,
        pytest.raises(StaleIndex, match="open the checkpoint again"),
    ):
        WAYS[way](opened)
    with lazyckpt.load_checkpoint(path, index=where) as opened:
        assert (opened["a"].shape, set(opened["a"].asnumpy().reshape(-1))) == ((3, 2), {1})


def test_loading_all_gives_the_file_as_it_is(stale, where):
    """`load` starts again with the new index: values of another shape, and other names."""
    renamed = {("c" if name == "b" else name): value for name, value in RESHAPED.items()}
    path = stale(renamed, where)
    with lazyckpt.load_checkpoint(path, index=where) as opened:
        found = opened.load()

    assert list(found) == list(renamed)
    assert all((found[name] == value).all() for name, value in renamed.items())


def test_an_index_is_built_again_once(stale, monkeypatch):
    """A file that is changed again while it is open gives an error, not a second build."""
    path = stale(MOVED)
    with lazyckpt.load_checkpoint(path) as opened:
        opened["a"].asnumpy()
        data, before = path.read_bytes(), path.stat()
        path.write_bytes(path.with_name("new.ckpt").read_bytes().replace(b"\x0a\x01a", b"\x0a\x01z"))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

        with pytest.raises(StaleIndex):
            opened["b"].asnumpy(), opened["a"].asnumpy(copy=True)
    path.write_bytes(data)


def test_an_index_with_digests_is_not_replaced_without_a_word(stale):
    """It is there to detect changes, so one call raises; the next open has an index without digests."""
    path = stale(MOVED)
    before = path.stat()
    lazyckpt.save_checkpoint(OLD, path, mode=0o600)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    lazyckpt.build_index(path, digest="blake2b", force=True).close()
    path.write_bytes(path.with_name("new.ckpt").read_bytes())
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with lazyckpt.load_checkpoint(path) as opened, pytest.raises(StaleIndex, match="had digests"):
        opened["a"].asnumpy()
    with lazyckpt.load_checkpoint(path) as opened:
        assert (set(opened["a"].asnumpy().reshape(-1)), opened.index.has_digests) == ({1}, False)


def test_old_and_new_names_are_not_mixed(stale, monkeypatch):
    """A walk over the names that meets an index built again meanwhile is an error."""
    monkeypatch.setattr("lazyckpt.index.stored._BATCH", 7)
    path = stale(MOVED)
    with lazyckpt.load_checkpoint(path) as opened:
        walk = iter(opened.index)
        next(walk)
        opened["a"].asnumpy()
        with pytest.raises(StaleIndex, match="walk it again"):
            list(walk)

        assert list(opened.index) == list(MOVED)


def test_a_set_has_its_part_corrected(stale, tmp_path):
    """In a set of files the index of the part is built again."""
    stale(MOVED)
    listing = tmp_path / "net.ckpt.index.json"
    listing.write_text(json.dumps({"weight_map": dict.fromkeys(MOVED, "net.ckpt")}))
    with lazyckpt.load_checkpoint(str(listing)) as opened:
        found = {name: set(opened[name].asnumpy().reshape(-1)) for name in "ab"}

    assert found == {"a": {1}, "b": {2}}
