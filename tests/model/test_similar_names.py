"""Names that are offered in place of one that does not exist."""

from __future__ import annotations

import itertools
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyckpt.errors import ClosedCheckpoint, LazyCkptError, MissingName
from lazyckpt.model.similar_names import LOOKED_AT, missing, similar

NAMES = [
    *(f"conv{number}.{part}" for number in range(1, 4) for part in ("weight", "bias")),
    *(f"net.layers.{number}.attention.{part}" for number in range(300) for part in ("wq", "wk")),
    "moment1.conv1.weight",
]


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("conv1.wieght", "conv1.weight"),
        ("Conv2.Bias", "conv2.bias"),
        ("covn1.weight", "conv1.weight"),
        ("net.layers.77.atention.wq", "net.layers.77.attention.wq"),
        ("layers.77.attention.wq", "net.layers.77.attention.wq"),
        ("net.layers.77.attention.wqq", "net.layers.77.attention.wq"),
        ("conv1.weight.", "conv1.weight"),
        ("nett.layers", "net.layers"),
        ("covn*", "conv1*"),
        ("*.wieght", "*.weight"),
        ("layers.*.wq", "*layers.*.wq"),
        ("net.layers.[0-9].atention.w?", "net.layers.[0-9].attention.w?"),
        ("attention", "*attention*"),
        ("re:^nett[.]layers", "net.layers"),
        ("re:conv1\\.bais$", "conv1.bias"),
    ],
)
def test_the_nearest_name_comes_first(text, first):
    """Letters in another order or case, missing components, and wrong pieces of patterns are corrected."""
    assert similar(text, NAMES)[0] == first


@pytest.mark.parametrize("text", ["", "zzzzzz", "*#*", "re:(covn|x)", "x" * 10_000, "cov*.we?ht." * 36])
def test_nothing_is_offered_for_a_text_unlike_any_name(text):
    """No suggestion is better than a wrong one."""
    assert similar(text, NAMES) == []


@given(st.text("ab.*[]?权\ud800\0", max_size=9), st.lists(st.text("ab.*[]?权\ud800\0", max_size=9), max_size=150))
def test_any_texts_can_be_compared(text, names):
    """At most three suggestions, never the text itself, for any names."""
    found = similar(text, names)

    assert len(found) <= 3
    assert text not in found


def test_only_the_first_names_are_looked_at():
    """A walk over a large file ends after 20,000 names."""
    walked = itertools.count()
    similar("n1.waight", (f"n{next(walked)}.weight" for _ in range(10**6)))

    assert next(walked) == LOOKED_AT


def test_neighbours_in_a_large_file_are_found_by_prefix():
    """A similar name is found far behind those that are walked, through the longest prefix that exists."""
    names = ["far.layer.weight"]
    error = missing(
        "far.layer.wieght", (f"near{n}" for n in itertools.count()), lambda prefix, most: names * ("far." in prefix)
    )

    assert error.similar == ("far.layer.weight",)


def test_names_are_walked_when_the_message_is_shown():
    """Making and catching the error looks at no name; the second message does not look again."""
    walks = []
    error = missing("covn", (walks.append(name) or name for name in ["conv1", "conv2"]))
    before = list(walks)
    texts = {str(error), str(error)}

    assert before == []
    assert walks == ["conv1", "conv2"]
    assert texts == {"there is no parameter 'covn'; did you mean 'conv1' or 'conv2'?"}


@pytest.mark.parametrize(
    ("pattern", "options", "text"),
    [
        ("x", {"is_exact": True}, "there is no parameter 'x'"),
        (3, {"is_exact": True}, "there is no parameter 3"),
        ("x", {}, "there is no parameter 'x'"),
        ("x*", {"is_exact": True}, "there is no parameter 'x*'"),
        ("x*", {}, "no parameter matches 'x*'"),
        ("re:x", {}, "no parameter matches 're:x'"),
        (str.isupper, {}, "no parameter matches str.isupper"),
    ],
)
def test_a_message_says_how_names_were_looked_up(pattern, options, text):
    """Patterns match, and names are there."""
    assert str(missing(pattern, [], **options)) == text


def test_the_error_is_a_key_error_with_the_name():
    """Code that catches KeyError and reads its argument goes on to work."""
    error = missing("x", [], is_exact=True)

    assert (isinstance(error, KeyError), isinstance(error, LazyCkptError), error.args, error.name) == (
        True,
        True,
        ("x",),
        "x",
    )


def test_the_error_crosses_processes():
    """A pickled error has its message, with the names that were similar."""
    received = pickle.loads(pickle.dumps(missing("covn", ["conv"])))

    assert (str(received), type(received)) == (str(missing("covn", ["conv"])), MissingName)


def test_names_are_collected_for_a_message_that_is_shown_later():
    """After `collect` nothing is read any more."""
    names = ["conv"]
    error = missing("covn", (name for name in names))
    error.collect()
    names.clear()

    assert error.similar == ("conv",)


def test_a_message_needs_no_names():
    """If names cannot be read any more, the message is shown without suggestions."""

    def closed():
        raise ClosedCheckpoint("it was closed")
        yield

    error = missing("x", closed(), is_exact=True)
    error.collect()
    assert (str(error), str(missing("x", closed(), is_exact=True))) == ("there is no parameter 'x'",) * 2
