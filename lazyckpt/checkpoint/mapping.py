"""The lazy, ordered mapping of names to values, and what was changed in it.

Values are found through the index when they are asked for. Edits (`ckpt["new"] = …`, `del`, `pop`, `update`) live in
memory beside it and never touch the file.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, MutableMapping, ValuesView
from copy import deepcopy
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, TypeVar

from lazyckpt.errors import ClosedCheckpoint, StaleIndex
from lazyckpt.index.record_runs import tensor_runs
from lazyckpt.index.selection import AllNames, Names, SomeNames
from lazyckpt.index.store import PARAM_KEY_MARK
from lazyckpt.model.entry import TENSOR, Entry
from lazyckpt.model.tensor_runs import TensorRun
from lazyckpt.parameter import Parameter
from lazyckpt.reading.reader import Reader

Value = Any  # Parameter, str, a list of three arrays (a map), or whatever was assigned
UNEDITED: Final = object()
_OF_FILE: Final = ("_source", "_index", "_names")
_Self = TypeVar("_Self", bound="LazyMapping")


class LazyMapping(MutableMapping[str, Value]):
    """See `Checkpoint`, whose half this is."""

    def __init__(self, reader: Reader, names: Names) -> None:
        """Not for users: call `lazyckpt.load_checkpoint`."""
        self._source = reader.file.source
        self._index = reader.file.index
        self._payloads = reader
        self._names = names
        self._made: dict[str, Value] = {}
        self._replaced: dict[str, Value] = {}
        self._removed: set[str] = set()
        self._appended: dict[str, Value] = {}
        self._closed = False

    if not TYPE_CHECKING:  # so that what is misspelt is still found

        def __getattr__(self, name: str) -> Any:
            """Of a mapping that came out of a pickle, what only its file tells, which is open from then on.

            Raises:
                ChangedFile: the file is another now.
                MissingFile, …: as when it was opened first.
            """
            if name not in _OF_FILE or "_payloads" not in self.__dict__:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            file = self._payloads.file
            self._source, self._index = file.source, file.index
            self.__dict__.setdefault("_names", AllNames(file.index))
            return self.__dict__[name]

    @property
    def payloads(self) -> Reader:
        """What reads the values of the file. Reads nothing by itself."""
        return self._payloads

    @property
    def path(self) -> str:
        """The file that was opened, links resolved; of an object elsewhere its URL. Reads nothing."""
        return self._source.name

    def entry(self, name: str) -> Entry:
        """What the file says of a name.

        Args:
            name: a name of the mapping.

        Returns:
            Its kind, dtype, shape (a tuple of int), and its extents (offset and length in bytes).

        Raises:
            KeyError: there is no such name in the file, or it was taken out of the mapping.
            StaleIndex: the index contradicts itself.

        Cost: two index look-ups. No payload is read.
        """
        position = self._position(name) if isinstance(name, str) else None
        if position is None:
            raise KeyError(name)
        return self._at(position, name)

    def peek(self, name: str) -> Value | Entry:
        """What is known of a name without reading.

        Args:
            name: a name of the mapping.

        Returns:
            The value if it was set or read already, else its entry.

        Raises:
            KeyError: there is no such name.

        Cost: two index look-ups. No payload is read.
        """
        edited = self._edited(name)
        return self.entry(name) if edited is UNEDITED else edited

    def place_of(self, name: str) -> int | None:
        """The place of a name in the file's index.

        Args:
            name: any name.

        Returns:
            Its number in file order, from 0; None if the file lacks it, or if it was taken out of the mapping.

        Raises:
            ClosedCheckpoint: it was closed.

        Cost: an index look-up. No payload is read.
        """
        return self._position(name)

    def known(self) -> Iterator[tuple[str, Value | Entry]]:
        """Every name, in order, with what `peek` says of it. Cost: for a whole file a walk over its records."""
        self._check_open()
        for name, entry in self._of_file():
            held = self._held(name)
            yield name, entry if held is UNEDITED else held
        yield from self._appended.items()

    def _in_stretches(self) -> Iterator[tuple[str, Value | Entry | TensorRun]]:
        """`known`, but that small values of an unedited file that lies at hand come in stretches (with no name)."""
        if not (self.is_whole and self._payloads.is_addressable):
            yield from self.known()
            return
        self._check_open()
        for found in tensor_runs(self._index):
            if isinstance(found, Entry):
                held = self._held(found.name)
                yield found.name, found if held is UNEDITED else held
            else:
                yield "", found

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

    @property
    def is_whole(self) -> bool:
        """Whether it shows the file as it is: every name, no value that was set, here or in a view. Reads nothing."""
        edited = bool(self._changed()) or self._removed or self._replaced or self._appended
        return isinstance(self._names, AllNames) and not edited

    def edits(self) -> dict[str, Value]:
        """The values that were assigned to this mapping, by name. Reads nothing."""
        return {**self._replaced, **self._appended}

    def __len__(self) -> int:
        return len(self._names) - len(self._removed) + len(self._appended)

    def __iter__(self) -> Iterator[str]:
        self._check_open()
        removed = self._removed
        names = (name for name in self._names if name not in removed) if removed else self._names
        return chain(names, self._appended)

    def __reversed__(self) -> Iterator[str]:
        return reversed(list(self))

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and (name in self._appended or self._position(name) is not None)

    def __getitem__(self, name: str) -> Value:
        """The value of a name.

        Cost: two index look-ups the first time, about 10 us, and half a microsecond later. A string or a map is read
        here; a tensor is not.

        Raises:
            KeyError: there is no such name.
        """
        if name in self._appended:
            return self._appended[name]
        if name in self._replaced:
            return self._replaced[name]
        value = self._made.get(name)
        if value is not None and not self._closed and not self._removed and isinstance(self._names, AllNames):
            return value
        position = self._position(name) if isinstance(name, str) else None
        if position is None:
            raise KeyError(name)
        if value is None:
            value = self._made.setdefault(name, self._make(self._at(position, name)))
        return value

    def __setitem__(self, name: str, value: Value) -> None:
        """Set a value in memory: an old name keeps its place, a new one comes last."""
        if not isinstance(name, str):
            raise TypeError(f"names are strings, not {type(name).__name__}")
        if name not in self._appended and self._position(name) is not None:
            self._replaced[name] = value
        else:
            self._appended[name] = value

    def __delitem__(self, name: str) -> None:
        """Take a name out of the mapping; the file keeps it."""
        if name in self._appended:
            del self._appended[name]
        elif isinstance(name, str) and self._position(name) is not None:
            self._replaced.pop(name, None)
            self._removed.add(name)
        else:
            raise KeyError(name)

    def popitem(self) -> tuple[str, Value]:
        """Remove and return the last item, as dict does; the file keeps it.

        Raises:
            KeyError: the checkpoint is empty.

        Cost: a walk over the names. Of a tensor no payload is read.
        """
        for name in reversed(self):
            return name, self.pop(name)
        raise KeyError("popitem(): the checkpoint is empty")

    def clear(self) -> None:
        """Take every name out of the mapping; the file keeps them. Reads nothing."""
        self._names = SomeNames({})
        self._replaced, self._removed, self._appended = {}, set(), {}

    def copy(self: _Self) -> _Self:
        """A second mapping over the same values, with edits of its own from here on. Reads nothing."""
        other = type(self)(self._payloads, self._names)
        other._made = self._made
        other._replaced = dict(self._replaced)
        other._removed = set(self._removed)
        other._appended = dict(self._appended)
        return other

    __copy__ = copy

    def __deepcopy__(self: _Self, memo: dict[int, Any]) -> _Self:
        """A second mapping over the same file, with values and edits of its own."""
        other = self.copy()
        other._made = deepcopy(self._changed(), memo)
        other._replaced, other._appended = deepcopy((self._replaced, self._appended), memo)
        return other

    def __reduce__(self) -> tuple[Any, ...]:
        """What pickles: how the file was opened, which names of it are seen, and the edits in memory.

        Edits are what was assigned, what was taken out, and what `set_data` was called on; the arrays of a map that was
        read, and changed in place, are not. What comes out of a pickle opens its file when it is first used, which
        raises `ChangedFile` if that is another now. In a process all that came from one checkpoint share one open file,
        which is closed with the last of them.

        Raises:
            NotPicklable: the checkpoint was opened with a key that is no `KeyReference`, or from bytes in memory.
            ClosedCheckpoint: it was closed.
        """
        self._check_open()
        names = self.__dict__.get("_names")  # not there if it came out of a pickle and was not used: then all are seen
        places = names.places if isinstance(names, SomeNames) else None
        edits = (self._changed(), self._replaced, self._removed, self._appended)
        return _unpickled, (type(self), self._payloads, places, *edits)

    def __or__(self: _Self, other: MutableMapping[str, Value]) -> _Self:
        merged = self.copy()
        merged.update(other)
        return merged

    def __ior__(self: _Self, other: MutableMapping[str, Value]) -> _Self:
        self.update(other)
        return self

    def _position(self, name: str) -> int | None:
        self._check_open()
        return None if name in self._removed else self._names.position(name)

    def _at(self, position: int, name: str) -> Entry:
        """The entry at a place, which must be the name's (or the one that MindSpore renames to it)."""
        entry = self._index.at(position)
        if name not in (entry.name, entry.name.partition(PARAM_KEY_MARK)[0]):
            raise StaleIndex(
                "the index is damaged (a name leads to the record of another); rebuild it (lazyckpt index --force)",
                parameter=name,
                file=self.path,
            )
        return entry

    def _make(self, entry: Entry) -> Value:
        if entry.kind == TENSOR:
            return Parameter(entry, self._payloads)
        return self._payloads.value(entry)

    def _edited(self, name: str) -> Value:
        """A value that is in memory and may differ from the file's, or UNEDITED."""
        if name in self._appended:
            return self._appended[name]
        position = self._position(name) if isinstance(name, str) else None
        return UNEDITED if position is None else self._held(name)

    def _held(self, name: str) -> Value:
        """`_edited` for a name that is known to be the file's."""
        if name in self._replaced:
            return self._replaced[name]
        made = self._made.get(name, UNEDITED)
        return UNEDITED if isinstance(made, Parameter) and not made.is_edited else made

    def _of_file(self) -> Iterator[tuple[str, Entry]]:
        """The names of the file that are seen, in order, with their entries."""
        if isinstance(self._names, AllNames):
            found = ((entry.name, entry) for entry in self._index.entries())
        else:
            found = ((name, self._at(self._names.position(name) or 0, name)) for name in self._names)
        return (item for item in found if item[0] not in self._removed) if self._removed else found

    def _walked(self) -> Iterator[tuple[str, Value]]:
        """Every name with its value, as `__getitem__` gives it."""
        self._check_open()
        for name, entry in self._of_file():
            if name in self._replaced:
                yield name, self._replaced[name]
                continue
            value = self._made.get(name)
            if value is None:
                value = self._made.setdefault(name, self._make(entry))
            yield name, value
        yield from self._appended.items()

    def _changed(self) -> dict[str, Parameter]:
        """The parameters of the file whose values `set_data` replaced."""
        made = list(self._made.items())  # at once: other threads may add to it
        return {name: value for name, value in made if isinstance(value, Parameter) and value.is_edited}

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedCheckpoint(f"the checkpoint {self.path} was closed")


class _Items(ItemsView[str, Value]):
    _mapping: LazyMapping

    def __iter__(self) -> Iterator[tuple[str, Value]]:
        return self._mapping._walked()


class _Values(ValuesView[Value]):
    _mapping: LazyMapping

    def __iter__(self) -> Iterator[Value]:
        return (value for _, value in self._mapping._walked())


def _unpickled(
    kind: type[_Self],
    payloads: Reader,
    places: dict[str, int] | None,
    made: dict[str, Value],
    replaced: dict[str, Value],
    removed: set[str],
    appended: dict[str, Value],
) -> _Self:
    """A mapping as it was when it was pickled; what it lacks is there when it is asked for."""
    mapping = kind.__new__(kind)
    mapping._payloads, mapping._closed = payloads, False
    mapping._made, mapping._replaced, mapping._removed, mapping._appended = made, replaced, removed, appended
    if places is not None:
        mapping._names = SomeNames(places)
    return mapping
