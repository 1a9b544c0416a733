"""`Checkpoint`: the lazy mapping name -> value that `load_checkpoint` returns.

It behaves as the dict that MindSpore returns, in file order, with two differences: values are found through the index
and read when they are looked at, and nothing that was not looked at takes memory. Edits (`ckpt["new"] = …`, `del`,
`pop`, `update`) live in memory and never touch the file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, MutableMapping
from typing import Any, Final, Protocol

import numpy as np

from lazyckpt.entry import MAP, TENSOR, Entry
from lazyckpt.errors import ClosedCheckpoint, StaleIndex
from lazyckpt.index import Index
from lazyckpt.index.store import PARAM_KEY_MARK
from lazyckpt.parameter import Parameter
from lazyckpt.payload import Payloads
from lazyckpt.reading import read_all
from lazyckpt.sources import Source

Value = Any  # Parameter, str, a list of three arrays (a map), or whatever was assigned
Progress = Callable[[int, int], object]
REPR_ITEMS: Final = 100
UNEDITED: Final = object()


class Names(Protocol):
    """Names of the file, in file order, with their places in the index."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[str]: ...
    def position(self, name: str) -> int | None:
        """The place of a name, or None."""


class AllNames:
    """Every name of an index. Costs nothing to make."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self.position = index.position

    def __len__(self) -> int:
        return len(self._index)

    def __iter__(self) -> Iterator[str]:
        return iter(self._index)


class SomeNames:
    """Chosen names, or names under which entries are known here."""

    def __init__(self, places: dict[str, int]) -> None:
        self._places = places
        self.position = places.get

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)


class Checkpoint(MutableMapping[str, Value]):
    """A lazy, ordered mapping of a checkpoint's names to its values.

    Values are `Parameter`s; a string that was saved with `append_dict` is a `str`, a map parameter a list of three
    arrays (keys, values, status). `len`, `in`, iteration, `keys` and `repr` read no payload. The same name gives the
    same object twice. A context manager; closing is optional, and arrays already handed out stay valid. Reading is
    safe for many threads; editing is not.
    """

    def __init__(self, source: Source, index: Index, payloads: Payloads, names: Names) -> None:
        """Not for users: call `lazyckpt.load_checkpoint`."""
        self._source = source
        self._index = index
        self._payloads = payloads
        self._names = names
        self._made: dict[str, Value] = {}
        self._replaced: dict[str, Value] = {}
        self._removed: set[str] = set()
        self._appended: dict[str, Value] = {}
        self._closed = False

    @property
    def path(self) -> str:
        """The file that was opened, links resolved."""
        return self._source.name

    @property
    def index(self) -> Index:
        """The index of the whole file."""
        return self._index

    def entry(self, name: str) -> Entry:
        """What the file says of a name: kind, dtype, shape, where its bytes are. Reads nothing.

        Raises:
            KeyError: there is no such name in the file, or it was taken out of the mapping.
            StaleIndex: the index contradicts itself.
        """
        position = self._position(name) if isinstance(name, str) else None
        if position is None:
            raise KeyError(name)
        return self._at(position, name)

    def peek(self, name: str) -> Value | Entry:
        """What is known of a name without reading: the value if it was set or read already, else its entry.

        Raises:
            KeyError: there is no such name.
        """
        edited = self._edited(name)
        return self.entry(name) if edited is UNEDITED else edited

    def edits(self) -> dict[str, Value]:
        """The values that were assigned to this mapping."""
        return {**self._replaced, **self._appended}

    def release(self, start: int, stop: int | None = None) -> None:
        """Hint that bytes `start` to `stop` of the file (None: its end) will not be looked at again soon.

        A mapped file's pages then leave this process's memory. What was handed out stays valid.
        """
        self._source.release(start, (self._source.size if stop is None else stop) - start)

    def to_mindspore(self, names: Iterable[str] | None = None) -> dict[str, Any]:
        """MindSpore's own mapping of the values: a plain dict of its Parameters (and strings, and lists of arrays).

        Args:
            names: which; None for all.

        Raises:
            ImportError: MindSpore is not installed.
            KeyError: a name is not there; nothing is read then.

        Cost: see `Parameter.to_mindspore`.
        """
        wanted = list(self if names is None else names)
        for name in wanted:
            self.peek(name)
        values = ((name, self[name]) for name in wanted)
        return {name: value.to_mindspore() if isinstance(value, Parameter) else value for name, value in values}

    def __len__(self) -> int:
        return len(self._names) - len(self._removed) + len(self._appended)

    def __iter__(self) -> Iterator[str]:
        self._check_open()
        if self._removed:
            yield from (name for name in self._names if name not in self._removed)
        else:
            yield from self._names
        yield from self._appended

    def __reversed__(self) -> Iterator[str]:
        return reversed(list(self))

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and (name in self._appended or self._position(name) is not None)

    def __getitem__(self, name: str) -> Value:
        """The value of a name.

        Cost: two index look-ups the first time. A string or a map is read here; a tensor is not.

        Raises:
            KeyError: there is no such name.
        """
        if name in self._appended:
            return self._appended[name]
        if name in self._replaced:
            return self._replaced[name]
        position = self._position(name) if isinstance(name, str) else None
        if position is None:
            raise KeyError(name)
        value = self._made.get(name)
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
        """Remove and return the last item, as dict does."""
        for name in reversed(self):
            return name, self.pop(name)
        raise KeyError("popitem(): the checkpoint is empty")

    def clear(self) -> None:
        """Take every name out of the mapping; the file keeps them."""
        self._names = SomeNames({})
        self._replaced, self._removed, self._appended = {}, set(), {}

    def copy(self) -> Checkpoint:
        """A second mapping over the same values, with edits of its own from here on."""
        other = Checkpoint(self._source, self._index, self._payloads, self._names)
        other._made = self._made
        other._replaced = dict(self._replaced)
        other._removed = set(self._removed)
        other._appended = dict(self._appended)
        return other

    def __or__(self, other: MutableMapping[str, Value]) -> Checkpoint:
        merged = self.copy()
        merged.update(other)
        return merged

    def __ior__(self, other: MutableMapping[str, Value]) -> Checkpoint:
        self.update(other)
        return self

    def select(self, choice: str | Callable[[str], object]) -> Checkpoint:
        """A narrower view: the names that start with a prefix, or for which a function is true.

        The view shares this one's values (the same objects) and takes over its edits so far. It needs this checkpoint
        to stay open.

        Cost: O(matches) for a prefix, a walk over the names for a function. Reads nothing.
        """
        self._check_open()
        keep: Callable[[str], object] = (lambda name: name.startswith(choice)) if isinstance(choice, str) else choice
        if isinstance(choice, str) and isinstance(self._names, AllNames):
            places = dict(self._index.with_prefix(choice))
        else:
            places = {name: self._names.position(name) or 0 for name in self._names if keep(name)}
        view = self.copy()
        view._names = SomeNames({name: place for name, place in places.items() if name not in self._removed})
        view._removed = set()
        view._replaced = {name: value for name, value in self._replaced.items() if name in places}
        view._appended = {name: value for name, value in self._appended.items() if keep(name)}
        return view

    def load(
        self, names: Iterable[str] | None = None, *, workers: int | None = None, progress: Progress | None = None
    ) -> dict[str, Any]:
        """Read many values at once into memory of their own.

        Args:
            names: which; None for all.
            workers: threads; None for as many as pay, 1 for none.
            progress: called as `progress(done, total)` with byte counts.

        Returns:
            name -> aligned, writable numpy array (a str for strings, a list of arrays for maps), in the order of
            `names`. The file is read in file order whatever that is.

        Raises:
            KeyError: a name is not there; nothing is read then.

        Cost: allocates the sum of the values.
        """
        wanted = list(self if names is None else names)
        jobs: dict[str, Entry] = {}
        values: dict[str, Any] = {}
        for name in wanted:
            value = self._edited(name)
            if value is UNEDITED:
                jobs[name] = self.entry(name)
            else:
                values[name] = _own(value)
        values.update(read_all(self._payloads, jobs, workers, progress))
        return {name: values[name] for name in wanted}

    def close(self) -> None:
        """Let go of the file and the index. Arrays already handed out stay valid. May be called twice."""
        self._closed = True
        self._source.close()
        self._index.close()

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        """As the dict that MindSpore returns; strings and maps that were not read are described. Reads no payload."""
        if self._closed:
            return f"<closed Checkpoint {self.path!r}>"
        shown: list[str] = []
        for name in self:
            if len(shown) == REPR_ITEMS:
                shown.append(f"… and {len(self) - REPR_ITEMS:,} more")
                break
            shown.append(f"{name!r}: {self._describe(name)}")
        return "{" + ", ".join(shown) + "}"

    def _ipython_key_completions_(self) -> list[str]:
        return list(self)

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
        if name in self._replaced:
            return self._replaced[name]
        position = self._position(name) if isinstance(name, str) else None
        made = UNEDITED if position is None else self._made.get(name, UNEDITED)
        return UNEDITED if isinstance(made, Parameter) and not made.is_edited else made

    def _describe(self, name: str) -> str:
        edited = self._edited(name)
        if edited is not UNEDITED:
            return repr(edited)
        entry = self.entry(name)
        if entry.kind == TENSOR:
            return repr(Parameter(entry, self._payloads))
        if entry.kind == MAP:
            return "[" + ", ".join(f"<{array.dtype} {array.shape}>" for array in entry.arrays) + "]"
        return f"<str of {entry.stored // 4:,} characters>"

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedCheckpoint(f"the checkpoint {self.path} was closed")


def _own(value: Value) -> Value:
    """A value in memory of its own."""
    if isinstance(value, Parameter):
        return value.asnumpy(copy=True)
    if isinstance(value, list):
        return [_own(part) for part in value]
    return value.copy() if isinstance(value, np.ndarray) else value
