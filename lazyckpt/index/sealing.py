"""Sealed sidecars: records encrypted with a key derived from the checkpoint's own key."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import os
import struct
from typing import Final

from lazyckpt.errors import StaleIndex
from lazyckpt.index.footer import Meta
from lazyckpt.index.schema import FRAMES, NAMES, PLAIN_CODEC, Codec
from lazyckpt.index.sidecar import Sidecar
from lazyckpt.sources import Source
from lazyckpt.sources.encryption.cipher import CipherKey, RecordCipher
from lazyckpt.sources.encryption.decryption import open_encrypted, prove_key
from lazyckpt.sources.encryption.frames import FrameTable
from lazyckpt.sources.encryption.sequential import sequential_view

SALT: Final = 16
CHECK: Final = 16
_PURPOSE: Final = b"lazyckpt sidecar 1"
_NUMBER: Final = struct.Struct("<Q")
_PAD: Final = 64
__all__ = ["Sealing", "open_encrypted", "sequential_view", "unlock"]


class SealedCodec:
    """For encrypted checkpoints.

    Attributes:
        salt: random, stored in clear.
        check: tells whether a key is the one the sidecar was sealed with; stored in clear.
    """

    in_name_order = False
    can_seal = True

    def __init__(self, lock: CipherKey, salt: bytes | None = None) -> None:
        self.salt = os.urandom(SALT) if salt is None else salt
        material = lock.derive(self.salt, _PURPOSE, 32 + 32 + CHECK)
        self._cipher = RecordCipher(material[:32])
        self._hash_key = material[32:64]
        self.check = material[64:]
        self._numbers = itertools.count()

    def fits(self, check: bytes) -> bool:
        """Whether the key is the one that made this check value."""
        return hmac.compare_digest(self.check, check)

    def name_key(self, name: bytes) -> bytes:
        """A keyed hash."""
        return NAMES + hashlib.blake2b(name, key=self._hash_key, digest_size=16).digest()

    def seal(self, key: bytes, value: bytes) -> bytes:
        """Sealed, and bound to its key."""
        number = _NUMBER.pack(next(self._numbers))
        padded = value + b"\x80" + bytes(-(len(value) + 1) % _PAD)
        return number + self._cipher.encrypt(number + bytes(4), padded, key)

    def unseal(self, key: bytes, stored: bytes) -> bytes | None:
        """Opened, or None if it is another's or was touched."""
        number = stored[: _NUMBER.size]
        padded = self._cipher.decrypt(number + bytes(4), stored[_NUMBER.size :], key) if len(number) == 8 else None
        return None if padded is None else padded.rstrip(b"\0")[:-1]


def unlock(store: Sidecar, raw: Source, lock: CipherKey, cache: int) -> Source:
    """Open a sidecar with the file's key, and the file as the sidecar pins it.

    Raises:
        StaleIndex: it was built with another key, or is damaged.
        WrongKey: the key does not fit it, nor does it open the file.
    """
    codec = SealedCodec(lock, store.meta.salt)
    if not codec.fits(store.meta.check):
        prove_key(raw, lock)
        raise StaleIndex("it was sealed with another key")
    if store.meta.sealed:
        store.unlock(codec)
    frames = store.frames(codec)
    if not frames:
        raise StaleIndex("it has no table of blocks")
    try:
        return open_encrypted(raw, lock, FrameTable.from_bytes(frames), cache)
    except ValueError as error:
        raise StaleIndex(str(error)) from error


class Sealing:
    """What a new index of an encrypted file needs.

    Attributes:
        codec: how its records are written.
    """

    def __init__(self, lock: CipherKey, sealed: bool = True) -> None:
        self._codec = SealedCodec(lock)
        self._sealed = sealed
        self.codec: Codec = self._codec if sealed else PLAIN_CODEC

    def facts(self, facts: Meta) -> Meta:
        """An index's facts, with what tells its key."""
        return facts._replace(sealed=self._sealed, salt=self._codec.salt, check=self._codec.check)

    def frames(self, table: FrameTable) -> bytes:
        """The table of frames, sealed."""
        return self._codec.seal(FRAMES, table.to_bytes())
