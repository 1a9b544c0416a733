"""Write the sidecar while the checkpoint is being saved."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

from lazyckpt.index import locations
from lazyckpt.index.footer import Meta
from lazyckpt.index.write import SidecarWriter
from lazyckpt.model.entry import Found
from lazyckpt.runtime import log
from lazyckpt.runtime.atomic_write import TemporaryFile, temporary
from lazyckpt.sources.encryption.cipher import CipherKey
from lazyckpt.sources.encryption.frames import table_of
from lazyckpt.writing.sink import EncryptingSink


class SidecarBuilder:
    """Builds the sidecar of a file that is being written. An OSError ends only the sidecar, and is logged."""

    def __init__(self, mode: int, lock: CipherKey | None) -> None:
        self._mode = mode & 0o666 | 0o400
        self._temporary: TemporaryFile | None = None
        self._writer: SidecarWriter | None = None
        self._sealing = None
        if lock is not None:
            from lazyckpt.index.sealing import Sealing

            self._sealing = Sealing(lock)

    def start(self, stack: contextlib.ExitStack, path: str) -> None:
        """Create the temporary sidecar."""
        with self._forgiven():
            made = stack.enter_context(temporary(path))
            codec = () if self._sealing is None else (self._sealing.codec,)
            self._writer = stack.enter_context(SidecarWriter(made.path, *codec))
            self._temporary = made

    def add(self, entries: Iterable[Found]) -> None:
        """Add the next entries."""
        if self._writer is not None:
            with self._forgiven():
                self._writer.add(entries)

    def seal(self, facts: Meta, sink: EncryptingSink) -> tuple[Meta, bytes | None]:
        """The facts and the table of frames for the sidecar of an encrypted file."""
        if self._sealing is None:
            return facts, None
        return self._sealing.facts(facts), self._sealing.frames(table_of(sink.frames))

    def finish(self, facts: Meta, frames: bytes | None) -> None:
        """Write the rest of the sidecar."""
        if self._writer is not None:
            with self._forgiven():
                self._writer.finish(facts, frames)

    def commit(self) -> None:
        """Rename it into place, after its file."""
        if self._temporary is not None:
            with self._forgiven():
                self._temporary.commit(self._mode)

    @contextlib.contextmanager
    def _forgiven(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            log.info("the index is not written along: %s", error)
            self._temporary = self._writer = None


@contextlib.contextmanager
def open_sidecar_builder(path: str, mode: int, lock: CipherKey | None) -> Iterator[SidecarBuilder]:
    """Build the sidecar of the file at `path`, with the same permissions, sealed with its key."""
    with contextlib.ExitStack() as stack:
        index = SidecarBuilder(mode, lock)
        if not locations.on_network(path):
            index.start(stack, locations.beside(path))
        yield index
