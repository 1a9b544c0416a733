"""The errors that lazyckpt raises, with the builtin base classes that MindSpore documents.

A problem with a file is a `ValueError`, an argument of the wrong type is a `TypeError`, as in
`mindspore.load_checkpoint`; every error is also a `LazyCkptError`. A message says what is wrong, where (file, byte
offset, parameter), what was expected and what to do. Messages never contain a key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class LazyCkptError(Exception):
    """The base class of every error that lazyckpt raises deliberately.

    Messages quote names of files and parameters, which strangers choose. They are one printable line, except where an
    error is documented to have several.
    """

    def __str__(self) -> str:
        from lazyckpt.display import one_line

        return one_line(self._message())

    def _message(self) -> str:
        """The message, with whatever names hold."""
        return super().__str__()


class ArgumentTypeError(LazyCkptError, TypeError):
    """An argument has the wrong type."""


class ArgumentValueError(LazyCkptError, ValueError):
    """An argument has the right type but an invalid value."""


class MissingFile(LazyCkptError, ValueError, FileNotFoundError):
    """The checkpoint does not exist. It is a `ValueError` as in MindSpore, and also a `FileNotFoundError`."""

    def __new__(cls, *arguments: object) -> MissingFile:
        """Create the object as `OSError` does. Libraries that pickle errors (tblib, used by dask) require it."""
        return FileNotFoundError.__new__(cls, *arguments)


class UnreadableFile(LazyCkptError, ValueError):
    """The file exists but cannot be read: permissions, a folder, a pipe or an I/O error."""


class TooManyOpenFiles(UnreadableFile):
    """The process, or the machine, has as many files open as it may. The file itself may be sound."""


class UnwritableFile(LazyCkptError, OSError):
    """A file cannot be written: permissions, a full disk, an I/O error (see `__cause__`). The old file is kept."""

    def _message(self) -> str:
        return str(self.args[-1])


class MissingFolder(UnwritableFile, FileNotFoundError):
    """The folder of the file to write does not exist."""


class FileInTheWay(UnwritableFile, FileExistsError):
    """The file to write is the input itself, or another file that must not be replaced."""


class FolderInTheWay(UnwritableFile, IsADirectoryError):
    """The path of the file to write is a folder."""


class FileFault(LazyCkptError, ValueError):
    """A problem with the contents of a file.

    Attributes:
        what: the problem in one sentence, without the file, offset and parameter.
        file: the path, or None as long as it is unknown.
        offset: the byte offset (in the plaintext for encrypted files), or None.
        parameter: the name of the affected parameter, or None.
    """

    def __init__(
        self, what: str, *, offset: int | None = None, parameter: str | None = None, file: str | None = None
    ) -> None:
        super().__init__(what)
        self.what = what
        self.file = file
        self.offset = offset
        self.parameter = parameter

    def _message(self) -> str:
        prefix = "" if self.file is None else f"{self.file}: "
        where = [] if self.offset is None else [f"at byte {self.offset:,}"]
        if self.parameter is not None:
            name = self.parameter if len(self.parameter) <= 200 else self.parameter[:200] + "…"
            where.append(f"in parameter {name!r}")
        return f"{prefix}{self.what}" + (f" ({', '.join(where)})" if where else "")

    def __reduce__(self) -> tuple[object, ...]:
        return _restore, (type(self), self.what, self.offset, self.parameter, self.file)


def _restore(
    kind: type[FileFault], what: str, offset: int | None, parameter: str | None, file: str | None
) -> FileFault:
    return kind(what, offset=offset, parameter=parameter, file=file)


class CorruptFile(FileFault):
    """The file violates the rules of its format."""


class TruncatedFile(CorruptFile):
    """The file ends inside a structure whose length it states."""


class WrongFormat(FileFault):
    """The file has another format, such as a Git LFS pointer, a torch archive or HDF5."""


class EncryptedFile(FileFault):
    """The file is encrypted, but no key was given."""


class WrongKey(FileFault):
    """The key or the mode does not match the file, or the file is not encrypted."""


class DamagedBlock(CorruptFile):
    """An encrypted block fails authentication, or its padding is invalid."""


class CipherUnavailable(LazyCkptError, ValueError):
    """The installed OpenSSL does not provide the cipher."""


class ChangedFile(FileFault):
    """The file changed after it was opened or indexed."""


class StaleIndex(FileFault):
    """The index does not match the file. It belongs to another file or another version, or it is forged."""


class NothingLoaded(FileFault):
    """The file has no parameters, or the filters leave none."""


class MissingName(LazyCkptError, KeyError):
    """No parameter has a name, or matches a pattern. It is a `KeyError`, as in a dict.

    The message offers similar names. They are looked for when the message is first shown, so catching the error costs
    nothing.
    """

    _what: str | None = None
    _similar: Callable[[], Iterable[str]] | Iterable[str] = ()

    def __init__(
        self, name: object, what: str | None = None, similar: Callable[[], Iterable[str]] | Iterable[str] = ()
    ) -> None:
        super().__init__(name)
        self._what = what
        self._similar = similar

    @property
    def name(self) -> object:
        """The name or pattern, as in the `args` of a KeyError."""
        return self.args[0]

    @property
    def similar(self) -> tuple[str, ...]:
        """Names or patterns that may have been meant. Cost: the first time, a look at up to 20,000 names."""
        if callable(self._similar):
            try:
                self._similar = tuple(self._similar())
            except (LazyCkptError, OSError):  # the checkpoint is closed, or cannot be read
                self._similar = ()
        return tuple(self._similar)

    def collect(self) -> None:
        """Copy the names to look in, before their file is closed. Cost: a walk over up to 20,000 names."""
        collect = getattr(self._similar, "collect", None)
        if collect is not None:
            try:
                collect()
            except (LazyCkptError, OSError):  # there will be no suggestions
                self._similar = ()

    def _message(self) -> str:
        text = repr(self.name)
        what = f"there is no parameter {text if len(text) <= 200 else text[:200] + '…'}"
        hint = f"; did you mean {' or '.join(map(repr, self.similar))}?" if self.similar else ""
        return (what if self._what is None else self._what) + hint

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.name, self._what, self.similar)


class ChoiceFunctionFailed(LazyCkptError, ValueError):
    """`choice_func` raised an exception, which is the `__cause__`. The message has two lines, as MindSpore's has."""

    def __str__(self) -> str:
        from lazyckpt.display import one_line

        return "\n".join(map(one_line, self._message().split("\n")))


class NetMismatch(LazyCkptError, RuntimeError):
    """A checkpoint does not match a net; the net is unchanged.

    Attributes:
        refusals: (parameter, reason) for each mismatch.
    """

    def __init__(self, message: str, refusals: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(message)
        self.refusals = refusals


class NotPicklable(LazyCkptError, TypeError):
    """The object cannot be pickled. It holds a key, or bytes that are not in a file."""


class MissingPackage(LazyCkptError, ImportError):
    """An optional package is not installed; the message says how to install it."""


class WorkerDied(LazyCkptError, RuntimeError):
    """A task repeatedly killed its process, even when it ran alone (see `__cause__`)."""


class ClosedCheckpoint(LazyCkptError, ValueError):
    """The checkpoint was closed."""
