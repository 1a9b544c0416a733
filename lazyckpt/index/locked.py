"""The index of an encrypted file: how it is sealed, and how the file's plaintext is had through it.

The table of frames is kept in the index, so a warm open walks no frame headers, and the count and the order of blocks,
which nothing in the file protects, are those that were there when every block was authenticated. For the same reason it
is sealed with the key even where names are written in clear: nobody else can put one block in another's place.
"""

from __future__ import annotations

from lazyckpt.errors import StaleIndex
from lazyckpt.index.codec import CLEAR, Codec
from lazyckpt.index.layout import FRAMES
from lazyckpt.index.records import Meta
from lazyckpt.index.sealed import Sealed
from lazyckpt.index.sidecar import Sidecar
from lazyckpt.sources import Source
from lazyckpt.sources.encryption.cipher import Lock
from lazyckpt.sources.encryption.decryption import open_encrypted, prove_key
from lazyckpt.sources.encryption.frames import FrameTable
from lazyckpt.sources.encryption.sequential import swept

__all__ = ["Sealing", "open_encrypted", "swept", "unlock"]


def unlock(store: Sidecar, raw: Source, lock: Lock, cache: int) -> Source:
    """Open a sidecar with the file's key, and the file as the sidecar pins it.

    Raises:
        StaleIndex: it was built with another key, or is damaged.
        WrongKey: the key does not fit it, nor does it open the file.
    """
    seal = Sealed(lock, store.meta.salt)
    if not seal.fits(store.meta.check):
        prove_key(raw, lock)
        raise StaleIndex("it was sealed with another key")
    if store.meta.sealed:
        store.unlock(seal)
    frames = store.frames(seal)
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

    def __init__(self, lock: Lock, sealed: bool = True) -> None:
        self._seal = Sealed(lock)
        self._sealed = sealed
        self.codec: Codec = self._seal if sealed else CLEAR

    def facts(self, facts: Meta) -> Meta:
        """An index's facts, with what tells its key."""
        return facts._replace(sealed=self._sealed, salt=self._seal.salt, check=self._seal.check)

    def frames(self, table: FrameTable) -> bytes:
        """The table of frames, sealed."""
        return self._seal.close(FRAMES, table.to_bytes())
