"""The errors lazyckpt raises: one root, and beside it the builtin type that MindSpore documents.

Rules: a fault of the *file* is a `ValueError`, a fault of the *caller's types* is a `TypeError`, as in
`mindspore.load_checkpoint`; everything is also a `LazyCkptError`. A message says what is wrong, where (file, byte
offset, parameter), what was expected and what to do. No message ever carries a key.
"""

from __future__ import annotations


class LazyCkptError(Exception):
    """The root of every error that lazyckpt raises on purpose."""


class ArgumentTypeError(LazyCkptError, TypeError):
    """An argument has the wrong type."""


class ArgumentValueError(LazyCkptError, ValueError):
    """An argument has the right type and an impossible value."""


class MissingFile(LazyCkptError, ValueError, FileNotFoundError):
    """The checkpoint does not exist (a `ValueError` for MindSpore's sake, a `FileNotFoundError` for Python's)."""

    def __new__(cls, *arguments: object) -> MissingFile:
        """Make room as `OSError` does; libraries that pickle errors (tblib, for dask) would ask `ValueError`."""
        return FileNotFoundError.__new__(cls, *arguments)


class UnreadableFile(LazyCkptError, ValueError):
    """The file exists and cannot be read: permissions, a folder, a pipe, an I/O error (see `__cause__`)."""


class UnwritableFile(LazyCkptError, OSError):
    """A file cannot be written: permissions, a full disk, an I/O error (see `__cause__`). What was there stays."""

    def __str__(self) -> str:
        return str(self.args[-1])


class MissingFolder(UnwritableFile, FileNotFoundError):
    """The folder that a file should be written to does not exist."""


class FileInTheWay(UnwritableFile, FileExistsError):
    """A file that must not be replaced has the name that a file should be written under: it is the input, or there."""


class FolderInTheWay(UnwritableFile, IsADirectoryError):
    """A folder has the name that a file should be written under."""


class FileFault(LazyCkptError, ValueError):
    """Something is wrong with the bytes of a file.

    Attributes:
        what: the fault in one sentence, without its place.
        file: the path, once it is known.
        offset: the byte offset (in the plaintext for encrypted files), or None.
        parameter: the parameter concerned, or None.
    """

    def __init__(
        self, what: str, *, offset: int | None = None, parameter: str | None = None, file: str | None = None
    ) -> None:
        super().__init__(what)
        self.what = what
        self.file = file
        self.offset = offset
        self.parameter = parameter

    def __str__(self) -> str:
        place = "" if self.file is None else f"{self.file}: "
        where = [] if self.offset is None else [f"at byte {self.offset:,}"]
        if self.parameter is not None:
            name = self.parameter if len(self.parameter) <= 200 else self.parameter[:200] + "…"
            where.append(f"in parameter {name!r}")
        return f"{place}{self.what}" + (f" ({', '.join(where)})" if where else "")

    def __reduce__(self) -> tuple[object, ...]:
        return _restore, (type(self), self.what, self.offset, self.parameter, self.file)


def _restore(
    kind: type[FileFault], what: str, offset: int | None, parameter: str | None, file: str | None
) -> FileFault:
    return kind(what, offset=offset, parameter=parameter, file=file)


class CorruptFile(FileFault):
    """The bytes break the rules of their format."""


class TruncatedFile(CorruptFile):
    """The file ends before the structure it announces."""


class WrongFormat(FileFault):
    """The file is whole, but it is something else: a Git LFS pointer, a torch archive, HDF5."""


class EncryptedFile(FileFault):
    """The file is encrypted and no key was given."""


class WrongKey(FileFault):
    """The key does not open the file, or the mode is not the file's, or the file is not encrypted at all."""


class DamagedBlock(CorruptFile):
    """An encrypted block does not authenticate, or its padding is impossible."""


class CipherUnavailable(LazyCkptError, ValueError):
    """The OpenSSL in use lacks a cipher."""


class ChangedFile(FileFault):
    """The file changed between the moment it was opened or indexed and the moment it was read."""


class StaleIndex(FileFault):
    """The index and the file disagree: the index is of another file, of another version, or forged."""


class NothingLoaded(FileFault):
    """The file holds no parameters, or none is left after the filters."""


class ChoiceFunctionFailed(LazyCkptError, ValueError):
    """`choice_func` raised; its exception is the `__cause__`."""


class NetMismatch(LazyCkptError, RuntimeError):
    """A net and a checkpoint do not fit; the net was left as it was.

    Attributes:
        refusals: (parameter, reason) for everything that does not fit.
    """

    def __init__(self, message: str, refusals: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(message)
        self.refusals = refusals


class NotPicklable(LazyCkptError, TypeError):
    """What cannot be sent to another process: it holds a key, or bytes that are in no file."""


class MissingPackage(LazyCkptError, ImportError):
    """An optional package is not installed; the message says how to get it."""


class WorkerDied(LazyCkptError, RuntimeError):
    """A task killed the process that ran it, by itself and not for the first time; see `__cause__`."""


class ClosedCheckpoint(LazyCkptError, ValueError):
    """The checkpoint was closed."""
