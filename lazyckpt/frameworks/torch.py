"""torch modules, filled from a checkpoint by MindSpore's rules.

Strategy: the module's state dict is the net's side of `binding.plan`; each value is read in file order, straight into
the tensor that the module already has where that can be, else into an array, converted as numpy converts, and copied.
One value is alive at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import torch
from torch import nn

from lazyckpt.errors import ArgumentTypeError, ArgumentValueError
from lazyckpt.frameworks.binding import Pair, Target, plan, refuse
from lazyckpt.frameworks.candidates import Candidates, check_values, dtype_named, in_file_order
from lazyckpt.parameter import Parameter
from lazyckpt.tensors.torch import to_tensor

NAMES: Final = {
    torch.bool: "Bool",
    torch.int8: "Int8",
    torch.uint8: "UInt8",
    torch.int16: "Int16",
    torch.int32: "Int32",
    torch.int64: "Int64",
    torch.float16: "Float16",
    torch.float32: "Float32",
    torch.float64: "Float64",
    torch.bfloat16: "BFloat16",
    **{
        getattr(torch, name): name.replace("ui", "UI")
        for name in ("uint16", "uint32", "uint64")
        if hasattr(torch, name)
    },
}
# What MindSpore calls the parameters of normalisation layers, and what torch calls them.
NORM_NAMES: Final[Mapping[str, str]] = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}
_NORMS: Final = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)
_NOT_IN_MINDSPORE: Final = "num_batches_tracked"


def is_module(net: object) -> bool:
    """Whether something is a torch module."""
    return isinstance(net, nn.Module)


def targets(module: nn.Module, norm_names: bool = False) -> list[Target]:
    """The parameters and buffers of a module, as binding sees them."""
    return [target for target, _ in _targets(module, norm_names)]


def load_into(
    module: nn.Module, parameter_dict: Mapping[str, Any], *, strict_load: bool = False, norm_names: bool = False
) -> tuple[list[str], list[str]]:
    """Load a checkpoint into a torch module: `load_param_into_net` for torch.

    Names, shapes and dtypes are checked as a whole before anything changes. Values are not: to know that every byte is
    good, all would have to be read twice. So where one proves damaged while it is read (`DamagedBlock`, `ChangedFile`,
    `StaleIndex`, `CorruptFile`), the module keeps the values that were filled in before it, and of a file that was cut
    off what could still be read of that one. Fill it again from a good file, or be sure beforehand: `lazyckpt verify
    FILE` reads everything, and `parameter_dict.load()` gives all values or an error.

    Args:
        module: the module; its state dict is filled in place.
        parameter_dict: a `Checkpoint`, or a dict of Parameters or numpy arrays.
        strict_load: no prefixes are taken off names, no dtypes converted.
        norm_names: normalisation layers are called as in MindSpore: `gamma`, `beta`, `moving_mean`,
            `moving_variance`.

    Returns:
        Names of the module that nothing was found for, and names of the checkpoint that were not used.

    Raises:
        ArgumentTypeError: an argument has the wrong type.
        ArgumentValueError: the module is on the meta device, where there is nothing to fill.
        NetMismatch: shapes or dtypes do not fit; the module is left as it was.
        FileFault: a value cannot be read; see above.

    Cost: reads the values that are used, once, in file order; memory for one value at a time, and none for a value of a
    plain file on this machine that goes into a contiguous tensor of the processor's memory and is not converted.
    """
    if not is_module(module):
        raise ArgumentTypeError(f"a torch.nn.Module is needed, not {type(module)}")
    check_values(parameter_dict, (Parameter, np.ndarray, str, list))
    pairs = _targets(module, norm_names)
    if any(tensor.is_meta for _, tensor in pairs):
        raise ArgumentValueError("the module is on the meta device: give it memory first, with to_empty(device=…)")
    what = plan([target for target, _ in pairs], Candidates(parameter_dict), strict_load)
    refuse(what)
    tensors = {target.name: tensor for target, tensor in pairs}
    for pair, value in in_file_order(what.pairs, parameter_dict):
        _copy(tensors[pair.target.name], pair, value)
    return list(what.missing), list(what.unused)


def _targets(module: nn.Module, norm_names: bool) -> list[tuple[Target, torch.Tensor]]:
    norms = {name for name, part in module.named_modules() if isinstance(part, _NORMS)} if norm_names else set()
    found = []
    for name, tensor in module.state_dict().items():
        if not isinstance(tensor, torch.Tensor):  # what a module keeps as its extra state
            continue
        path, _, last = name.rpartition(".")
        known = f"{path}.{NORM_NAMES.get(last, last)}".lstrip(".") if path in norms else name
        dtype = NAMES.get(tensor.dtype, str(tensor.dtype))
        found.append((Target(known, tuple(tensor.shape), dtype, may_miss=last == _NOT_IN_MINDSPORE), tensor))
    return found


def _copy(tensor: torch.Tensor, pair: Pair, value: Any) -> None:
    if not pair.casts and _is_filled(tensor, value):
        return
    array = value.asnumpy() if isinstance(value, Parameter) else value
    with np.errstate(all="ignore"):
        # Torch must not be handed memory that it could write to, nor any that it cannot read.
        array = np.require(array, dtype_named(pair.target.dtype), ("C", "A", "W"))
    with torch.no_grad():
        tensor.copy_(to_tensor(array).reshape(pair.target.shape))


def _is_filled(tensor: torch.Tensor, value: Any) -> bool:
    """Whether a tensor could be filled straight from the file: then it has been."""
    lies = value.origin if isinstance(value, Parameter) else None
    if lies is None or tensor.device.type != "cpu" or not tensor.is_contiguous():
        return False
    entry, payloads = lies
    flat = tensor.detach().reshape(-1)
    with torch.no_grad():
        flat[:0].zero_()  # torch does not see what comes, but counts this: a backward pass may need what was there
    return payloads.fill(entry, flat.view(torch.uint8).numpy())
