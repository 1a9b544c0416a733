"""`LazyMapping`: the ordered mapping name -> value over a file, with edits in memory.

It is an `Overlay` (edits) over `StoredValues` (the file). Here stands what makes it behave as the dict that MindSpore
returns: names are strings, and it can be walked, copied, merged and pickled.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, MutableMapping, ValuesView
from copy import deepcopy
from typing import Any, TypeVar

from lazyckpt.checkpoint.access import CheckpointAccess
from lazyckpt.checkpoint.overlay import Overlay
from lazyckpt.checkpoint.stored_values import StoredValues, Value
from lazyckpt.index.selection import Names, SomeNames
from lazyckpt.model.entry import Entry
from lazyckpt.reading.reader import Reader

_Self = TypeVar("_Self", bound="LazyMapping")


class LazyMapping(MutableMapping[str, Value]):
    """A lazy, ordered mapping over a file, with edits in memory: `Checkpoint` without what it does with its values."""

    def __init__(self, reader: Reader, names: Names) -> None:
        """Not for users: call `lazyckpt.load_checkpoint`."""
        self._stored = StoredValues(reader, names)
        self._overlay: Overlay[str, Value] = Overlay(self._stored)

    @property
    def _access(self) -> CheckpointAccess:
        """What the package's own modules need of a checkpoint and users do not; see `CheckpointAccess`."""
        return CheckpointAccess(self._stored, self._overlay)

    @property
    def path(self) -> str:
        """The file that was opened, links resolved; of a remote object its URL. Reads nothing."""
        return self._stored.source.name

    def entry(self, name: str) -> Entry:
        """The facts that the file's index holds about a name.

        Args:
            name: a name of the mapping.

        Returns:
            Its kind, dtype, shape (a tuple of int), and its extents (offset and length in bytes).

        Raises:
            KeyError: the name does not exist in the file, or was taken out of the mapping.
            StaleIndex: the index contradicts itself.

        Cost: two index look-ups. No payload is read.
        """
        if name in self._overlay.removed:
            raise KeyError(name)
        return self._stored.entry(name)

    def items(self) -> ItemsView[str, Value]:
        """Names and values, in order.

        Cost: for a whole file one walk over its records, about 7 us each, and no look-up. Strings and maps are read.
        """
        return _Items(self)

    def values(self) -> ValuesView[Value]:
        """The values, in order.

        Cost: as `items`.
        """
        return _Values(self)

    def __len__(self) -> int:
        return len(self._overlay)

    def __iter__(self) -> Iterator[str]:
        return iter(self._overlay)

    def __reversed__(self) -> Iterator[str]:
        return reversed(self._overlay)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._overlay

    def __getitem__(self, name: str) -> Value:
        """The value of a name.

        Cost: two index look-ups the first time, about 10 us, and half a microsecond later. A string or a map is read
        now; a tensor is not.

        Raises:
            KeyError: the name does not exist.
        """
        overlay = self._overlay
        if overlay.added or overlay.replaced or overlay.removed:
            return overlay[name]
        return self._stored[name]  # the common case; the way through the overlay would take a third longer

    def __setitem__(self, name: str, value: Value) -> None:
        """Set a value in memory: an old name keeps its place, a new one comes last."""
        if not isinstance(name, str):
            raise TypeError(f"names are strings, not {type(name).__name__}")
        self._overlay[name] = value

    def __delitem__(self, name: str) -> None:
        """Take a name out of the mapping; the file keeps it."""
        del self._overlay[name]

    def popitem(self) -> tuple[str, Value]:
        """Remove and return the last item, as dict does; the file keeps it.

        Raises:
            KeyError: the checkpoint is empty.

        Cost: a walk over the names. Of a tensor no payload is read.
        """
        if not len(self):
            raise KeyError("popitem(): the checkpoint is empty")
        return self._overlay.popitem()

    def clear(self) -> None:
        """Take every name out of the mapping; the file keeps them. Reads nothing."""
        self._stored.names = SomeNames({})
        self._overlay = Overlay(self._stored)

    def copy(self: _Self) -> _Self:
        """A second mapping over the same values, with edits of its own from here on. Reads nothing."""
        stored = self._stored.narrow()
        return self._made(stored, self._overlay.copy_over(stored))

    __copy__ = copy

    def __deepcopy__(self: _Self, memo: dict[int, Any]) -> _Self:
        """A second mapping over the same file, with values and edits of its own."""
        stored = deepcopy(self._stored, memo)
        overlay = self._overlay.copy_over(stored)
        overlay.replaced, overlay.added = deepcopy((overlay.replaced, overlay.added), memo)
        return self._made(stored, overlay)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle how the file was opened, which of its names are visible, and the edits in memory.

        Edits are assigned values, removed names, and parameters that `set_data` was called on. Arrays of a map that
        were changed in place are not. An unpickled checkpoint opens its file on first use, which raises `ChangedFile`
        if the file is another one now. All that were unpickled from one checkpoint share one open file in a process;
        it is closed with the last of them.

        Raises:
            NotPicklable: the checkpoint was opened with a key that is not a `KeyReference`, or from bytes in memory.
            ClosedCheckpoint: it was closed.
        """
        return _unpickled, (type(self), self._stored, self._overlay)

    def __or__(self: _Self, other: MutableMapping[str, Value]) -> _Self:
        merged = self.copy()
        merged.update(other)
        return merged

    def __ior__(self: _Self, other: MutableMapping[str, Value]) -> _Self:
        self.update(other)
        return self

    def _made(self: _Self, stored: StoredValues, overlay: Overlay[str, Value]) -> _Self:
        """A mapping of the same class over other values."""
        return _unpickled(type(self), stored, overlay)

    def _walk(self) -> Iterator[tuple[str, Value]]:
        """Every name with its value, as `__getitem__` gives it."""
        return self._overlay.merge(self._stored.iter_entries(), self._stored.value_of)


class _Items(ItemsView[str, Value]):
    _mapping: LazyMapping

    def __iter__(self) -> Iterator[tuple[str, Value]]:
        return self._mapping._walk()


class _Values(ValuesView[Value]):
    _mapping: LazyMapping

    def __iter__(self) -> Iterator[Value]:
        return (value for _, value in self._mapping._walk())


def _unpickled(kind: type[_Self], stored: StoredValues, overlay: Overlay[str, Value]) -> _Self:
    """A mapping over values and edits that are there already."""
    mapping = kind.__new__(kind)
    mapping._stored, mapping._overlay = stored, overlay
    return mapping
