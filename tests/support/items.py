"""Values to write: of every kind, and random ones."""

from __future__ import annotations

import io

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from lazyckpt.model.dtypes import IN_CKPT
from lazyckpt.writing import ckpt
from lazyckpt.writing.adapters import item_of
from lazyckpt.writing.sink import PlainSink

_texts = st.text(max_size=20)
_names = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
_shapes = npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)
_dtypes = st.sampled_from([dtype.numpy for dtype in IN_CKPT.values()])


@st.composite
def _arrays(draw):
    """An array of any dtype, shape and layout, with arbitrary bytes."""
    dtype, shape = draw(_dtypes), draw(_shapes)
    count = int(np.prod(shape, dtype=np.int64))
    data = draw(st.binary(min_size=count * dtype.itemsize, max_size=count * dtype.itemsize))
    array = np.frombuffer(bytes(byte & 1 for byte in data) if dtype.kind == "b" else data, dtype).reshape(shape)
    return array.T if draw(st.booleans()) else array


_rows = st.integers(1, 4)
_maps = _rows.map(lambda rows: [np.arange(rows, dtype="int32"), np.ones((rows, 3), "float16"), np.zeros(rows, "int32")])
values = st.dictionaries(_names, st.one_of(_arrays(), _arrays(), _texts, _maps), max_size=6)


def written(values, **how):
    """The bytes of a `.ckpt` file with these values, and the entries that the writer yields."""
    file = io.BytesIO()
    sink = PlainSink(file, crc=how.get("crc", False))
    entries = list(ckpt.write(sink, [item_of(name, value) for name, value in values.items()], **how))
    return file.getvalue(), entries
