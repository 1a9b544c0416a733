"""`OpenFile`: an open checkpoint file with its index, for the reader and the checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from lazyckpt.formats import Format, find
from lazyckpt.index import Index
from lazyckpt.index.footer import Meta
from lazyckpt.index.store import MemoryStore
from lazyckpt.index.stored import StoredIndex
from lazyckpt.model.entry import Fingerprint
from lazyckpt.sources.base import Source
from lazyckpt.sources.encryption.keys import NO_KEY, KeyReference
from lazyckpt.sources.origin import Origin


class Handle(NamedTuple):
    """How a checkpoint was opened, in plain values that can be pickled.

    Attributes:
        opener: opens it again; called with `arguments` and the key, or None.
        arguments: plain values.
        key: where its key is found; None if the key was handed over, which is never pickled.
    """

    opener: Callable[..., OpenFile]
    arguments: tuple[Hashable, ...]
    key: KeyReference | None = NO_KEY


class Taken(Protocol):
    """Which files were opened as one checkpoint."""

    @property
    def what(self) -> str:
        """One sentence about them."""

    @property
    def warns(self) -> bool:
        """Whether something that the user may expect was not taken."""


@dataclass(frozen=True)  # no named tuple: these have a method `index`
class OpenFile:
    """A checkpoint that is open: one file, or several read as one.

    Attributes:
        source: the plain bytes.
        format: how its parameters are found and verified.
        index: of all of its parameters.
        origin: where the file came from; None for bytes in memory, and for several files.
        handle: how another process opens it again; None for bytes in memory.
        was_indexed: whether the index was there already, and was not built now.
        taken: which files were opened as one; None for one file that was given by its name.
        is_partial: whether it is damaged, and the index has only what is whole.
    """

    source: Source
    format: Format
    index: Index
    origin: Origin | None = None
    handle: Handle | None = None
    was_indexed: bool = False
    taken: Taken | None = None
    is_partial: bool = False

    def close(self) -> None:
        """Close the bytes and the index. Views of values stay valid."""
        self.source.close()
        self.index.close()


def in_memory(source: Source, form: Format) -> OpenFile:
    """Bytes that lie in no file, with an index in memory.

    Raises:
        CorruptFile, WrongFormat: the bytes are none of that format.
    """
    fingerprint = Fingerprint(source.size, 0, bytes(16))
    return OpenFile(
        source, form, StoredIndex(MemoryStore(find(source, form.name), Meta(fingerprint, format=form.name)))
    )


def without_index(source: Source, form: Format) -> OpenFile:
    """A source whose entries are known otherwise, for a reader: its index is empty."""
    return OpenFile(source, form, StoredIndex(MemoryStore((), Meta(Fingerprint(source.size, 0, bytes(16))))))
