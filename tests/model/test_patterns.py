"""Patterns of names: what they are made of, and what is refused."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyckpt.errors import ArgumentTypeError, ArgumentValueError
from lazyckpt.model.patterns import escape, glob_test, head_of, is_glob, listed, shown, walking_test

names = st.text("ab.*?[]!-\n权", max_size=8)


@pytest.mark.parametrize("pattern", ["a", "", "re:a", re.compile("a"), str.isupper])
def test_one_pattern_is_a_list_of_one(pattern):
    """A string is one pattern, not a list of its characters."""
    assert listed(pattern) == [pattern]


def test_several_patterns_are_listed_in_their_order():
    """Any iterable of patterns is taken."""
    assert listed(text for text in ("b", "a*", "b")) == ["b", "a*", "b"]


@pytest.mark.parametrize("wrong", [3, None, b"a", ["a", 3], [b"a"], [None], re.compile(b"a")])
def test_what_is_no_pattern_is_refused(wrong):
    """Numbers, bytes and None are of the wrong type, alone and in a list."""
    with pytest.raises(ArgumentTypeError, match=r"is needed|are needed"):
        listed(wrong)


@given(names, names)
def test_an_escaped_name_matches_itself_alone(name, other):
    """`escape` gives a glob for one name, whatever characters it has."""
    test = glob_test(escape(name))

    assert [bool(test(text)) for text in (name, other)] == [True, name == other]


@given(names, names)
def test_names_that_match_a_glob_begin_with_its_head(glob, name):
    """A search by the head of a glob misses no match."""
    assert not glob_test(glob)(name) or name.startswith(head_of(glob))


@given(names)
def test_a_text_without_wildcards_is_no_glob(text):
    """`*`, `?` and `[` make a glob."""
    assert is_glob(text) == bool(set(text) & set("*?["))


@pytest.mark.parametrize(
    ("glob", "matching"),
    [
        ("*.w", ["a.w", "A.w", "a\n.w"]),
        ("?.w", ["a.w", "A.w"]),
        ("a*", ["a.w", "a\n.w", "a[0]"]),
        ("[a-z].w", ["a.w"]),
        ("[!a]*", ["A.w"]),
        ("a[[]0]", ["a[0]"]),
        ("a[0]", []),
        ("[", []),
    ],
)
def test_a_glob_matches_whole_names_and_case_matters(glob, matching):
    """Wildcards are those of `fnmatch.fnmatchcase`, on every platform."""
    test = glob_test(glob)

    assert [name for name in ("a.w", "A.w", "a\n.w", "a[0]") if test(name)] == matching


def test_regular_expressions_are_searched_for():
    """`re:` finds a piece of a name, as `re.search` does; `^` and `$` stand for its ends."""
    pieces = ("re:c.n", "re:^c.n", "re:c.n$", re.compile("C.N", re.IGNORECASE))

    assert [bool(walking_test(piece)("my.conv")) for piece in pieces] == [True, False, False, True]


def test_names_prefixes_and_globs_need_no_walk():
    """Only functions and regular expressions must see every name."""
    assert [walking_test(text) for text in ("a", "a*", "re", "")] == [None] * 4


def test_an_invalid_regular_expression_is_an_error_of_the_argument():
    """The message names the pattern and the reason."""
    with pytest.raises(ArgumentValueError, match=r"pattern 're:\(' is not valid: missing \)"):
        walking_test("re:(")


def test_patterns_in_messages_are_short():
    """Long patterns are cut, functions have their names, and a compiled expression is written as text."""
    assert [shown(pattern) for pattern in ("x" * 999, re.compile("a"), str.isupper, 3)] == [
        repr("x" * 200 + "…"),
        "'re:a'",
        "str.isupper",
        "int",
    ]
