"""What stands behind a sidecar's pages besides checksums, so that it is opened without a look at any page.

    depth of the tree u16 | keys u64 | root page u64 | facts

All of it says again what LMDB's meta pages and the facts in its tree say, as they were when the index was finished.
"""

from __future__ import annotations

import struct
from typing import Final

from lazyckpt.index.lmdb_pages import add_checksums
from lazyckpt.index.lmdb_tree import Root, root_of
from lazyckpt.index.records import BadRecord, Meta, decode_meta

_ROOT: Final = struct.Struct("<H Q Q")


def finish(path: str, page_size: int, count: int, facts: bytes) -> None:
    """Make a sidecar of an LMDB file that is whole: put checksums and the summary behind its pages, and sync it.

    Args:
        path: the file, which nobody has open.
        page_size: bytes of a page.
        count: pages in use.
        facts: the index's own (`record.encode_meta`), as they stand in the tree.

    Raises:
        BadRecord: it is no LMDB file.
        OSError: the disk is full or fails.
    """
    add_checksums(path, page_size, count, _ROOT.pack(*root_of(path, page_size)) + facts)


def read_summary(summary: bytes) -> tuple[Root, Meta]:
    """Where the tree begins, and the facts.

    Raises:
        BadRecord: there are none, or another version's.
    """
    if len(summary) < _ROOT.size:
        raise BadRecord("no index, but pages with checksums")
    return Root(*_ROOT.unpack_from(summary)), decode_meta(summary[_ROOT.size :])
