"""Strategies for unusual checkpoints: every valid encoding, and invalid claims.

`files` are whole files that protobuf parses: known fields in any order, repeated, merged, packed or padded; unknown
fields and groups at every level; slices, maps, strings, repeated names; a few claims that do not match. `plain_files`
are files as MindSpore writes them.
"""

from __future__ import annotations

import itertools
import math

from checkpoints import (
    ITEMSIZES,
    chunk,
    fixed32,
    fixed64,
    group,
    number,
    pattern,
    string_value,
    tensor_value,
    varint,
    with_crc,
)
from hypothesis import strategies as st

_names = st.one_of(st.sampled_from(["w", "w", "b", "layer.weight", ""]), st.text(max_size=12), st.just("n" * 130))
_encodable = _names.filter(lambda name: not any("\ud800" <= letter <= "\udfff" for letter in name))
_dtypes = st.sampled_from(list(ITEMSIZES))
_shapes = st.lists(st.integers(0, 4), max_size=4)
_rows = st.lists(st.integers(0, 4), min_size=1, max_size=3)
_pads = st.sampled_from([0, 0, 0, 0, 1, 3])
_unknown = st.one_of(
    st.builds(number, st.integers(4, 30), st.integers(0, 2**40), _pads),
    st.builds(number, st.integers(1, 3), st.integers(0, 9), key_pad=st.integers(1, 2)),
    st.builds(chunk, st.integers(4, 30), st.binary(max_size=9), _pads),
    st.builds(chunk, st.integers(1, 3), st.binary(max_size=9), key_pad=st.integers(1, 2)),
    st.builds(fixed32, st.integers(1, 30)),
    st.builds(fixed64, st.integers(1, 30)),
    st.builds(group, st.integers(1, 30), st.sampled_from([b"", number(0, 5), group(7, chunk(1, b"\xff\x0a"))])),
)


def _mixed(draw, fields):
    """Join the fields, sometimes with unknown fields among them or in another order."""
    fields = [*fields, *draw(st.lists(_unknown, max_size=2))] if draw(st.integers(0, 3)) == 0 else list(fields)
    return b"".join(draw(st.permutations(fields)) if draw(st.integers(0, 2)) == 0 else fields)


@st.composite
def _claims(draw, in_map=False):
    """The dims, dtype and content of a tensor, which nearly always match."""
    dims, dtype = draw(_rows if in_map else _shapes), draw(_dtypes)
    length = math.prod(() if dims == [0] and not in_map else dims) * ITEMSIZES[dtype]
    odd = draw(st.integers(0, 30))  # Hypothesis prefers the ends of a range
    if odd == 11:
        dims = draw(st.sampled_from([[-1], [2, -5], [2**62], [2**40, 2**40], [0, -1], [1] * 32, [1] * 33, [0]]))
    elif odd == 12:
        dtype = draw(st.sampled_from(["", "Complex64", "float32", "str", "Gewicht"]))
    elif odd == 13:
        length = max(0, length + draw(st.sampled_from([-1, 1, 4, 1000])))
    elif dtype == "BFloat16" and odd > 15:
        length *= 2
    return dims, dtype, pattern(length)


@st.composite
def _tensor(draw, dims, dtype, content):
    """A TensorProto of these claims, in one of its encodings."""
    cut = draw(st.integers(0, len(dims)))
    pads = [draw(_pads) if 0 <= dim < 2**40 else 0 for dim in dims]  # a varint has at most ten bytes
    shape = [number(1, dim, pad) for dim, pad in zip(dims[:cut], pads, strict=False)]
    if cut < len(dims) or draw(st.integers(0, 9)) == 0:
        packed = [varint(dim, pad) for dim, pad in zip(dims[cut:], pads[cut:], strict=True)]
        shape.append(chunk(1, b"".join(packed), draw(_pads)))
    if draw(st.booleans()):
        shape = [number(1, dim) for dim in dims]
    kind = [chunk(2, dtype.encode(), draw(_pads))]
    if draw(st.integers(0, 9)) == 0:
        kind.insert(0, chunk(2, b"Float64"))
    bytes_ = [chunk(3, content, draw(_pads))]
    if draw(st.integers(0, 9)) == 0:
        bytes_.insert(0, chunk(3, pattern(5)))
    return _mixed(draw, [b"".join(shape), b"".join(kind), b"".join(bytes_)])


@st.composite
def _tensor_value(draw, name, claims):
    """A Value that holds a tensor: in one message, in two merged ones, or after a map."""
    dims, dtype, content = claims
    form = draw(st.integers(0, 9))
    if form == 0:
        cut = draw(st.integers(0, len(dims)))
        halves = [
            draw(_tensor(dims[:cut], "Int8", pattern(3))),
            draw(_tensor(dims[cut:], dtype, content)),
        ]
        inside = b"".join(chunk(2, half, draw(_pads)) for half in halves)
    else:
        inside = chunk(2, draw(_tensor(dims, dtype, content)), draw(_pads))
    if form == 1:
        inside = chunk(3, b"") + inside
    tag = chunk(1, name.encode(), draw(_pads))
    if draw(st.integers(0, 9)) == 0:
        tag = chunk(1, b"other") + tag
    return chunk(1, _mixed(draw, [tag, inside]), draw(_pads))


@st.composite
def _tensors(draw):
    """A tensor, possibly in slices."""
    name, (dims, dtype, content) = draw(_encodable), draw(_claims())
    cuts = sorted(draw(st.lists(st.integers(0, len(content)), max_size=2))) if draw(st.integers(0, 3)) == 0 else []
    edges = [0, *cuts, len(content)]
    slices = [content[start:stop] for start, stop in itertools.pairwise(edges)]
    return b"".join(draw(_tensor_value(name, (dims, dtype, piece))) for piece in slices)


@st.composite
def _maps(draw):
    """A map with any number of arrays, possibly in slices."""
    name, count = draw(_encodable), draw(st.sampled_from([3, 3, 3, 0, 1]))
    values = []
    for _ in range(draw(st.sampled_from([1, 1, 2]))):
        arrays = []
        for _ in range(count):
            dims, dtype, content = draw(_claims(in_map=True))
            arrays.append(chunk(1, draw(_tensor(dims, dtype.lower(), content)), draw(_pads)))
        fields = [chunk(1, name.encode())]
        if count or draw(st.booleans()):
            fields.append(chunk(3, _mixed(draw, arrays)))
        values.append(chunk(1, _mixed(draw, fields)))
    return b"".join(values)


_strings = st.builds(string_value, _encodable, st.text(max_size=5))
_plain = st.builds(
    lambda name, dims, dtype: tensor_value(
        name, dims, dtype, pattern(math.prod(() if dims == [0] else dims) * ITEMSIZES[dtype])
    ),
    _encodable,
    _shapes,
    _dtypes,
)
_values = st.one_of(_tensors(), _tensors(), _maps(), _maps(), _strings, _plain, _unknown)
_ends = st.sampled_from([lambda body: body, lambda body: body, with_crc])

files = st.builds(lambda values, end: end(b"".join(values)), st.lists(_values, min_size=2, max_size=8), _ends)
plain_files = st.builds(
    lambda values, end: end(b"".join(values)),
    st.lists(st.one_of(_plain, _plain, _strings), min_size=2, max_size=8),
    _ends,
)


@st.composite
def damaged_files(draw):
    """A file with some bytes changed, inserted, removed or repeated, or with the end cut off."""
    data = bytearray(draw(files))
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 4]))):
        place, stop = sorted(draw(st.tuples(*[st.integers(0, len(data))] * 2)))
        way = draw(st.integers(0, 4))
        if way == 0:
            data[place : place + 1] = bytes([draw(st.integers(0, 255))])
        elif way == 1:
            data[place:place] = draw(st.binary(max_size=4))
        elif way == 2:
            del data[place : min(stop, place + 12)]
        elif way == 3:
            data[stop:stop] = data[place:stop]
        else:
            del data[stop:]
    return bytes(data)
