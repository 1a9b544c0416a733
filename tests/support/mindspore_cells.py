"""MindSpore nets made from names, shapes and dtypes, and accessors for their contents."""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import nn
from mindspore.common import dtype as mstype

# MindSpore's names -> its dtypes.
DTYPES = {
    "Bool": mstype.bool_,
    "Int4": mstype.qint4x2,
    **{name: getattr(mstype, name.lower()) for name in ("Int8", "Int16", "Int32", "Int64")},
    **{name: getattr(mstype, name.lower()) for name in ("UInt8", "UInt16", "UInt32", "UInt64")},
    **{name: getattr(mstype, name.lower()) for name in ("Float16", "Float32", "Float64", "BFloat16", "Complex64")},
}


def parameter(name, shape, dtype):
    """A parameter filled with ones. MindSpore's own bfloat16 arrays need the numpy that it was built with."""
    if dtype == "Int4":
        return ms.Parameter(ms.Tensor(np.ones(shape, np.int8), DTYPES[dtype]), name=name)
    made = ms.Parameter(ms.Tensor(np.ones(shape, "float32" if dtype == "BFloat16" else dtype.lower())), name=name)
    if dtype == "BFloat16":
        made.set_dtype(DTYPES[dtype])
    return made


def cell_of(net):
    """A net with parameters as described: name -> (shape, dtype)."""
    cell = nn.Cell()
    for number, (name, described) in enumerate(net.items()):
        cell.insert_param_to_cell(f"p{number}", parameter(name, *described), check_name_contain_dot=False)
    return cell


def parameters(cell):
    """The parameters of a net by name."""
    return {found.name: found for _, found in cell.parameters_and_names()}


def raw(value):
    """The bytes of a Tensor or Parameter."""
    return bytes(value.get_bytes()) if value.size else b""


def state(cell):
    """The contents of a net: name -> (shape, dtype, bytes)."""
    return {name: (tuple(one.shape), str(one.dtype), raw(one)) for name, one in parameters(cell).items()}
