"""Turn values of any supported type into items to be written."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np

from lazyckpt.errors import ArgumentTypeError
from lazyckpt.model.dtypes import DTYPES
from lazyckpt.parameter import Parameter
from lazyckpt.writing.items import (
    MAP_ARRAYS,
    Content,
    Item,
    array_content,
    bytes_content,
    map_of,
    number_content,
    stored,
    string,
    tensor,
)

__all__ = ["content_of", "item_of", "stored"]


def item_of(name: str, value: Any) -> Item:
    """The item for a value.

    Args:
        name: the name in the new file.
        value: a Parameter (ours or MindSpore's), a Tensor of MindSpore or torch, a numpy array or scalar, a bool, int
            or float, a str, or a list of a map's three arrays.

    Raises:
        ArgumentTypeError: it is none of these, or has a dtype that cannot be written.
    """
    if isinstance(value, str):
        return string(name, value)
    if isinstance(value, Parameter) and value.origin is not None:
        return stored(name, *value.origin)
    theirs = _mindspore()
    try:
        if isinstance(value, list):
            return map_of(name, [_three(value)])
        if theirs is not None and theirs.is_map(value):
            return map_of(name, list(theirs.slices_of(value)))
        return tensor(name, content_of(value))
    except ArgumentTypeError as error:
        raise ArgumentTypeError(f"{name!r} cannot be saved: {error}") from None


def content_of(value: Any) -> Content:
    """The content of a value that is an array of some kind.

    Raises:
        ArgumentTypeError: it is not an array, or its dtype cannot be written.
    """
    if isinstance(value, Parameter):
        lies = value.origin
        if lies is None:
            return array_content(value.asnumpy())
        return stored(value.name, *lies).contents[0]._replace(lasts=False)  # its checkpoint may be closed
    if isinstance(value, (np.ndarray, np.generic)):
        return array_content(np.asarray(value))
    if isinstance(value, (bool, int, float)):
        return number_content(value)
    found = _of_mindspore(value) or _of_torch(value)
    if found is None:
        raise ArgumentTypeError(f"a {type(value).__module__}.{type(value).__qualname__} is not an array")
    return found


def _three(value: list[Any]) -> list[Any]:
    if len(value) != MAP_ARRAYS:
        raise ArgumentTypeError(f"a list is a map's three arrays (keys, values, status), this one has {len(value)}")
    return [np.asarray(part) for part in value]


def is_tensor(value: object) -> bool:
    """Whether a value is our Parameter, or MindSpore's Parameter or Tensor."""
    theirs = _mindspore()
    return isinstance(value, Parameter) or (theirs is not None and theirs.is_tensor(value))


def is_parameter(value: object) -> bool:
    """Whether a value is a Parameter of ours or of MindSpore."""
    theirs = _mindspore()
    return isinstance(value, Parameter) or (theirs is not None and theirs.is_parameter(value))


def _of_mindspore(value: Any) -> Content | None:
    theirs = _mindspore()
    if theirs is None or not theirs.is_tensor(value):
        return None
    name, shape = theirs.facts_of(value)
    if name not in DTYPES:
        raise ArgumentTypeError(f"its dtype {name} cannot be stored in a checkpoint ({', '.join(DTYPES)})")
    return bytes_content(DTYPES[name], shape, lambda: theirs.bytes_of(value))


def _of_torch(value: Any) -> Content | None:
    if "torch" not in sys.modules:
        return None
    from lazyckpt.tensors import torch

    if not torch.is_tensor(value):
        return None
    try:
        return array_content(torch.to_array(value))
    except (TypeError, RuntimeError) as error:  # a dtype that numpy lacks, a sparse tensor, or one without data
        raise ArgumentTypeError(str(error)) from None


def _mindspore() -> Any:
    """Our module for MindSpore's tensors, or None if MindSpore was not imported."""
    if "mindspore" not in sys.modules:
        return None
    leaf: ModuleType
    from lazyckpt.tensors import mindspore as leaf

    return leaf
