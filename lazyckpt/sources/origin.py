"""The origin of an opened file: its fingerprint, and whether the file is still the same.

An index holds the fingerprint of the file that it was built from: for a local file its size, mtime and a sample of its
bytes; for a remote object its version in the place of the mtime.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple, Protocol

from lazyckpt.errors import ChangedFile
from lazyckpt.model.entry import Fingerprint


class ReplacedFile(Exception):
    """The path leads to another file now; the opened one can still be read."""


class Origin(Protocol):
    """The origin of a source's bytes."""

    @property
    def path(self) -> str:
        """The path with all links resolved, or the URL."""

    @property
    def version(self) -> str:
        """The version of a remote object; empty for a local file, or if the store has none."""

    @property
    def mode(self) -> int:
        """Permission bits."""

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint of the file when it was opened. Cost: at most two small reads of a remote object."""

    def bears(self, mark: Fingerprint) -> bool:
        """Whether a fingerprint is the one of this file."""

    def check(self) -> None:
        """Check that the file is the same as when it was opened.

        Raises:
            ReplacedFile: the path leads to another file; the opened one can still be read.
            ChangedFile: the file was modified, or is gone.
        """

    def walking(self) -> AbstractContextManager[object]:
        """A `with` block in which reads are not checked one by one, because `check` follows it."""


class LocalOrigin(NamedTuple):
    """The origin of a local file."""

    path: str
    status: os.stat_result
    fingerprint: Fingerprint
    version: str = ""

    @property
    def mode(self) -> int:
        """See `Origin.mode`."""
        return self.status.st_mode & 0o777

    def bears(self, mark: Fingerprint) -> bool:
        """See `Origin.bears`."""
        return mark == self.fingerprint

    def check(self) -> None:
        """See `Origin.check`."""
        now = os.stat(self.path)
        if (now.st_dev, now.st_ino) != (self.status.st_dev, self.status.st_ino):
            raise ReplacedFile(self.path)
        if (now.st_size, now.st_mtime_ns) != (self.status.st_size, self.status.st_mtime_ns):
            raise ChangedFile(
                "the file changed while it was being indexed; try again when it is written", file=self.path
            )

    def walking(self) -> AbstractContextManager[object]:
        """See `Origin.walking`: reads of a map are checked by themselves."""
        return nullcontext()
