"""Trees, HTML and summaries of a checkpoint: they read no value, and every name is escaped."""

from __future__ import annotations

import html.parser
import io
import re

import numpy as np
import pytest
from checkpoints import LAYERS, MIXED, checkpoint, counting
from hypothesis import given
from hypothesis import strategies as st
from opening import opened_and_traced, opened_over
from rich.console import Console
from tracing import TracingSource, places

import lazyckpt
from lazyckpt.sources.base import BytesSource
from lazyckpt.views import outline
from lazyckpt.views.tree_html import LARGEST

ALIKE = {f"net.{i}.{part}": counting((2, 3)) for i in range(4) for part in ("w", "v")} | {"net.head": counting((5,))}
MARKUP = {
    "<script>alert(1)</script>": "&lt;script&gt;alert(1)&lt;/script&gt;",
    '"><img src=x onerror=alert(1)>': "&quot;&gt;&lt;img src=x onerror=alert(1)&gt;",
    "</details></div><h1>": "&lt;/details&gt;&lt;/div&gt;&lt;h1&gt;",
    "&lt;b&gt;": "&amp;lt;b&amp;gt;",
    "a\u202eb\x00\x1b[31m": "a\\u202eb\\x00\\x1b[31m",
}
TAGS = {"style", "div", "b", "span", "details", "summary", "i", "s", "u", "table", "thead", "tbody", "tr", "td", "th"}


class Elements(html.parser.HTMLParser):
    """A browser's view of markup: tags, attributes, and whether all tags were closed in order."""

    def __init__(self, markup):
        super().__init__()
        self.tags, self.attributes, self.open, self.text = set(), set(), [], []
        self.feed(markup)
        self.close()

    def handle_starttag(self, tag, attrs):
        """Something opens."""
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)
        self.open.append(tag)

    def handle_endtag(self, tag):
        """The last opened tag must be the one that ends."""
        assert self.open.pop() == tag

    def handle_data(self, data):
        """Text."""
        self.text.append(data)


def opened(values):
    """A checkpoint of values, in memory."""
    return opened_over(BytesSource(checkpoint(values)))


@pytest.fixture
def summarised(monkeypatch):
    """Makes every checkpoint count as large."""
    monkeypatch.setattr(outline, "EXACT", 0)


def test_a_tree_prints_without_a_terminal():
    """Similar siblings are shown once, with labels, values, sizes, shares and their count."""
    lines = [" ".join(line.split()) for line in str(opened(ALIKE).tree()).splitlines()]

    assert lines == [
        "<bytes> 9 values · 212 B",
        "└─ net 9 values 212 B 100.0 %",
        "├─ 0–3 8 values 192 B 90.6 % 4 alike",
        "│ ├─ w Float32 2 × 3 96 B 45.3 % ×4",
        "│ └─ v Float32 2 × 3 96 B 45.3 % ×4",
        "└─ head Float32 5 20 B 9.4 %",
    ]


def test_a_tree_can_be_cut_and_narrowed():
    """`depth` omits levels and keeps their totals; `select` shows a part."""
    ckpt = opened(ALIKE)

    assert len(str(ckpt.tree(depth=1)).splitlines()) == 2
    assert "9 values" in str(ckpt.tree(depth=1)).splitlines()[1]
    assert "1 value " in str(ckpt.select("net.head").tree())


def test_rich_prints_the_same_lines():
    """In a terminal the lines are coloured."""
    view = opened(MIXED).tree()
    with (console := Console(width=200, file=io.StringIO())).capture() as printed:
        console.print(view)

    assert [line.rstrip() for line in printed.get().splitlines()] == [line.rstrip() for line in str(view).splitlines()]


def test_a_tree_is_plain_data_too():
    """Programs get a tree as plain data."""
    found = opened(ALIKE).tree().to_dict()
    layers = found["children"][0]["children"][0]

    assert (found["exact"], found["count"], found["nbytes"]) == (True, 9, 212)
    assert (layers["label"], layers["alike"], layers["nbytes"], len(layers["children"])) == ("0–3", 4, 192, 2)


def test_nothing_that_is_shown_reads_a_payload():
    """Trees, HTML and summaries of values of all kinds, and HTML of single values, read no payload."""
    source = TracingSource(checkpoint(MIXED))
    ckpt = opened_and_traced(source)
    shown = [ckpt._repr_html_(), str(ckpt.tree()), ckpt.tree()._repr_html_(), ckpt.summary()]
    shown += [ckpt[name]._repr_html_() for name in LAYERS]

    assert all(shown)
    assert source.looked_at() & set().union(*(places(ckpt.entry(name).all_extents) for name in MIXED)) == set()


def test_html_is_a_tree_of_details_without_script_or_remote_content():
    """The HTML has only harmless, closed elements, and loads nothing."""
    made = opened(ALIKE)._repr_html_()
    page = Elements(made)

    assert page.open == []
    assert page.tags <= TAGS
    assert page.attributes <= {"class", "open", "style"}
    assert re.search(r"url\(|@import|https?:|javascript:", made) is None
    assert made.count("<details") == 2


@pytest.mark.parametrize(("name", "shown"), MARKUP.items())
def test_hostile_names_are_text(name, shown):
    """Hostile names are escaped in trees and in single values, folded or summarised."""
    ckpt = opened({name: counting((2,)), "ok": counting((3,))})
    made = ckpt._repr_html_()
    single = ckpt[name]._repr_html_()

    assert shown in made
    assert shown.strip() in single
    assert Elements(made).tags | Elements(single).tags <= TAGS


@given(st.dictionaries(st.text(min_size=1, max_size=30), st.just(np.zeros(1, "int8")), min_size=1, max_size=8))
def test_whatever_the_names_the_html_is_sound(values):
    """Every element is closed, and none comes from a name."""
    page = Elements(opened(values)._repr_html_())

    assert page.open == []
    assert page.tags <= TAGS


def test_html_stays_small_with_long_hostile_names():
    """The HTML stays under 200 kB, however much is escaped."""
    made = opened({f"{'<' * 200}{word}{i}": counting((i + 1,)) for i in range(300) for word in "ab"})._repr_html_()

    assert 20_000 < len(made.encode()) <= LARGEST
    assert "more" in made


def test_edits_are_shown():
    """Set and new values are shown, and removed ones are counted."""
    ckpt = opened(LAYERS)
    ckpt["fc.weight"].set_data(np.zeros((7, 7)))
    ckpt["new"] = np.zeros(3)
    ckpt["word"] = "four"
    del ckpt["mask"]
    text = str(ckpt.tree())

    assert "6 values" in text.splitlines()[0]
    assert "3 set in memory · 1 taken out" in text.splitlines()[0]
    assert re.search(r"fc\.weight +Float64 +7 × 7 .* in memory", text)
    assert "mask" not in text
    assert "in memory" in ckpt._repr_html_()


def test_a_value_that_was_read_is_not_an_edit():
    """Reading strings, maps and tensors does not change the tree."""
    ckpt = opened(MIXED)
    before = str(ckpt.tree())
    assert [ckpt[name] for name in MIXED]

    assert str(ckpt.tree()) == before


def test_a_large_checkpoint_is_summarised_with_exact_totals(summarised):
    """Stars replace numbers, with a remark; counts and sizes equal those of the whole tree."""
    ckpt = opened(ALIKE)
    text = str(ckpt.tree())

    assert text.splitlines()[0] == "<bytes>  9 values · 212 B"
    assert "*.w" not in text.splitlines()[0]
    assert "Summarised: * stands for the numbers in names" in text
    assert "Summarised" in ckpt._repr_html_()
    assert ckpt.tree().to_dict()["exact"] is False


def test_shapes_of_a_large_checkpoint_are_counted_when_they_are_many(summarised):
    """Some thousand shapes are counted in one row."""
    text = str(opened({f"w{i}": counting((i + 1,)) for i in range(40)}).tree())

    assert re.search(r"w\* +Float32 +40 shapes +3\.2 KiB +100\.0 % +×40", text)


def test_edits_of_a_large_checkpoint_are_shown(summarised):
    """Replaced and removed values are not counted twice; a selection counts its own."""
    ckpt = opened(ALIKE)
    ckpt["net.0.w"] = np.zeros(100, "int8")
    ckpt["net.head"].set_data(np.zeros(1, "int8"))
    ckpt["new"] = np.zeros(10, "int8")
    del ckpt["net.1.v"]
    found, part = ckpt.summary(), ckpt.select("net.0").summary()

    assert (found["count"], found["nbytes"]) == (9, 6 * 24 + 100 + 1 + 10)
    assert (found["edited"], found["removed"], "largest" in found) == (3, 1, False)
    assert (part["count"], part["nbytes"]) == (2, 124)


def test_a_summary_adds_up():
    """Sizes by dtype and by module add up, with the largest first."""
    found = opened(LAYERS).summary()
    sizes = {name: value.nbytes for name, value in LAYERS.items()}

    assert (found["count"], found["nbytes"]) == (5, sum(sizes.values()))
    assert sum(one["nbytes"] for one in found["dtypes"].values()) == found["nbytes"]
    assert sum(one["count"] for one in found["modules"].values()) == 5
    assert [one["name"] for one in found["largest"]] == sorted(sizes, key=sizes.get, reverse=True)


def test_a_closed_checkpoint_says_so_in_a_notebook(tmp_path):
    """A notebook cell with a closed checkpoint shows no traceback."""
    (tmp_path / "x.ckpt").write_bytes(checkpoint(LAYERS))
    with lazyckpt.load_checkpoint(str(tmp_path / "x.ckpt")) as ckpt:
        assert "conv1" in ckpt._repr_html_()

    assert "closed checkpoint" in ckpt._repr_html_()


def test_a_parameter_in_a_notebook_shows_where_it_is():
    """It shows name, dtype, shape, size and offset, and after `set_data` that the value is in memory."""
    parameter = opened(LAYERS)["fc.weight"]
    text = " ".join(Elements(parameter._repr_html_()).text)
    parameter.set_data(np.zeros(2, "int8"))

    assert all(part in text for part in ("fc.weight", "Float32", "10 × 84", "840", "3,360 bytes", "of the file"))
    assert "set_data() was called" in parameter._repr_html_()


def test_one_empty_checkpoint():
    """An empty checkpoint has an empty tree."""
    ckpt = opened({"a": counting((1,))})
    del ckpt["a"]

    assert str(ckpt.tree()) == "<bytes>  0 values · 0 B · 1 taken out"
    assert "0 values" in ckpt._repr_html_()
