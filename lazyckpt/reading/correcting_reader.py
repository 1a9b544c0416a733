"""`CorrectingReader`: reads values of one file, and has its index built again if the file contradicts it.

A file that is written again in place, with the same size, time and ends, has the fingerprint of the old one, so an old
index is taken for fresh. The headers of its values show that it is not. The call that meets the first one has the index
built again, at the same location, and continues with the new entry if that has the same dtype and shape. Otherwise it
raises StaleIndex, and the next open has the new index. All this happens once for each open file.

An index with digests, or of an encrypted file, is there to detect changes: it is built again, too, but the call always
raises.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lazyckpt.errors import StaleIndex
from lazyckpt.model.entry import Entry
from lazyckpt.model.tensor_runs import TensorRun
from lazyckpt.reading.allocation import AnyArray
from lazyckpt.reading.reader import PIECE, FileReader
from lazyckpt.reading.slicing import Key


class CorrectingReader(FileReader):
    """Reads values that each lie in one file; see the module."""

    def view(self, entry: Entry) -> AnyArray:
        """See `Reader.view`."""
        try:
            return super().view(entry)
        except StaleIndex as error:
            return super().view(self._corrected(entry, error))

    def copy(self, entry: Entry) -> AnyArray:
        """See `Reader.copy`."""
        try:
            return super().copy(entry)
        except StaleIndex as error:
            return super().copy(self._corrected(entry, error))

    def fill(self, entry: Entry, target: AnyArray) -> bool:
        """See `Reader.fill`."""
        try:
            return super().fill(entry, target)
        except StaleIndex as error:
            return super().fill(self._corrected(entry, error), target)

    def writable(self, entry: Entry) -> AnyArray:
        """See `Reader.writable`."""
        try:
            return super().writable(entry)
        except StaleIndex as error:
            return super().writable(self._corrected(entry, error))

    def part(self, entry: Entry, key: Key) -> Any:
        """See `Reader.part`."""
        try:
            return super().part(entry, key)
        except StaleIndex as error:
            return super().part(self._corrected(entry, error), key)

    def value(self, entry: Entry) -> AnyArray | str | list[AnyArray]:
        """See `Reader.value`."""
        try:
            return super().value(entry)
        except StaleIndex as error:
            return super().value(self._corrected(entry, error))

    def stored(self, entry: Entry, size: int = PIECE, first: int = 0, count: int | None = None) -> Iterator[memoryview]:
        """See `Reader.stored`."""
        pieces = super().stored(entry, size, first, count)
        try:  # the header is verified before the first piece
            piece = next(pieces, None)
        except StaleIndex as error:
            pieces = super().stored(self._corrected(entry, error), size, first, count)
            piece = next(pieces, None)
        while piece is not None:
            yield piece
            piece = next(pieces, None)

    def values(self, entries: list[Entry]) -> list[AnyArray | str | list[AnyArray]]:
        """See `Reader.values`."""
        try:
            return super().values(entries)
        except StaleIndex:
            return [self.value(entry) for entry in entries]

    def read_run(self, tensor_run: TensorRun) -> list[Any]:
        """See `Reader.read_run`."""
        try:
            return super().read_run(tensor_run)
        except StaleIndex:
            entries = dict(tensor_run.others)
            for uniform in tensor_run.groups:
                entries |= uniform.entries()
            return [self.value(entries[number]) for number in range(len(tensor_run.names))]

    def prove(self, entries: list[Entry]) -> None:
        """See `Reader.prove`. The entries stay wrong, so the error is raised even if the index was corrected."""
        try:
            super().prove(entries)
        except StaleIndex as error:
            self._correct_named(entries, error)
            raise

    def samples(self, entries: list[Entry]) -> list[bytes]:
        """See `Reader.samples`, and `prove`."""
        try:
            return super().samples(entries)
        except StaleIndex as error:
            self._correct_named(entries, error)
            raise

    def _corrected(self, entry: Entry, error: StaleIndex) -> Entry:
        return self.file.index._corrected(entry, error)

    def _correct_named(self, entries: list[Entry], error: StaleIndex) -> None:
        for entry in entries:
            if entry.name == error.parameter:
                self._corrected(entry, error)
                return
