"""Forged sidecars: changed at will, with matching checksums."""

from __future__ import annotations

import contextlib
import os

import lmdb

from lazyckpt.index.footer import finish
from lazyckpt.index.lmdb_pages import add_checksums
from lazyckpt.index.schema import FACTS


@contextlib.contextmanager
def forged(path):
    """A transaction that changes a finished sidecar; the checksums are renewed at the end."""
    with lmdb.open(os.fspath(path), subdir=False, lock=False) as environment:
        with environment.begin(write=True) as transaction:
            yield transaction
        with environment.begin() as transaction:
            facts = transaction.get(FACTS) or b""
        page_size, last_page = environment.stat()["psize"], environment.info()["last_pgno"]
    finish(os.fspath(path), page_size, last_page + 1, facts)


def resummed(path, page_size=4096):
    """Recompute the checksums of a changed sidecar, for the same number of pages."""
    with open(path, "rb") as file:
        data = file.read()
    count, length = int.from_bytes(data[-24:-16], "little"), int.from_bytes(data[-16:-12], "little")
    add_checksums(os.fspath(path), page_size, count, data[-28 - length : -28])
