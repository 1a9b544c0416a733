"""`Diagnosis`: facts and findings, sorted by severity."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyckpt.display import STYLE
from lazyckpt.explore.doctor_report import BRIEF, LEVELS, Diagnosis, Finding, by_level

TAGS = {"div", "b", "table", "thead", "tbody", "tr", "td", "th"}
FINDINGS = st.lists(st.builds(Finding, st.sampled_from(list(LEVELS)), st.text(min_size=1), st.text()))


def diagnosis(*findings, **facts):
    """A report with these findings and facts."""
    return Diagnosis("net.ckpt", "a MindSpore checkpoint", facts, findings)


@given(FINDINGS)
def test_the_most_serious_findings_come_first(findings):
    """Findings are sorted by level, and keep their order within a level."""
    ranks = list(LEVELS)

    assert by_level(findings) == tuple(finding for level in ranks for finding in findings if finding.level == level)


@given(FINDINGS)
def test_a_file_is_healthy_if_there_are_only_notes(findings):
    """A file with notes only is healthy. Otherwise the summary names the worst level."""
    report = diagnosis(*by_level(findings))
    worst = min((list(LEVELS).index(finding.level) for finding in findings), default=3)

    assert report.healthy is (worst == 3)
    assert report.summary() == "net.ckpt: a MindSpore checkpoint; " + (
        ["fatal: nothing of it can be loaded", "error: it, or something of it, cannot be loaded as it is",
         "warning: it loads, and something is odd", "healthy"][worst]
    )  # fmt: skip


@given(FINDINGS, st.dictionaries(st.sampled_from(BRIEF), st.one_of(st.text(), st.lists(st.text()), st.booleans())))
def test_a_report_can_be_shown_whatever_stands_in_it(findings, facts):
    """Control characters and markup in findings and facts are escaped. The data are valid JSON."""
    report = diagnosis(*findings, **facts)
    page = report._repr_html_().replace(STYLE, "")
    printed = [fact for fact in facts.values() if fact not in ("", [])]

    assert all(character.isprintable() or character == "\n" for character in str(report) + page)
    assert page.count("<td") == 3 * len(findings) + 2 * len(printed)
    assert set(re.findall("<(/?[a-z]*)", page)) <= TAGS | {f"/{tag}" for tag in TAGS}
    assert json.loads(json.dumps(report.to_dict()))["findings"] == [finding._asdict() for finding in findings]


@pytest.mark.parametrize(
    ("findings", "headings"), [([], ["fact"]), ([Finding("fatal", "x", "y" * 500)], ["level", "fact"])]
)
def test_a_report_looks_as_the_other_tables_do(findings, headings):
    """Findings, then facts, in boxes that follow dark mode; advice is not cut."""
    page = diagnosis(*findings, values="8")._repr_html_()

    assert re.findall("<th class=s>(level|fact)<", page) == headings
    assert page.count("prefers-color-scheme:dark") == page.count('<div class="lzc') == len(headings)
    assert all(finding.advice in page for finding in findings)


def test_of_a_healthy_file_only_what_matters_is_printed():
    """For a healthy file only the main facts are printed; the data have all of them."""
    facts = {"path": "here", **dict.fromkeys(BRIEF, "said")}
    healthy, sick = diagnosis(**facts), diagnosis(Finding("warning", "something is odd", "mend it"), **facts)

    assert [line.split()[0] for line in str(healthy).splitlines()[1:]] == list(BRIEF)
    assert [line.split()[0] for line in str(sick).splitlines()[1:]] == ["path", *BRIEF, "warning", "->"]
    assert healthy.to_dict()["facts"] == facts


@pytest.mark.parametrize(
    ("fact", "words"),
    [
        (1234567, "1,234,567"),
        (True, "True"),
        (["a", 1000], "a; 1,000"),
        ({"Float32": 1000, "kinds": {"map": 1}}, "Float32: 1,000, kinds: map: 1"),
    ],
)
def test_facts_are_put_into_words(fact, words):
    """Facts print on one line: numbers with commas, lists and dicts joined."""
    assert f"values  {words}" in str(diagnosis(values=fact))


def test_facts_that_say_nothing_are_not_printed():
    """Empty facts are not printed; zero and False are."""
    report = diagnosis(Finding("fatal", "cut"), empty="", none=None, nothing=[], zero=0, no=False)

    assert str(report).splitlines()[1:] == ["  zero  0", "  no    False", "fatal    cut"]
