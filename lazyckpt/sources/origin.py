"""Where an opened file came from: what marks it, and whether it is still what it was.

An index carries the mark of the file that it was built from. For a local file that is size, time and a sample of its
bytes; a remote object has a version of its own in the place of the time.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple, Protocol

from lazyckpt.errors import ChangedFile
from lazyckpt.model.entry import Fingerprint


class ReplacedFile(Exception):
    """Another file has come to bear the name of the one that was opened."""


class Origin(Protocol):
    """Where bytes come from."""

    @property
    def path(self) -> str:
        """The path with all links resolved, or the URL."""

    @property
    def version(self) -> str:
        """What tells this version of an object from all others; empty of a local file, and if its store tells none."""

    @property
    def mode(self) -> int:
        """Permission bits."""

    @property
    def fingerprint(self) -> Fingerprint:
        """Of the file at the moment it was opened. Cost: of a remote object, at most two small reads."""

    def matches(self, mark: Fingerprint) -> bool:
        """Whether a mark is this file's."""

    def check(self) -> None:
        """See whether the file is what it was when it was opened.

        Raises:
            ReplacedFile: its name leads to another file now; what was opened can still be read.
            ChangedFile: it was written to, or is gone.
        """

    def walking(self) -> AbstractContextManager[object]:
        """A `with` block in which reads need not be checked one by one, because `check` comes after it."""


class LocalOrigin(NamedTuple):
    """A file of this machine."""

    path: str
    status: os.stat_result
    fingerprint: Fingerprint
    version: str = ""

    @property
    def mode(self) -> int:
        """See `Origin.mode`."""
        return self.status.st_mode & 0o777

    def matches(self, mark: Fingerprint) -> bool:
        """See `Origin.matches`."""
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
