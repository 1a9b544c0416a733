"""The origin of an opened file: its fingerprint, and whether the file is still the same.

An index holds the fingerprint of the file that it was built from: for a local file its size, mtime and a sample of its
bytes; for a remote object its version in the place of the mtime.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from lazyckpt.model.entry import Fingerprint


class ReplacedFile(Exception):
    """The path leads to another file now; the opened one can still be read."""


class Origin(Protocol):
    """The origin of a source's bytes."""

    @property
    def path(self) -> str:
        """The path with all links resolved, or the URL."""

    @property
    def is_remote(self) -> bool:
        """Whether it is an object at a URL."""

    @property
    def version(self) -> str:
        """The version of a remote object; empty for a local file, or if the store has none."""

    @property
    def mode(self) -> int:
        """Permission bits."""

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint of the file when it was opened. Cost: at most two small reads of a remote object."""

    def matches(self, fingerprint: Fingerprint) -> bool:
        """Whether a fingerprint is the one of this file."""

    def check(self) -> None:
        """Check that the file is the same as when it was opened.

        Raises:
            ReplacedFile: the path leads to another file; the opened one can still be read.
            ChangedFile: the file was modified, or is gone.
        """

    def walking(self) -> AbstractContextManager[object]:
        """A `with` block in which reads are not checked one by one, because `check` follows it."""
