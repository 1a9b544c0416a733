"""Names and patterns of names."""

from __future__ import annotations

import pytest

from lazyckpt.explore.patterns import is_pattern, matcher


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (["a.bias"], ["a.bias"]),
        (["*.bias"], ["a.bias", "b.bias"]),
        (["[ab].weight", "b.bias"], ["a.weight", "b.bias"]),
        (["w[0]"], ["w[0]", "w0"]),
        (["?"], []),
        ([], []),
    ],
)
def test_names_and_patterns(wanted, found):
    """A name is wanted if it is listed, or if a pattern matches all of it."""
    names = ["a.weight", "a.bias", "b.bias", "w[0]", "w0"]

    assert [name for name in names if matcher(wanted)(name)] == found


def test_what_is_a_pattern():
    """One of its signs makes it one."""
    assert [is_pattern(text) for text in ("conv1.weight", "conv*", "w?", "w[01]")] == [False, True, True, True]
