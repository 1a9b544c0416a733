"""A reference parser: protobuf's own, with MindSpore's rules for assembling values.

The parser is the pure-Python one (see conftest.py), which MindSpore selects. The rules, in MindSpore's order: a trailer
is removed; Values are read in file order; adjacent Values with the same tag and kind are slices, whose contents are
joined and of which the last one determines dims and type; a content that does not match its shape is refused, as are an
unknown type of any slice, a string in slices, and a map of more than three arrays. Nothing here is imported from
lazyckpt.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from checkpoints import ITEMSIZES, NAMES
from google.protobuf.internal import api_implementation
from google.protobuf.message import DecodeError

from lazyckpt.formats.proto.checkpoint_pb2 import Checkpoint

IMPLEMENTATION = api_implementation.Type()
NUMPY_NAMES = {name.lower(): name for name in NAMES.values()} | {"int4": "Int4"}
REFUSED = "refused"


class Found(NamedTuple):
    """A parameter with its bytes. `arrays` has one (dtype, shape, content) for a tensor, three for a map."""

    name: str
    kind: str
    arrays: tuple[tuple[str, tuple[int, ...], bytes], ...] = ()


def parse(data):
    """The Values of a file, or None if protobuf rejects it."""
    try:
        return Checkpoint.FromString(data).value
    except (DecodeError, UnicodeDecodeError):
        return None


def read(data):
    """All parameters in file order, or None if the file is not a checkpoint."""
    values = parse(data[:-17] if data[-17:-10] == b"crc_num" else data)
    if values is None:
        return None
    runs = []
    for value in values:
        kind = "tensor" if value.WhichOneof("value") == "tensor" else "map"
        if runs and runs[-1][:2] == (value.tag, kind):
            runs[-1][2].append(value)
        else:
            runs.append((value.tag, kind, [value]))
    return [(_tensor if kind == "tensor" else _map)(tag, slices) for tag, kind, slices in runs]


def _tensor(tag, slices):
    content = b"".join(value.tensor.tensor_content for value in slices)
    last = slices[-1].tensor
    dims, dtype = list(last.dims), last.tensor_type
    types = {value.tensor.tensor_type for value in slices}
    if not types <= {*ITEMSIZES, "str"} or (dtype == "str" and len(slices) > 1):
        return Found(tag, REFUSED)
    if dtype == "str":
        return Found(tag, "string", (("", (), content),)) if content and len(content) % 4 == 0 else Found(tag, REFUSED)
    shape = () if dims == [0] and content else tuple(dims)
    if dtype not in ITEMSIZES or not _possible(dims, ITEMSIZES[dtype]):
        return Found(tag, REFUSED)
    fitting = {math.prod(shape) * ITEMSIZES[dtype]}
    if dtype == "BFloat16":
        fitting.add(2 * max(fitting))
    return Found(tag, "tensor", ((dtype, shape, content),)) if len(content) in fitting else Found(tag, REFUSED)


def _map(tag, slices):
    arrays = []
    counts = {len(value.maptensor.tensor) for value in slices}
    if len(counts) > 1 or max(counts) > 3:
        return Found(tag, REFUSED)
    for pieces in zip(*(value.maptensor.tensor for value in slices), strict=True):
        content = b"".join(piece.tensor_content for piece in pieces)
        dtype = NUMPY_NAMES.get(pieces[-1].tensor_type)
        if not all(piece.tensor_type in NUMPY_NAMES for piece in pieces) or not all(
            len(piece.dims) and piece.dims[0] >= 0 for piece in pieces
        ):
            return Found(tag, REFUSED)
        shape = (sum(piece.dims[0] for piece in pieces), *pieces[-1].dims[1:])
        if not _possible(shape, ITEMSIZES[dtype]) or math.prod(shape) * ITEMSIZES[dtype] != len(content):
            return Found(tag, REFUSED)
        arrays.append((dtype, shape, content))
    return Found(tag, "map", tuple(arrays))


def _possible(dims, itemsize):
    return len(dims) <= 32 and all(dim >= 0 for dim in dims) and math.prod(filter(None, dims)) * itemsize <= 2**62
