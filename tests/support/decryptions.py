"""Counts what is decrypted, so that "decrypts only what is needed" can be asserted."""

from __future__ import annotations

from lazyckpt.sources.encryption.cipher import CipherKey


class Decryptions:
    """What locks were asked to undo.

    Attributes:
        blocks: the tag of each GCM block, as often as its decryption was begun.
        bytes: how many bytes of ciphertext went through CBC.
    """

    def __init__(self):
        self.blocks = []
        self.bytes = 0

    def clear(self):
        """Begin again."""
        self.blocks.clear()
        self.bytes = 0


class _Counted:
    """A decryptor that tells how many bytes go through it."""

    def __init__(self, decryptor, seen):
        self._decryptor = decryptor
        self._seen = seen

    def update(self, data):
        self._seen.bytes += len(data)
        return self._decryptor.update(data)

    def update_into(self, data, room):
        self._seen.bytes += len(data)
        return self._decryptor.update_into(data, room)

    def finalize(self):
        return self._decryptor.finalize()


def counted(monkeypatch):
    """From here on all decryption of checkpoints is counted."""
    seen = Decryptions()
    gcm, cbc, single = CipherKey.gcm, CipherKey.cbc, CipherKey.single_blocks

    def counted_gcm(self, nonce, tag):
        seen.blocks.append(tag)
        return gcm(self, nonce, tag)

    def counted_single(self, data):
        seen.bytes += len(data)
        return single(self, data)

    monkeypatch.setattr(CipherKey, "gcm", counted_gcm)
    monkeypatch.setattr(CipherKey, "cbc", lambda self, iv: _Counted(cbc(self, iv), seen))
    monkeypatch.setattr(CipherKey, "single_blocks", counted_single)
    return seen
