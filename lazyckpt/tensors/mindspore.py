"""MindSpore's Tensors and Parameters, from arrays."""

from __future__ import annotations

from typing import Any, Final

import mindspore
import numpy.typing as npt
from mindspore._c_expression import TensorPy
from mindspore.common import dtype as mstype

# MindSpore takes no numpy array of these: they are built from bytes.
BY_BYTES: Final = {"BFloat16": mstype.bfloat16, "Int4": mstype.qint4x2}


def to_tensor(array: npt.NDArray[Any], dtype: str) -> Any:
    """A MindSpore Tensor over an array's memory (bfloat16 and Int4: over a copy of it).

    Args:
        array: contiguous, writable values.
        dtype: MindSpore's name of their type.
    """
    made = _of_bytes(array, dtype)
    return mindspore.Tensor.from_numpy(array) if made is None else mindspore.Tensor(made)


def to_parameter(name: str, array: npt.NDArray[Any], dtype: str) -> Any:
    """A MindSpore Parameter over an array's memory; see `lazyckpt.Parameter.to_mindspore`."""
    made = _of_bytes(array, dtype)
    if made is not None:  # not as a Tensor, of which a Parameter would want to see the numpy array
        return mindspore.Parameter(made, name or None)
    # A Parameter shares the memory of a Tensor that nobody else holds. It counts references: a keyword would be one.
    return mindspore.Parameter(mindspore.Tensor.from_numpy(array), name or None)


def _of_bytes(array: npt.NDArray[Any], dtype: str) -> Any:
    if dtype not in BY_BYTES:
        return None
    return TensorPy.convert_bytes_to_tensor(array.tobytes(), array.shape, BY_BYTES[dtype])
