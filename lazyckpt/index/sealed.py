"""Sealed sidecars, for encrypted checkpoints: nothing in them can be read without the checkpoint's key.

The key of a name is a keyed hash of it; a record is ciphertext (AES-256-GCM, padded to 64 bytes, bound to its own key
by the associated data). Both keys are derived from the checkpoint's key and a random salt of the sidecar's own (HKDF,
SHA-256). So a reader of the file learns how many parameters there are, the lengths of their records in steps
of 64 bytes, and which of them need a look before they may be loaded; no name, no shape, no place of anything.

A sealed value is `number u64 | ciphertext`, where the number, never used twice in one sidecar, makes the nonce.
"""

from __future__ import annotations

import hashlib
import hmac
import itertools
import os
import struct
from typing import Final

from lazyckpt.index.layout import NAMES
from lazyckpt.sources.encryption.cipher import Lock, Seal

SALT: Final = 16
CHECK: Final = 16
_PURPOSE: Final = b"lazyckpt sidecar 1"
_NUMBER: Final = struct.Struct("<Q")
_PAD: Final = 64


class Sealed:
    """For encrypted checkpoints.

    Attributes:
        salt: random, stored in clear.
        check: tells whether a key is the one the sidecar was sealed with; stored in clear.
    """

    in_name_order = False
    can_seal = True

    def __init__(self, lock: Lock, salt: bytes | None = None) -> None:
        self.salt = os.urandom(SALT) if salt is None else salt
        material = lock.derive(self.salt, _PURPOSE, 32 + 32 + CHECK)
        self._seal = Seal(material[:32])
        self._hash_key = material[32:64]
        self.check = material[64:]
        self._numbers = itertools.count()

    def fits(self, check: bytes) -> bool:
        """Whether the key is the one that made this check value."""
        return hmac.compare_digest(self.check, check)

    def name_key(self, name: bytes) -> bytes:
        """A keyed hash."""
        return NAMES + hashlib.blake2b(name, key=self._hash_key, digest_size=16).digest()

    def close(self, key: bytes, value: bytes) -> bytes:
        """Sealed, and bound to its key."""
        number = _NUMBER.pack(next(self._numbers))
        padded = value + b"\x80" + bytes(-(len(value) + 1) % _PAD)
        return number + self._seal.close(number + bytes(4), padded, key)

    def open(self, key: bytes, stored: bytes) -> bytes | None:
        """Opened, or None if it is another's or was touched."""
        number = stored[: _NUMBER.size]
        padded = self._seal.open(number + bytes(4), stored[_NUMBER.size :], key) if len(number) == 8 else None
        return None if padded is None else padded.rstrip(b"\0")[:-1]
