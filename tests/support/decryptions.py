"""A counter of decryptions, for tests that assert how little is decrypted."""

from __future__ import annotations

from lazyckpt.sources.encryption.cipher import CipherKey


class Decryptions:
    """The decryptions so far.

    Attributes:
        blocks: the tag of each GCM block, once for each decryption.
        bytes: the number of bytes of ciphertext decrypted in a CBC mode.
    """

    def __init__(self):
        self.blocks = []
        self.bytes = 0

    def clear(self):
        """Reset the counters."""
        self.blocks.clear()
        self.bytes = 0


class _Counted:
    """A decryptor that counts the bytes it processes."""

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
    """Count all decryption of checkpoints from now on."""
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
