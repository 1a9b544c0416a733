"""MindSpore's three ways of encrypting a checkpoint, over the `cryptography` package.

Rules. This is the only module that holds a key or imports `cryptography` (on first need: a plain checkpoint never pays
for it). A `CipherKey` shows its mode and nothing else: it has no readable key in its repr and refuses to be pickled.
"""

from __future__ import annotations

import functools
import importlib
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn

from lazyckpt.errors import ArgumentValueError, CipherUnavailable
from lazyckpt.sources.encryption.keys import Secret

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers import AEADDecryptionContext, CipherContext

BLOCK: Final = 16  # bytes of an AES or SM4 block
TAG: Final = 16
NONCE: Final = 12  # bytes of a GCM frame's iv that MindSpore uses


class Mode(NamedTuple):
    """One way of encrypting.

    Attributes:
        name: as MindSpore's `dec_mode` has it.
        magic: the first four bytes of every frame.
        algorithm: the class in `cryptography`.
        key_sizes: allowed lengths of a key in bytes.
        tagged: whether a tag authenticates each block (GCM); without one, nothing does.
    """

    name: str
    magic: bytes
    algorithm: str
    key_sizes: tuple[int, ...]
    tagged: bool


MODES: Final = {
    mode.name: mode
    for mode in (
        Mode("AES-GCM", b"\xd8\x5e\x3a\x7f", "AES", (16, 24, 32), True),
        Mode("AES-CBC", b"\xd9\x5e\x3a\x7f", "AES", (16, 24, 32), False),
        Mode("SM4-CBC", b"\xda\x5e\x3a\x7f", "SM4", (16,), False),
    )
}

DEFAULT_MODE: Final = "AES-GCM"  # MindSpore's default for `dec_mode` and `enc_mode`


MODE_OF_MAGIC: Final = {mode.magic: mode for mode in MODES.values()}  # by a file's first bytes
MAGIC_LENGTH: Final = 4


def encryption_of(head: bytes) -> Mode | None:
    """The mode that a file's first bytes name, or None for a plain file."""
    return MODE_OF_MAGIC.get(head[:MAGIC_LENGTH])


class CipherKey:
    """A mode and the key that opens it. Safe for many threads."""

    __slots__ = ("_key", "mode")

    def __init__(self, mode: Mode, key: Secret) -> None:
        """Check the key's length.

        Raises:
            ArgumentValueError: no key of this mode has that length.
        """
        self.mode = mode
        self._key = key
        if len(key) not in mode.key_sizes:
            wanted = " or ".join(map(str, mode.key_sizes))
            advice = "; hexadecimal digits in a file or a variable need hex: before them"
            raise ArgumentValueError(
                f"a key of {mode.name} has {wanted} bytes, the one given has {len(key)}"
                + (advice if len(key) / 2 in mode.key_sizes else "")
            )

    def __repr__(self) -> str:
        return f"<CipherKey {self.mode.name}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key is never pickled: open the checkpoint again where it is needed")

    def gcm(self, nonce: bytes, tag: bytes) -> AEADDecryptionContext:
        """A GCM decryptor; its `finalize` raises `cryptography.exceptions.InvalidTag`."""
        ciphers = _ciphers()
        made: AEADDecryptionContext = ciphers.Cipher(self._algorithm(), ciphers.modes.GCM(nonce, tag)).decryptor()
        return made

    def cbc(self, iv: bytes) -> CipherContext:
        """A CBC decryptor that starts after the block `iv`. Padding is the caller's to take off."""
        ciphers = _ciphers()
        made: CipherContext = self._made(ciphers.Cipher(self._algorithm(), ciphers.modes.CBC(iv)))
        return made

    def encryptor(self, iv: bytes) -> CipherContext:
        """An encryptor of one block; `iv` (16 bytes) must never be used twice. Padding is the caller's to put on.

        Of a GCM block the nonce is the first 12 bytes of `iv`, as in MindSpore; its tag is the context's.
        """
        ciphers = _ciphers()
        how = ciphers.modes.GCM(iv[:NONCE]) if self.mode.tagged else ciphers.modes.CBC(iv)
        made: CipherContext = self._made(ciphers.Cipher(self._algorithm(), how), decrypts=False)
        return made

    def single_blocks(self, data: bytes) -> bytes:
        """The raw block cipher, undone for each 16 bytes by themselves (CBC without its chaining)."""
        ciphers = _ciphers()
        return bytes(self._made(ciphers.Cipher(self._algorithm(), ciphers.modes.ECB())).update(data))

    def derive(self, salt: bytes, purpose: bytes, length: int) -> bytes:
        """Key material for another purpose: HKDF with SHA-256."""
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        return HKDF(SHA256(), length, salt, purpose).derive(self._key.reveal())

    def _algorithm(self) -> Any:
        return getattr(_ciphers().algorithms, self.mode.algorithm)(self._key.reveal())

    def _made(self, cipher: Any, decrypts: bool = True) -> Any:
        from cryptography.exceptions import UnsupportedAlgorithm

        try:
            return cipher.decryptor() if decrypts else cipher.encryptor()
        except UnsupportedAlgorithm:
            raise CipherUnavailable(
                f"the OpenSSL that 'cryptography' uses here was built without {self.mode.algorithm}; install the"
                " wheel from PyPI, which has it: pip install --force-reinstall --no-cache-dir cryptography"
            ) from None


class RecordCipher:
    """Authenticated encryption of small records under a key that was derived for it."""

    __slots__ = ("_aead",)

    def __init__(self, key: bytes) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self._aead = AESGCM(key)

    def encrypt(self, nonce: bytes, data: bytes, context: bytes) -> bytes:
        """Encrypt; `nonce` (12 bytes) must never be used twice."""
        return self._aead.encrypt(nonce, data, context)

    def decrypt(self, nonce: bytes, data: bytes, context: bytes) -> bytes | None:
        """Decrypt, or None if the key, the bytes or the context are not those of `encrypt`."""
        from cryptography.exceptions import InvalidTag

        try:
            return self._aead.decrypt(nonce, data, context)
        except (InvalidTag, ValueError):
            return None


@functools.cache
def _ciphers() -> Any:
    importlib.import_module("cryptography.hazmat.primitives.ciphers.algorithms")
    return importlib.import_module("cryptography.hazmat.primitives.ciphers")


def invalid_tag() -> type[Exception]:
    """The exception that tells a wrong tag."""
    from cryptography.exceptions import InvalidTag

    return InvalidTag
