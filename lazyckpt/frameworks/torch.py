"""torch modules: load a checkpoint into them by MindSpore's rules.

Strategy: the module's state dict gives the targets of `binding.plan`. Values are read in file order, one at a time:
directly into the module's tensor where possible, otherwise into an array, which numpy converts and torch copies.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import torch
from torch import nn

from lazyckpt.errors import ArgumentTypeError, ArgumentValueError
from lazyckpt.frameworks.binding import Memory, Pair, Target, plan, refuse
from lazyckpt.frameworks.candidates import Candidates, check_values, dtype_named, in_file_order, report_aliases
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
# Parameters of normalisation layers: MindSpore's names and torch's.
NORM_NAMES: Final[Mapping[str, str]] = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}
_NORMS: Final = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)
_NOT_IN_MINDSPORE: Final = "num_batches_tracked"


def is_module(net: object) -> bool:
    """Whether a value is a torch module."""
    return isinstance(net, nn.Module)


def targets(module: nn.Module, norm_names: bool = False) -> list[Target]:
    """The parameters and buffers of a module, as targets of `binding.plan`."""
    return [target for target, _ in _targets(module, norm_names)]


def load_into(
    module: nn.Module, parameter_dict: Mapping[str, Any], *, strict_load: bool = False, norm_names: bool = False
) -> tuple[list[str], list[str]]:
    """Load a checkpoint into a torch module: `load_param_into_net` for torch.

    Names, shapes and dtypes are checked before anything changes. Values are not checked in advance, because each would
    have to be read twice. If one turns out to be damaged while it is read (`DamagedBlock`, `ChangedFile`, `StaleIndex`,
    `CorruptFile`), the module keeps the values that were loaded before it, and, if the file was cut off, the readable
    part of that one. Load again from a good file, or check beforehand: `lazyckpt verify FILE` reads everything, and
    `parameter_dict.load()` gives all values or an error.

    Args:
        module: the module; its state dict is filled in place.
        parameter_dict: a `Checkpoint`, or a dict of Parameters or numpy arrays.
        strict_load: remove no prefixes from names, and convert no dtypes.
        norm_names: the checkpoint uses MindSpore's names for normalisation layers: `gamma`, `beta`, `moving_mean`,
            `moving_variance`.

    Tied weights are loaded once. A name that the file does not have is not missing if its tensor shares the memory of
    a loaded one, or if the file says that it is an alias (`safetensors.torch.save_model`): it takes that value then.

    Returns:
        The names in the module without a value, and the names in the checkpoint that were not used.

    Raises:
        ArgumentTypeError: an argument has the wrong type.
        ArgumentValueError: the module is on the meta device, where tensors have no memory.
        NetMismatch: shapes or dtypes do not fit; the module is left as it was.
        FileFault: a value cannot be read; see above.

    Cost: reads each value that is used once, in file order, with memory for one value at a time. A value of a plain
    local file needs none if it goes unconverted into a contiguous CPU tensor.
    """
    if not is_module(module):
        raise ArgumentTypeError(f"a torch.nn.Module is needed, not {type(module)}")
    check_values(parameter_dict, (Parameter, np.ndarray, str, list))
    pairs = _targets(module, norm_names)
    if any(tensor.is_meta for _, tensor in pairs):
        raise ArgumentValueError("the module is on the meta device: give it memory first, with to_empty(device=…)")
    candidates = Candidates(parameter_dict)
    what = plan([target for target, _ in pairs], candidates, strict_load, candidates.aliases)
    refuse(what)
    report_aliases(what)
    tensors = {target.name: tensor for target, tensor in pairs}
    for pair, value in in_file_order(what.pairs, parameter_dict):
        _copy(tensors[pair.target.name], pair, value)
    return list(what.missing), list(what.unused)


def _targets(module: nn.Module, norm_names: bool) -> list[tuple[Target, torch.Tensor]]:
    norms = {name for name, part in module.named_modules() if isinstance(part, _NORMS)} if norm_names else set()
    found = []
    values = module.state_dict(keep_vars=True)  # tied parameters are one object
    for name, tensor in values.items():
        if not isinstance(tensor, torch.Tensor):  # the extra state of a module
            continue
        path, _, last = name.rpartition(".")
        known = f"{path}.{NORM_NAMES.get(last, last)}".lstrip(".") if path in norms else name
        dtype = NAMES.get(tensor.dtype, str(tensor.dtype))
        memory = _memory(tensor)
        found.append(
            (Target(known, tuple(tensor.shape), dtype, may_miss=last == _NOT_IN_MINDSPORE, memory=memory), tensor)
        )
    return found


def _memory(tensor: torch.Tensor) -> Memory | None:
    """The bytes of a tensor; on the meta device, where there are none, the tensor itself. None if they are unknown."""
    if tensor.is_meta:
        return Memory(("meta", id(tensor)), 0, 1)
    if not tensor.numel() or tensor.layout is not torch.strided:
        return None
    try:
        storage = tensor.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError):  # a tensor of several tensors
        return None
    extent = 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    start = tensor.storage_offset() * tensor.element_size()
    stop = start + extent * tensor.element_size()
    return Memory((str(tensor.device), storage), start, stop, extent == tensor.numel())


def _copy(tensor: torch.Tensor, pair: Pair, value: Any) -> None:
    if not pair.casts and _is_filled(tensor, value):
        return
    array = value.asnumpy(copy=True) if isinstance(value, Parameter) else value
    with np.errstate(all="ignore"):
        # Torch must not be handed memory that it could write to, nor any that it cannot read.
        array = np.require(array, dtype_named(pair.target.dtype), ("C", "A", "W"))
    with torch.no_grad():
        tensor.copy_(to_tensor(array).reshape(pair.target.shape))


def _is_filled(tensor: torch.Tensor, value: Any) -> bool:
    """Read a value directly into a tensor, if possible; return whether that was done."""
    lies = value.origin if isinstance(value, Parameter) else None
    if lies is None or tensor.device.type != "cpu" or not tensor.is_contiguous():
        return False
    entry, payloads = lies
    flat = tensor.detach().reshape(-1)
    with torch.no_grad():
        flat[:0].zero_()  # raises the version counter: a backward pass may need the old values
    return payloads.fill(entry, flat.view(torch.uint8).numpy())
