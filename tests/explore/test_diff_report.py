"""`Diff`: one report as text, as HTML and as data."""

from __future__ import annotations

import json

import numpy as np
import pytest
from checkpoints import checkpoint, counting
from hypothesis import given
from hypothesis import strategies as st
from opening import opened_over

import lazyckpt
from lazyckpt.explore.compare import Difference
from lazyckpt.explore.diff_report import OUTCOMES, Diff, Row, in_words
from lazyckpt.sources.base import BytesSource


def compared(a, b):
    """The report of two checkpoints of these values."""
    return lazyckpt.diff(*(opened_over(BytesSource(checkpoint(values))) for values in (a, b)))


def test_a_person_sees_at_once_what_differs():
    """The report has the signs of diff(1), facts, figures, and a summary."""
    report = compared(
        {"w": np.array([3.0, 4.0]), "old": counting((2,)), "s": np.ones(3)},
        {"w": np.array([3.0, 4.5]), "new": np.zeros((4,)), "s": np.ones(4)},
    )
    lines = str(report).splitlines()

    assert lines[2:-1] == [
        "- old  Float32 (2,)",
        "+ new  Float64 (4,)",
        "! s    Float64 (3,) => Float64 (4,)",
        "~ w    Float64 (2,)  max |Δ| 0.5, relative L2 1.00e-01, cosine 0.998460, 1 of 2 differ",
    ]
    assert lines[-1] == "1 removed, 1 added, 1 of another shape, 1 with other values"
    assert repr(report) == f"<Diff: {lines[-1]}>"


def test_long_reports_are_cut():
    """Every row is in the data, though not in the text."""
    report = compared({"x": np.ones(1)}, {"x": np.ones(1), **{f"w{number}": np.ones(1) for number in range(300)}})

    assert len(report.to_dict()["rows"]) == 300
    assert "… and 100 more" in str(report)
    assert "… and 100 more" in report._repr_html_()


def test_a_report_looks_as_the_other_tables_do():
    """The report has the box and dark mode of the other tables; long names are cut, also after a rename."""
    page = compared({"a" * 200: np.ones(9)}, {"b" * 200: np.ones(9)})._repr_html_()

    assert "prefers-color-scheme:dark" in page
    assert page.count('<div class="lzc') == 1
    assert f"{'a' * 160}… =&gt; {'b' * 160}…" in page


def test_the_same_is_reported_without_a_table():
    """Without differences the report is one sentence and no table."""
    page = compared({"w": np.ones(1)}, {"w": np.ones(1)})._repr_html_()

    assert ("1 equal" in page, "<td" in page) == (True, False)


def test_names_cannot_disturb_where_they_are_shown():
    """Hostile names are escaped in terminals and in notebooks."""
    hostile = "<script>alert(1)</script>\x1b[2J\n"
    report = compared({"w": np.ones(1)}, {"w": np.ones(1), hostile: np.ones(2)})
    page = report._repr_html_()

    assert "<script" not in page
    assert {character for character in str(report) + page.replace("\n", "") if not character.isprintable()} == {"\n"}
    assert "\x1b" not in str(report)


def test_the_data_are_plain():
    """The data can be written as JSON."""
    data = json.loads(json.dumps(compared({"w": np.ones(2), "t": "x"}, {"w": np.zeros(2), "t": "y"}).to_dict()))

    assert (data["same"], data["counts"]) == (False, {"value": 2})
    assert data["rows"][0]["difference"]["max_abs"] == 1.0


ROWS = st.lists(st.builds(Row, st.text(max_size=5), st.sampled_from(list(OUTCOMES)), st.just("a"), st.just("b")))


@given(ROWS, st.integers(0, 3), st.integers(0, 3))
def test_counts_add_up(rows, equal, uncompared):
    """Counts add up to the rows, the equal and the uncompared values, and have no zeros."""
    counts = Diff("a", "b", tuple(rows), equal, uncompared).counts()

    assert sum(counts.values()) == len(rows) + equal + uncompared
    assert 0 not in counts.values()


@pytest.mark.parametrize(
    ("report", "summary"),
    [
        (Diff("a", "a", (), 1234, same_file=True), "the same file: 1,234 values, nothing to compare"),
        (Diff("a", "b", (), 0), "0 equal"),
        (Diff("a", "b", (), 2, 1), "2 equal, 1 whose values were not compared"),
        (Diff("a", "b", (), 0, 3), "3 whose values were not compared"),
        (Diff("a", "b", (Row("w", "refused", "", ""),), 0), "1 that cannot be compared"),
    ],
)
def test_a_summary_says_what_was_compared(report, summary):
    """A summary names equal and uncompared values, and the same file on both sides."""
    assert report.summary() == summary


def test_the_largest_change_is_named():
    """With several changed values, the summary names the one with the largest relative change."""
    rows = [
        Row(name, "value", "a", "a", difference=Difference(1, 2, apart, relative, None, 0))
        for name, apart, relative in [("far", 9.0, 0.1), ("w\x1b[2J", 0.5, 0.5), ("from zero", 99.0, None)]
    ]

    assert Diff("a", "b", tuple(rows), 0).summary().endswith(". Largest change: w\\x1b[2J")
    assert "Largest" not in Diff("a", "b", tuple(rows[1:]), 0).summary()


@pytest.mark.parametrize(
    ("difference", "words"),
    [
        (
            Difference(1, 2000, 0.5, 0.1, 0.5, 0),
            "max |Δ| 0.5, relative L2 1.00e-01, cosine 0.500000, 1 of 2,000 differ",
        ),
        (Difference(3, 3, None, None, None, 2), "3 of 3 differ, 2 of them NaN or infinite"),
    ],
)
def test_a_difference_shows_the_figures_that_exist(difference, words):
    """A difference shows the figures that exist, and omits the others."""
    assert in_words(difference) == words


def test_a_renamed_value_is_shown_by_both_names():
    """A renamed value is one row with both names, and its type once."""
    report = Diff("a", "b", (Row("old", "renamed", "Float32 (2,)", "Float32 (2,)", "new"),), 0)

    assert "> old => new  Float32 (2,)" in str(report).splitlines()
    assert "old =&gt; new</td><td class=s>Float32 (2,)</td>" in report._repr_html_()
