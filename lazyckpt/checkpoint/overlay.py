"""`Overlay`: edits in memory over a read-only mapping.

The base is never written to. Three small collections hold the difference, so an overlay over ten million names with
one edit costs one edit:

    replaced   values of keys that stay where they are in the base
    removed    keys of the base that are hidden
    added      keys behind those of the base, in the order of their assignment

As in a dict, a key that is deleted and set again comes last: it is then both `removed` and `added`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from itertools import chain
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")


class Overlay(MutableMapping[K, V]):
    """A mutable mapping over a base mapping, which it never changes.

    Reading is safe for many threads if reading the base is; editing is not.

    >>> base = {"a": 1, "b": 2}
    >>> edited = Overlay(base)
    >>> edited["b"] = 3
    >>> edited["c"] = 4
    >>> del edited["a"]
    >>> dict(edited), base
    ({'b': 3, 'c': 4}, {'a': 1, 'b': 2})

    Attributes:
        base: the mapping below.
        replaced: new values of the base's keys.
        removed: keys of the base that are hidden.
        added: values of keys that come after the base's.
    """

    __slots__ = ("added", "base", "removed", "replaced")

    def __init__(self, base: Mapping[K, V]) -> None:
        self.base = base
        self.replaced: dict[K, V] = {}
        self.removed: set[K] = set()
        self.added: dict[K, V] = {}

    @property
    def has_edits(self) -> bool:
        """Whether there is any edit."""
        return bool(self.replaced or self.removed or self.added)

    def edits(self) -> dict[K, V]:
        """The assigned values that were not removed."""
        return {**self.replaced, **self.added}

    def merge(self, pairs: Iterable[tuple[K, T]], read: Callable[[K, T], V]) -> Iterator[tuple[K, V]]:
        """All keys with their values, from one walk over the base.

        Args:
            pairs: every key of the base, in its order, with an argument for `read`.
            read: makes the value; called for the keys that are neither replaced nor removed.
        """
        for key, found in pairs:
            if key in self.replaced:
                yield key, self.replaced[key]
            elif key not in self.removed:
                yield key, read(key, found)
        yield from self.added.items()

    def narrow(self, base: Mapping[K, V], keep: Callable[[K], object]) -> Overlay[K, V]:
        """A second overlay with the same edits, over a part of the base.

        Args:
            base: the part.
            keep: a predicate for the added keys.
        """
        other = Overlay(base)
        other.replaced = {key: value for key, value in self.replaced.items() if key in base}
        other.removed = {key for key in self.removed if key in base}
        other.added = {key: value for key, value in self.added.items() if keep(key)}
        return other

    def copy_over(self, base: Mapping[K, V]) -> Overlay[K, V]:
        """A second overlay with the same edits, over another view of the same keys."""
        other = Overlay(base)
        other.replaced, other.removed, other.added = dict(self.replaced), set(self.removed), dict(self.added)
        return other

    def __len__(self) -> int:
        return len(self.base) - len(self.removed) + len(self.added)

    def __iter__(self) -> Iterator[K]:
        removed = self.removed
        return chain((key for key in self.base if key not in removed) if removed else self.base, self.added)

    def __reversed__(self) -> Iterator[K]:
        return reversed(list(self))

    def __contains__(self, key: object) -> bool:
        return key in self.added or (key not in self.removed and key in self.base)

    def __getitem__(self, key: K) -> V:
        if key in self.added:
            return self.added[key]
        if key in self.replaced:
            return self.replaced[key]
        if key in self.removed:
            raise KeyError(key)
        return self.base[key]

    def __setitem__(self, key: K, value: V) -> None:
        """Set a value: an existing key keeps its position, a new one comes last."""
        if key not in self.added and key not in self.removed and key in self.base:
            self.replaced[key] = value
        else:
            self.added[key] = value

    def __delitem__(self, key: K) -> None:
        if key in self.added:
            del self.added[key]
        elif key not in self.removed and key in self.base:
            self.replaced.pop(key, None)
            self.removed.add(key)
        else:
            raise KeyError(key)

    def popitem(self) -> tuple[K, V]:
        """Remove and return the last item, as dict does. Cost: a walk over the keys.

        Raises:
            KeyError: nothing is left.
        """
        for key in reversed(self):
            return key, self.pop(key)
        raise KeyError("popitem(): mapping is empty")

    def clear(self) -> None:
        """Hide every key of the base, and drop the others. Cost: a walk over the base's keys."""
        self.removed = set(self.base)
        self.replaced, self.added = {}, {}
