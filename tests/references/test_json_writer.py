"""References as JSON: the file equals the data."""

from __future__ import annotations

import io
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zarr_reading import attributes

import lazyckpt
from lazyckpt.references.hierarchy import Node
from lazyckpt.references.json_writer import plain, to_dict, write
from lazyckpt.references.metadata import GROUP, LEFT_OUT, compact


def test_metadata_are_also_given_together(path):
    """Consolidated metadata let readers ask once."""
    with lazyckpt.load_checkpoint(path) as ckpt:
        refs = ckpt.references(nested=True).to_dict()["refs"]
    single = {key: json.loads(text) for key, text in refs.items() if re.search(r"\.z(array|group|attrs)$", key)}

    assert json.loads(refs[".zmetadata"]) == {"metadata": single, "zarr_consolidated_format": 1}


@pytest.mark.parametrize("options", [{}, {"nested": True}, {"inline": 100}, {"chunk_size": 200}])
def test_the_file_is_what_the_data_are(options, path, tmp_path):
    """The file equals the data, flat and nested, and the names left out are returned."""
    with lazyckpt.load_checkpoint(path) as ckpt:
        ckpt["new"] = "text"
        references = ckpt.references(**options)
        left_out = references.save(tmp_path / "refs.json")

        assert json.loads((tmp_path / "refs.json").read_text(encoding="ascii")) == references.to_dict()
        assert left_out == attributes(references.to_dict())[LEFT_OUT]


TEXTS = st.dictionaries(st.text(max_size=5), st.integers(), max_size=2).map(compact)
REFERENCES = st.one_of(st.binary(max_size=20), st.tuples(st.text(), st.integers(0, 2**63), st.integers(0, 2**63)))


@st.composite
def nodes(draw):
    """The root, with groups and arrays that have unique paths."""
    names = draw(st.lists(st.text(min_size=1), unique=True, max_size=5))
    return [Node("", False, GROUP)] + [
        Node(
            name, bool(number % 2), draw(TEXTS), draw(st.just("") | TEXTS),
            [(f"{name}/{number}.{place}", one) for place, one in enumerate(draw(st.lists(REFERENCES, max_size=3)))],
        )
        for number, name in enumerate(names)
    ]  # fmt: skip


@given(nodes())
def test_both_ways_give_the_same(made):
    """`write` and `to_dict` give the same JSON, in ASCII."""
    file = io.StringIO()
    write(file, made)

    assert file.getvalue().isascii()
    assert json.loads(file.getvalue()) == json.loads(json.dumps(to_dict(made)))


@pytest.mark.parametrize(
    ("reference", "said"), [(b"\x00\xff", "base64:AP8="), (b"", "base64:"), (("s3://a", 1, 2), ["s3://a", 1, 2])]
)
def test_a_reference_is_copied_bytes_or_a_place(reference, said):
    """A reference is base64 text or a list of URL, offset and length."""
    assert plain(reference) == said
