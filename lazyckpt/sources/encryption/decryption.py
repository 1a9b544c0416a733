"""The plaintext of an encrypted file as a source, decrypted block by block on demand.

Strategy. Frames (see `frames`) are independent, so reading one byte of plaintext decrypts one block at most.

- GCM: the tag covers the whole block, so all of a block is authenticated before any byte of it is returned. The wanted
  bytes are decrypted directly into their destination, the rest into a scratch buffer; if the tag is wrong, the
  destination is wiped. A block is cached (see `block_cache`) when it is read a second time, or after the block before
  it: a scan in file order then decrypts each block once (the first may be decrypted twice), and a single read caches
  nothing. During a sequential scan of a local file (see `read_ahead`) other cores decrypt the next two blocks, if the
  cache has room for them.
- CBC: any 16 bytes can be decrypted with the 16 bytes of ciphertext before them, so only the wanted bytes are
  decrypted. CBC authenticates nothing: the padding of every block is checked when the file is opened, and these modes
  allow no more.

A read of several pieces (`read_many`) decrypts each block once. Blocks, and long pieces of a CBC block, are decrypted
on several threads (OpenSSL releases the interpreter's lock).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from operator import itemgetter
from typing import Any, Final, NamedTuple

from lazyckpt.errors import DamagedBlock, WrongKey
from lazyckpt.model.entry import Fingerprint
from lazyckpt.runtime.workers import worker_count
from lazyckpt.sources.base import BaseSource, LocalFile, Request, Source, allocate, copy
from lazyckpt.sources.encryption.block_cache import Block, Blocks
from lazyckpt.sources.encryption.cbc_padding import unpadded
from lazyckpt.sources.encryption.cipher import BLOCK, CipherKey, invalid_tag
from lazyckpt.sources.encryption.cipher_runs import SCRATCH, passes, scatter
from lazyckpt.sources.encryption.frames import Frame, FrameTable, read_frame_headers
from lazyckpt.sources.encryption.read_ahead import NOWHERE, place_in

_NONCES: Final = (12, 16)  # MindSpore stores 16 bytes and uses 12; 16 in case a later version uses all of them
THREADS: Final = worker_count()
_AHEAD: Final = 2 if THREADS > 1 else 0  # blocks decrypted ahead of a sequential reader


class _Pace(NamedTuple):
    """How CBC is divided among threads: bytes of a task, and the smallest read worth threads."""

    piece: int
    worth_a_thread: int


_PACES: Final = {"AES": _Pace(2**22, 2**23)}  # processors have instructions for AES, so a task must be larger
_OTHER_PACE: Final = _Pace(2**20, 2**18)


def open_encrypted(raw: Source, lock: CipherKey, table: FrameTable | None = None, cache: int = 0) -> BaseSource:
    """The plaintext of an encrypted file.

    Args:
        raw: the encrypted file.
        lock: its mode and key.
        table: its frames, if an index has pinned them; None to read the frame headers.
        cache: bytes of decrypted GCM blocks to cache; 0 for none.

    Raises:
        TruncatedFile, CorruptFile: a frame is incomplete or invalid.
        DamagedBlock, WrongKey: the padding of a CBC block is impossible.

    Cost: nothing with a table; else reads 48 bytes for each frame, and for CBC decrypts the last 16 bytes of each.
    """
    if lock.mode.tagged:
        return GcmSource(raw, lock, read_frame_headers(raw, lock.mode) if table is None else table, cache)
    return CbcSource(raw, lock, unpadded(raw, lock, read_frame_headers(raw, lock.mode)) if table is None else table)


def prove_key(raw: Source, lock: CipherKey) -> None:
    """Check that a key fits a file, as far as the mode allows that.

    Raises:
        WrongKey: none of the first, middle and last block authenticates (GCM), or the paddings are invalid (CBC).

    Cost: decrypts up to three blocks of a GCM file.
    """
    source = open_encrypted(raw, lock)
    if isinstance(source, GcmSource):
        source.prove_key()


class DecryptedSource(BaseSource):
    """The common part of both modes: find the frames that a read needs.

    Attributes:
        table: the frames.
    """

    def __init__(self, raw: Source, lock: CipherKey, table: FrameTable) -> None:
        self.name = raw.name
        self.size = table.size
        self.table = table
        self._raw = raw
        self._lock = lock

    @property
    def fingerprint(self) -> Fingerprint | None:
        """See `Source.fingerprint`."""
        return self._raw.fingerprint

    @property
    def files(self) -> tuple[LocalFile, ...]:
        """See `Source.files`."""
        return self._raw.files

    def close(self) -> None:
        """Close the encrypted file."""
        self._raw.close()

    def _fill(self, offset: int, destination: memoryview) -> None:
        self._read_pieces([(offset, destination)])

    def read_many(self, requests: Iterable[Request]) -> None:
        """See `Source.read_many`."""
        wanted = []
        for offset, destination in requests:
            self._check(offset, destination.nbytes)
            if destination.nbytes:
                wanted.append((offset, destination))
        self._read_pieces(wanted)

    def drop_pages(self, offset: int, length: int) -> None:
        """See `Source.drop_pages`: of the ciphertext."""
        if length and len(self.table):
            first, last = self.table[self.table.holding(offset)], self.table[self.table.holding(offset + length - 1)]
            begin = first.offset + offset - first.plain
            self._raw.drop_pages(begin, last.offset + offset + length - last.plain - begin)

    def _read_pieces(self, requests: list[Request]) -> None:
        jobs: dict[int, list[Request]] = {}
        start = stop = 0  # the block of the previous request: the next one is mostly in the same block
        pieces: list[Request] = []
        for offset, destination in requests:
            if start <= offset and offset + destination.nbytes <= stop:
                pieces.append((offset - start, destination))
                continue
            for number, inside, piece in self.split(offset, destination):
                pieces = jobs.setdefault(number, [])
                pieces.append((inside, piece))
                frame = self.table[number]
                start, stop = frame.plain, frame.plain + frame.length
        self._read_blocks(jobs)

    def split(self, offset: int, destination: memoryview) -> Iterator[tuple[int, int, memoryview]]:
        """Split a request at block borders: (frame, offset in its plaintext, destination)."""
        number, done = self.table.holding(offset), 0
        while done < destination.nbytes:
            frame = self.table[number]
            inside = offset + done - frame.plain
            count = min(frame.length - inside, destination.nbytes - done)
            yield number, inside, destination[done : done + count]
            done += count
            number += 1

    def _read_blocks(self, jobs: dict[int, list[Request]]) -> None:
        raise NotImplementedError


class GcmSource(DecryptedSource):
    """AES-GCM: a block is authenticated before any byte of it is returned."""

    window = 2**16

    def __init__(self, raw: Source, lock: CipherKey, table: FrameTable, cache: int = 0) -> None:
        super().__init__(raw, lock, table)
        self._blocks = Blocks(cache)
        self._touched: set[int] = set()
        self._place = NOWHERE

    def border(self, offset: int) -> int:
        """See `Source.border`: the end of a block, which is always decrypted whole."""
        frame = self.table[self.table.holding(offset)]
        return frame.plain + frame.length

    def close(self) -> None:
        """Close the encrypted file and drop the decrypted blocks."""
        super().close()
        self._blocks.clear()

    def _read_pieces(self, requests: list[Request]) -> None:
        if not self._is_at_hand(requests):
            super()._read_pieces(requests)

    def _is_at_hand(self, requests: list[Request]) -> bool:
        """Try to copy everything from the cached block of the last read; whether that worked."""
        number, start, _, until, _ = self._place
        for offset, destination in requests:
            if offset < start or offset + destination.nbytes > until:
                return False
        return self._is_copied(number, [(offset - start, piece) for offset, piece in requests])

    def _read_blocks(self, jobs: dict[int, list[Request]]) -> None:
        if not jobs:
            return
        keep = {number for number, pieces in jobs.items() if self._is_worth_keeping(number, pieces)}
        self._touched.update(jobs)
        # Copy from cached blocks first: afterwards the cache may evict them and reuse their memory.
        rest = [number for number, pieces in jobs.items() if not self._is_copied(number, pieces)]
        self._go_to(min(jobs), max(jobs), jobs)
        run_all([partial(self._block, number, jobs[number], number in keep) for number in rest])

    def _go_to(self, first: int, last: int, jobs: dict[int, list[Request]]) -> None:
        """Update the reader's position. In a sequential scan of a local file, start the next blocks."""
        frame = self.table[last]
        begin = self.table[first].plain + min(inside for inside, _ in jobs[first])
        end = frame.plain + max(inside + piece.nbytes for inside, piece in jobs[last])
        before, self._place = self._place, place_in(last, frame, end)
        if self._raw.is_addressable and before.leads_to(first, begin, last, end):
            if last != before.number:
                self._blocks.leave(before.number)
            count = min(_AHEAD, self._blocks.limit // frame.length - 1)
            coming = range(last + 1, min(last + 1 + count, len(self.table)))
            self._blocks.bring_ahead([(number, self.table[number].length) for number in coming], self._fill_block)

    def _block(self, number: int, pieces: list[Request], keep: bool) -> None:
        if keep or self._blocks.is_coming(number):
            self._copy(self._blocks.bring(number, self.table[number].length, self._fill_block), pieces)
        else:
            self.decrypt(number, pieces)

    def _fill_block(self, number: int, plain: memoryview) -> None:
        self.decrypt(number, [(0, plain)])

    def _is_copied(self, number: int, pieces: list[Request]) -> bool:
        """Try to fill the pieces from a cached block; whether that worked."""
        block = self._blocks.take(number)
        if block is not None:
            self._copy(block, pieces)
        return block is not None

    def _copy(self, block: Block, pieces: list[Request]) -> None:
        """Fill the pieces from a block that was taken, and give it back."""
        try:
            for inside, destination in pieces:
                copy(destination, block.plain[inside : inside + destination.nbytes])
        finally:
            self._blocks.give_back(block)

    def _is_worth_keeping(self, number: int, pieces: list[Request]) -> bool:
        """Whether to cache a block: it is read again, or follows a block that was read."""
        length = self.table[number].length
        wanted = sum(destination.nbytes for _, destination in pieces)
        again = number in self._touched or number - 1 in self._touched
        return again and wanted < length and length <= self._blocks.limit

    def decrypt(self, number: int, pieces: list[Request]) -> None:
        """Authenticate a block and write the wanted pieces of its plaintext.

        If the tag is wrong, the pieces are wiped.

        Raises:
            DamagedBlock: the tag is wrong.
        """
        frame = self.table[number]
        if any(self._authentic(frame, frame.iv[:length], pieces) for length in _NONCES):
            return
        for _, destination in pieces:
            destination[:] = bytes(destination.nbytes)
        raise DamagedBlock(
            f"encrypted block {number} of {len(self.table)} does not authenticate: it is damaged, or was encrypted"
            " with another key",
            offset=frame.offset,
            file=self.name,
        )

    def prove_key(self) -> None:
        """Check that the key fits at least one block.

        Raises:
            WrongKey: none of the first, middle and last block authenticates.

        Cost: decrypts up to three blocks.
        """
        count = len(self.table)
        if not any(map(self.is_authentic, sorted({0, count // 2, count - 1}))):
            alone = "the file's only block is damaged" if count == 1 else "the file is damaged throughout"
            raise WrongKey(f"the key does not fit (no block authenticates with it), or {alone}", file=self.name)

    def is_authentic(self, number: int) -> bool:
        """Whether the tag of a block is right. Cost: decrypts it."""
        try:
            self.decrypt(number, [])
        except DamagedBlock:
            return False
        return True

    def _authentic(self, frame: Frame, nonce: bytes, pieces: list[Request]) -> bool:
        decryptor = self._lock.gcm(nonce, frame.tag)
        scratch = allocate(min(SCRATCH, frame.stored))
        sealed = allocate(min(SCRATCH, frame.stored))  # stays in the processor's cache until it is decrypted
        pieces = sorted(pieces, key=itemgetter(0))
        first = 0
        for begin, end, destination in passes(frame.stored, pieces):
            target = scratch[: end - begin] if destination is None else destination
            for start in range(begin, end, SCRATCH):
                run = sealed[: end - start]
                self._raw.read_into(frame.offset + start, run)
                decryptor.update_into(run, target[start - begin : start - begin + run.nbytes])
            if destination is None:
                first = scatter(begin, target, pieces, first)
        try:
            decryptor.finalize()
        except invalid_tag():
            return False
        return True


class CbcSource(DecryptedSource):
    """AES-CBC and SM4-CBC: decrypts only the wanted bytes, and authenticates nothing."""

    window = 256
    window_limit = 2**20

    def advise_random(self, whether: bool) -> None:
        """See `Source.advise_random`: of the ciphertext."""
        self._raw.advise_random(whether)

    def _read_blocks(self, jobs: dict[int, list[Request]]) -> None:
        tasks: list[Callable[[], None]] = []
        pace = _PACES.get(self._lock.mode.algorithm, _OTHER_PACE)
        total = 0
        for number, pieces in jobs.items():
            frame = self.table[number]
            for inside, destination in pieces:
                total += destination.nbytes
                for start in range(0, destination.nbytes, pace.piece):
                    piece = destination[start : start + pace.piece]
                    tasks.append(partial(self._piece, frame, inside + start, piece))
        if total < pace.worth_a_thread:
            for task in tasks:
                task()
        else:
            run_all(tasks)

    def _piece(self, frame: Frame, inside: int, destination: memoryview) -> None:
        """Decrypt a range of a block; its iv is the 16 bytes of ciphertext before it."""
        begin = inside // BLOCK * BLOCK
        end = -(-(inside + destination.nbytes) // BLOCK) * BLOCK
        iv = frame.iv if begin == 0 else bytes(self._raw.snapshot(frame.offset + begin - BLOCK, BLOCK))
        data = allocate(end - begin)
        self._raw.read_into(frame.offset + begin, data)
        decryptor = self._lock.cbc(iv)
        done = 0
        if inside > begin:  # the range does not start at a cipher block: decrypt the first 16 bytes apart
            head = decryptor.update(data[:BLOCK])[inside - begin :][: destination.nbytes]
            destination[: len(head)] = head
            data, done = data[BLOCK:], len(head)
        # `update_into` needs a destination 15 bytes longer than the data, so the last bytes go through a small buffer.
        direct = (destination.nbytes - done) // BLOCK * BLOCK - 2 * BLOCK
        if direct > 0:
            decryptor.update_into(data[:direct], destination[done:])
            data, done = data[direct:], done + direct
        destination[done:] = decryptor.update(data)[: destination.nbytes - done]


def run_all(tasks: list[Callable[[], Any]]) -> None:
    """Run tasks, on threads if there are several; raises the first error after all have ended."""
    if len(tasks) < 2 or THREADS < 2:
        for task in tasks:
            task()
        return
    with ThreadPoolExecutor(min(THREADS, len(tasks)), thread_name_prefix="lazyckpt") as pool:
        futures = [pool.submit(task) for task in tasks]
    for future in futures:
        future.result()
