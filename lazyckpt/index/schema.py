"""The schema of a sidecar: the keys of its tree, and the codecs of plain and sealed records."""

from __future__ import annotations

import struct
from typing import Final, Protocol

LONGEST_PLAIN_NAME: Final = 400
SUFFIX: Final = ".lmdb"
NAMES: Final = b"\x02"
IRREGULAR: Final = b"\x03"
FACTS: Final = b"\x04"
FRAMES: Final = b"\x05"
ORDINAL: Final = struct.Struct(">I")
RECORDS: Final = 1
RECORD_KEY: Final = struct.Struct(">BI")


class Codec(Protocol):
    """Encodes names as keys, and values as stored bytes.

    Attributes:
        in_name_order: whether keys sort as names do, so that a prefix is a range of keys.
        can_seal: whether values are hidden.
    """

    in_name_order: bool
    can_seal: bool

    def name_key(self, name: bytes) -> bytes:
        """The key of a name in UTF-8."""

    def seal(self, key: bytes, value: bytes) -> bytes:
        """What to store for a value."""

    def unseal(self, key: bytes, stored: bytes) -> bytes | None:
        """The value, or None if it was not written under this key with this codec."""


class PlainCodec:
    """The codec of the sidecars of plain checkpoints: everything is stored in clear."""

    in_name_order = True
    can_seal = False

    def name_key(self, name: bytes) -> bytes:
        """The name; a long one is cut and gets a hash, because LMDB keys end at 511 bytes."""
        if len(name) <= LONGEST_PLAIN_NAME:
            return NAMES + name
        import hashlib

        return NAMES + name[:LONGEST_PLAIN_NAME] + b"\xff" + hashlib.blake2b(name, digest_size=32).digest()

    def seal(self, key: bytes, value: bytes) -> bytes:  # noqa: ARG002 (clear values do not depend on their keys)
        """The value unchanged."""
        return value

    def unseal(self, key: bytes, stored: bytes) -> bytes | None:  # noqa: ARG002 (clear values do not depend on their keys)
        """The value unchanged."""
        return stored


PLAIN_CODEC: Final = PlainCodec()


def record_key(ordinal: int) -> bytes:
    """The key of the record at an ordinal."""
    return RECORD_KEY.pack(RECORDS, ordinal)
