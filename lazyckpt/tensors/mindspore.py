"""Conversions between numpy arrays and MindSpore's Tensors and Parameters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import mindspore
import numpy as np
import numpy.typing as npt
from mindspore._c_expression import TensorPy
from mindspore.common import dtype as mstype
from mindspore.experimental import MapParameter

# `Tensor.from_numpy` does not accept these dtypes: such tensors are built from bytes.
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
    if made is not None:  # a Parameter made from a Tensor asks for a numpy array, which these dtypes lack
        return mindspore.Parameter(made, name or None)
    # A Parameter shares the memory of a Tensor only if no one else refers to it. It counts references, so the Tensor
    # is passed by position: a keyword argument would be one more reference.
    return mindspore.Parameter(mindspore.Tensor.from_numpy(array), name or None)


def is_tensor(value: object) -> bool:
    """Whether a value is a Tensor (a Parameter is one)."""
    return isinstance(value, mindspore.Tensor)


def is_parameter(value: object) -> bool:
    """Whether a value is a Parameter."""
    return isinstance(value, mindspore.Parameter)


def is_map(value: object) -> bool:
    """Whether a value is a map parameter."""
    return isinstance(value, MapParameter)


def facts_of(tensor: Any) -> tuple[str, tuple[int, ...]]:
    """MindSpore's name of a tensor's dtype, and the shape. Copies no data."""
    if isinstance(tensor, mindspore.Parameter):
        tensor.init_data()
    return str(tensor.dtype), tuple(int(dim) for dim in tensor.shape)


def bytes_of(tensor: Any) -> bytes | memoryview:
    """A tensor's bytes in C order: its own memory if numpy can view it, else a copy."""
    if str(tensor.dtype) in BY_BYTES:
        copied: bytes = tensor.get_bytes()
        return copied
    return np.ascontiguousarray(tensor.asnumpy()).reshape(-1).view(np.uint8).data


def slices_of(parameter: Any) -> Iterator[list[npt.NDArray[Any]]]:
    """The keys, values and status of a map parameter, in the slices that MindSpore exports."""
    last = False
    while not last:
        *arrays, last = parameter.export_slice_data(False)
        yield arrays


def _of_bytes(array: npt.NDArray[Any], dtype: str) -> Any:
    if dtype not in BY_BYTES:
        return None
    return TensorPy.convert_bytes_to_tensor(array.tobytes(), array.shape, BY_BYTES[dtype])
