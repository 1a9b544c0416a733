"""Byte ranges: near ranges are read together, and recent ones are cached within a budget."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lazyckpt.sources.ranges import COALESCE_GAP, RangeCache, coalesce, spans

DATA = bytes(range(200))
RANGES = st.tuples(st.integers(0, 190), st.integers(1, 60)).map(lambda pair: (pair[0], min(pair[1], 200 - pair[0])))
_runs = st.lists(st.integers(0, 300), max_size=20).map(sorted)


@given(_runs, st.integers(1, 20), st.integers(0, 40))
def test_coalesced_reads_hold_all_their_runs(starts, length, gap):
    """Each run lies in exactly one read, reads begin and end with a run, and wide gaps are not read."""
    reads = coalesce(np.array(starts, np.int64), length, gap)

    covered = list(itertools.chain.from_iterable(starts[part] for _, _, part in reads))
    assert covered == starts
    for offset, size, part in reads:
        assert (offset, offset + size) == (starts[part][0], starts[part][-1] + length)
        assert all(after - before <= length + gap for before, after in itertools.pairwise(starts[part]))
    for (_, _, before), (offset, _, _) in itertools.pairwise(reads):
        assert offset - (starts[before][-1] + length) > gap


def test_neighbours_are_read_together():
    """Runs with a gap of up to 4 KiB are one read; wider gaps are not read."""
    starts = np.array([0, 100, 200 + COALESCE_GAP, 301 + 2 * COALESCE_GAP])

    assert [(offset, size) for offset, size, _ in coalesce(starts, 100)] == [
        (0, 300 + COALESCE_GAP),
        (301 + 2 * COALESCE_GAP, 100),
    ]


WANTED = st.lists(st.tuples(st.integers(0, 500), st.integers(0, 80)), max_size=20)


@given(WANTED, st.integers(0, 40), st.integers(1, 60))
def test_spans_hold_all_that_is_wanted_and_little_else(wanted, gap, longest):
    """Every requested byte is in one span; spans ascend, are short enough, and begin and end with a requested byte."""
    found = spans(wanted, gap, longest)
    needed = {place for start, length in wanted for place in range(start, start + length)}
    held = [place for start, stop in found for place in range(start, stop)]

    assert needed <= set(held)
    assert held == sorted(set(held))
    assert all(0 < stop - start <= longest for start, stop in found)
    assert all(place in needed or not needed.isdisjoint(range(place - gap, place)) for place in held)


def test_neighbours_are_one_span_and_others_are_not():
    """Ranges with at most `gap` bytes between them are fetched together."""
    assert spans([(0, 10), (15, 5), (26, 4)], 5, 100) == [(0, 20), (26, 30)]


def put(kept, start, length):
    """Cache a range of `DATA`."""
    kept.put(start, memoryview(DATA)[start : start + length])


def size_of(kept):
    """The number of cached bytes."""
    return sum(data.nbytes for data in kept._ranges.values())


@given(st.lists(RANGES, max_size=20), RANGES)
def test_what_is_given_is_what_was_put(ranges, asked):
    """Whatever was cached before, an answer has the bytes of the requested range."""
    kept = RangeCache(400)
    for start, length in ranges:
        put(kept, start, length)
    found = kept.get(*asked)

    assert found is None or bytes(found) == DATA[asked[0] : sum(asked)]


@given(st.lists(RANGES, max_size=40), st.integers(0, 300))
def test_the_budget_is_kept(ranges, budget):
    """The cache never exceeds its budget, and counts its bytes correctly."""
    kept = RangeCache(budget)
    for start, length in ranges:
        put(kept, start, length)

    assert size_of(kept) == kept._size <= budget


def test_the_range_that_was_not_used_goes_first():
    """When a third range needs memory, the more recently used of two stays."""
    kept = RangeCache(80)
    for start in (0, 20, 40, 60):
        put(kept, start, 20)
    kept.get(0, 5)
    put(kept, 100, 20)

    assert [kept.get(start, 1) is not None for start in (0, 20, 40, 60, 100)] == [True, False, True, True, True]


def test_a_range_that_would_drive_out_the_others_is_not_kept():
    """A range of more than a quarter of the budget is not cached."""
    kept = RangeCache(100)
    put(kept, 0, 26)

    assert (kept.takes(26), kept.takes(25), kept.get(0, 1)) == (False, True, None)


def test_the_longer_of_two_from_one_place_is_kept():
    """A longer range replaces a shorter one, and a shorter one replaces none."""
    kept = RangeCache(400)
    for length in (10, 30, 20):
        put(kept, 0, length)

    assert (kept.get(0, 30) is not None, size_of(kept)) == (True, 30)
