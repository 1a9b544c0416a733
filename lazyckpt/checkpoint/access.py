"""`CheckpointAccess`: the interface of a checkpoint for the package's own modules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING, Final

from lazyckpt.checkpoint.mapping import StoredValues, Value
from lazyckpt.checkpoint.overlay import Overlay
from lazyckpt.errors import MissingName
from lazyckpt.index.matching import require_matches
from lazyckpt.index.record_runs import tensor_runs
from lazyckpt.model.entry import REFUSED, Entry
from lazyckpt.model.patterns import Patterns, listed
from lazyckpt.model.tensor_runs import TensorRun
from lazyckpt.reading.reader import Reader

if TYPE_CHECKING:
    from lazyckpt.writing.items import Item

IN_MEMORY: Final = -1  # in place of the ordinal of a name that only memory has
_BATCH: Final = 2048  # headers that are read together


class CheckpointAccess:
    """The interface of a checkpoint for the package's own modules. Made by `Checkpoint._access`.

    It separates values in memory from values to be read, and reads none itself.

    Attributes:
        stored: the values of the file.
        overlay: the edits in memory.
    """

    __slots__ = ("overlay", "stored")

    def __init__(self, stored: StoredValues, overlay: Overlay[str, Value]) -> None:
        self.stored = stored
        self.overlay = overlay

    @property
    def reader(self) -> Reader:
        """Reads the values of the file. Opens and reads nothing by itself."""
        return self.stored.reader

    @property
    def is_addressable(self) -> bool:
        """Whether values can be read one by one at no extra cost (see `Source.is_addressable`)."""
        return self.reader.is_addressable

    @property
    def is_of_version(self) -> bool:
        """Whether the file is an object of the version that was indexed, by the word of its store."""
        version = self.stored.source.fingerprint
        return version is not None and version.mtime_ns == self.stored.index.fingerprint.mtime_ns

    @property
    def is_unedited(self) -> bool:
        """Whether it has every name of the file, and no value was set, here or in a view."""
        return self.stored.is_whole and not self.overlay.has_edits

    @property
    def names(self) -> VisibleNames:
        """The names, to look for patterns in."""
        return VisibleNames(self.stored, self.overlay)

    def matching(self, patterns: Patterns) -> dict[str, Value | Entry]:
        """The names that match patterns, in the order of the patterns, each with its `value_or_entry`.

        Raises:
            MissingName: a pattern matches nothing.

        Cost: two index look-ups for a name; for a pattern see `index.matching.matches`, and two for each match.
        """
        found: dict[str, Value | Entry] = {}
        for pattern in listed(patterns):
            if isinstance(pattern, str):
                try:
                    found[pattern] = self.value_or_entry(pattern)
                    continue
                except MissingName:
                    pass
            for name in require_matches(self.names, [pattern]):
                if name not in found:
                    found[name] = self.value_or_entry(name)
        return found

    def position(self, name: str) -> int | None:
        """The ordinal of a name in the index; None if the file lacks it or it was removed.

        Cost: an index look-up.
        """
        return None if name in self.overlay.removed else self.stored.position(name)

    def value_or_entry(self, name: str) -> Value | Entry:
        """The value of a name if it was set or read already, else its entry.

        Raises:
            MissingName: the name does not exist.

        Cost: two index look-ups.
        """
        if name in self.overlay.added:
            return self.overlay.added[name]
        if name in self.overlay.removed:
            raise self.stored.missing(name)
        return self._value_or_entry(name, self.stored.entry(name))

    def iter_entries(self) -> Iterator[tuple[str, Value | Entry]]:
        """Every name, in order, with its `value_or_entry`. Cost: for a whole file a walk over its records."""
        return self.overlay.merge(self.stored.iter_entries(), self._value_or_entry)

    def iter_edited(self) -> Iterator[tuple[str, Value | Entry]]:
        """As `iter_entries`, with entries for strings and maps that were read but not edited."""
        edited = self.edited()
        return self.overlay.merge(self.stored.iter_entries(), edited.get)

    def iter_runs(self) -> Iterator[tuple[str, Value | Entry | TensorRun]]:
        """As `iter_entries`, with runs of small neighbours (under an empty name) where possible."""
        if not (self.is_unedited and self.is_addressable):
            yield from self.iter_entries()
            return
        self.stored.check_open()
        for found in tensor_runs(self.stored.index):
            if isinstance(found, Entry):
                yield found.name, self._value_or_entry(found.name, found)
            else:
                yield "", found

    def edited(self) -> dict[str, Value]:
        """The values that differ from the file's: assigned ones, and those of `set_data`."""
        replaced = self.stored.replaced_parameters()
        return {name: value for name, value in replaced.items() if self.position(name) is not None} | self.assigned()

    def assigned(self) -> dict[str, Value]:
        """The values that were assigned to names of this mapping."""
        return self.overlay.edits()

    def item(self, name: str, new_name: str) -> Item:
        """A value as an `Item` for the writers: its facts now, its bytes on request.

        Args:
            name: the name of the value.
            new_name: the name in the new file.

        Raises:
            MissingName: the name does not exist.
        """
        from lazyckpt.writing.adapters import item_of, stored

        found = self.value_or_entry(name)
        return stored(new_name, found, self.reader) if isinstance(found, Entry) else item_of(new_name, found)

    def prove(self, names: Iterable[str]) -> None:
        """Make sure that the file has the entries of these names, as an index that was there already says.

        Raises:
            StaleIndex: it was changed in place after it was indexed.

        Cost: reads the headers; nothing if the index was built when the file was opened.
        """
        if self.is_of_version or not self.reader.file.was_indexed:
            return
        found = (self.value_or_entry(name) for name in names)
        entries = (entry for entry in found if isinstance(entry, Entry) and entry.kind != REFUSED)
        parts = (part for entry in entries for _, part in self.reader.boxes(entry))
        while batch := list(islice(parts, _BATCH)):
            self.reader.prove(batch)

    def drop_pages(self, start: int = 0, stop: int | None = None) -> None:
        """Drop pages of a mapped file from this process's memory; returned arrays stay valid.

        Args:
            start: the first byte of the file that will not be needed soon.
            stop: the end of these bytes; None for the end of the file.
        """
        source = self.stored.source
        source.drop_pages(start, (source.size if stop is None else stop) - start)

    def _value_or_entry(self, name: str, entry: Entry) -> Value | Entry:
        """As `value_or_entry`, for a visible name of the file."""
        if name in self.overlay.replaced:
            return self.overlay.replaced[name]
        value = self.stored.in_memory(name)
        return entry if value is None else value


class VisibleNames:
    """The names of a checkpoint with their ordinals, edits included: `Searchable`, for `index.matching`."""

    def __init__(self, stored: StoredValues, overlay: Overlay[str, Value]) -> None:
        stored.check_open()
        self._names = stored.names
        self._removed = overlay.removed
        self._added = overlay.added

    def position(self, name: str) -> int | None:
        """The ordinal of a name in the file, `IN_MEMORY` for one that was added, None if it does not exist."""
        if name in self._added:
            return IN_MEMORY
        return None if name in self._removed else self._names.position(name)

    def pairs(self) -> Iterable[tuple[str, int]]:
        """All names, in order."""
        return self._with_edits(self._names.pairs(), self._added)

    def with_prefix(self, prefix: str) -> Iterable[tuple[str, int]]:
        """The names that start with a prefix, in order."""
        added = [name for name in self._added if name.startswith(prefix)]
        return self._with_edits(self._names.with_prefix(prefix), added)

    def some_with_prefix(self, prefix: str, most: int) -> list[str]:
        """Up to `most` names that start with a prefix; none where that would cost a walk."""
        return [name for name in self._names.some_with_prefix(prefix, most) if name not in self._removed]

    def _with_edits(self, pairs: Iterable[tuple[str, int]], added: Iterable[str]) -> Iterable[tuple[str, int]]:
        if self._removed:
            pairs = ((name, ordinal) for name, ordinal in pairs if name not in self._removed)
        return chain(pairs, ((name, IN_MEMORY) for name in added))
