"""The sidecar's footer: tree root and metadata, so that opening reads no page.

It stands behind the checksums of the pages:

    depth of the tree u16 | keys u64 | root page u64 | metadata

All of it repeats what LMDB's meta pages and the tree itself held when the index was finished. The metadata are

    "lazyckpt" | schema u16 | flags u16 | parameters u64 | irregular u64
    size u64, time i128, sample 16 bytes of the file | salt 16 bytes | check 16 bytes

and all numbers are little-endian.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from lazyckpt.index.lmdb_pages import add_checksums
from lazyckpt.index.lmdb_tree import Root, root_of
from lazyckpt.index.records import BadRecord
from lazyckpt.model.entry import Fingerprint

MAGIC: Final = b"lazyckpt"
SCHEMA: Final = 4  # increased by any change of the footer, the records or the keys

_ROOT: Final = struct.Struct("<H Q Q")
_META: Final = struct.Struct("<8sHHQQQ16s16s16s16s")
_TIME: Final = 16  # bytes
_DIGESTS: Final = 1  # flags
_SEALED: Final = 2
_FORMATS: Final = {"ckpt": 0, "safetensors": 4}  # flags, too
_FORMAT_OF: Final = {flag: name for name, flag in _FORMATS.items()}
_FORMAT_BITS: Final = 4


class OtherVersion(BadRecord):
    """An index that another version of lazyckpt wrote."""


class Meta(NamedTuple):
    """The metadata of an index.

    Attributes:
        fingerprint: of the file it was built from.
        parameters: how many there are.
        irregular: how many of them must be decoded before they are loaded by name (refused ones, names that MindSpore
            renames or cannot hold).
        digests: whether records carry digests of their contents.
        sealed: whether names and records are hidden.
        salt: of a sidecar of an encrypted file, else zeros.
        check: a value that only the key of that file gives; else zeros.
        format: the file's.
    """

    fingerprint: Fingerprint
    parameters: int = 0
    irregular: int = 0
    digests: bool = False
    sealed: bool = False
    salt: bytes = bytes(16)
    check: bytes = bytes(16)
    format: str = "ckpt"


def encode_meta(meta: Meta) -> bytes:
    """The bytes of an index's own facts."""
    mark = meta.fingerprint
    flags = _DIGESTS * meta.digests | _SEALED * meta.sealed | _FORMATS[meta.format]
    time = mark.mtime_ns.to_bytes(_TIME, "little", signed=True)  # files may be older than 1970, or of any time at all
    facts = (meta.parameters, meta.irregular, mark.size, time, mark.sample)
    return _META.pack(MAGIC, SCHEMA, flags, *facts, meta.salt, meta.check)


def decode_meta(data: bytes) -> Meta:
    """The inverse of `encode_meta`.

    Raises:
        OtherVersion: another version's.
        BadRecord: another program's, or damaged.
    """
    if len(data) != _META.size:
        raise BadRecord("no lazyckpt index, or another version's")
    magic, schema, flags, parameters, irregular, size, time, sample, salt, check = _META.unpack(data)
    if magic != MAGIC:
        raise BadRecord("no lazyckpt index")
    if schema != SCHEMA:
        raise OtherVersion(f"schema {schema}, this version reads {SCHEMA}")
    mark = Fingerprint(size, int.from_bytes(time, "little", signed=True), sample)
    form = _FORMAT_OF[flags & _FORMAT_BITS]
    return Meta(mark, parameters, irregular, bool(flags & _DIGESTS), bool(flags & _SEALED), salt, check, form)


def finish(path: str, page_size: int, count: int, facts: bytes) -> None:
    """Finish a sidecar: append checksums and the footer to a complete LMDB file, and sync it.

    Args:
        path: the file, which nobody has open.
        page_size: bytes of a page.
        count: pages in use.
        facts: the metadata (`encode_meta`), as they stand in the tree.

    Raises:
        BadRecord: it is not an LMDB file.
        OSError: the disk is full or fails.
    """
    add_checksums(path, page_size, count, _ROOT.pack(*root_of(path, page_size)) + facts)


def read_footer(footer: bytes) -> tuple[Root, Meta]:
    """The root of the tree, and the metadata.

    Raises:
        BadRecord: there are none, or another version's.
    """
    if len(footer) < _ROOT.size:
        raise BadRecord("no index, but pages with checksums")
    return Root(*_ROOT.unpack_from(footer)), decode_meta(footer[_ROOT.size :])
