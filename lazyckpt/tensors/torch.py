"""Conversions between numpy arrays and torch tensors.

torch has no read-only tensors, so it only gets memory that it may write to.
"""

from __future__ import annotations

from typing import Any, Final

import numpy.typing as npt
import torch

from lazyckpt.model.dtypes import DTYPES, of_array

# torch does not accept numpy arrays of these dtypes: their bits pass as integers of the same width.
_AS_BITS: Final = {"BFloat16": ("<i2", torch.bfloat16)}


def to_tensor(array: npt.NDArray[Any]) -> torch.Tensor:
    """A torch tensor that shares the memory of a writable array.

    Raises:
        TypeError: torch has no such dtype.
    """
    bits = _AS_BITS.get(of_array(array).name)
    if bits is None:
        return torch.from_numpy(array)
    return torch.from_numpy(array.reshape(-1).view(bits[0])).view(bits[1]).reshape(array.shape)


def is_tensor(value: object) -> bool:
    """Whether a value is a tensor."""
    return isinstance(value, torch.Tensor)


def to_array(tensor: torch.Tensor) -> npt.NDArray[Any]:
    """A tensor as a numpy array; shares memory if the tensor is on the CPU."""
    plain = tensor.detach().cpu().resolve_conj().resolve_neg()
    for name, (bits, torch_dtype) in _AS_BITS.items():
        if plain.dtype == torch_dtype:
            stored: npt.NDArray[Any] = plain.contiguous().view(torch.int16).numpy().view(bits)
            return stored.view(DTYPES[name].numpy)
    array: npt.NDArray[Any] = plain.numpy()
    return array
