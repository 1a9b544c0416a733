"""The cache of decrypted blocks: bounded, one load per block, and no memory is reused under a reader."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from forking import ended, forked
from hypothesis import given
from hypothesis import strategies as st

from lazyckpt.sources.encryption.block_cache import Blocks


def filling(number, plain):
    """A block filled with its number."""
    plain[:] = bytes([number]) * plain.nbytes


def bring(blocks, number, length):
    """Load a block, read it, and release it; returns its bytes."""
    block = blocks.bring(number, length, filling)
    seen = bytes(block.plain)
    blocks.give_back(block)
    return seen


def held(blocks, numbers):
    """The cached blocks with their bytes. Each look-up makes a block the most recently used."""
    found = {}
    for number in numbers:
        block = blocks.take(number)
        if block is not None:
            found[number] = bytes(block.plain)
            blocks.give_back(block)
    return found


def test_the_least_recently_used_block_goes():
    """When the cache is full, the most recently used blocks stay."""
    blocks = Blocks(30)
    for number in range(3):
        bring(blocks, number, 10)
    bring(blocks, 0, 10)
    bring(blocks, 3, 10)
    bring(blocks, 4, 5)

    assert [*held(blocks, range(5))] == [0, 3, 4]


def test_a_block_that_was_left_goes_first():
    """A released block goes first, however recent its use; one that is not cached can also be released."""
    blocks = Blocks(30)
    for number in range(3):
        bring(blocks, number, 10)
    blocks.leave(2)
    blocks.leave(7)
    bring(blocks, 3, 10)

    assert [*held(blocks, range(4))] == [0, 1, 3]


@given(st.integers(0, 40), st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=60))
def test_no_more_than_the_limit_is_held(limit, steps):
    """However blocks are loaded, again, on demand or ahead, the cache fits its limit and holds the right bytes."""
    blocks = Blocks(limit)
    for number, is_ahead in steps:
        if is_ahead:
            blocks.bring_ahead([(number, number * 3)], filling)
            blocks.wait()
        else:
            assert bring(blocks, number, number * 3) == bytes([number]) * (number * 3)
        found = held(blocks, range(6))
        assert sum(map(len, found.values())) <= limit
        assert all(plain == bytes([number]) * (number * 3) for number, plain in found.items())


def test_memory_is_used_again():
    """A block reuses the memory of the evicted one, also if it is shorter."""
    blocks = Blocks(10)
    first = blocks.bring(0, 10, filling)
    blocks.give_back(first)
    second = blocks.bring(1, 7, filling)

    assert second.memory is first.memory


def test_memory_that_somebody_reads_is_not_used_again():
    """A block in use keeps its bytes, whatever is loaded after it."""
    blocks = Blocks(10)
    taken = blocks.bring(0, 10, filling)
    seen = [bring(blocks, number, 10) for number in range(1, 5)]

    assert bytes(taken.plain) == bytes(10)
    assert seen == [bytes([number]) * 10 for number in range(1, 5)]


def test_a_block_is_brought_once_however_many_want_it():
    """Threads that request a block while it is loading wait, and get the same memory."""
    begun, gate, calls = threading.Event(), threading.Event(), []

    def slowly(number, plain):
        calls.append(number)
        begun.set()
        assert gate.wait(20)
        filling(number, plain)

    blocks = Blocks(100)
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(blocks.bring, 7, 10, slowly)
        assert begun.wait(20)
        others = [pool.submit(blocks.bring, 7, 10, slowly) for _ in range(7)]
        gate.set()
        rooms = {id(future.result(20).memory) for future in [first, *others]}

    assert (calls, len(rooms)) == ([7], 1)


def test_a_block_that_could_not_be_brought_is_tried_again():
    """A failed load, ahead or on demand, is not cached: each reader gets the error until a load succeeds."""
    blocks = Blocks(10)

    def failing(number, plain):
        raise OSError("no such block")

    blocks.bring_ahead([(1, 10)], failing)
    blocks.wait()
    for _ in range(2):
        with pytest.raises(OSError, match="no such block"):
            blocks.bring(1, 10, failing)

    assert bring(blocks, 1, 10) == bytes([1]) * 10
    assert [*held(blocks, range(3))] == [1]


def test_a_reader_that_waited_for_a_failed_load_tries_itself():
    """A reader that waits for another thread's failed load gets its bytes, not the other's error."""
    begun, gate = threading.Event(), threading.Event()

    def failing(number, plain):
        begun.set()
        assert gate.wait(20)
        raise OSError("not this time")

    blocks = Blocks(10)
    blocks.bring_ahead([(1, 10)], failing)
    assert begun.wait(20)
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(bring, blocks, 1, 10)
        gate.set()

        assert found.result(20) == bytes([1]) * 10


def test_blocks_come_ahead_once():
    """A block that is cached or loading is not loaded again."""
    blocks, calls = Blocks(100), []

    def counted(number, plain):
        calls.append(number)
        filling(number, plain)

    bring(blocks, 0, 10)
    for _ in range(3):
        blocks.bring_ahead([(0, 10), (1, 10), (2, 10)], counted)
    blocks.wait()

    assert sorted(calls) == [1, 2]
    assert held(blocks, range(3)) == {number: bytes([number]) * 10 for number in range(3)}


def test_forgetting_waits_for_what_is_on_its_way():
    """After clearing no block arrives, and no thread is left."""
    blocks = Blocks(100)
    gate = threading.Event()

    def slowly(number, plain):
        gate.wait(20)
        filling(number, plain)

    blocks.bring_ahead([(number, 10) for number in range(4)], slowly)
    threading.Timer(0.05, gate.set).start()
    blocks.clear()

    assert held(blocks, range(4)) == {}
    assert [thread.name for thread in threading.enumerate() if thread.name == "lazyckpt-ahead"] == []


def test_a_child_waits_for_no_thread_of_its_parent():
    """A block that was loading at the fork is loaded by the child itself."""
    blocks, gate = Blocks(100), threading.Event()
    begun = threading.Event()

    def slowly(number, plain):
        begun.set()
        gate.wait(20)
        filling(number, plain)

    def read():
        assert bring(blocks, 3, 10) == bytes([3]) * 10

    with ThreadPoolExecutor(1) as pool:
        brought = pool.submit(blocks.bring, 3, 10, slowly)
        assert begun.wait(20)
        child = forked(read)
        gate.set()
        brought.result(20)

    assert ended(child) == 0


def test_a_fork_lets_what_is_on_its_way_arrive():
    """Blocks read ahead finish before a fork, so a child has them, too."""
    blocks = Blocks(100)
    blocks.bring_ahead([(number, 10) for number in range(4)], filling)

    def read():
        assert [*held(blocks, range(4))] == [0, 1, 2, 3]

    assert ended(forked(read)) == 0
