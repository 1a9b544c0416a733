"""Prefetching guesses the next reads of a walk; a wrong guess changes only what is fetched."""

from __future__ import annotations

from checkpoints import checkpoint, counting, pattern
from hypothesis import given
from hypothesis import strategies as st
from tracing import TracingSource

from lazyckpt.formats import scan
from lazyckpt.sources.base import BytesSource
from lazyckpt.sources.prefetch import Prefetcher, foreseen

STEPS = st.integers(1, 10**6)


class Counted(TracingSource):
    """A remote source, for which prefetching is worthwhile. `turns` counts its requests."""

    prefetch_depth = 8

    def __init__(self, data, window=64):
        """As `TracingSource`."""
        super().__init__(data, window)
        self.turns = 0

    def read(self, offset, length):
        """Count one request."""
        self.turns += 1
        return super().read(offset, length)

    def read_many(self, requests):
        """Count one request for all of them."""
        self.turns += 1
        super().read_many(requests)


@given(st.lists(STEPS, min_size=1, max_size=12, unique_by=lambda step: step // 40), st.integers(1, 20))
def test_steps_that_repeat_are_foreseen(layer, most):
    """After two and a half layers with equal steps, the next steps are predicted."""
    steps = (layer * 8)[: 2 * len(layer) + len(layer) // 2 + 2]
    found = foreseen(steps, most)

    assert found == (layer * 30)[len(steps) : len(steps) + len(found)]
    assert found


@given(st.lists(STEPS, max_size=40), st.integers(0, 9))
def test_no_more_is_foreseen_than_wanted(steps, most):
    """At most the requested number of steps is predicted."""
    assert len(foreseen(steps, most)) <= most


def test_nothing_is_foreseen_of_what_never_repeats():
    """Steps that all differ, or too few, predict nothing."""
    assert [foreseen(steps, 8) for steps in ([], [5], [5, 5], [1000 * n for n in range(50)])] == [[]] * 4


@given(st.lists(st.tuples(st.integers(0, 900), st.integers(1, 40)), max_size=60))
def test_a_run_has_the_bytes_of_its_place(walk):
    """Forwards or backwards, a walk sees the bytes of each offset."""
    data = pattern(1000)
    sight = Prefetcher(Counted(data))
    for offset, wanted in walk:
        needed = min(wanted, 1000 - offset)
        run = bytes(sight.run(offset, needed, needed))

        assert len(run) >= needed
        assert run == data[offset : offset + len(run)]


def test_alike_layers_are_walked_in_few_turns():
    """For 120 layers of two values, numbered up to three digits, many headers are fetched at a time."""
    values = {
        f"layers.{layer}.{name}": counting((size,))
        for layer in range(120)
        for name, size in (("bias", 300), ("weight", 2000))
    }
    data = checkpoint(values)
    source = Counted(data)

    assert list(scan(source, "ckpt")) == list(scan(BytesSource(data), "ckpt"))
    assert source.turns < len(values) / 4
