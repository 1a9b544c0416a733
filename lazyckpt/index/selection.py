"""The names of a checkpoint that are loaded: MindSpore's prefixes and `choice_func`.

MindSpore's rules: `specify_prefix` keeps the names that start with any of its prefixes, then `filter_prefix` drops the
names that start with any of its own. If either is given, `choice_func` is not called. All of them see the name as it
stands in the file. `choice_func` is called once for each name, in file order, when the checkpoint is opened.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from typing import NamedTuple, Protocol

from lazyckpt.errors import ArgumentTypeError, ArgumentValueError, ChoiceFunctionFailed, CorruptFile
from lazyckpt.index import Index
from lazyckpt.index.store import PARAM_KEY_MARK, name_fault
from lazyckpt.model.entry import REFUSED, Entry

ChoiceFunction = Callable[[str], object]
Prefixes = tuple[str, ...]


class Selection(NamedTuple):
    """The names that `load_checkpoint` keeps; all fields are None if it keeps all names.

    Attributes:
        specify: prefixes of names to keep.
        drop: prefixes of names to leave out.
        choice: a function of a name that is true if the name is kept.
        wraps_faults: whether errors of `choice` become errors of loading (in MindSpore for `.ckpt` files only).
    """

    specify: Prefixes | None = None
    drop: Prefixes | None = None
    choice: ChoiceFunction | None = None
    wraps_faults: bool = True

    @property
    def keeps_all(self) -> bool:
        """Whether no name can be left out."""
        return self.specify is None and self.drop is None and self.choice is None


def check_prefix(prefix: object) -> Prefixes | None:
    """A prefix argument as a tuple of strings, checked as MindSpore checks it.

    Raises:
        ArgumentTypeError: neither a string nor a list or tuple of strings.
        ArgumentValueError: empty, or with an empty string in it.
    """
    if prefix is None:
        return None
    if isinstance(prefix, str):
        prefixes: Prefixes = (prefix,)
    elif isinstance(prefix, (list, tuple)):
        if not prefix:
            raise ArgumentValueError(
                "For 'load_checkpoint', the argument 'specify_prefix' or 'filter_prefix' can't be empty when it is a"
                " list or tuple."
            )
        for ordinal, element in enumerate(prefix):
            if not isinstance(element, str):
                raise ArgumentTypeError(
                    "For 'load_checkpoint', when 'specify_prefix' or 'filter_prefix' is list or tuple, the element in"
                    f" it must be string, but got {type(element)} at index {ordinal}."
                )
        prefixes = tuple(prefix)
    else:
        raise ArgumentTypeError(
            "For 'load_checkpoint', the type of 'specify_prefix' or 'filter_prefix' must be string, list[string] or"
            f" tuple[string], but got {type(prefix)}."
        )
    if "" in prefixes:
        raise ArgumentValueError(
            "For 'load_checkpoint', the value of 'specify_prefix' or 'filter_prefix' can't include ''."
        )
    return prefixes


def choose(index: Index, selection: Selection, file: str) -> Names:
    """The chosen names, as MindSpore loads them, in file order.

    Args:
        index: of the file.
        selection: the names to choose.
        file: the file's name, for messages.

    Raises:
        ChoiceFunctionFailed: `choice_func` raised an Exception, which is the cause. (KeyboardInterrupt passes.)
        CorruptFile: a chosen parameter cannot be loaded by its name.

    Cost: none for all names; O(matches log n) when only `specify_prefix` is given, else one walk over all names.
    """
    if selection.keeps_all:
        renamed = {entry.name: ordinal for ordinal, entry in index._irregular() if _is_renamed(entry, file)}
        return RenamedNames(index, renamed) if renamed else AllNames(index)
    chosen = _chosen(index, selection, file)
    for _, entry in index._irregular():
        if entry.name in chosen and _is_renamed(entry, file):
            chosen[_name_of(entry.name)] = chosen.pop(entry.name)
    return SomeNames(chosen)


def _is_renamed(entry: Entry, file: str) -> bool:
    """Whether MindSpore loads an irregular entry by another name.

    Raises:
        CorruptFile: it cannot be loaded by name.
    """
    if entry.kind == REFUSED:
        raise CorruptFile(entry.reason, offset=entry.start, parameter=entry.name, file=file)
    if PARAM_KEY_MARK in entry.name:
        return True
    if fault := name_fault(entry.name, entry.kind):
        raise CorruptFile(
            f"{fault}; leave it out with choice_func",
            offset=entry.start,
            parameter=entry.name,
            file=file,
        )
    return False


def _name_of(marked: str) -> str:
    """The name by which MindSpore loads a marked parameter."""
    return marked.partition(PARAM_KEY_MARK)[0]


def _chosen(index: Index, selection: Selection, file: str) -> dict[str, int]:
    """The chosen names with their ordinals."""
    if selection.specify is not None and selection.drop is None:
        return _with_prefixes(index, selection.specify)
    return dict(_kept(index, selection, file))


def _with_prefixes(index: Index, prefixes: Prefixes) -> dict[str, int]:
    found = {ordinal: name for prefix in prefixes for name, ordinal in index.with_prefix(prefix)}
    return {found[ordinal]: ordinal for ordinal in sorted(found)}


def _kept(index: Index, selection: Selection, file: str) -> Iterator[tuple[str, int]]:
    specify, drop, choice, wraps = selection
    if specify is not None or drop is not None:
        choice = None
    for ordinal, name in enumerate(index):
        if specify is not None and not name.startswith(specify):
            continue
        if drop is not None and name.startswith(drop):
            continue
        if choice is None or (_asked(choice, name, file) if wraps else choice(name)):
            yield name, ordinal


def _asked(choice: ChoiceFunction, name: str, file: str) -> bool:
    try:
        return bool(choice(name))
    except Exception as error:
        raise ChoiceFunctionFailed(
            f"{error}\nFor 'load_checkpoint', failed to load the checkpoint file {file}: choice_func raised"
            f" {type(error).__name__} for {name!r}."
        ) from error


class Names(Protocol):
    """Names of the file, in file order, with their ordinals in the index."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[str]: ...
    def position(self, name: str) -> int | None:
        """The ordinal of a name, or None."""

    def pairs(self) -> Iterable[tuple[str, int]]:
        """All names with their ordinals."""

    def with_prefix(self, prefix: str) -> Iterable[tuple[str, int]]:
        """The names that start with a prefix, with their ordinals."""

    def some_with_prefix(self, prefix: str, most: int) -> list[str]:
        """Up to `most` names that start with a prefix; none where that would cost a walk."""


class AllNames:
    """Every name of an index. Costs nothing to make."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self.position = index.position
        self.with_prefix = index.with_prefix
        self.some_with_prefix = index._some_with_prefix

    def __len__(self) -> int:
        return len(self._index)

    def __iter__(self) -> Iterator[str]:
        return iter(self._index)

    def pairs(self) -> Iterable[tuple[str, int]]:
        """See `Names.pairs`."""
        return zip(self._index, count(), strict=False)


class SomeNames:
    """Chosen names with the ordinals of their entries.

    Attributes:
        ordinals: name -> ordinal in the index.
    """

    def __init__(self, ordinals: dict[str, int]) -> None:
        self.ordinals = ordinals
        self.position: Callable[[str], int | None] = ordinals.get

    def __len__(self) -> int:
        return len(self.ordinals)

    def __iter__(self) -> Iterator[str]:
        return iter(self.ordinals)

    def pairs(self) -> Iterable[tuple[str, int]]:
        """See `Names.pairs`."""
        return self.ordinals.items()

    def with_prefix(self, prefix: str) -> Iterable[tuple[str, int]]:
        """See `Names.with_prefix` (here a walk)."""
        return [(name, ordinal) for name, ordinal in self.ordinals.items() if name.startswith(prefix)]

    def some_with_prefix(self, prefix: str, most: int) -> list[str]:
        """See `Names.some_with_prefix`."""
        del prefix, most
        return []


class RenamedNames(SomeNames):
    """Every name of an index, of which some are loaded by other names.

    As in a dict in which these are renamed one after the other, a new name comes last, or where it was. A dict of all
    names is made only where `ordinals` is needed.
    """

    def __init__(self, index: Index, renamed: dict[str, int]) -> None:
        """Rename the marked names, which are given with their ordinals."""
        self.position = self._position
        self._index = index
        self._marked = renamed
        self._renamed = {_name_of(marked): ordinal for marked, ordinal in renamed.items()}
        self._last = [name for name in self._renamed if index.position(name) is None]

    @functools.cached_property
    def ordinals(self) -> dict[str, int]:  # type: ignore[override] # read-only here
        """Name -> ordinal in the index."""
        names = [name for name in self._index if name not in self._marked]
        return {name: ordinal for name in (*names, *self._last) if (ordinal := self.position(name)) is not None}

    def __len__(self) -> int:
        return len(self._index) - len(self._marked) + len(self._last)

    def __iter__(self) -> Iterator[str]:
        yield from (name for name in self._index if name not in self._marked)
        yield from self._last

    def _position(self, name: str) -> int | None:
        if name in self._renamed:
            return self._renamed[name]
        return None if name in self._marked else self._index.position(name)
