"""The footer after a sidecar's pages repeats what LMDB's meta pages say."""

from __future__ import annotations

import lmdb
import pytest
from entries import MARK
from hypothesis import given
from hypothesis import strategies as st

from lazyckpt.index.footer import Meta, encode_meta, finish, read_footer
from lazyckpt.index.lmdb_pages import Pages
from lazyckpt.index.lmdb_tree import Root, Tree
from lazyckpt.index.records import BadRecord
from lazyckpt.model.entry import Fingerprint

META = Meta(MARK, 1000, 3, digests=True)


@pytest.fixture
def finished(tmp_path):
    """Makes a sidecar with this number of keys; returns its path and LMDB's statistics."""

    def finished(count):
        path = str(tmp_path / "net.ckpt.lmdb")
        with lmdb.open(path, subdir=False, lock=False, map_size=2**24) as environment:
            with environment.begin(write=True) as transaction:
                for number in range(count):
                    transaction.put(b"%06d" % number, b"value")
            stat = environment.stat()
            last_page = environment.info()["last_pgno"]
        finish(path, stat["psize"], last_page + 1, encode_meta(META))
        return path, stat

    return finished


@pytest.mark.parametrize("count", [1, 50, 5000])
def test_the_footer_says_what_lmdb_says(count, finished):
    """The footer has LMDB's depth and number of keys, and the facts of the index."""
    path, stat = finished(count)
    root, meta = read_footer(Pages(path).summary)

    assert (root.depth, root.entries, meta) == (stat["depth"], stat["entries"], META)


def test_the_tree_is_found_by_its_footer(finished):
    """Every key is found from the root page in the footer."""
    path, _ = finished(5000)
    pages = Pages(path)
    tree = Tree(pages, read_footer(pages.summary)[0])

    assert [tree.get(b"%06d" % number) for number in range(5000)] == [b"value"] * 5000


def test_what_is_no_lmdb_file_is_not_finished(tmp_path):
    """A file that is not LMDB's is refused, and stays unchanged."""
    path = tmp_path / "other.lmdb"
    path.write_bytes(bytes(8192))

    with pytest.raises(BadRecord, match="no LMDB file"):
        finish(str(path), 4096, 2, encode_meta(META))
    assert path.read_bytes() == bytes(8192)


@given(st.integers(0, 2**16 - 1), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_a_footer_is_three_numbers_and_the_facts(depth, entries, page):
    """A footer is three little-endian numbers and the facts."""
    packed = depth.to_bytes(2, "little") + entries.to_bytes(8, "little") + page.to_bytes(8, "little")

    assert read_footer(packed + encode_meta(META)) == (Root(depth, entries, page), META)


@given(st.binary(max_size=200))
def test_a_footer_is_read_or_refused(data):
    """Arbitrary bytes raise `BadRecord`."""
    with pytest.raises(BadRecord):
        read_footer(data)


@given(st.integers(0, 2**63), st.integers(-(2**63), 2**63), st.integers(0, 2**40))
def test_the_facts_survive_a_round_trip(size, time, count):
    """The facts survive a round trip, also with times before 1970."""
    meta = META._replace(fingerprint=Fingerprint(size, time, bytes(16)), parameters=count)

    assert read_footer(bytes(18) + encode_meta(meta))[1] == meta
