"""Encryption keys, held so that nothing shows them, or referenced by file or variable.

Text becomes a key as its UTF-8 bytes, or as hexadecimal digits after `hex:`. A key file is used byte for byte; one line
break at its end is removed if only the rest has the length of a key.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final, NamedTuple, NoReturn

from lazyckpt.errors import ArgumentValueError

_LENGTHS: Final = (16, 24, 32)
_HEX: Final = "hex:"


class Secret:
    """A key that does not show: not in a repr, a log, a traceback or a pickle.

    Attributes:
        reference: the file or variable that it was read from; None if it was passed as bytes.
    """

    __slots__ = ("_bytes", "reference")

    def __init__(self, key: object, argument: str = "dec_key", reference: KeyReference | None = None) -> None:
        """Wrap a key.

        Args:
            key: bytes.
            argument: the name of the argument, for the error message.
            reference: the file or variable that it was read from.

        Raises:
            ArgumentValueError: it is not bytes (a `ValueError`, as in MindSpore).
        """
        self.reference = reference
        kind = type(key)
        self._bytes = bytes(key) if isinstance(key, bytes) else b""
        del key  # so that no traceback's variables show it
        if not issubclass(kind, bytes):
            raise no_key(argument, kind)

    def __len__(self) -> int:
        return len(self._bytes)

    def __repr__(self) -> str:
        return f"<key of {len(self)} bytes>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key is never pickled: give the worker a KeyReference, or open the checkpoint there")

    def reveal(self) -> bytes:
        """The key itself."""
        return self._bytes


def no_key(argument: str, kind: type) -> ArgumentValueError:
    """The error for a key of the wrong type, in MindSpore's words, with advice for text."""
    advice = "; use bytes.fromhex(…) for hexadecimal digits" if issubclass(kind, str) else ""
    return ArgumentValueError(f"The parameter {argument!r} must be bytes or None, but got {kind.__name__}{advice}.")


class KeyReference(NamedTuple):
    """A reference to a key in a file or an environment variable; holds no secret itself.

    It can be pickled and printed. A checkpoint opened with it as `dec_key` can be pickled too: another process reads
    the key from the same file or variable.

    Attributes:
        file: path of a file that holds the key, or None.
        variable: name of an environment variable that holds it, or None.
    """

    file: str | None = None
    variable: str | None = None

    def read(self) -> Secret | None:
        """The key; None if the reference is empty.

        Raises:
            ArgumentValueError: the file or variable does not hold a key.

        Cost: reads the key file, up to 4 KiB.
        """
        if self.file is not None:
            return Secret(_from_file(self.file), reference=self._replace(file=os.path.abspath(self.file)))
        if self.variable is not None:
            text = os.environ.get(self.variable)
            if text is None:
                raise ArgumentValueError(
                    f"the environment variable {self.variable}, which should hold a key, is not set"
                )
            return Secret(key_from_text(text), reference=self)
        return None


NO_KEY: Final = KeyReference()
OWN_MODE: Final = "<the file's own>"  # in place of the name of a mode: use the mode in the file's first bytes


class DeferredKey:
    """A key that is found only when a file turns out to be encrypted, and then once.

    Attributes:
        insists: whether a plain file is an error, because the user gave a key for it.
        found: the key, after it has been found.
    """

    def __init__(self, find: Callable[[str, str], Secret | None], insists: bool = False) -> None:
        """Take the function that finds the key, called with the names of the file and its mode."""
        self.insists = insists
        self.found: Secret | None = None
        self._find = find

    @property
    def reference(self) -> KeyReference | None:
        """Where the key was found; empty if none was needed, None if it was handed over."""
        return NO_KEY if self.found is None else self.found.reference

    def of(self, file: str, mode: str) -> Secret | None:
        """The key of an encrypted file, or None if there is none.

        Raises:
            ArgumentValueError, EncryptedFile: the key cannot be found.
        """
        if self.found is None:
            self.found = self._find(file, mode)
        return self.found


Key = bytes | KeyReference | DeferredKey
AnySecret = Secret | DeferredKey | None


def late(reference: KeyReference) -> DeferredKey:
    """A `DeferredKey` that reads a reference when the key is needed."""
    return DeferredKey(lambda file, mode: reference.read())


def secret_of(key: object, argument: str = "dec_key") -> Secret | None:
    """The `Secret` of a key argument; None for None.

    Args:
        key: bytes, a `KeyReference`, or None.
        argument: the name of the argument, for the error message.

    Raises:
        ArgumentValueError: `key` is something else, or the file or variable does not hold a key.
    """
    try:
        if key is None:
            return None
        return key.read() if isinstance(key, KeyReference) else Secret(key, argument)
    finally:
        del key  # so that no traceback's variables show it


def secret_or_late(key: Key | None) -> AnySecret:
    """Like `secret_of`, but returns a `DeferredKey` unchanged."""
    try:
        return key if isinstance(key, DeferredKey) else secret_of(key)
    finally:
        del key  # so that no traceback's variables show it


def key_from_text(text: str) -> bytes:
    """The bytes of a key given as text.

    Raises:
        ArgumentValueError: what follows `hex:` is not hexadecimal.
    """
    if not text.startswith(_HEX):
        # A variable may hold any bytes: Python decodes it with surrogateescape.
        return text.encode(errors="surrogateescape")
    try:
        return bytes.fromhex(text[len(_HEX) :])
    except ValueError:
        raise ArgumentValueError("a key that begins with 'hex:' must continue in hexadecimal digits") from None


def _from_file(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            key = file.read(4096)
    except OSError as error:
        raise ArgumentValueError(f"the key file {path} cannot be read: {error.strerror}") from error
    stripped = key.removesuffix(b"\n").removesuffix(b"\r")
    if key.startswith(_HEX.encode()):
        return key_from_text(stripped.decode("ascii", "replace"))
    return stripped if len(key) not in _LENGTHS and len(stripped) in _LENGTHS else key
