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
    """The codec for sidecars of encrypted checkpoints: encrypts records, hashes names.

    Attributes:
        salt: random, stored in clear.
        check: a value that only the key of the sidecar gives; stored in clear.
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
        """The key of a name: a keyed hash, which does not reveal the name."""
        return NAMES + hashlib.blake2b(name, key=self._hash_key, digest_size=16).digest()

    def seal(self, key: bytes, value: bytes) -> bytes:
        """A value encrypted, and authenticated together with its key."""
        number = _NUMBER.pack(next(self._numbers))
        padded = value + b"\x80" + bytes(-(len(value) + 1) % _PAD)
        return number + self._cipher.encrypt(number + bytes(4), padded, key)

    def unseal(self, key: bytes, stored: bytes) -> bytes | None:
        """A value decrypted, or None if it belongs to another key or was changed."""
        number = stored[: _NUMBER.size]
        padded = self._cipher.decrypt(number + bytes(4), stored[_NUMBER.size :], key) if len(number) == 8 else None
        return None if padded is None else padded.rstrip(b"\0")[:-1]


def unlock(store: Sidecar, raw: Source, lock: CipherKey, cache: int) -> Source:
    """Unseal a sidecar, and open the encrypted file with the table of frames that it pins.

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
    """The codec, metadata and table of frames for a new index of an encrypted file.

    Attributes:
        codec: how its records are written.
    """

    def __init__(self, lock: CipherKey, sealed: bool = True) -> None:
        self._codec = SealedCodec(lock)
        self._sealed = sealed
        self.codec: Codec = self._codec if sealed else PLAIN_CODEC

    def facts(self, facts: Meta) -> Meta:
        """The metadata of an index, with the salt and the check value of its key."""
        return facts._replace(sealed=self._sealed, salt=self._codec.salt, check=self._codec.check)

    def frames(self, table: FrameTable) -> bytes:
        """The table of frames, sealed."""
        return self._codec.seal(FRAMES, table.to_bytes())
