"""Sidecars as a forger makes them: changed at will, with checksums that fit."""

from __future__ import annotations

import contextlib
import os

import lmdb

from lazyckpt.index.footer import finish
from lazyckpt.index.lmdb_pages import add_checksums
from lazyckpt.index.schema import FACTS


@contextlib.contextmanager
def forged(path):
    """A transaction in which a finished sidecar is changed."""
    with lmdb.open(os.fspath(path), subdir=False, lock=False) as environment:
        with environment.begin(write=True) as transaction:
            yield transaction
        with environment.begin() as transaction:
            facts = transaction.get(FACTS) or b""
        page_size, last_page = environment.stat()["psize"], environment.info()["last_pgno"]
    finish(os.fspath(path), page_size, last_page + 1, facts)


def resummed(path, page_size=4096):
    """Give the pages of a sidecar, whatever they are by now, checksums that fit; as many pages as there were."""
    with open(path, "rb") as file:
        data = file.read()
    count, length = int.from_bytes(data[-24:-16], "little"), int.from_bytes(data[-16:-12], "little")
    add_checksums(os.fspath(path), page_size, count, data[-28 - length : -28])
