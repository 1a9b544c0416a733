"""Checkpoints opened over any kind of source: what a test reads must not depend on where bytes come from."""

from __future__ import annotations

from lazyckpt.checkpoint import Checkpoint
from lazyckpt.entry import Fingerprint
from lazyckpt.formats import FORMATS
from lazyckpt.index import Index
from lazyckpt.index.record import Meta
from lazyckpt.index.store import MemoryStore
from lazyckpt.payload import Payloads
from lazyckpt.selection import AllNames

MARK = Fingerprint(0, 0, bytes(16))


def opened_over(source, form="ckpt"):
    """A checkpoint over a source, its index in memory."""
    index = Index(MemoryStore(FORMATS[form].scan(source), Meta(MARK)))
    return Checkpoint(source, index, Payloads(source, FORMATS[form]), AllNames(index))


def opened_and_traced(source):
    """The same over a `TracingSource`, which then forgets what the scan read."""
    checkpoint = opened_over(source)
    source.reads.clear()
    return checkpoint
