"""Turn entries into nodes of a zarr hierarchy, which are then written as references.

Strategy: entries come in order, some hundred at a time. The header of each is verified in the file before its node is
yielded, and at the end the paths must still lead to the opened files. Each entry becomes an array (a map
three), and chunks are yielded one by one, so that only the names left out are kept in memory. No payload is read,
except to copy small values (`inline`) and chunks across the border of two pieces.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice, product
from typing import Any, Final, NamedTuple

from lazyckpt.errors import ArgumentValueError
from lazyckpt.model.entry import MAP, MAP_PARTS, REFUSED, TENSOR, Entry, Extent
from lazyckpt.reading.reader import Reader
from lazyckpt.references import chunks, metadata
from lazyckpt.references.files import Files
from lazyckpt.references.metadata import GROUP, Form, Inexpressible, form_of
from lazyckpt.references.names import parents, path_of

_BATCH: Final = 512  # entries whose headers are verified at once
_MARK: Final = b"base64:"  # prefix of copied content; content that starts with it would be misread
Known = Callable[[], Iterable[tuple[str, Any]]]
Boxes = Sequence[tuple[chunks.Shape, Entry]]  # start of each within the whole
Reference = tuple[str, int, int] | bytes  # a URL, an offset, a length; or the content itself


class ReferenceOptions(NamedTuple):
    """Options of `Checkpoint.references`."""

    chunk_size: int | None = None
    inline: int = 0
    nested: bool = False
    strict: bool = False


class Node(NamedTuple):
    """An array or a group.

    Attributes:
        path: in the hierarchy; empty for the root.
        is_array: whether it is an array.
        text: its `.zarray` or `.zgroup`.
        attributes: its `.zattrs`, or empty.
        chunks: keys and references of an array, to be iterated once.
        total: number of chunks.
    """

    path: str
    is_array: bool
    text: str
    attributes: str = ""
    chunks: Iterable[tuple[str, Reference]] = ()
    total: int = 0


class Walk:
    """One walk over a checkpoint.

    Attributes:
        left_out: name -> reason, for the values left out so far.
    """

    def __init__(self, known: Known, payloads: Reader, files: Files, options: ReferenceOptions) -> None:
        self.left_out: dict[str, str] = {}
        self._known = known
        self._payloads = payloads
        self._files = files
        self._options = options
        self._groups: dict[str, None] = {}

    def nodes(self) -> Iterator[Node]:
        """Yield every node: groups before their members, and the attributes of the root last.

        Raises:
            ArgumentValueError: nested names contradict each other; or, if `strict`, a value must be left out.
            StaleIndex: the file does not match an entry.
            ChangedFile: its path leads to another file now.
        """
        yield Node("", False, GROUP)
        if self._options.nested:
            self._groups = {group: None for name, _ in self._known() for group in parents(self._path(name))}
            yield from (Node(group, False, GROUP) for group in self._groups)
        known = iter(self._known())
        while batch := list(islice(known, _BATCH)):
            found = [self._found(name, value) for name, value in batch]
            self._payloads.prove([entry for _, boxes in filter(None, found) for _, entry in boxes])
            for (name, _), one in zip(batch, found, strict=True):
                if one is not None:
                    yield from self._of_value(name, *one)
        self._files.check()
        if self.left_out:
            text = metadata.compact({metadata.LEFT_OUT: self.left_out})
            yield Node("", False, "", text)

    def _path(self, name: str) -> str:
        return path_of(name, nested=self._options.nested)

    def _found(self, name: str, value: Any) -> tuple[Entry, Boxes] | None:
        """The entry of a value and its parts; None if references cannot express it."""
        if not isinstance(value, Entry):
            self._leave_out(name, "it was changed in memory, and is not in the file: save the checkpoint first")
        elif value.kind == REFUSED:
            self._leave_out(name, value.reason)
        else:
            return value, self._payloads.boxes(value)
        return None

    def _leave_out(self, name: str, why: str) -> None:
        if self._options.strict:
            raise ArgumentValueError(f"no reference can be made to {name!r}: {why}")
        self.left_out[name] = why

    def _of_value(self, name: str, entry: Entry, boxes: Boxes) -> list[Node]:
        path = self._path(name)
        try:
            if entry.kind == MAP:
                made = self._parts(path, entry)
            else:
                made = [self._array(path, entry, boxes, {} if name == path else {metadata.NAME: name})]
        except Inexpressible as error:
            self._leave_out(name, str(error))
            return []
        if made[0].path in self._groups:
            raise ArgumentValueError(
                f"{name!r} is a parameter, and other names go on after it and a dot: nested, it would have to be an"
                " array and a group. Leave the names flat"
            )
        return made

    def _parts(self, path: str, entry: Entry) -> list[Node]:
        """The arrays of a map; the last ones may be missing.

        Raises:
            Inexpressible: it has none, or too many.
        """
        if not 1 <= len(entry.arrays) <= len(MAP_PARTS):
            raise Inexpressible(f"a map has 1 to {len(MAP_PARTS)} arrays, this one {len(entry.arrays)}")
        named = zip(MAP_PARTS, entry.arrays, strict=False)
        return [self._part(path, entry.name, part, *array) for part, array in named]

    def _part(self, path: str, name: str, part: str, *array: Any) -> Node:
        """One array of a map, under a path that no name has."""
        dtype, shape, extents = array
        one = Entry(name, TENSOR, dtype, shape, extents, 0, 0)
        attributes = {metadata.NAME: name, metadata.PART: part}
        return self._array(f"{path}~{part}", one, [((0,) * len(shape), one)], attributes)

    def _array(self, path: str, entry: Entry, boxes: Boxes, more: dict[str, str]) -> Node:
        """The array of a tensor or a string.

        Raises:
            Inexpressible: zarr cannot express it.
        """
        form = form_of(entry)
        placed = [(form.scaled(start), box) for start, box in boxes]
        grid, shape = self._grid(form, placed)
        text = metadata.array_text(form.dtype, shape, grid.chunk)
        attributes = metadata.attributes_text(path, form, more)
        count = math.prod(grid.counts) * len(boxes)
        return Node(path, True, text, attributes, self._chunks(path, grid, placed), count)

    def _grid(self, form: Form, boxes: Boxes) -> tuple[chunks.Grid, chunks.Shape]:
        """The chunks of each box, and the shape of the whole."""
        first = boxes[0][1]
        lengths = tuple(extent.length for extent in first.extents)
        shape = form.scaled(first.shape) if len(boxes) > 1 else form.shape
        most = self._options.chunk_size
        if first.stored <= self._options.inline:
            most = None
        for start, box in boxes[1:]:
            regular = all(at % size == 0 for at, size in zip(start, shape, strict=True) if size)
            if box.shape != first.shape or tuple(extent.length for extent in box.extents) != lengths or not regular:
                raise Inexpressible("its shards are not all of one shape, as the chunks of an array must be")
        if not first.stored:  # the format has scalars with nothing in the file, which are zero
            lengths = (form.itemsize * math.prod(shape),)
        cuts = most is not None or len(lengths) > 1
        room = self._room(first.extents) if cuts and len(boxes) == 1 else 0
        grid = chunks.plan(shape, form.itemsize, lengths, most, room)
        if grid is None or (grid.across and len(boxes) > 1):
            raise Inexpressible(f"it lies in {len(lengths)} pieces whose borders no regular chunks meet")
        return grid, form.shape

    def _room(self, extents: tuple[Extent, ...]) -> int:
        """The number of bytes after a value in its file."""
        if not extents:
            return 0
        offset, length = extents[-1]
        return self._files.at(offset).stop - offset - length

    def _chunks(self, path: str, grid: chunks.Grid, boxes: Boxes) -> Iterator[tuple[str, Reference]]:
        for start, box in boxes:
            keys = _keys(path, start, grid)
            if not box.stored:
                yield from ((key, bytes(grid.nbytes)) for key in keys)
            elif len(box.extents) == len(keys) == 1:
                yield keys[0], self._reference(grid, box, box.extents, 0)
            else:
                for number, (key, runs) in enumerate(zip(keys, chunks.cuts(grid, box.extents), strict=True)):
                    yield key, self._reference(grid, box, runs, number * grid.nbytes)

    def _reference(self, grid: chunks.Grid, box: Entry, runs: Sequence[Extent], done: int) -> Reference:
        offset = runs[0].offset
        file = self._files.at(offset)
        is_one = len(runs) == 1 and offset + grid.nbytes <= file.stop
        if not is_one or box.stored <= self._options.inline:
            content = bytes(self._payloads.stored_at(box, done, sum(run.length for run in runs)))
            if not content.startswith(_MARK):
                return content.ljust(grid.nbytes, b"\0")
            if not is_one:
                raise ArgumentValueError(
                    f"{box.name!r} must be copied in part, and begins with {_MARK!r}: leave it out"
                )
        return file.url, offset - file.base, grid.nbytes


def _keys(path: str, start: chunks.Shape, grid: chunks.Grid) -> list[str]:
    """The keys of a box's chunks, in order."""
    first = [at // size for at, size in zip(start, grid.chunk, strict=True)]
    spans = [range(at, at + count) for at, count in zip(first, grid.counts, strict=True)]
    return [f"{path}/{'.'.join(map(str, indexes)) or '0'}" for indexes in product(*spans)]
