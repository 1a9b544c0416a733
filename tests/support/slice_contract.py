"""The contract of a value that is sliced: numpy's answer, or numpy's error. Test classes inherit it and set `kind`."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from index_keys import KEYS, any_key, outcome
from value_kinds import made, random_limits

SHAPES = st.lists(st.sampled_from([0, 1, 2, 3, 3, 5, 7]), max_size=4).map(tuple)
CHOICES = st.randoms(use_true_random=False)
# An inherited property is tested by each class that inherits it.
SOME = settings(max_examples=6, suppress_health_check=[HealthCheck.differing_executors])


class SliceContract:
    """Tests for every kind of value. Subclasses set `kind`, a name of `value_kinds.KINDS`."""

    kind = ""

    @pytest.mark.parametrize("shape", [(6, 4), ()])
    def test_every_kind_of_key_gives_what_numpy_gives(self, shape):
        """Type, dtype, shape and values equal numpy's answer for every key of the list, or the error equals numpy's."""
        array, param = made(self.kind, random.Random(len(shape)), shape)

        assert {name: outcome(param, key) for name, key in KEYS.items()} == {
            name: outcome(array, key) for name, key in KEYS.items()
        }

    @SOME
    @given(CHOICES, SHAPES)
    def test_any_key_gives_what_numpy_gives(self, choose, shape):
        """The same holds for random keys of random layouts."""
        array, param = made(self.kind, choose, shape)
        keys = [any_key(choose, array.shape) for _ in range(12)]

        assert [(key, outcome(param, key)) for key in keys] == [(key, outcome(array, key)) for key in keys]

    @SOME
    @given(CHOICES, SHAPES)
    def test_the_ways_of_large_values_give_what_numpy_gives(self, choose, shape):
        """The same holds when a value is read in pieces of a few bytes, as large ones are in pieces of MiB."""
        array, param = made(self.kind, choose, shape)
        keys = [any_key(choose, array.shape) for _ in range(12)]
        with random_limits(choose):
            found = [(key, outcome(param, key)) for key in keys]

        assert found == [(key, outcome(array, key)) for key in keys]
