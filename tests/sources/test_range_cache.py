"""Ranges that are kept for a while, within a budget."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lazyckpt.sources.range_cache import RangeCache

DATA = bytes(range(200))
RANGES = st.tuples(st.integers(0, 190), st.integers(1, 60)).map(lambda pair: (pair[0], min(pair[1], 200 - pair[0])))


def put(kept, start, length):
    """Keep a range of `DATA`."""
    kept.put(start, memoryview(DATA)[start : start + length])


def size_of(kept):
    """Bytes that are kept."""
    return sum(data.nbytes for data in kept._ranges.values())


@given(st.lists(RANGES, max_size=20), RANGES)
def test_what_is_given_is_what_was_put(ranges, asked):
    """Whatever was kept before, an answer has the bytes of the range that was asked for."""
    kept = RangeCache(400)
    for start, length in ranges:
        put(kept, start, length)
    found = kept.get(*asked)

    assert found is None or bytes(found) == DATA[asked[0] : sum(asked)]


@given(st.lists(RANGES, max_size=40), st.integers(0, 300))
def test_the_budget_is_kept(ranges, budget):
    """There are never more bytes than the budget, and the count of them is right."""
    kept = RangeCache(budget)
    for start, length in ranges:
        put(kept, start, length)

    assert size_of(kept) == kept._size <= budget


def test_the_range_that_was_not_used_goes_first():
    """Of two that are kept, the one that was looked at stays when a third needs room."""
    kept = RangeCache(80)
    for start in (0, 20, 40, 60):
        put(kept, start, 20)
    kept.get(0, 5)
    put(kept, 100, 20)

    assert [kept.get(start, 1) is not None for start in (0, 20, 40, 60, 100)] == [True, False, True, True, True]


def test_a_range_that_would_drive_out_the_others_is_not_kept():
    """More than a quarter of the budget is not kept at all."""
    kept = RangeCache(100)
    put(kept, 0, 26)

    assert (kept.takes(26), kept.takes(25), kept.get(0, 1)) == (False, True, None)


def test_the_longer_of_two_from_one_place_is_kept():
    """A longer range takes the place of a shorter one, and a shorter one takes nobody's."""
    kept = RangeCache(400)
    for length in (10, 30, 20):
        put(kept, 0, length)

    assert (kept.get(0, 30) is not None, size_of(kept)) == (True, 30)
