"""How a sidecar's keys and values are written: in clear for plain checkpoints (here), else sealed (see `sealed`)."""

from __future__ import annotations

from typing import Final, Protocol

from lazyckpt.index.layout import NAMES

LONGEST_PLAIN_NAME: Final = 400


class Codec(Protocol):
    """Turns names into keys, and values into what is stored.

    Attributes:
        in_name_order: whether keys sort as names do, so that a prefix is a range of keys.
        can_seal: whether values are hidden.
    """

    in_name_order: bool
    can_seal: bool

    def name_key(self, name: bytes) -> bytes:
        """The key of a name in UTF-8."""

    def close(self, key: bytes, value: bytes) -> bytes:
        """What to store for a value."""

    def open(self, key: bytes, stored: bytes) -> bytes | None:
        """The value, or None if it was not written under this key with this codec."""


class Clear:
    """For plain checkpoints."""

    in_name_order = True
    can_seal = False

    def name_key(self, name: bytes) -> bytes:
        """LMDB's keys end at 511 bytes, so a long name is cut and told apart by a hash."""
        if len(name) <= LONGEST_PLAIN_NAME:
            return NAMES + name
        import hashlib

        return NAMES + name[:LONGEST_PLAIN_NAME] + b"\xff" + hashlib.blake2b(name, digest_size=32).digest()

    def close(self, key: bytes, value: bytes) -> bytes:  # noqa: ARG002 (clear values do not depend on their keys)
        """As it is."""
        return value

    def open(self, key: bytes, stored: bytes) -> bytes | None:  # noqa: ARG002 (likewise)
        """As it is."""
        return stored


CLEAR: Final = Clear()
