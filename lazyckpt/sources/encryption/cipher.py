"""MindSpore's three encryption modes, implemented with the `cryptography` package.

Rules. Only this module imports `cryptography`, on first use, so a plain checkpoint does not pay for the import. The
repr of a `CipherKey` shows its mode and never its key, and a `CipherKey` cannot be pickled.
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
NONCE: Final = 12  # MindSpore stores 16 bytes as the iv of a GCM frame and uses the first 12


class Mode(NamedTuple):
    """One encryption mode.

    Attributes:
        name: the value of MindSpore's `dec_mode`.
        magic: the first four bytes of every frame.
        algorithm: the class in `cryptography`.
        key_sizes: the key lengths allowed, in bytes.
        tagged: whether each block has an authentication tag (GCM). CBC has none: changes may go unnoticed.
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
    """The mode of a file, by its first bytes; None for a plain file."""
    return MODE_OF_MAGIC.get(head[:MAGIC_LENGTH])


class CipherKey:
    """A key and the mode to use it with. Thread-safe."""

    __slots__ = ("_key", "mode")

    def __init__(self, mode: Mode, key: Secret) -> None:
        """Check the key's length.

        Raises:
            ArgumentValueError: the mode does not allow this length.
        """
        self.mode = mode
        self._key = key
        if len(key) not in mode.key_sizes:
            wanted = " or ".join(map(str, mode.key_sizes))
            advice = "; put hex: before hexadecimal digits in a file or a variable"
            raise ArgumentValueError(
                f"a key for {mode.name} must have {wanted} bytes, the one given has {len(key)}"
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
        """A CBC decryptor that starts after the cipher block `iv`. The caller removes the padding."""
        ciphers = _ciphers()
        made: CipherContext = self._made(ciphers.Cipher(self._algorithm(), ciphers.modes.CBC(iv)))
        return made

    def encryptor(self, iv: bytes) -> CipherContext:
        """An encryptor for one block. The 16 bytes of `iv` must never be used twice; the caller adds the padding.

        For GCM the nonce is the first 12 bytes of `iv`, as in MindSpore; the context has the tag after `finalize`.
        """
        ciphers = _ciphers()
        how = ciphers.modes.GCM(iv[:NONCE]) if self.mode.tagged else ciphers.modes.CBC(iv)
        made: CipherContext = self._made(ciphers.Cipher(self._algorithm(), how), decrypts=False)
        return made

    def single_blocks(self, data: bytes) -> bytes:
        """Decrypt each 16 bytes on their own with the raw block cipher (CBC without the chaining)."""
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
    """Authenticated encryption of small records, with a derived key."""

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
    """The exception that `cryptography` raises for a wrong tag."""
    from cryptography.exceptions import InvalidTag

    return InvalidTag
