"""The ordered mapping name -> value over a file, with edits in memory.

`StoredValues` is the file: read-only, found through the index, read on first access, then kept. `LazyMapping` is an
`Overlay` (edits) over it, and behaves as the dict that MindSpore returns: names are strings, and it can be walked,
copied, merged and pickled.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, Mapping, MutableMapping, ValuesView
from copy import deepcopy
from typing import TYPE_CHECKING, Any, Final, TypeVar

from lazyckpt.checkpoint.overlay import Overlay
from lazyckpt.errors import ClosedCheckpoint, MissingName, StaleIndex
from lazyckpt.index.selection import AllNames, Names, SomeNames
from lazyckpt.index.store import PARAM_KEY_MARK
from lazyckpt.model.entry import TENSOR, Entry
from lazyckpt.model.similar_names import missing
from lazyckpt.parameter import Parameter
from lazyckpt.reading.reader import Reader

Value = Any  # a Parameter, a str, a list of three arrays (a map), or any assigned object
_OPENED_LATE: Final = ("source", "index", "names")
_Self = TypeVar("_Self", bound="LazyMapping")


class StoredValues(Mapping[str, Value]):
    """A read-only mapping over a file: found through the index, read on first access, then kept.

    The cache of values is shared by all mappings that `narrow` makes, so that a name gives one object everywhere.
    Safe for many threads.

    Attributes:
        source: the bytes of the file.
        index: of the whole file.
        reader: reads the values.
        names: the visible names, with their ordinals.
        is_closed: whether `close` was called on the checkpoint.
    """

    def __init__(self, reader: Reader, names: Names, cache: dict[str, Value] | None = None) -> None:
        self.source = reader.file.source
        self.index = reader.file.index
        self.reader = reader
        self.names = names
        self.is_closed = False
        self._cache: dict[str, Value] = {} if cache is None else cache

    if not TYPE_CHECKING:  # so that the type checker still finds misspelt names

        def __getattr__(self, name: str) -> Any:
            """Open the file of an unpickled mapping when an attribute of the file is first needed.

            Raises:
                ChangedFile: the file was changed or replaced.
                MissingFile, …: as when it was first opened.
            """
            if name not in _OPENED_LATE or "reader" not in self.__dict__:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            file = self.reader.file
            self.source, self.index = file.source, file.index
            self.__dict__.setdefault("names", AllNames(file.index))
            return self.__dict__[name]

    @property
    def is_whole(self) -> bool:
        """Whether every name of the file is visible, and `set_data` replaced no value."""
        return isinstance(self.names, AllNames) and not self.replaced_parameters()

    def check_open(self) -> None:
        """Raise an error if the checkpoint is closed.

        Raises:
            ClosedCheckpoint: it was closed.
        """
        if self.is_closed:
            raise ClosedCheckpoint(f"the checkpoint {self.source.name} was closed")

    def position(self, name: str) -> int | None:
        """The ordinal of a name in the index; None if it is not visible. Cost: an index look-up."""
        self.check_open()
        return self.names.position(name)

    def entry(self, name: str) -> Entry:
        """The entry of a name.

        Raises:
            MissingName: the name does not exist.
            StaleIndex: the index contradicts itself.
        """
        ordinal = self.position(name) if isinstance(name, str) else None
        if ordinal is None:
            raise self.missing(name)
        return self._at(ordinal, name)

    def iter_entries(self) -> Iterator[tuple[str, Entry]]:
        """The names in file order with their entries. Cost: for a whole file one walk over its records."""
        self.check_open()
        if isinstance(self.names, AllNames):
            return ((entry.name, entry) for entry in self.index.entries())
        return ((name, self._at(self.names.position(name) or 0, name)) for name in self.names)

    def value_of(self, name: str, entry: Entry) -> Value:
        """The value of an entry, from the cache or new. Strings and maps are read now."""
        value = self._cache.get(name)
        if value is None:
            made = Parameter(entry, self.reader) if entry.kind == TENSOR else self.reader.value(entry)
            value = self._cache.setdefault(name, made)  # the first thread's value wins
        return value

    def missing(self, name: object) -> MissingName:
        """The error for a name that is not visible. Cost: nothing until its message is shown."""
        return missing(name, self.names, self.names.some_with_prefix, is_exact=True)

    def in_memory(self, name: str) -> Value | None:
        """A cached value that may differ from the file's: a string, a map, or one of `set_data`."""
        value = self._cache.get(name)
        return None if isinstance(value, Parameter) and not value.is_edited else value

    def replaced_parameters(self) -> dict[str, Parameter]:
        """The cached parameters whose values `set_data` replaced; their names may be hidden."""
        made = list(self._cache.items())  # at once: other threads may add to it
        return {name: value for name, value in made if isinstance(value, Parameter) and value.is_edited}

    def narrow(self, names: Names | None = None) -> StoredValues:
        """A second mapping over the same file and cache, with the given names (None for the same)."""
        seen = self.names if names is None else names
        return StoredValues(self.reader, seen, self._cache)

    def close(self) -> None:
        """Close the file and the index, unless a pickle shares them with others."""
        self.is_closed = True
        if not self.reader.is_lent:
            self.reader.file.close()

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[str]:
        self.check_open()
        return iter(self.names)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.position(name) is not None

    def __getitem__(self, name: str) -> Value:
        # Cached values need no look-up if all names are visible. (Views share the cache, so it may hold hidden names.)
        value = self._cache.get(name)
        if value is not None and not self.is_closed and isinstance(self.names, AllNames):
            return value
        ordinal = self.position(name) if isinstance(name, str) else None
        if ordinal is None:
            raise self.missing(name)
        return self.value_of(name, self._at(ordinal, name)) if value is None else value

    def __deepcopy__(self, memo: dict[int, Any]) -> StoredValues:
        cache = deepcopy(self.replaced_parameters(), memo)
        return StoredValues(self.reader, self.names, cache)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the handle of the file, the visible names, and the values that `set_data` replaced."""
        self.check_open()
        names = self.__dict__.get("names")  # absent after unpickling until the first use: then all names are visible
        ordinals = names.ordinals if isinstance(names, SomeNames) else None
        return _unpickled_values, (self.reader, ordinals, self.replaced_parameters())

    def _at(self, ordinal: int, name: str) -> Entry:
        """The entry at an ordinal; its name must be `name`, or shortened to it by MindSpore."""
        entry = self.index.at(ordinal)
        if name not in (entry.name, entry.name.partition(PARAM_KEY_MARK)[0]):
            raise StaleIndex(
                "the index is damaged (a name leads to the record of another); rebuild it (lazyckpt index --force)",
                parameter=name,
                file=self.source.name,
            )
        return entry


def _unpickled_values(reader: Reader, ordinals: dict[str, int] | None, cache: dict[str, Value]) -> StoredValues:
    """Unpickle values; the file is opened on first use."""
    values = StoredValues.__new__(StoredValues)
    values.reader, values.is_closed, values._cache = reader, False, cache
    if ordinals is not None:
        values.names = SomeNames(ordinals)
    return values


class LazyMapping(MutableMapping[str, Value]):
    """A lazy, ordered mapping over a file, with edits in memory: the dict part of `Checkpoint`."""

    def __init__(self, reader: Reader, names: Names) -> None:
        """Not for users: call `lazyckpt.load_checkpoint`."""
        self._stored = StoredValues(reader, names)
        self._overlay: Overlay[str, Value] = Overlay(self._stored)

    @property
    def path(self) -> str:
        """The path of the opened file, links resolved, or the URL of a remote object. Reads nothing."""
        return self._stored.source.name

    def entry(self, name: str) -> Entry:
        """The entry of a name in the index of the file.

        Args:
            name: a name of the mapping.

        Returns:
            Its kind, dtype, shape (a tuple of int), and its extents (offset and length in bytes).

        Raises:
            MissingName: the name does not exist in the file, or was removed from the mapping (a `KeyError`).
            StaleIndex: the index contradicts itself.

        Cost: two index look-ups. No payload is read.
        """
        if name in self._overlay.removed:
            raise self._missing(name)
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
            MissingName: the name does not exist (a `KeyError`; its message offers similar names).
        """
        overlay = self._overlay
        if not (overlay.added or overlay.replaced or overlay.removed):
            return self._stored[name]  # the common case; the overlay would add a third to the time
        try:
            return overlay[name]
        except KeyError:
            raise self._missing(name) from None

    def __setitem__(self, name: str, value: Value) -> None:
        """Set a value in memory: an existing name keeps its position, a new one comes last."""
        if not isinstance(name, str):
            raise TypeError(f"names are strings, not {type(name).__name__}")
        self._overlay[name] = value

    def __delitem__(self, name: str) -> None:
        """Remove a name from the mapping; the file keeps it.

        Raises:
            MissingName: the name does not exist.
        """
        try:
            del self._overlay[name]
        except KeyError:
            raise self._missing(name) from None

    def popitem(self) -> tuple[str, Value]:
        """Remove and return the last item, as dict does; the file keeps it.

        Raises:
            KeyError: the checkpoint is empty.

        Cost: a walk over the names. The payload of a tensor is not read.
        """
        if not len(self):
            raise KeyError("popitem(): the checkpoint is empty")
        return self._overlay.popitem()

    def clear(self) -> None:
        """Remove every name from the mapping; the file keeps them. Reads nothing."""
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
        if the file was changed or replaced. All copies that were unpickled from one checkpoint share one open file in
        a process; it is closed with the last of them.

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

    def _missing(self, name: object) -> MissingName:
        return missing(name, self, self._stored.names.some_with_prefix, is_exact=True)

    def _walk(self) -> Iterator[tuple[str, Value]]:
        """Every name with its value, as from `__getitem__`."""
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
    """A mapping over existing values and edits."""
    mapping = kind.__new__(kind)
    mapping._stored, mapping._overlay = stored, overlay
    return mapping
