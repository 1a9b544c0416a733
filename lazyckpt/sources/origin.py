"""The origin of an opened file: its fingerprint, and the check that the file is still the same.

An index carries the fingerprint of the file that it was built from: for a local file its size, time and a sample of its
bytes, for a remote object the store's version in place of the time.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from lazyckpt.model.entry import Fingerprint


class ReplacedFile(Exception):
    """The path of the opened file leads to another file now."""


class Origin(Protocol):
    """Where bytes come from."""

    @property
    def path(self) -> str:
        """The path with all links resolved, or the URL."""

    @property
    def is_remote(self) -> bool:
        """Whether it is an object at a URL."""

    @property
    def version(self) -> str:
        """The store's name for this version of an object; empty for a local file, and if the store gives none."""

    @property
    def mode(self) -> int:
        """Permission bits."""

    @property
    def fingerprint(self) -> Fingerprint:
        """Of the file at the moment it was opened. Cost: of a remote object, at most two small reads."""

    def matches(self, fingerprint: Fingerprint) -> bool:
        """Whether a fingerprint, as an index carries it, is this file's."""

    def check(self) -> None:
        """Check that the file is what it was when it was opened.

        Raises:
            ReplacedFile: its name leads to another file now; what was opened can still be read.
            ChangedFile: it was written to, or is gone.
        """

    def walking(self) -> AbstractContextManager[object]:
        """A `with` block in which reads need not be checked one by one, because `check` comes after it."""
