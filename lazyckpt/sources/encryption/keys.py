"""Keys: how one is held so that nothing shows it, and where one is found when it may not be sent or typed.

A key as text is taken as its UTF-8 bytes, or after `hex:` as hexadecimal digits. A key file is taken byte for byte,
but for one line break at its end when only without it the length can be a key's.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final, NamedTuple, NoReturn

from lazyckpt.errors import ArgumentValueError

_LENGTHS: Final = (16, 24, 32)
_HEX: Final = "hex:"


class Secret:
    """A key on its way to the cipher: nothing that prints, logs or pickles what holds it can show it.

    Attributes:
        reference: where the key was found; None if it was handed over.
    """

    __slots__ = ("_bytes", "reference")

    def __init__(self, key: object, argument: str = "dec_key", reference: KeyReference | None = None) -> None:
        """Take a key, which came as this argument or from this place.

        Args:
            key: bytes.
            argument: as which it was given.
            reference: where it was found.

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
    """The error that says of what type a key should be, in MindSpore's words, and how text becomes one."""
    advice = "; bytes.fromhex(…) makes them of hexadecimal digits" if issubclass(kind, str) else ""
    return ArgumentValueError(f"The parameter {argument!r} must be bytes or None, but got {kind.__name__}{advice}.")


class KeyReference(NamedTuple):
    """The place of a key; carries no secret itself, so it can be pickled and printed.

    Given as a `dec_key`, it makes what was opened picklable: other processes look for the key at the same place.

    Attributes:
        file: path of a file that holds the key, or None.
        variable: name of an environment variable that holds it, or None.
    """

    file: str | None = None
    variable: str | None = None

    def read(self) -> Secret | None:
        """The key; None if the reference is empty.

        Raises:
            ArgumentValueError: there is no key at that place.

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
OWN_MODE: Final = "<the file's own>"  # in place of the name of a mode: the one that its first bytes tell


class DeferredKey:
    """A key that is looked for when a file proves to be encrypted, and then once: a plain file needs none.

    Attributes:
        insists: whether a plain file is an error, because somebody said that there is a key to it.
        found: the key, once it was looked for and found.
    """

    def __init__(self, find: Callable[[str, str], Secret | None], insists: bool = False) -> None:
        """Take what finds it: called with the name of the file, and of its mode."""
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
            ArgumentValueError, EncryptedFile: it cannot be found.
        """
        if self.found is None:
            self.found = self._find(file, mode)
        return self.found


Key = bytes | KeyReference | DeferredKey
AnySecret = Secret | DeferredKey | None


def late(reference: KeyReference) -> DeferredKey:
    """The key at a place, where it is looked for only if it is needed."""
    return DeferredKey(lambda file, mode: reference.read())


def secret_of(key: object, argument: str = "dec_key") -> Secret | None:
    """What was given as a key, or None.

    Args:
        key: bytes, a `KeyReference`, or None.
        argument: as which it was given.

    Raises:
        ArgumentValueError: it is none of these, or there is no key at its place.
    """
    try:
        if key is None:
            return None
        return key.read() if isinstance(key, KeyReference) else Secret(key, argument)
    finally:
        del key  # so that no traceback's variables show it


def secret_or_late(key: Key | None) -> AnySecret:
    """What was given as a key, or None; as `secret_of`, but a `DeferredKey` is not looked for yet."""
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
        return text.encode(errors="surrogateescape")  # a variable may hold any bytes; Python escapes some of them
    try:
        return bytes.fromhex(text[len(_HEX) :])
    except ValueError:
        raise ArgumentValueError("a key that begins with 'hex:' must go on in hexadecimal digits") from None


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
