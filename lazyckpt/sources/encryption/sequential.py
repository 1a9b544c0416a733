"""Sequential decryption of a whole GCM file, for building an index.

Strategy: a few threads decrypt and authenticate the blocks in order, slightly ahead of the reader, into a small set of
buffers that are reused (fresh memory costs more than AES). The last block is decrypted first, because the trailer of
the format is at the end of the file. `finish` also processes the blocks that the reader skipped, so that in the end
every block of the file has been authenticated, exactly once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from lazyckpt.errors import CorruptFile, DamagedBlock, WrongKey
from lazyckpt.sources.base import BaseSource, Source, allocate
from lazyckpt.sources.encryption.decryption import THREADS, CbcSource, GcmSource

_AHEAD: Final = THREADS  # blocks being decrypted ahead of the reader
_BEHIND: Final = 1  # blocks kept behind the reader: a header may cross the border of a block
_BEGINNING: Final = 64  # random bytes are not a valid checkpoint beyond this offset
_END: Final = 17  # bytes of the trailer, which is read first


@contextlib.contextmanager
def sequential_view(source: Source) -> Iterator[Source]:
    """A view of a source for one pass in ascending order. Only GCM needs one; others are unchanged.

    When the `with` block ends without an error, every block of a GCM file has been authenticated. CBC has no
    authentication: a wrong key whose paddings happen to be valid shows only as nonsense at the start of the plaintext.

    Raises:
        DamagedBlock: a block does not authenticate.
        WrongKey: no block authenticates; or, with CBC, the plaintext does not begin like a checkpoint.
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
        # A wrong key makes nonsense of the first bytes already; damage is rarely there.
        if isinstance(source, CbcSource) and (error.offset or 0) < _BEGINNING:
            raise WrongKey(
                "the key does not fit (with it the file does not begin like a checkpoint), or the file is damaged at"
                " its beginning",
                file=source.name,
            ) from error
        raise


class GcmSweep(BaseSource):
    """The plaintext of a GCM file, for one thread that reads forward."""

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
        """Authenticate the block with the trailer (almost always the last) and those after it."""
        for number in range(self._tail, len(self._source.table)):
            self._ready[number] = self._decrypt(number, self._buffer(number))

    def finish(self) -> None:
        """Authenticate the blocks that have not been read."""
        if self._tail:
            self._reach(self._tail - 1)

    def stop(self) -> None:
        """Cancel the blocks that have not been started."""
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
        """The plaintext of a block, after all blocks before it have been authenticated."""
        if number < self._next and number not in self._ready:  # further back than is kept: decrypt it again
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
        for number, buffer in enumerate(self._free):
            if buffer.nbytes >= length:
                return self._free.pop(number)
        return allocate(length)

    def _decrypt(self, number: int, buffer: memoryview) -> memoryview:
        plain = buffer[: self._source.table[number].length]
        self._source.decrypt(number, [(0, plain)])
        return plain
