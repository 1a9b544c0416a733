"""The store in memory meets the contract of stores."""

from __future__ import annotations

from entries import MARK, tensor_entry
from store_contract import StoreContract

from lazyckpt.index.footer import Meta
from lazyckpt.index.store import MemoryStore


class TestMemoryStore(StoreContract):
    """The contract of a store, for the one in memory."""

    def make(self, folder, entries, digests=False):
        """Makes a store in memory."""
        return MemoryStore(entries, Meta(MARK, digests=digests))


def test_an_index_in_memory_has_no_path():
    """A store in memory has no path, and can be closed."""
    store = MemoryStore([tensor_entry("w")], Meta(MARK))
    store.close()

    assert store.path is None
