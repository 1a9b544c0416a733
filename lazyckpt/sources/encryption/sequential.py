"""One pass over a GCM file from front to back, for building an index.

Strategy: blocks are decrypted and authenticated in order on a few threads, a little ahead of the reader, into buffers
that are used again and again (fresh memory costs more than AES). The end comes first, because the format's trailer
stands there. `finish` waits for the blocks that the reader hopped over, so that after it every block of the
file has been authenticated, once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from lazyckpt.errors import CorruptFile, DamagedBlock, WrongKey
from lazyckpt.sources.base import BaseSource, Source, allocate
from lazyckpt.sources.encryption.decryption import THREADS, CbcSource, GcmSource

_AHEAD: Final = THREADS  # blocks in flight beyond the reader
_BEHIND: Final = 1  # blocks kept for a reader that looks back over a border
_BEGINNING: Final = 64  # bytes that no nonsense gets past
_END: Final = 17  # bytes at the end that are looked at first: the format's trailer


@contextlib.contextmanager
def sequential_view(source: Source) -> Iterator[Source]:
    """A source for one pass in ascending order; for all but GCM sources the source itself.

    When the `with` block ends without a fault, every block of a GCM file has been authenticated. With CBC a wrong key
    under which paddings happen to be possible only shows in what the reader finds at the very beginning.

    Raises:
        DamagedBlock: a block does not authenticate.
        WrongKey: none does; or, with CBC, the plaintext does not begin as a checkpoint does.
    """
    if not isinstance(source, GcmSource) or not len(source.table):
        with _beginning_as_a_proof(source):
            yield source
        return
    with ThreadPoolExecutor(THREADS, thread_name_prefix="lazyckpt") as pool:
        sweep = GcmSweep(source, pool)
        try:
            sweep.start()
            yield sweep
            sweep.finish()
        except DamagedBlock:
            source.prove_key()
            raise
        finally:
            sweep.stop()


@contextlib.contextmanager
def _beginning_as_a_proof(source: Source) -> Iterator[None]:
    try:
        yield
    except CorruptFile as error:
        # A wrong key makes nonsense of the very beginning; damage is rarely just there.
        if isinstance(source, CbcSource) and (error.offset or 0) < _BEGINNING:
            raise WrongKey(
                "the key does not fit (what it makes of the first bytes is no checkpoint), or the file is damaged at"
                " its beginning",
                file=source.name,
            ) from error
        raise


class GcmSweep(BaseSource):
    """The plaintext of a GCM file for one thread that reads forward."""

    window = 2**16

    def __init__(self, source: GcmSource, pool: ThreadPoolExecutor) -> None:
        self.name = source.name
        self.size = source.size
        self._source = source
        self._pool = pool
        self._tail = source.table.holding(max(0, source.size - _END))
        self._flying: dict[int, Future[memoryview]] = {}
        self._ready: dict[int, memoryview] = {}
        self._free: list[memoryview] = []
        self._next = 0

    def start(self) -> None:
        """Authenticate the block in which the end begins (almost always the last one) and those after it."""
        for number in range(self._tail, len(self._source.table)):
            self._ready[number] = self._decrypt(number, self._buffer(number))

    def finish(self) -> None:
        """Authenticate what was not read."""
        if self._tail:
            self._reach(self._tail - 1)

    def stop(self) -> None:
        """Wait for what is in flight."""
        for future in self._flying.values():
            future.cancel()

    def _view(self, offset: int, length: int) -> memoryview:
        if length:
            number = self._source.table.holding(offset)
            frame = self._source.table[number]
            inside = offset - frame.plain
            if inside + length <= frame.length:
                return self._reach(number)[inside : inside + length].toreadonly()
        return super()._view(offset, length)

    def _fill(self, offset: int, destination: memoryview) -> None:
        for number, inside, piece in self._source.split(offset, destination):
            piece[:] = self._reach(number)[inside : inside + piece.nbytes]

    def _reach(self, number: int) -> memoryview:
        """The plaintext of a block, once all before it have been authenticated."""
        if number < self._next and number not in self._ready:  # a look further back than is kept
            return self._decrypt(number, allocate(self._source.table[number].length))
        while number not in self._ready:
            for ahead in range(self._next, min(self._next + _AHEAD, self._tail)):
                if ahead not in self._flying:
                    self._flying[ahead] = self._pool.submit(self._decrypt, ahead, self._buffer(ahead))
            self._ready[self._next] = self._flying.pop(self._next).result()
            self._forget(self._next - _BEHIND - 1)
            self._next += 1
        return self._ready[number]

    def _forget(self, number: int) -> None:
        buffer = self._ready.pop(number, None)
        if buffer is not None:
            self._free.append(memoryview(buffer.obj))

    def _buffer(self, number: int) -> memoryview:
        length = self._source.table[number].length
        for place, buffer in enumerate(self._free):
            if buffer.nbytes >= length:
                return self._free.pop(place)
        return allocate(length)

    def _decrypt(self, number: int, buffer: memoryview) -> memoryview:
        plain = buffer[: self._source.table[number].length]
        self._source.decrypt(number, [(0, plain)])
        return plain
