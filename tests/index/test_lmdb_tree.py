"""The reader of LMDB's trees finds what LMDB finds, and terminates on any tree."""

from __future__ import annotations

import itertools
import os
import struct

import lmdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyckpt.index import lmdb_tree as trees
from lazyckpt.index.lmdb_pages import Pages, add_checksums
from lazyckpt.index.lmdb_tree import OUTSIDE, Tree
from lazyckpt.index.records import BadRecord

PAGE = 4096
FAULTS = (BadRecord, *OUTSIDE)
MANY = {f"key{number * 7919 % 100_003:06}".encode(): os.urandom(number % 40) for number in range(20_000)}


def written(path, items, batches=1):
    """A tree written by LMDB with these items, in several transactions, in any order; in a sidecar's form."""
    path = os.fspath(path)
    with lmdb.open(path, subdir=False, lock=False, sync=False, map_size=2**26) as environment:
        for batch in range(batches):
            with environment.begin(write=True) as transaction:
                for key in list(items)[batch::batches]:
                    transaction.put(key, items[key])
        page_size, last_page = environment.stat()["psize"], environment.info()["last_pgno"]
    add_checksums(path, page_size, last_page + 1)
    return path


def opened(path):
    """The tree in a file."""
    pages = Pages(os.fspath(path))
    return Tree(pages, trees.root_of(os.fspath(path), pages.page_size))


def walked(tree, start=b""):
    """All items from a key on."""
    return [
        (leaf.key(number), tree.value(leaf, number))
        for leaf, first in tree.leaves(start)
        for number in range(first, len(leaf.nodes))
    ]


@given(
    st.dictionaries(st.binary(min_size=1, max_size=511), st.integers(0, 9000), max_size=60),
    st.lists(st.binary(min_size=1, max_size=511), max_size=10),
    st.integers(1, 3),
)
def test_it_finds_what_lmdb_was_given(tmp_path_factory, sizes, others, batches):
    """Any keys are found, with values from no byte to some pages, and no others."""
    items = {key: (key * size)[:size] for key, size in sizes.items()}
    tree = opened(written(tmp_path_factory.mktemp("tree") / "tree.lmdb", items, batches))

    assert {key: tree.get(key) for key in [*items, *others]} == {key: items.get(key) for key in [*items, *others]}
    assert walked(tree) == sorted(items.items())
    assert tree.entries == len(items)


@pytest.mark.parametrize("batches", [1, 7])
def test_it_walks_a_deep_tree_from_any_key(tmp_path, batches):
    """A walk over twenty thousand items starts at any key: present, between two, before or after all."""
    tree = opened(written(tmp_path / "tree.lmdb", MANY, batches))
    held = sorted(MANY.items())
    starts = [b"", b"a", b"z", *itertools.chain.from_iterable((key, key + b"\0") for key in list(MANY)[::1999])]

    assert [walked(tree, start) for start in starts] == [
        [item for item in held if item[0] >= start] for start in starts
    ]
    assert [tree.get(key) for key in MANY] == list(MANY.values())


def test_an_empty_tree_has_nothing(tmp_path):
    """An empty tree reads no page."""
    tree = opened(written(tmp_path / "tree.lmdb", {}))

    assert (tree.get(b"key"), walked(tree)) == (None, [])


def test_pages_that_were_left_do_not_grow_in_memory(tmp_path, monkeypatch):
    """With a cache of two pages everything is still found."""
    monkeypatch.setattr("lazyckpt.index.lmdb_tree._KEPT", 2 * PAGE)
    tree = opened(written(tmp_path / "tree.lmdb", MANY))

    assert [tree.get(key) for key in MANY] == list(MANY.values())
    assert walked(tree) == sorted(MANY.items())
    assert len(tree._young) + len(tree._old) <= 4


# What a forger can write, who knows how checksums are made.


def root_of(data):
    """The root page's number by the newer meta page, and its offset in the file."""
    newer = max((0, PAGE), key=lambda page: struct.unpack_from("<Q", data, page + 144))
    return struct.unpack_from("<Q", data, newer + 128)[0], newer


@pytest.fixture
def forge(tmp_path):
    """Makes a tree with pages changed by a function, and with matching checksums."""

    def forge(change, items=MANY):
        path = written(tmp_path / "tree.lmdb", items)
        with open(path, "rb") as file:
            data = bytearray(file.read())
        count = int.from_bytes(data[-24:-16], "little")
        del data[count * PAGE :]
        change(data)
        with open(path, "wb") as file:
            file.write(data)
        add_checksums(path, PAGE, count)
        return path

    return forge


def fault_of(act):
    """The resulting damage error, or None."""
    try:
        act()
    except FAULTS as error:
        return type(error)
    return None


def children(data, page):
    """The offsets of a branch's nodes in a file."""
    at = page * PAGE
    lower = struct.unpack_from("<H", data, at + 12)[0]
    return [at + offset for offset in struct.unpack_from(f"<{(lower - 16) // 2}H", data, at + 16)]


@pytest.mark.parametrize("number", [None, 0, 1, 2**32, 2**48 - 1], ids=["itself", "meta", "meta too", "outside", "far"])
def test_a_branch_that_leads_to_no_page_below_it_is_refused(number, forge):
    """For a cycle, a page outside the tree or outside the file, reads go at most as deep as the tree."""

    def change(data):
        root, _ = root_of(data)
        for node in children(data, root):
            data[node : node + 6] = (root if number is None else number).to_bytes(6, "little")

    tree = opened(forge(change))

    assert fault_of(lambda: tree.get(b"key000000")) is BadRecord
    assert fault_of(lambda: walked(tree)) is BadRecord


@pytest.mark.parametrize("depth", [0, 1, 2, 4, 32])
def test_a_depth_that_is_not_the_trees_is_refused(depth, forge):
    """A wrong depth leads to a page that is not a leaf, or to none."""

    def change(data):
        data[root_of(data)[1] + 94] = depth

    tree = opened(forge(change))
    outcomes = {fault_of(lambda: tree.get(b"key000000")), fault_of(lambda: walked(tree))}

    assert outcomes == ({None} if depth == 0 else {BadRecord})


def test_a_tree_too_deep_to_be_one_is_refused(forge):
    """LMDB's trees have at most 32 levels."""

    def change(data):
        data[root_of(data)[1] + 94] = 33

    with pytest.raises(BadRecord):
        opened(forge(change))


CLAIMS = {
    "the first page": (5, (0).to_bytes(8, "little")),
    "a page far outside": (5, (2**40).to_bytes(8, "little")),
    "the last page of numbers": (5, b"\xff" * 8),
    "four billion bytes": (-8, b"\xff" * 4),
}


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_value_that_is_not_in_the_file_is_refused(claim, forge):
    """An overflow value must lie in overflow pages and within the file, which is checked before memory is allocated."""
    behind, said = CLAIMS[claim]

    def change(data):
        place = data.rindex(b"large") + behind
        data[place : place + len(said)] = said

    tree = opened(forge(change, {b"large": b"v" * 9000}))

    assert fault_of(lambda: tree.get(b"large")) is BadRecord


@pytest.mark.parametrize("place", [*range(10, 18), 100, 4000, 4095])
@pytest.mark.parametrize("byte", [0x00, 0x01, 0x02, 0x04, 0x7F, 0xFF])
def test_whatever_a_leaf_says_is_an_answer_or_an_error(place, byte, forge):
    """Arbitrary leaves give an answer or the expected error."""

    def change(data):
        for page in range(2 * PAGE, len(data), PAGE):
            data[page + place] = byte

    items = dict(list(MANY.items())[:3000])
    path = forge(change, items)

    def look():
        tree = opened(path)
        for key in list(items)[::100]:
            tree.get(key)

    assert fault_of(look) in (None, *FAULTS)
