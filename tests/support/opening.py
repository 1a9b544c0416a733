"""Checkpoints opened over any kind of source."""

from __future__ import annotations

from lazyckpt.checkpoint import Checkpoint
from lazyckpt.formats import FORMATS
from lazyckpt.index.footer import Meta
from lazyckpt.index.open_file import OpenFile
from lazyckpt.index.selection import AllNames
from lazyckpt.index.store import MemoryStore
from lazyckpt.index.stored import StoredIndex
from lazyckpt.model.entry import Fingerprint
from lazyckpt.reading.reader import FileReader

MARK = Fingerprint(0, 0, bytes(16))


def opened_over(source, form="ckpt"):
    """Open a checkpoint over a source, with an index in memory."""
    index = StoredIndex(MemoryStore(FORMATS[form].scan(source), Meta(MARK)))
    return Checkpoint(FileReader(OpenFile(source, FORMATS[form], index)), AllNames(index))


def opened_and_traced(source):
    """Open a checkpoint over a `TracingSource`, and clear the reads of the scan."""
    checkpoint = opened_over(source)
    source.reads.clear()
    return checkpoint
