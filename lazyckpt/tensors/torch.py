"""torch's tensors, from arrays.

torch ignores numpy's read-only flag, so it is only ever given memory that is its own to write to.
"""

from __future__ import annotations

from typing import Any, Final

import numpy.typing as npt
import torch

from lazyckpt.dtypes import of_array

# Stored as other integers of the same width: torch takes no numpy array of these.
_AS_BITS: Final = {"BFloat16": ("<i2", torch.bfloat16)}


def to_tensor(array: npt.NDArray[Any]) -> torch.Tensor:
    """A torch tensor over the memory of a writable array.

    Raises:
        TypeError: torch has no such dtype.
    """
    bits = _AS_BITS.get(of_array(array).name)
    if bits is None:
        return torch.from_numpy(array)
    return torch.from_numpy(array.reshape(-1).view(bits[0])).view(bits[1]).reshape(array.shape)
