"""Digests cover exactly the bytes of a content, in any pieces."""

from __future__ import annotations

import hashlib
import itertools

import pytest
from checkpoints import pattern
from entries import map_entry, tensor_entry
from hypothesis import given
from hypothesis import strategies as st
from tracing import TracingSource

from lazyckpt.errors import CorruptFile
from lazyckpt.formats.digest import SIZE, Digesting, digest_of
from lazyckpt.model.entry import Extent
from lazyckpt.sources import window
from lazyckpt.sources.base import BytesSource

DATA = pattern(300)


def blake(content):
    """A reference digest from hashlib."""
    return hashlib.blake2b(content, digest_size=SIZE).digest()


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 100)), max_size=5))
def test_a_digest_is_of_the_content_in_order(extents):
    """A digest covers all extents in order, and nothing between them."""
    entry = tensor_entry("w")._replace(extents=tuple(Extent(*extent) for extent in extents))

    assert digest_of(BytesSource(DATA), entry) == blake(b"".join(DATA[at : at + length] for at, length in extents))


def test_a_map_has_one_digest_for_all_its_arrays():
    """The digest of a map covers keys, values and status, in this order."""
    entry = map_entry("m")

    assert digest_of(BytesSource(DATA), entry) == blake(
        b"".join(DATA[at : at + length] for at, length in entry.all_extents)
    )


def test_a_content_is_read_a_piece_at_a_time(monkeypatch):
    """A content is read in pieces of limited size, and nothing around it is read."""
    monkeypatch.setattr(window, "_PIECE", 64)
    source = TracingSource(DATA)
    digest_of(source, tensor_entry("w")._replace(extents=(Extent(10, 130), Extent(200, 64))))

    assert source.reads == [(10, 64), (74, 64), (138, 2), (200, 64)]


@given(st.binary(max_size=100), st.lists(st.integers(0, 100), max_size=5))
def test_a_content_may_come_in_any_pieces(content, cuts):
    """The comparison does not depend on the pieces, and finds an extra byte."""
    entry = tensor_entry("w")._replace(digest=blake(content))
    edges = [0, *sorted(min(cut, len(content)) for cut in cuts), len(content)]
    for end in (b"", b"x"):
        comparison = Digesting(entry, "net.ckpt")
        for start, stop in itertools.pairwise(edges):
            comparison.update(memoryview(content[start:stop]))
        comparison.update(memoryview(end))
        if end:
            with pytest.raises(CorruptFile, match=r"net\.ckpt: the value is not the one that was indexed.*'w'"):
                comparison.finish()
        else:
            comparison.finish()


def test_without_a_digest_nothing_is_compared():
    """Without a digest in the index, nothing is compared."""
    comparison = Digesting(tensor_entry("w"), "net.ckpt")
    comparison.update(memoryview(b"anything"))

    assert comparison.finish() is None
