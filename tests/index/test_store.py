"""The store in memory keeps the contract of stores."""

from __future__ import annotations

from entries import MARK, tensor_entry
from store_contract import StoreContract

from lazyckpt.index.footer import Meta
from lazyckpt.index.store import MemoryStore


class TestMemoryStore(StoreContract):
    """An index that is written nowhere."""

    def make(self, folder, entries, digests=False):
        """Makes a store in memory."""
        return MemoryStore(entries, Meta(MARK, digests=digests))


def test_an_index_in_memory_has_no_path():
    """A store in memory says that it is kept nowhere, and can be closed."""
    store = MemoryStore([tensor_entry("w")], Meta(MARK))
    store.close()

    assert store.path is None
