"""Names of parameters as paths: a bijection to paths that stores, file systems, URLs and templates take literally."""

from __future__ import annotations

from urllib.parse import quote, unquote

import pytest
from hostile_names import HOSTILE
from hypothesis import given
from hypothesis import strategies as st

from lazyckpt.references.names import escape, name_of, parents, path_of

names = st.one_of(st.text(), st.sampled_from(HOSTILE), st.text(alphabet="a.~/0zAB{}%"))


@given(names, st.booleans())
def test_a_path_leads_back_to_its_name(name, nested):
    """Any name is recovered from its path, so no two names share one."""
    assert name_of(path_of(name, nested=nested), nested=nested) == name


@given(names)
def test_a_segment_means_nothing(name):
    """A segment is not hidden, not one of zarr's own names, and has nothing for a template to fill in."""
    segment = escape(name)

    assert segment
    assert not set(segment) & set("/\\{}%:*?[]'\"\0 ")
    assert not segment.startswith(".")
    assert segment != "zarr.json"


@given(st.text(alphabet=st.characters(codec="ascii")))
def test_a_segment_is_itself_in_a_url(name):
    """A segment is unchanged in a URL, so such a folder can be published on any server."""
    assert quote(escape(name)) == unquote(escape(name)) == escape(name)


@pytest.mark.parametrize(
    "name", ["layers.0.self_attn.q_proj.weight", "step", "0", "a-b_c", "x.zarray", "编码器.weight"]
)
def test_ordinary_names_stay(name):
    """Ordinary names are their own segments."""
    assert escape(name) == name


def test_other_names_are_changed_where_they_must_be():
    """Each other byte becomes `~` and two hex digits, as `%` and two digits in a URL."""
    assert {name: escape(name) for name in ("dense/kernel:0", "", "..", ".zarray", "zarr.json", "~41")} == {
        "dense/kernel:0": "dense~2Fkernel~3A0",
        "": "~",
        "..": "~2E.",
        ".zarray": "~2Ezarray",
        "zarr.json": "zarr~2Ejson",
        "~41": "~7E41",
    }


def test_nested_names_make_groups_of_their_dots():
    """`a.b.c` is `c` in the group `b` of the group `a`; empty parts have a name, too."""
    assert [path_of(name, nested=True) for name in ("a.0.w", "a", "a..w", ".w")] == ["a/0/w", "a", "a/~/w", "~/w"]


def test_a_path_lies_in_all_its_groups():
    """The groups of a path come outermost first."""
    assert parents("a/0/w") == ["a", "a/0"]
    assert parents("w") == []
