"""Repeated views of a value: verified once, then compared with the verified header."""

from __future__ import annotations

import numpy as np
import pytest
from checkpoints import LAYERS, checkpoint

from lazyckpt.errors import StaleIndex
from lazyckpt.formats import scan
from lazyckpt.reading import view_cache
from lazyckpt.reading.view_cache import ViewCache
from lazyckpt.sources.base import BytesSource


@pytest.fixture
def data():
    """The bytes of a checkpoint, which may be changed."""
    return bytearray(checkpoint(LAYERS))


@pytest.fixture
def entries(data):
    """The entries by name."""
    return {entry.name: entry for entry in scan(BytesSource(data), "ckpt")}


def proven(entry):
    """Zeros in place of the verified value of an entry."""
    return np.zeros(entry.shape, entry.dtype.numpy)


def test_a_value_must_be_proven_once(data, entries):
    """Before `first`, `again` gives None; afterwards it gives the values."""
    cache, entry = ViewCache(BytesSource(data)), entries["fc.weight"]
    before = cache.again(entry)
    cache.first(entry, proven)

    assert before is None
    assert cache.again(entry).tobytes() == LAYERS["fc.weight"].tobytes()
    assert cache.again(entries["conv1.weight"]) is None


@pytest.mark.parametrize("name", LAYERS)
def test_any_changed_byte_of_the_header_is_noticed(name, data, entries):
    """Only the content may change; after any other change `again` gives None."""
    cache, entry = ViewCache(BytesSource(data)), entries[name]
    cache.first(entry, proven)
    (offset, length), noticed = entry.extents[0], set()
    for place in range(entry.start, entry.stop):
        data[place] ^= 1
        if cache.again(entry) is None:
            noticed.add(place)
        data[place] ^= 1

    assert noticed == {*range(entry.start, entry.stop)} - {*range(offset, offset + length)}


def test_an_equal_entry_is_another_entry(data, entries):
    """The cache compares objects by identity, because an id may be reused."""
    cache, entry = ViewCache(BytesSource(data)), entries["fc.weight"]
    cache.first(entry, proven)

    assert cache.again(entry._replace()) is None


def test_what_cannot_be_proven_is_not_remembered(data, entries):
    """An error of the check passes through, and the next view is checked, too."""

    def refuse(entry):
        raise StaleIndex("the header has changed")

    cache, entry = ViewCache(BytesSource(data)), entries["fc.weight"]
    with pytest.raises(StaleIndex):
        cache.first(entry, refuse)

    assert cache.again(entry) is None


def test_an_impossible_entry_is_refused_before_it_is_proven(data, entries):
    """The bytes of an impossible entry cannot be compared."""
    entry = entries["fc.weight"]._replace(stop=len(data) + 1)

    with pytest.raises(StaleIndex, match="the index claims what no file can hold"):
        ViewCache(BytesSource(data)).first(entry, pytest.fail)


def test_long_headers_and_headers_elsewhere_are_proven_each_time(data, entries, monkeypatch):
    """Long headers and headers elsewhere are not cached."""
    monkeypatch.setattr(view_cache, "_SHORT", 10)
    cache = ViewCache(BytesSource(data))
    for entry in (entries["fc.weight"], entries["step"]._replace(apart=8)):
        cache.first(entry, proven)

        assert cache.again(entry) is None


def test_a_limited_number_of_values_is_remembered(data, entries, monkeypatch):
    """At the limit the oldest values are dropped."""
    monkeypatch.setattr(view_cache, "_MOST", 2)
    cache = ViewCache(BytesSource(data))
    for entry in entries.values():
        cache.first(entry, proven)

    assert [cache.again(entry) is not None for entry in entries.values()] == [False, False, False, False, True]
