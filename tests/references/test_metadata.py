"""Array metadata for zarr: known dtypes, and attributes for the rest."""

from __future__ import annotations

import json
import math
import re

import ml_dtypes
import numpy as np
import pytest
from checkpoints import counting, pattern, tensor_value
from entries import string_entry, tensor_entry
from followed_references import expected, outcome, written
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors_files import item, raw
from zarr_reading import arrays, attributes

import lazyckpt
from lazyckpt.model.dtypes import DTYPES
from lazyckpt.model.entry import Extent
from lazyckpt.references.metadata import LEFT_OUT, Form, Inexpressible, compact, form_of


def test_types_that_zarr_lacks_are_integers_that_tell_their_name(tmp_path):
    """Viewed as the type they name, they are the values."""
    types = {"BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu"}
    header = {}
    offset, data = 0, b""
    for short in types:
        width = 2 if short == "BF16" else 1
        header[short] = item(short, (8,), offset, offset + 8 * width)
        data += pattern(8 * width)
        offset += 8 * width
    with written(tmp_path, raw(header, data), "net.safetensors") as ckpt:
        references = ckpt.references().to_dict()
        found = arrays(references)
        viewed = {
            name: array.view(getattr(ml_dtypes, attributes(references, name)["lazyckpt_dtype"]))
            for name, array in found.items()
        }

        assert {array.dtype.kind for array in found.values()} == {"u"}
        assert outcome(viewed) == expected(ckpt)


def test_elements_that_share_bytes_are_bytes(tmp_path):
    """The shape in elements is recorded; rows that do not end at a byte are left out."""
    header = {"even": item("F4", (3, 4), 0, 6), "odd": item("F4", (2, 3), 6, 9)}
    with written(tmp_path, raw(header, pattern(9)), "net.safetensors") as ckpt:
        references = ckpt.references().to_dict()

    assert arrays(references)["even"].tolist() == np.frombuffer(pattern(6), "u1").reshape(3, 2).tolist()
    assert attributes(references, "even") == {
        "_ARRAY_DIMENSIONS": ["even:0", "even:1"],
        "lazyckpt_dtype": "float4_e2m1fn",
        "lazyckpt_shape": [3, 4],
    }
    assert attributes(references)[LEFT_OUT] == {
        "odd": "its rows do not end where bytes do (2 elements of Float4E2M1FN share one)"
    }


def test_old_bfloat16_is_the_float32_it_is_kept_as(tmp_path):
    """MindSpore's old files store four bytes for each bfloat16."""
    value = counting((5,))
    with written(tmp_path, tensor_value("w", [5], "BFloat16", value.tobytes())) as ckpt:
        references = ckpt.references().to_dict()

        assert outcome(arrays(references)) == outcome({"w": ckpt["w"].asnumpy().astype("f4")})
        assert attributes(references, "w")["lazyckpt_dtype"] == "bfloat16"


def test_int4_is_a_byte_each_and_shows_its_name(tmp_path):
    """MindSpore stores Int4 as integers of a byte."""
    with written(tmp_path, tensor_value("w", [3], "Int4", b"\x01\xff\x07")) as ckpt:
        references = ckpt.references().to_dict()

    assert arrays(references)["w"].tolist() == [1, -1, 7]
    assert attributes(references, "w")["lazyckpt_dtype"] == "int4"


def test_no_dimension_is_shared(path):
    """Dimension names never conflict in size, and none equals an array's name."""
    with lazyckpt.load_checkpoint(path) as ckpt:
        references = ckpt.references().to_dict()
    found = arrays(references)
    axes = [axis for name in found for axis in attributes(references, name)["_ARRAY_DIMENSIONS"]]

    assert len(axes) == len(set(axes)) == sum(array.ndim for array in found.values())
    assert not set(axes) & set(found)


JSON = st.recursive(st.text() | st.integers() | st.booleans(), lambda part: st.dictionaries(st.text("{%#a"), part))


@given(st.dictionaries(st.text("{%#}ä\\"), JSON))
@example({"{{{": "{{{%"})
def test_no_template_stands_in_metadata(data):
    """Metadata contain no template marks, and parse to the original data."""
    text = compact(data)

    assert not re.search(r"\{[{%#]", text)
    assert json.loads(text) == data


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
def test_every_type_has_one_of_zarrs(dtype):
    """Every dtype maps to one of numpy's own with the same width, and its name is kept."""
    form = form_of(tensor_entry("w", shape=(2, 8), dtype=dtype.name)._replace(extents=()))
    found = np.dtype(form.dtype)

    assert (found.itemsize, found.isbuiltin) == (form.itemsize, 1)
    assert form.itemsize * math.prod(form.shape) == dtype.stored_size(16)
    assert form.attributes.get("lazyckpt_dtype", found.name) == dtype.numpy_name


@given(st.integers(0, 9))
def test_a_string_is_a_scalar_of_its_characters(count):
    """A string is a scalar of at least one character; other bytes are inexpressible."""
    entry = string_entry("s")
    ((offset, _),) = entry.extents
    form = form_of(entry._replace(extents=(Extent(offset, 4 * count),)))

    assert (form.dtype, form.itemsize, form.shape) == (f"<U{max(1, count)}", 4 * max(1, count), ())
    with pytest.raises(Inexpressible, match="not UTF-32"):
        form_of(entry._replace(extents=(Extent(offset, 4 * count + 1),)))


@given(st.integers(1, 8), st.lists(st.integers(0, 64), min_size=1, max_size=4).map(tuple))
def test_places_are_scaled_to_elements_of_the_array(packed, shape):
    """Packed elements scale the last axis; an offset within a byte is inexpressible."""
    form = Form("|u1", 1, (), {}, packed)
    if shape[-1] % packed:
        with pytest.raises(Inexpressible, match="within a byte"):
            form.scaled(shape)
    else:
        assert form.scaled(shape) == (*shape[:-1], shape[-1] // packed)
