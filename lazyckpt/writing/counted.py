"""Items whose contents tell how far the writing is."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from lazyckpt.writing.items import Content, Item

Progress = Callable[[int, int], object]
Items = Collection[Item]  # iterated more than once; may make its items each time


class Count:
    """Bytes that are written, of all that will be."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._done = 0
        self._total = total
        self._progress = progress

    def of(self, items: Items) -> Items:
        """The items; what is read of them is counted."""
        return items if self._progress is None else _Counted(items, self.add)

    def add(self, nbytes: int) -> None:
        """So many more."""
        self._done += nbytes
        if self._progress is not None:
            self._progress(self._done, self._total)


class _Counted(Collection[Item]):
    def __init__(self, items: Items, add: Callable[[int], None]) -> None:
        self._items = items
        self._add = add

    def __iter__(self) -> Iterator[Item]:
        return map(self._item, self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, item: object) -> bool:
        return item in self._items

    def _item(self, item: Item) -> Item:
        return item._replace(contents=tuple(map(self._content, item.contents)))

    def _content(self, content: Content) -> Content:
        def pieces() -> Iterator[memoryview]:
            for piece in content.pieces():
                yield piece
                self._add(piece.nbytes)

        return content._replace(pieces=pieces)
