"""`FileOpener`: opens the files of a checkpoint one by one, and finds those that are whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Final

from lazyckpt.errors import (
    ArgumentTypeError,
    ArgumentValueError,
    CipherUnavailable,
    CorruptFile,
    EncryptedFile,
    LazyCkptError,
    MissingPackage,
    TooManyOpenFiles,
    WrongKey,
)
from lazyckpt.index.build import IndexOptions, open_indexed
from lazyckpt.index.open_file import OpenFile
from lazyckpt.sharding.members import RANKS, STEP, Members
from lazyckpt.sources.encryption.keys import AnySecret

Finder = Callable[[Mapping[str, str]], Members]  # the members, given why files are broken
# Faults of the call, not of one file: another step would not help.
_OF_THE_CALL: Final = (
    ArgumentTypeError, ArgumentValueError, CipherUnavailable, EncryptedFile, MissingPackage, TooManyOpenFiles,
)  # fmt: skip


class FileOpener:
    """The open files of a checkpoint. On leaving the `with` block, files that were not kept are closed."""

    def __init__(self, key: AnySecret, dec_mode: str, where: str, cache: int) -> None:
        """Take the options with which each file is opened."""
        self._key = key
        self._dec_mode = dec_mode
        self._where = where
        self._cache = cache
        self._files: dict[str, OpenFile] = {}
        self._broken: dict[str, LazyCkptError] = {}
        self._kept: set[str] = set()

    def __enter__(self) -> FileOpener:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for path, file in self._files.items():
            if path not in self._kept:
                file.close()

    def members(self, find: Finder) -> Members:
        """The members whose files are whole, all of which are open then. Parts have no older files to fall back to.

        Args:
            find: is called again each time that a file turns out to be broken.

        Raises: as `find`, and for faults that no other step would mend.
        """
        while True:
            found = find({path: str(error) for path, error in self._broken.items()})
            if found.kind not in (RANKS, STEP) or not any(self._is_newly_broken(path) for path in found.files):
                break
        if found.kind == STEP and found.others:
            self._check_is_step(found)
        return found

    def opened(self, path: str) -> OpenFile:
        """A file, which is opened unless it is open.

        Raises: as `open_indexed`.
        """
        if path in self._broken:
            raise self._broken[path]
        if path not in self._files:
            options = IndexOptions(cache=self._cache)
            self._files[path] = open_indexed(path, self._key, self._dec_mode, self._where, options)
        return self._files[path]

    def keep(self, paths: Iterable[str]) -> None:
        """Leave files open: another object closes them from now on."""
        self._kept.update(paths)

    def _is_newly_broken(self, path: str) -> bool:
        """Open a file that was not opened before; return whether that failed."""
        if path in self._broken:
            return False
        try:
            self.opened(path)
        except LazyCkptError as error:
            if isinstance(error, _OF_THE_CALL) or (isinstance(error, WrongKey) and not self._files):
                raise
            error.__cause__ = error.__context__ = None  # frames of a traceback would keep the file open
            self._broken[path] = error.with_traceback(None)
            return True
        return False

    def _check_is_step(self, found: Members) -> None:
        """Check that a file has names of another step of its run: parts of one checkpoint may be numbered so, too.

        Raises:
            CorruptFile: it has none.
        """
        names = self.opened(found.files[0]).index
        for path in found.others:
            if self._is_newly_broken(path) or path in self._broken:
                continue
            others = self.opened(path).index
            if any(True for name in names if name in others) or not (len(names) and len(others)):
                return
            raise CorruptFile(
                f"it is named as a step of the same run as {path}, but they have no name in common: give the paths of"
                " all parts, or the one file",
                file=found.files[0],
            )
