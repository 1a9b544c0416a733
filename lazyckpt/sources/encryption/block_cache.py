"""LRU cache of decrypted blocks, with buffer reuse and read-ahead.

Strategy. The cache has a limit in bytes and evicts the least recently used block. A new block takes over the memory of
an evicted one, because allocating fresh memory (page faults) costs as much as AES; memory that a reader still uses is
not taken over. A block is decrypted by one thread, and other threads that want it wait. Each block that is read ahead
gets a thread of its own, which ends with the block: no thread idles, and a fork loses none. A failed block is not
cached: the next reader tries again and gets the error.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final

from lazyckpt.sources.base import allocate

_PATIENCE: Final = 1.0  # seconds that a fork waits for blocks being decrypted

Fill = Callable[[int, memoryview], object]  # decrypts a block, by its number, into a buffer


class Block:
    """A decrypted block; `users` counts the readers that have taken it and not yet given it back."""

    __slots__ = ("_memory", "plain", "users")

    def __init__(self, memory: memoryview, length: int) -> None:
        self._memory = memory
        self.plain = memory[:length]
        self.users = 1

    @property
    def memory(self) -> memoryview:
        """The whole buffer, which may be larger than the plaintext."""
        return self._memory


class Blocks:
    """A cache of decrypted blocks by number, of at most `limit` bytes. Thread-safe.

    Attributes:
        limit: the maximum, in bytes; 0 caches nothing.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._held: OrderedDict[int, Block] = OrderedDict()
        self._coming: dict[int, threading.Event] = {}
        self._threads: set[threading.Thread] = set()
        self._size = 0  # bytes of the cached blocks and of those being decrypted
        self._turn = threading.Lock()
        _all.add(self)

    def take(self, number: int) -> Block | None:
        """Take a cached block (give it back afterwards); None if it is not cached."""
        with self._turn:
            return self._taken(number)

    def is_coming(self, number: int) -> bool:
        """Whether a thread is decrypting a block."""
        return number in self._coming

    def give_back(self, block: Block) -> None:
        """Give back a block that was taken."""
        with self._turn:
            block.users -= 1

    def leave(self, number: int) -> None:
        """Evict this block first: a sequential reader has passed it and needs room for later blocks."""
        with self._turn:
            if number in self._held:
                self._held.move_to_end(number, last=False)

    def bring(self, number: int, length: int, fill: Fill) -> Block:
        """Take a block, and decrypt it if it is not cached (give it back afterwards).

        If another thread is decrypting it, waits for that thread.

        Args:
            number: the block.
            length: bytes of its plaintext.
            fill: called without holding a lock; if it raises, the block is not cached.
        """
        while True:
            with self._turn:
                found = self._taken(number)
                if found is not None:
                    return found
                coming = self._coming.get(number)
                if coming is None:
                    block = self._expected(number, length)
                    break
            coming.wait()
        self._brought(number, block, fill)
        return block

    def bring_ahead(self, wanted: Iterable[tuple[int, int]], fill: Fill) -> None:
        """Decrypt (number, length) blocks in the background, except those cached or started."""
        for number, length in wanted:
            with self._turn:
                if number in self._held or number in self._coming:
                    continue
                block = self._expected(number, length)
            thread = threading.Thread(target=self._bring_there, args=(number, block, fill), name="lazyckpt-ahead")
            self._threads.add(thread)
            try:
                thread.start()
            except RuntimeError:  # the process cannot start more threads: the reader decrypts the block itself
                self._threads.discard(thread)
                self._settle(number, block, keep=False)
                return

    def wait(self, seconds: float | None = None) -> None:
        """Wait for the background threads."""
        for thread in list(self._threads):
            with contextlib.suppress(RuntimeError):  # another thread is about to start it
                thread.join(seconds)

    def clear(self) -> None:
        """Wait for the background threads, then empty the cache."""
        self.wait()
        with self._turn:
            self._size -= sum(block.memory.nbytes for block in self._held.values())
            self._held.clear()

    def forked(self) -> None:
        """Repair the state in a forked child, where threads are gone and locks remain."""
        self._turn = threading.Lock()
        self._coming.clear()
        self._threads.clear()
        self._size = sum(block.memory.nbytes for block in self._held.values())

    def _taken(self, number: int) -> Block | None:
        block = self._held.get(number)
        if block is not None:
            self._held.move_to_end(number)
            block.users += 1
        return block

    def _expected(self, number: int, length: int) -> Block:
        """A buffer for a block that will be decrypted. Evicts what must go, and reuses its memory if possible."""
        memory = None
        while self._held and self._size + length > self.limit:
            gone = self._held.popitem(last=False)[1]
            self._size -= gone.memory.nbytes
            if memory is None and not gone.users and gone.memory.nbytes >= length:
                memory = gone.memory
                self._size += memory.nbytes
                break
        if memory is None:
            memory = allocate(length)
            self._size += memory.nbytes
        self._coming[number] = threading.Event()
        return Block(memory, length)

    def _brought(self, number: int, block: Block, fill: Fill) -> None:
        try:
            fill(number, block.plain)
        except BaseException:
            self._settle(number, block, keep=False)
            raise
        self._settle(number, block, keep=True)

    def _bring_there(self, number: int, block: Block, fill: Fill) -> None:
        try:
            fill(number, block.plain)
        except BaseException:  # noqa: BLE001 (the reader of the block will get it again)
            self._settle(number, block, keep=False)
        else:
            self._settle(number, block, keep=True)
            self.give_back(block)
        finally:
            self._threads.discard(threading.current_thread())

    def _settle(self, number: int, block: Block, *, keep: bool) -> None:
        with self._turn:
            if keep:
                self._held[number] = block
                self._shrink()
            else:
                self._size -= block.memory.nbytes
            coming = self._coming.pop(number, None)
        if coming is not None:
            coming.set()

    def _shrink(self) -> None:
        while self._held and self._size > self.limit:
            self._size -= self._held.popitem(last=False)[1].memory.nbytes


_all: weakref.WeakSet[Blocks] = weakref.WeakSet()


def _before_fork() -> None:
    for blocks in list(_all):
        blocks.wait(_PATIENCE)


def _after_fork() -> None:
    for blocks in list(_all):
        blocks.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_child=_after_fork)
