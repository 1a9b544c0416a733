"""Checkpoints opened over any kind of source."""

from __future__ import annotations

from lazyckpt.checkpoint import Checkpoint
from lazyckpt.formats import FORMATS
from lazyckpt.index import Index
from lazyckpt.index.records import Meta
from lazyckpt.index.selection import AllNames
from lazyckpt.index.store import MemoryStore
from lazyckpt.model.entry import Fingerprint
from lazyckpt.reading.reader import Payloads

MARK = Fingerprint(0, 0, bytes(16))


def opened_over(source, form="ckpt"):
    """Open a checkpoint over a source, with an index in memory."""
    index = Index(MemoryStore(FORMATS[form].scan(source), Meta(MARK)))
    return Checkpoint(source, index, Payloads(source, FORMATS[form]), AllNames(index))


def opened_and_traced(source):
    """Open a checkpoint over a `TracingSource`, and clear the reads of the scan."""
    checkpoint = opened_over(source)
    source.reads.clear()
    return checkpoint
