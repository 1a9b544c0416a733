"""Patterns against the names of an index: exact name, glob, prefix, regular expression, function."""

from __future__ import annotations

import fnmatch
import re

import pytest
from entries import index_of, tensor_entry
from hypothesis import given
from hypothesis import strategies as st

from lazyckpt.errors import ArgumentValueError, MissingName
from lazyckpt.index.matching import matches, require_matches, require_one
from lazyckpt.index.selection import AllNames, SomeNames

NAMES = [
    "conv1.weight",
    "conv1.bias",
    "layers[0].w",
    "layers0.w",
    "conv1",
    "a*b",
    "axb",
    "re:x",
    "moment1.conv1.w",
    "*",
]


def indexed(names):
    """The names of an index of tensors."""
    return AllNames(index_of([tensor_entry(name, place) for place, name in enumerate(names)]))


ALL = indexed(NAMES)


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("conv1", ["conv1"]),
        ("conv1.", ["conv1.weight", "conv1.bias"]),
        ("conv", ["conv1.weight", "conv1.bias", "conv1"]),
        ("conv1.*", ["conv1.weight", "conv1.bias"]),
        ("layers[0].w", ["layers[0].w"]),
        ("layers[0].", ["layers[0].w"]),
        ("layers[[]0].w", ["layers[0].w"]),
        ("layers[0]*", ["layers0.w"]),
        ("a*b", ["a*b"]),
        ("a[*]b", ["a*b"]),
        ("a?b", ["a*b", "axb"]),
        ("*", ["*"]),
        ("?*", NAMES),
        ("*.w", ["layers[0].w", "layers0.w", "moment1.conv1.w"]),
        ("re:x", ["re:x"]),
        ("re:conv1$", ["conv1"]),
        ("re:^conv", ["conv1.weight", "conv1.bias", "conv1"]),
        ("", NAMES),
        ("CONV1*", []),
        ("b", []),
        (re.compile("^A.B", re.IGNORECASE), ["a*b", "axb"]),
        (str.isupper, []),
        (lambda name: len(name) == 3, ["a*b", "axb"]),
    ],
)
def test_an_exact_name_comes_before_a_glob_and_a_glob_before_a_prefix(pattern, found):
    """The first meaning by which any name matches counts; matches come in file order with their ordinals."""
    assert matches(ALL, pattern) == {name: NAMES.index(name) for name in found}


@given(
    st.lists(st.text("ab.*[]?", max_size=4), unique=True),
    st.text("ab.*[]?", max_size=4),
    st.sets(st.integers(0, 5)),
)
def test_the_index_finds_what_a_walk_would(names, pattern, chosen):
    """Searches by prefix change nothing in what a pattern means, for all names and for a part of them."""
    part = {name: place for place, name in enumerate(names) if place in chosen}
    for searched, known in ((indexed(names), names), (SomeNames(part), part)):
        meanings = [
            [name for name in known if name == pattern],
            [name for name in known if fnmatch.fnmatchcase(name, pattern)],
            [name for name in known if name.startswith(pattern)],
        ]
        expected = next(filter(None, meanings), [])

        assert matches(searched, pattern) == {name: names.index(name) for name in expected}


def test_several_patterns_are_looked_up_in_their_order():
    """Each name comes once, at the first pattern that it matches."""
    assert list(require_matches(ALL, ["axb", "a?b", "conv1"])) == ["axb", "a*b", "conv1"]
    assert require_matches(ALL, []) == {}


@pytest.mark.parametrize("patterns", ["none", ["conv1", "none"], ["none*"], lambda name: False, "re:none"])
def test_a_pattern_that_matches_nothing_is_an_error(patterns):
    """Also one of several."""
    with pytest.raises(MissingName, match="no parameter"):
        require_matches(ALL, patterns)


def test_an_invalid_regular_expression_is_refused():
    """A name that looks like one is still found."""
    assert matches(indexed(["re:("]), "re:(") == {"re:(": 0}
    with pytest.raises(ArgumentValueError, match="not valid"):
        matches(ALL, "re:(")


def test_one_name_can_be_required():
    """A pattern that several names match is an error that names some of them."""
    assert (require_one(ALL, "axb"), require_one(ALL, "moment1.")) == ("axb", "moment1.conv1.w")
    with pytest.raises(
        ArgumentValueError, match=r"'conv' matches 3 parameters \('conv1.weight', 'conv1.bias', 'conv1'\)"
    ):
        require_one(ALL, "conv")
    with pytest.raises(MissingName):
        require_one(ALL, "none")
