"""`ShardedIndex`: the names of a distributed checkpoint, with boxes resolved on first access.

The rules are those of MindSpore's own merging, where it is correct. If several pipeline stages have a name, the lowest
stage counts. If several ranks hold the same box, the lowest rank that has it is read. A name that the strategy lacks
is whole in every file, and the lowest rank counts. A value that cannot be assembled becomes a refused entry with a
reason, so that the others still load.
"""

from __future__ import annotations

import functools
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Final

from lazyckpt.display import one_line
from lazyckpt.index import Index
from lazyckpt.index.records import encode
from lazyckpt.model.entry import REFUSED, TENSOR, Entry, Fingerprint, moved
from lazyckpt.model.similar_names import missing
from lazyckpt.sharding.concatenated import combined_fingerprint
from lazyckpt.sharding.layout import Box, ImpossibleLayout, Partition, box_of, devices_of, partition_of, whole_of
from lazyckpt.sharding.strategy import Layout, Strategy

_BATCH: Final = 4096  # entries whose records are made at once
_LAYOUTS: Final = 64  # size of the cache of parts: a model has some ten layouts, and many parameters of each
_NAMED: Final = 5  # ranks in one message


@dataclass(frozen=True)
class Rank:
    """The file of one rank.

    Attributes:
        file: its path.
        index: None if the file cannot be read.
        base: where its bytes begin in the joined source.
        fault: why it cannot be read.
    """

    file: str
    index: Index | None
    base: int = 0
    fault: str = ""


class ShardResolver:
    """Resolves a name to the boxes that ranks hold of it, with a cache."""

    def __init__(self, ranks: Mapping[int, Rank], strategy: Strategy) -> None:
        self.boxes: dict[str, tuple[Box, ...]] = {}
        self._ranks = ranks
        self._strategy = strategy
        self._entries: dict[str, Entry] = {}
        self._held_parts = functools.lru_cache(_LAYOUTS)(functools.partial(_held_parts, tuple(sorted(ranks))))
        self._layouts: dict[str, tuple[int, Layout]] = {}
        for stage in sorted(strategy, reverse=True):
            self._layouts.update({name: (stage, layout) for name, layout in strategy[stage].items()})

    def names(self) -> list[str]:
        """All names, in the order of the ranks' files."""
        indexes = [rank.index for _, rank in sorted(self._ranks.items()) if rank.index is not None]
        return list(dict.fromkeys(name for index in indexes for name in index))

    def entry(self, name: str) -> Entry:
        """The entry of a whole value; its boxes are in `boxes` from then on."""
        found = self._entries.get(name)
        if found is None:
            known = self._layouts.get(name)
            try:
                found = self._whole(name) if known is None else self._merged(name, *known)
            except ImpossibleLayout as error:
                found = Entry(name, REFUSED, None, (), (), 0, 0, reason=one_line(str(error)))
            self._entries[name] = found
        return found

    def boxes_of(self, name: str) -> tuple[Box, ...]:
        """The boxes of a name; none for a value that one file holds whole. Cost: as `entry`, the first time."""
        if name not in self._entries:
            self.entry(name)
        return self.boxes.get(name, ())

    def copies(self, name: str) -> list[list[tuple[int, Entry]]]:
        """All ranks that hold each box of a name, with their entries (all ranks, for a whole value)."""
        known = self._layouts.get(name)
        if known is None:
            return [[(rank, entry) for rank in sorted(self._ranks) if (entry := self._held(rank, name)) is not None]]
        stage, layout = known
        return [
            [(rank, entry) for rank in ranks if (entry := self._held(rank, name)) is not None]
            for ranks in self._held_parts(layout, stage * devices_of(layout)).values()
        ]

    def _whole(self, name: str) -> Entry:
        """The entry of a value that the strategy lacks."""
        for rank in sorted(self._ranks):
            entry = self._held(rank, name)
            if entry is not None:
                return entry
        raise ImpossibleLayout("no rank has it")

    def _merged(self, name: str, stage: int, layout: Layout) -> Entry:
        cut = partition_of(layout)
        first = stage * devices_of(layout)
        held = self._held_parts(layout, first)
        chosen: list[tuple[tuple[int, ...], int, Entry]] = []
        for part in cut.every_part():  # raises at the first part that no rank holds
            for rank in held.get(part, ()):
                entry = self._held(rank, name)
                if entry is not None:
                    chosen.append((part, rank, entry))
                    break
            else:
                raise ImpossibleLayout(self._why_missing(cut, first, part))
        _, rank, model = chosen[0]
        boxes = []
        for part, holder, entry in chosen:
            self._check_alike(rank, model, holder, entry, uneven=bool(layout.rows))
            try:
                boxes.append(Box(box_of(layout, part, entry.shape), entry))
            except ImpossibleLayout as error:
                raise ImpossibleLayout(f"in {self._ranks[holder].file} {error}") from None
        self.boxes[name] = tuple(boxes)
        extents = tuple(extent for box in boxes for extent in box.entry.extents)
        start = min(box.entry.start for box in boxes)
        stop = max(box.entry.stop for box in boxes)
        return Entry(name, TENSOR, model.dtype, whole_of(layout, cut, model.shape), extents, start, stop)

    def _held(self, number: int, name: str) -> Entry | None:
        rank = self._ranks.get(number)
        if rank is None or rank.index is None or name not in rank.index:
            return None
        return moved(rank.index[name], rank.base)

    def _check_alike(self, rank: int, model: Entry, other: int, entry: Entry, uneven: bool) -> None:
        """Check that two slices can be parts of one tensor."""
        mine, theirs = (self._ranks[number].file for number in (rank, other))
        for holder, one in ((mine, model), (theirs, entry)):
            if one.kind != TENSOR:
                raise ImpossibleLayout(f"in {holder} it is a {one.kind} ({one.reason or 'no tensor'})")
        if model.dtype is not entry.dtype:
            raise ImpossibleLayout(f"it is {model.dtype} in {mine}, {entry.dtype} in {theirs}")
        if model.shape[uneven:] != entry.shape[uneven:] or len(model.shape) != len(entry.shape):
            raise ImpossibleLayout(f"its slice has the shape {model.shape} in {mine}, {entry.shape} in {theirs}")

    def _why_missing(self, cut: Partition, first: int, part: tuple[int, ...]) -> str:
        reasons = []
        holders = cut.holders_of(part)
        for number in islice((first + local for local in holders), _NAMED):
            rank = self._ranks.get(number)
            if rank is None:
                reasons.append(f"rank {number} has no file")
            else:
                reasons.append(rank.fault or f"{rank.file} lacks it")
        more = ["and more ranks without it"] if next(holders, None) is not None else []
        return f"its part {list(part)} is nowhere: " + "; ".join(reasons + more)


def _held_parts(ranks: tuple[int, ...], layout: Layout, first: int) -> dict[tuple[int, ...], list[int]]:
    """The given ranks that hold each part. `first` is the first rank of the pipeline stage."""
    cut = partition_of(layout)
    begin, end = bisect_left(ranks, first), bisect_left(ranks, first + devices_of(layout))
    parts: dict[tuple[int, ...], list[int]] = {}
    for rank in ranks[begin:end]:
        parts.setdefault(cut.part_of(rank - first), []).append(rank)
    return parts


class ShardedIndex(Index):
    """A read-only mapping name -> Entry of whole values, resolved on first access."""

    def __init__(self, resolver: ShardResolver, ranks: Mapping[int, Rank]) -> None:
        self._resolver = resolver
        self._ranks = [rank for _, rank in sorted(ranks.items())]
        self._names = resolver.names()
        self._ordinals = {name: ordinal for ordinal, name in enumerate(self._names)}

    @property
    def path(self) -> None:
        """Each file has an index of its own."""
        return None

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint of all files together."""
        return combined_fingerprint([rank.index.fingerprint for rank in self._ranks if rank.index is not None])

    @property
    def has_digests(self) -> bool:
        """False: digests are of slices, not of whole values."""
        return False

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, name: str) -> Entry:
        if name not in self._ordinals:
            raise missing(name, self, is_exact=True)
        return self._resolver.entry(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __repr__(self) -> str:
        return f"<Index of {len(self):,} parameters in the files of {len(self._ranks):,} ranks>"

    def entries(self) -> Iterator[Entry]:
        """See `Index.entries`."""
        return map(self._resolver.entry, self._names)

    def boxes_of(self, name: str) -> tuple[Box, ...]:
        """The boxes of a name; none for a value that one file holds whole. Cost: a look-up in each rank, once."""
        return self._resolver.boxes_of(name)

    def position(self, name: str) -> int | None:
        """See `Index.position`."""
        return self._ordinals.get(name)

    def at(self, position: int, name: str | None = None) -> Entry:  # noqa: ARG002 (an ordinal leads to its own name)
        """See `Index.at`."""
        return self._resolver.entry(self._names[position])

    def with_prefix(self, prefix: str) -> list[tuple[str, int]]:
        """See `Index.with_prefix`."""
        return [(name, ordinal) for name, ordinal in self._ordinals.items() if name.startswith(prefix)]

    def close(self) -> None:
        """See `Index.close`."""
        for rank in self._ranks:
            if rank.index is not None:
                rank.index.close()

    def _record_batches(self) -> Iterator[list[bytes]]:
        entries = self.entries()
        while batch := [encode(entry, entry.name.encode()) for entry in islice(entries, _BATCH)]:
            yield batch
