"""`StoredValues`: the values of a file by name, read on first access and then kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import TYPE_CHECKING, Any, Final

from lazyckpt.errors import ClosedCheckpoint, StaleIndex
from lazyckpt.index.selection import AllNames, Names, SomeNames
from lazyckpt.index.store import PARAM_KEY_MARK
from lazyckpt.model.entry import TENSOR, Entry
from lazyckpt.parameter import Parameter
from lazyckpt.reading.reader import Reader

Value = Any  # a Parameter, a str, a list of three arrays (a map), or whatever was assigned
_OPENED_LATE: Final = ("source", "index", "names")


class StoredValues(Mapping[str, Value]):
    """A read-only mapping over a file: found through the index, read on first access, then kept.

    The cache of values is shared by all mappings that `narrow` makes, so that a name gives one object everywhere.
    Safe for many threads.

    Attributes:
        source: the bytes of the file.
        index: of the whole file.
        reader: reads the values.
        names: the names that are seen, with their ordinals.
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
            """Open the file of an unpickled mapping, when something is needed that only the file has.

            Raises:
                ChangedFile: the file is another now.
                MissingFile, …: as when it was opened first.
            """
            if name not in _OPENED_LATE or "reader" not in self.__dict__:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            file = self.reader.file
            self.source, self.index = file.source, file.index
            self.__dict__.setdefault("names", AllNames(file.index))
            return self.__dict__[name]

    @property
    def is_whole(self) -> bool:
        """Whether every name of the file is seen, and no parameter's value was replaced by `set_data`."""
        return isinstance(self.names, AllNames) and not self.replaced_parameters()

    def check_open(self) -> None:
        """Refuse to work on a closed file.

        Raises:
            ClosedCheckpoint: it was closed.
        """
        if self.is_closed:
            raise ClosedCheckpoint(f"the checkpoint {self.source.name} was closed")

    def position(self, name: str) -> int | None:
        """The ordinal of a name in the index; None if it is not seen. Cost: an index look-up."""
        self.check_open()
        return self.names.position(name)

    def entry(self, name: str) -> Entry:
        """The entry of a name.

        Raises:
            KeyError: the name does not exist.
            StaleIndex: the index contradicts itself.
        """
        ordinal = self.position(name) if isinstance(name, str) else None
        if ordinal is None:
            raise KeyError(name)
        return self._at(ordinal, name)

    def iter_entries(self) -> Iterator[tuple[str, Entry]]:
        """The names in file order with their entries. Cost: for a whole file one walk over its records."""
        self.check_open()
        if isinstance(self.names, AllNames):
            return ((entry.name, entry) for entry in self.index.entries())
        return ((name, self._at(self.names.position(name) or 0, name)) for name in self.names)

    def value_of(self, name: str, entry: Entry) -> Value:
        """The value behind an entry: the one that was made before, else a new one. Strings and maps are read here."""
        value = self._cache.get(name)
        if value is None:
            made = Parameter(entry, self.reader) if entry.kind == TENSOR else self.reader.value(entry)
            value = self._cache.setdefault(name, made)  # another thread's, if that was faster
        return value

    def in_memory(self, name: str) -> Value | None:
        """A value that may differ from the file's: of `set_data`, or a string or map that was read. Else None."""
        value = self._cache.get(name)
        return None if isinstance(value, Parameter) and not value.is_edited else value

    def replaced_parameters(self) -> dict[str, Parameter]:
        """The parameters whose values `set_data` replaced; of the whole cache, so maybe of names that are not seen."""
        made = list(self._cache.items())  # at once: other threads may add to it
        return {name: value for name, value in made if isinstance(value, Parameter) and value.is_edited}

    def narrow(self, names: Names | None = None) -> StoredValues:
        """A second mapping over the same file and values, which sees these names (None for the same ones)."""
        seen = self.names if names is None else names
        return StoredValues(self.reader, seen, self._cache)

    def close(self) -> None:
        """Close the file and the index. What came out of a pickle shares them, and leaves them open."""
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
        # Kept values need no look-up. (Of some names the cache may hold others: a view shares it.)
        value = self._cache.get(name)
        if value is not None and not self.is_closed and isinstance(self.names, AllNames):
            return value
        ordinal = self.position(name) if isinstance(name, str) else None
        if ordinal is None:
            raise KeyError(name)
        return self.value_of(name, self._at(ordinal, name)) if value is None else value

    def __deepcopy__(self, memo: dict[int, Any]) -> StoredValues:
        cache = deepcopy(self.replaced_parameters(), memo)
        return StoredValues(self.reader, self.names, cache)

    def __reduce__(self) -> tuple[Any, ...]:
        """How the file was opened, which names are seen, and what `set_data` replaced."""
        self.check_open()
        names = self.__dict__.get("names")  # absent after a pickle until the first use: then all names are seen
        ordinals = names.places if isinstance(names, SomeNames) else None
        return _unpickled_values, (self.reader, ordinals, self.replaced_parameters())

    def _at(self, ordinal: int, name: str) -> Entry:
        """The entry at an ordinal, which must be the name's (or the one that MindSpore renames to it)."""
        entry = self.index.at(ordinal)
        if name not in (entry.name, entry.name.partition(PARAM_KEY_MARK)[0]):
            raise StaleIndex(
                "the index is damaged (a name leads to the record of another); rebuild it (lazyckpt index --force)",
                parameter=name,
                file=self.source.name,
            )
        return entry


def _unpickled_values(reader: Reader, ordinals: dict[str, int] | None, cache: dict[str, Value]) -> StoredValues:
    """Values as they were when they were pickled; the file is opened when it is first needed."""
    values = StoredValues.__new__(StoredValues)
    values.reader, values.is_closed, values._cache = reader, False, cache
    if ordinals is not None:
        values.names = SomeNames(ordinals)
    return values
