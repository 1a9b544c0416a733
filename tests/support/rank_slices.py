"""Layouts of all kinds, and checkpoints in memory that are cut by them."""

from __future__ import annotations

import itertools
import math

import numpy as np
from checkpoints import checkpoint, counting
from hypothesis import strategies as st

from lazyckpt.checkpoint import Checkpoint
from lazyckpt.formats import FORMATS
from lazyckpt.index.footer import Meta
from lazyckpt.index.open_file import OpenFile
from lazyckpt.index.selection import AllNames
from lazyckpt.index.store import MemoryStore
from lazyckpt.index.stored import StoredIndex
from lazyckpt.model.entry import Fingerprint
from lazyckpt.sharding.concatenated import concatenated_format
from lazyckpt.sharding.layout import partition_of
from lazyckpt.sharding.shard_index import Rank, ShardedIndex, ShardResolver
from lazyckpt.sharding.shard_reader import ShardReader
from lazyckpt.sharding.strategy import Layout
from lazyckpt.sources.base import BytesSource
from lazyckpt.sources.concatenated import ConcatenatedSource


@st.composite
def layouts(draw):
    """Any layout of up to three axes over up to 24 devices, nested cuts and optimizer shards among them."""
    devices = tuple(draw(st.lists(st.sampled_from([1, 2, 3]), min_size=1, max_size=4)))
    free = draw(st.permutations(range(len(devices))))
    maps = []
    for _ in range(draw(st.integers(0, 3))):
        taken, free = free[: (count := draw(st.integers(0, min(2, len(free)))))], free[count:]
        maps.append(tuple(taken) or (-1,))
    optimizer = draw(st.booleans())
    copies = math.prod(devices[len(devices) - 1 - axis] for axis in free)
    size = draw(st.sampled_from([-1, *(size for size in range(1, copies + 1) if copies % size == 0)]))
    return Layout(devices, tuple(maps), optimizer, size if optimizer else 0)


def slow_pieces(layout, whole):
    """The slice of every rank, cut step by step with numpy."""
    devices, pieces = layout.devices, []
    used = {len(devices) - 1 - axis for axes in layout.maps for axis in axes if axis != -1}
    for coordinates in itertools.product(*map(range, devices)):
        piece = whole
        for number, axes in enumerate(layout.maps):
            for axis in axes:
                if axis != -1:
                    device = len(devices) - 1 - axis
                    piece = np.split(piece, devices[device], number)[coordinates[device]]
        if layout.optimizer and layout.maps:
            replica, copies = 0, 1
            for device in range(len(devices)):
                if device not in used:
                    replica = replica * devices[device] + coordinates[device]
                    copies *= devices[device]
            size = copies if layout.optimizer_size == -1 else layout.optimizer_size
            piece = np.split(piece, size, 0)[replica % size]
        pieces.append(piece)
    return pieces


def tensor_for(layout, unit=2):
    """A tensor that a layout cuts evenly."""
    return counting(tuple(unit * parts for parts in partition_of(layout).parts), "int32")


def joined(files, source_of=BytesSource):
    """The files of ranks, given as rank -> bytes: their indexes, and all their bytes as one source."""
    ranks, base = {}, 0
    for number, data in files.items():
        entries = StoredIndex(MemoryStore(FORMATS["ckpt"].find(BytesSource(data)), Meta(Fingerprint(0, 0, bytes(16)))))
        ranks[number] = Rank(f"rank_{number}", entries, base)
        base += len(data)
    return ranks, ConcatenatedSource("all", [source_of(data) for data in files.values()])


def merged(files, strategy, source_of=BytesSource):
    """A checkpoint over the files of ranks, given as rank -> bytes, that are cut by a strategy."""
    ranks, source = joined(files, source_of)
    index = ShardedIndex(ShardResolver(ranks, strategy), ranks)
    form = concatenated_format(FORMATS["ckpt"], source)
    return Checkpoint(ShardReader(OpenFile(source, form, index)), AllNames(index))


def distributed(layout, whole, lost=(), source_of=BytesSource):
    """A checkpoint over the slices of `w` that every rank but the lost ones holds in its file."""
    files = {
        number: checkpoint({"w": piece})
        for number, piece in enumerate(slow_pieces(layout, whole))
        if number not in lost
    }
    return merged(files, {0: {"w": layout}}, source_of)
