"""Checkpoints opened over any kind of source: what a test reads must not depend on where bytes come from."""

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
    """A checkpoint over a source, its index in memory."""
    index = StoredIndex(MemoryStore(FORMATS[form].scan(source), Meta(MARK)))
    return Checkpoint(FileReader(OpenFile(source, FORMATS[form], index)), AllNames(index))


def opened_and_traced(source):
    """The same over a `TracingSource`, which then forgets what the scan read."""
    checkpoint = opened_over(source)
    source.reads.clear()
    return checkpoint
