"""From entries to nodes of a zarr hierarchy: the middle between an index and a file of references.

Strategy: entries come in order, some hundred at a time, and the header of each is proven to stand in the file before
anything is told of it; when all are told, the files under their names must still be those that were opened. Each entry
becomes an array (a map three), whose chunks are told one by one; so nothing but what was left out is remembered. No
payload is read, unless small values are to be copied (`inline`), or chunks that lie across the border of two pieces
must be.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice, product
from typing import Any, Final, NamedTuple

from lazyckpt.errors import ArgumentValueError
from lazyckpt.model.entry import MAP, MAP_PARTS, REFUSED, TENSOR, Entry, Extent
from lazyckpt.reading.reader import Payloads
from lazyckpt.references import chunks, metadata
from lazyckpt.references.files import Files
from lazyckpt.references.metadata import GROUP, Form, Inexpressible, form_of
from lazyckpt.references.names import parents, path_of

_BATCH: Final = 512  # entries whose headers are proven at once
_MARK: Final = b"base64:"  # how copied content is announced; content that begins so itself would be taken for it
Known = Callable[[], Iterable[tuple[str, Any]]]
Boxes = Sequence[tuple[chunks.Shape, Entry]]  # where each begins in the whole
Reference = tuple[str, int, int] | bytes  # a URL, an offset, a length; or the content itself


class How(NamedTuple):
    """What references are to be like: see `Checkpoint.references`."""

    chunk_size: int | None = None
    inline: int = 0
    nested: bool = False
    strict: bool = False


class Node(NamedTuple):
    """An array or a group.

    Attributes:
        path: where it is in the hierarchy; empty for the whole.
        is_array: which of the two.
        text: its `.zarray` or `.zgroup`.
        attributes: its `.zattrs`, or nothing.
        chunks: of an array, keys and references, to be walked once.
        total: how many of them.
    """

    path: str
    is_array: bool
    text: str
    attributes: str = ""
    chunks: Iterable[tuple[str, Reference]] = ()
    total: int = 0


class Walk:
    """One passage over a checkpoint.

    Attributes:
        left_out: name -> why it is not there, of what came so far.
    """

    def __init__(self, known: Known, payloads: Payloads, files: Files, how: How) -> None:
        self.left_out: dict[str, str] = {}
        self._known = known
        self._payloads = payloads
        self._files = files
        self._how = how
        self._groups: dict[str, None] = {}

    def nodes(self) -> Iterator[Node]:
        """Every node; groups before what is in them, the attributes of the whole last.

        Raises:
            ArgumentValueError: nested names contradict each other; or, if `strict`, something must be left out.
            StaleIndex: the file does not have an entry.
            ChangedFile: another file has its name.
        """
        yield Node("", False, GROUP)
        if self._how.nested:
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
        return path_of(name, nested=self._how.nested)

    def _found(self, name: str, value: Any) -> tuple[Entry, Boxes] | None:
        """A value's entry and its parts, if references can lead to it."""
        if not isinstance(value, Entry):
            self._leave_out(name, "it was changed in memory, and is not in the file: save the checkpoint first")
        elif value.kind == REFUSED:
            self._leave_out(name, value.reason)
        else:
            return value, self._payloads.boxes(value)
        return None

    def _leave_out(self, name: str, why: str) -> None:
        if self._how.strict:
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
        """The arrays of a map, of which the last may be missing.

        Raises:
            Inexpressible: there is none, or one too many.
        """
        if not 1 <= len(entry.arrays) <= len(MAP_PARTS):
            raise Inexpressible(f"a map has 1 to {len(MAP_PARTS)} arrays, this one {len(entry.arrays)}")
        told = zip(MAP_PARTS, entry.arrays, strict=False)
        return [self._part(path, entry.name, part, *array) for part, array in told]

    def _part(self, path: str, name: str, part: str, *array: Any) -> Node:
        """One of the arrays of a map: beside the others, under a path that no name has."""
        dtype, shape, extents = array
        one = Entry(name, TENSOR, dtype, shape, extents, 0, 0)
        told = {metadata.NAME: name, metadata.PART: part}
        return self._array(f"{path}~{part}", one, [((0,) * len(shape), one)], told)

    def _array(self, path: str, entry: Entry, boxes: Boxes, told: dict[str, str]) -> Node:
        """An array of a tensor or a string.

        Raises:
            Inexpressible: zarr has no way to say it.
        """
        form = form_of(entry)
        placed = [(form.scaled(start), box) for start, box in boxes]
        grid, shape = self._grid(form, placed)
        text = metadata.array_text(form.dtype, shape, grid.chunk)
        attributes = metadata.attributes_text(path, form, told)
        count = math.prod(grid.counts) * len(boxes)
        return Node(path, True, text, attributes, self._chunks(path, grid, placed), count)

    def _grid(self, form: Form, boxes: Boxes) -> tuple[chunks.Grid, chunks.Shape]:
        """The chunks of each box, and the shape of the whole."""
        first = boxes[0][1]
        lengths = tuple(extent.length for extent in first.extents)
        shape = form.scaled(first.shape) if len(boxes) > 1 else form.shape
        most = self._how.chunk_size
        if first.stored <= self._how.inline:
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
        """Bytes that the file has after a value."""
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
        if not is_one or box.stored <= self._how.inline:
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
    return [f"{path}/{'.'.join(map(str, place)) or '0'}" for place in product(*spans)]
