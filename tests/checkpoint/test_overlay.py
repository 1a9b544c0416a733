"""`Overlay` behaves as a copy of its base, and never changes the base."""

from __future__ import annotations

import copy
import doctest
import pickle

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from lazyckpt.checkpoint import overlay
from lazyckpt.checkpoint.overlay import Overlay

KEYS = st.sampled_from("abcdef")
BASES = st.dictionaries(KEYS, st.integers())


class OverlayMachine(RuleBasedStateMachine):
    """An overlay beside a dict that starts with the same items."""

    @initialize(base=BASES)
    def start(self, base):
        """Start with an empty overlay over a base."""
        self.base = base
        self.untouched = list(base.items())
        self.model = dict(base)
        self.overlay = Overlay(base)

    @rule(key=KEYS, value=st.integers())
    def assign(self, key, value):
        """Set a value."""
        self.model[key] = self.overlay[key] = value

    @rule(key=KEYS)
    def delete(self, key):
        """Delete a key, or fail alike."""
        if key in self.model:
            del self.model[key], self.overlay[key]
        else:
            with pytest.raises(KeyError, match=key):
                del self.overlay[key]

    @rule()
    def pop_last(self):
        """Pop the last item, or fail alike."""
        if self.model:
            assert self.overlay.popitem() == self.model.popitem()
        else:
            with pytest.raises(KeyError):
                self.overlay.popitem()

    @rule()
    def clear(self):
        """Clear both."""
        self.model.clear()
        self.overlay.clear()

    @rule(key=KEYS, value=st.integers())
    def go_on_with_a_copy(self, key, value):
        """The copy does not see later edits of the original."""
        old = self.overlay
        self.overlay = old.copy_over(self.base)
        old[key] = value

    @rule(keep=st.sets(KEYS))
    def narrow(self, keep):
        """Continue with some of the keys, over a smaller base."""
        self.base = {key: value for key, value in self.base.items() if key in keep}
        self.untouched = list(self.base.items())
        self.overlay = self.overlay.narrow(self.base, keep.__contains__)
        self.model = {key: value for key, value in self.model.items() if key in keep}

    @rule()
    def pickle(self):
        """Continue with an unpickled copy, together with its base."""
        self.base, self.overlay = pickle.loads(pickle.dumps((self.base, self.overlay)))
        assert self.overlay.base is self.base

    @invariant()
    def it_is_the_dict(self):
        """Order, length, membership and items equal the dict's, by any access."""
        items = list(self.model.items())

        assert list(self.overlay.items()) == items
        assert list(self.overlay.merge(self.base.items(), lambda _, value: value)) == items
        assert list(reversed(self.overlay)) == list(reversed(self.model))
        assert len(self.overlay) == len(self.model)
        assert {key for key in "abcdefg" if key in self.overlay} == set(self.model)
        assert [self.overlay.get(key) for key in "abcdefg"] == [self.model.get(key) for key in "abcdefg"]

    @invariant()
    def the_base_is_untouched(self):
        """Edits never change the base."""
        assert list(self.base.items()) == self.untouched


TestOverlay = OverlayMachine.TestCase


def test_what_is_replaced_or_removed_is_not_read():
    """A walk reads only the base's other values."""
    read = []
    edited = Overlay({"a": 1, "b": 2, "c": 3})
    edited["a"] = 10
    del edited["b"]

    assert list(edited.merge(edited.base.items(), lambda key, value: read.append(key) or -value)) == [
        ("a", 10),
        ("c", -3),
    ]
    assert read == ["c"]


def test_edits_are_what_was_assigned_and_is_still_there():
    """Replaced values come first; removals are not included."""
    edited = Overlay({"a": 1, "b": 2})
    before = edited.has_edits
    edited["c"], edited["b"], edited["d"] = 3, 4, 5
    del edited["a"], edited["d"]

    assert edited.edits() == {"b": 4, "c": 3}
    assert (before, edited.has_edits) == (False, True)


def test_a_key_that_was_removed_and_set_again_comes_last():
    """As in a dict, a removed key comes last when it is set again; a replaced one keeps its position."""
    edited = Overlay({"a": 1, "b": 2, "c": 3})
    edited["b"] = 20
    edited["a"] = edited.pop("a")

    assert list(edited.items()) == [("b", 20), ("c", 3), ("a", 1)]


def test_a_deep_copy_has_values_of_its_own():
    """`copy.deepcopy` also copies the base."""
    edited = Overlay({"a": [1]})
    edited["b"] = [2]
    other = copy.deepcopy(edited)
    other["a"].append(0)
    other["b"].append(0)

    assert dict(edited) == {"a": [1], "b": [2]}


def test_its_example_is_true():
    """The docstring's example runs."""
    assert doctest.testmod(overlay).failed == 0
