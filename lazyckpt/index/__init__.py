"""`Index`: parameters by name and in file order, no values; and its file, the sidecar."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from lazyckpt.errors import StaleIndex
from lazyckpt.model.entry import Entry, Fingerprint
from lazyckpt.model.similar_names import missing

if TYPE_CHECKING:
    from lazyckpt.model.tensor_runs import TensorRun


class Index(Mapping[str, Entry], ABC):
    """A read-only mapping name -> Entry, in file order.

    Opening costs the same for ten parameters and for ten million; a look-up is O(log n). Safe for many threads, and
    across fork. The values of the file are never read.

    The methods whose names begin with an underscore are for the package's own modules, which reach them through
    `record_runs.tensor_runs`, `name_groups.tally` and `selection.choose`.

    Attributes:
        path: the sidecar's path; None for an index in memory, or of several files.
        fingerprint: of the file that it describes.
        has_digests: whether every entry carries a digest of its content.
    """

    @property
    @abstractmethod
    def path(self) -> str | None:
        """The sidecar's path; None for an index in memory, or of several files. Reads nothing."""

    @property
    @abstractmethod
    def fingerprint(self) -> Fingerprint:
        """Size, time in nanoseconds and a hash of the ends of the file that it describes. Reads nothing."""

    @property
    @abstractmethod
    def has_digests(self) -> bool:
        """Whether every entry carries a digest of its content. Reads nothing."""

    @abstractmethod
    def entries(self) -> Iterator[Entry]:
        """All entries in file order. Cost: O(1) memory."""

    @abstractmethod
    def position(self, name: str) -> int | None:
        """The ordinal of a name in file order.

        Args:
            name: any name.

        Returns:
            Its number, from 0; None if there is no such name.

        Cost: O(log n).
        """

    @abstractmethod
    def at(self, position: int, name: str | None = None) -> Entry:
        """The entry with an ordinal.

        Args:
            position: the ordinal, from 0 in file order.
            name: the name that the entry must have; None for any.

        Returns:
            Name, kind, dtype, shape, and the extents (offset and length in bytes) of the content.

        Raises:
            StaleIndex: the index contradicts itself.

        Cost: O(log n).
        """

    @abstractmethod
    def with_prefix(self, prefix: str) -> list[tuple[str, int]]:
        """Names that start with a prefix.

        Args:
            prefix: any text.

        Returns:
            Names and their ordinals, in file order.

        Cost: O(log n + matches); of a sealed index O(n).
        """

    @abstractmethod
    def close(self) -> None:
        """Close the sidecar. Reads nothing."""

    @abstractmethod
    def _record_batches(self) -> Iterator[list[bytes]]:
        """All records in file order, some thousand at a time (see `records`). Cost: O(1) memory."""

    def _tensor_runs(self) -> Iterator[TensorRun | Entry]:
        """All entries in file order; a stored index gives small neighbouring tensors in runs."""
        return self.entries()

    def _some_with_prefix(self, prefix: str, most: int) -> list[str]:
        """Up to `most` names that start with a prefix, in any order; none where that would cost a walk."""
        del prefix, most
        return []

    def _irregular(self) -> Iterator[tuple[int, Entry]]:
        """The entries to look at before they may be loaded by name, with their ordinals; usually none.

        Cost: O(log n) each; O(1) memory.
        """
        return iter(())

    def _corrected(self, entry: Entry, error: StaleIndex) -> Entry:
        """The entry of a value after the index was built again, because the file has another header there.

        Args:
            entry: the entry that the file contradicts.
            error: says so.

        Raises:
            StaleIndex: `error`, if the index was built again already, or cannot be; or the value is another now.

        Cost: that of building the index; once at most.
        """
        del entry
        raise error

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.position(name) is not None

    def __getitem__(self, name: str) -> Entry:
        position = self.position(name) if isinstance(name, str) else None
        if position is None:
            raise missing(name, self, self._some_with_prefix, is_exact=True)
        return self.at(position, name)
