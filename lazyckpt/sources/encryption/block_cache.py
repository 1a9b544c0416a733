"""Decrypted blocks in memory: which are kept, whose memory is used again, which come before they are asked for.

Strategy. Blocks are kept up to a limit, the least recently used goes first, and its memory (fresh memory costs as much
as AES) becomes that of the block it makes room for, unless somebody is still reading there. A block is brought by one
thread, whoever else wants it waits. Blocks that are brought ahead of a reader have threads of their own, which end with
their block, so that nothing idles, and nothing is left behind by a fork. What could not be brought is not remembered:
who asks for it tries again and gets the error.
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

_PATIENCE: Final = 1.0  # seconds that a fork waits for blocks on their way

Fill = Callable[[int, memoryview], object]  # brings a block, by its number, into its memory


class Block:
    """A decrypted block: its plaintext, for whoever has taken it and not yet given it back."""

    __slots__ = ("_memory", "plain", "users")

    def __init__(self, memory: memoryview, length: int) -> None:
        self._memory = memory
        self.plain = memory[:length]
        self.users = 1

    @property
    def memory(self) -> memoryview:
        """All its memory, which may be more than the plaintext needs."""
        return self._memory


class Blocks:
    """Decrypted blocks by their numbers; never more than `limit` bytes are kept. For many threads.

    Attributes:
        limit: bytes.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._held: OrderedDict[int, Block] = OrderedDict()
        self._coming: dict[int, threading.Event] = {}
        self._threads: set[threading.Thread] = set()
        self._size = 0  # bytes of what is held or coming
        self._turn = threading.Lock()
        _all.add(self)

    def take(self, number: int) -> Block | None:
        """A block that is held, to be given back; else None."""
        with self._turn:
            return self._taken(number)

    def is_coming(self, number: int) -> bool:
        """Whether somebody is bringing a block."""
        return number in self._coming

    def give_back(self, block: Block) -> None:
        """Let go of a block that was taken."""
        with self._turn:
            block.users -= 1

    def leave(self, number: int) -> None:
        """Let a block be the first to go: a walk has left it behind, and needs what it has not reached."""
        with self._turn:
            if number in self._held:
                self._held.move_to_end(number, last=False)

    def bring(self, number: int, length: int, fill: Fill) -> Block:
        """A block, to be given back: held, or brought here, or by another thread that is waited for.

        Args:
            number: which.
            length: bytes of its plaintext.
            fill: called without any lock; a block for which it raises is not kept.
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
        """Bring blocks, as (number, length), on threads of their own; those held or coming already are left alone."""
        for number, length in wanted:
            with self._turn:
                if number in self._held or number in self._coming:
                    continue
                block = self._expected(number, length)
            thread = threading.Thread(target=self._bring_there, args=(number, block, fill), name="lazyckpt-ahead")
            self._threads.add(thread)
            try:
                thread.start()
            except RuntimeError:  # there can be no more threads
                self._threads.discard(thread)
                self._settle(number, block, keep=False)
                return

    def wait(self, seconds: float | None = None) -> None:
        """Wait until nothing is on its way on threads of its own."""
        for thread in list(self._threads):
            with contextlib.suppress(RuntimeError):  # another thread is about to start it
                thread.join(seconds)

    def clear(self) -> None:
        """Forget all that is held; what is on its way is waited for."""
        self.wait()
        with self._turn:
            self._size -= sum(block.memory.nbytes for block in self._held.values())
            self._held.clear()

    def forked(self) -> None:
        """In a forked child: other threads of the parent may have been at it, and will never end here."""
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
        """Room for a block that will come. What would have to go for it goes first, and may leave it its memory."""
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
        except BaseException:  # noqa: BLE001 (who asks for the block will meet it again)
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
