"""The rendering in a browser: light and dark, wide and narrow, with a mouse."""

from __future__ import annotations

import re

import nbconvert
import numpy as np
import pytest
from checkpoints import checkpoint, counting
from opening import opened_over
from page import CONTRASTS, shown

from lazyckpt.sources.base import BytesSource

pytestmark = pytest.mark.filterwarnings("default")  # Jupyter's own
WCAG_AA = 4.5
LAYERS = {
    f"net.{block}.{part}.weight": counting((number + 2, 8))
    for block in ("encoder", "decoder")
    for number, part in enumerate("abcdefghijklmnopqr")
}


@pytest.fixture
def written(tmp_path):
    """Writes values' HTML, as an output of a cell, to a page of its own."""

    def written(values):
        made = opened_over(BytesSource(checkpoint(values)))._repr_html_()
        file = tmp_path / "page.html"
        file.write_text(f"<!doctype html><meta charset=utf-8><meta name=viewport content='width=device-width'>{made}")
        return file

    return written


@pytest.fixture(scope="session")
def tour(executed, tmp_path_factory):
    """The tour with its outputs as a page, as Jupyter exports it."""
    file = tmp_path_factory.mktemp("tour") / "tour.html"
    file.write_text(nbconvert.HTMLExporter(template_name="lab").from_notebook_node(executed)[0])
    return file


def share(text):
    """The percentage in a row, as a number."""
    return float(re.search(r"([\d.]+) %", text)[1])


def test_a_click_reveals_what_is_below(chrome, written):
    """A large tree is shown closed; a click on a branch opens it, a second one closes it."""
    with shown(chrome, written(LAYERS)) as page:
        branch, child = page.locator("summary", has_text="decoder"), page.get_by_text("r.weight").nth(1)
        seen = [child.is_visible()]
        for _ in range(2):
            branch.click()
            seen.append(child.is_visible())

    assert seen == [False, True, False]


def test_a_branch_opens_by_keyboard(chrome, written):
    """Tab reaches it, Enter opens it."""
    with shown(chrome, written(LAYERS)) as page:
        page.locator("summary", has_text="encoder").focus()
        page.keyboard.press("Enter")
        opened = page.get_by_text("a.weight").first.is_visible()

    assert opened


def test_sizes_add_up(chrome, written):
    """Shares of siblings sum up to their parent's, at every node that can be opened."""
    sums = """() => [...document.querySelectorAll("details")].map((node) => [
        node.querySelector(":scope > summary .p").textContent,
        [...node.querySelectorAll(":scope > div > .r .p, :scope > div > details > summary .p")]
            .map((share) => share.textContent)
    ])"""
    with shown(chrome, written(LAYERS)) as page:
        found = page.evaluate(sums)

    assert len(found) == 3
    for whole, parts in found:
        assert sum(map(share, parts)) == pytest.approx(share(whole.replace("100 %", "100.0 %")), abs=0.05 * len(parts))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable(chrome, written, scheme):
    """In both schemes every text has a contrast of at least 4.5 (WCAG AA), notes and closed parts included."""
    values = {**LAYERS, "one": np.zeros(3), "note": "x"}
    with shown(chrome, written(values), scheme=scheme) as page:
        page.evaluate("document.querySelectorAll('details').forEach((node) => { node.open = true })")
        found = page.evaluate(CONTRASTS, ".lzc")

    assert len(found) > 100
    assert [text for text, contrast in found if contrast < WCAG_AA] == []


def test_dark_is_dark(chrome, written):
    """The background follows the reader's preference."""
    background = "getComputedStyle(document.querySelector('.lzc')).backgroundColor"
    found = []
    for scheme in ("light", "dark"):
        with shown(chrome, written(LAYERS), scheme=scheme) as page:
            found.append(page.evaluate(background))

    assert found == ["rgb(255, 255, 255)", "rgb(13, 17, 23)"]


@pytest.mark.parametrize("width", [360, 640, 900])
def test_nothing_is_cut_off(chrome, written, width):
    """From a phone's width on, no row is wider than the page."""
    boxes = """() => [...document.querySelectorAll(".lzc .r > *")].filter((e) => e.checkVisibility())
        .map((e) => e.getBoundingClientRect().right)"""
    with shown(chrome, written({**LAYERS, "x" * 300: np.zeros(3)}), width=width) as page:
        page.evaluate("document.querySelectorAll('details').forEach((node) => { node.open = true })")
        inside = page.evaluate("document.documentElement.scrollWidth")
        rights = page.evaluate(boxes)

    assert inside <= width
    assert max(rights) <= width


def test_hostile_names_do_nothing(chrome, written):
    """No dialog, no element of theirs, nothing asked of the network."""
    names = ("<script>alert(1)</script>", "<img src=https://example.org/x onerror=alert(1)>", "</style><h1>", "$x^2$")
    said = []
    with shown(chrome, written({name: counting((2,)) for name in names})) as page:
        page.on("dialog", lambda dialog: said.append(dialog.message))
        page.reload()
        strange = page.locator("script, img, h1").count()
        texts = [page.get_by_text(name, exact=True).count() for name in names]
        asked = list(page.asked)

    assert (said, strange, asked, texts) == ([], 0, [], [1, 1, 1, 1])


def test_the_tour_can_be_read_in_a_browser(chrome, tour):
    """Exported by Jupyter: the tree opens and closes, tables and pictures are there."""
    with shown(chrome, tour, width=1100) as page:
        pictures = page.locator(".jp-OutputArea-output img").evaluate_all("all => all.map((one) => one.naturalWidth)")
        tree = page.locator(".lzc", has_text="model.ckpt").first
        leaf = tree.get_by_text("q.weight")
        seen = [leaf.is_visible()]
        tree.locator("summary", has_text="attention").click()
        seen.append(leaf.is_visible())
        rows = page.locator(".lzc tbody tr").count()

    assert (len(pictures), min(pictures) > 600) == (3, True)
    assert seen == [True, False]
    assert rows > 6


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_tour_is_readable_in_jupyters_themes(chrome, executed, tmp_path, theme, scheme):
    """Jupyter's own colours count, not the reader's preference."""
    file = tmp_path / "tour.html"
    file.write_text(nbconvert.HTMLExporter(template_name="lab", theme=theme).from_notebook_node(executed)[0])
    with shown(chrome, file, width=1100, scheme=scheme) as page:
        found = page.evaluate(CONTRASTS, ".lzc")
        background = page.evaluate("getComputedStyle(document.querySelector('.lzc')).backgroundColor")

    assert len(found) > 50
    assert [text for text, contrast in found if contrast < WCAG_AA] == []
    assert (sum(map(int, re.findall(r"\d+", background)[:3])) > 600) == (theme == "light")
