"""MindSpore's Tensors and Parameters, from arrays."""

from __future__ import annotations

from typing import Any, Final

import mindspore
import numpy.typing as npt
from mindspore._c_expression import TensorPy
from mindspore.common import dtype as mstype

from lazyckpt.dtypes import DType

# MindSpore takes no numpy array of these: they are built from bytes.
BY_BYTES: Final = {"BFloat16": mstype.bfloat16, "Int4": mstype.qint4x2}


def to_tensor(array: npt.NDArray[Any], dtype: DType) -> Any:
    """A MindSpore Tensor over an array's memory (bfloat16 and Int4: over a copy of it)."""
    if dtype.name in BY_BYTES:
        return mindspore.Tensor(TensorPy.convert_bytes_to_tensor(array.tobytes(), array.shape, BY_BYTES[dtype.name]))
    return mindspore.Tensor.from_numpy(array)


def to_parameter(name: str, array: npt.NDArray[Any], dtype: DType) -> Any:
    """A MindSpore Parameter over an array's memory; see `lazyckpt.Parameter.to_mindspore`."""
    return mindspore.Parameter(to_tensor(array, dtype), name=name or None)
