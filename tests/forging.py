"""Sidecars as a forger makes them: changed at will, with checksums that fit."""

from __future__ import annotations

import contextlib
import os

import lmdb

from lazyckpt.index.pages import add_checksums


@contextlib.contextmanager
def forged(path):
    """A transaction in which a finished sidecar is changed."""
    with lmdb.open(os.fspath(path), subdir=False, lock=False) as environment:
        with environment.begin(write=True) as transaction:
            yield transaction
        page_size, last_page = environment.stat()["psize"], environment.info()["last_pgno"]
    add_checksums(os.fspath(path), page_size, last_page + 1)


def resummed(path, page_size=4096):
    """Give the pages of a sidecar, whatever they are by now, checksums that fit; as many pages as there were."""
    with open(path, "rb") as file:
        count = int.from_bytes(file.read()[-12:-4], "little")
    add_checksums(os.fspath(path), page_size, count)
