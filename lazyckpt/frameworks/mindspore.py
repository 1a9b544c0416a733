"""MindSpore nets: list their parameters, and load values into them.

Strategy: values are loaded in file order, one at a time. Each is read (and converted) into a new buffer, which the
parameter takes over in place of its old one. So peak memory is the net and one value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import mindspore
import numpy as np
import numpy.typing as npt
from mindspore import nn
from mindspore.communication import get_group_size
from mindspore.experimental import MapParameter

from lazyckpt.errors import ArgumentTypeError
from lazyckpt.frameworks.binding import Pair, Plan, Target, plan, refuse
from lazyckpt.frameworks.candidates import Candidates, check_values, dtype_named, in_file_order, report_aliases
from lazyckpt.index.store import PARAM_KEY_MARK
from lazyckpt.parameter import Parameter
from lazyckpt.runtime import log
from lazyckpt.tensors.mindspore import BY_BYTES, to_tensor

BINDABLE: Final = (Parameter, mindspore.Parameter, str, list)


def is_cell(net: object) -> bool:
    """Whether a value is a MindSpore net."""
    return isinstance(net, nn.Cell)


def targets(net: Any) -> list[Target]:
    """The parameters of a net, as targets of `binding.plan`."""
    return list(_by_target(net))


def check_arguments(net: Any, parameter_dict: Any) -> None:
    """Check the types of the arguments.

    Raises:
        ArgumentTypeError: `net` is not a Cell, or `parameter_dict` is not a mapping of names to values.
    """
    if not is_cell(net):
        raise ArgumentTypeError(f"For 'load_param_into_net', the argument 'net' should be a Cell, but got {type(net)}.")
    check_values(parameter_dict, BINDABLE)


def load(
    net: Any, parameter_dict: Mapping[str, Any], strict_load: bool, remove_redundancy: bool
) -> tuple[list[str], list[str]]:
    """See `lazyckpt.load_param_into_net`."""
    if remove_redundancy:
        return _by_mindspore(net, parameter_dict, strict_load)
    parameters = _by_target(net)
    candidates = Candidates(parameter_dict)
    what = plan(parameters, candidates, strict_load, candidates.aliases)
    refuse(what)
    _apply(parameters, what, parameter_dict)
    _report(what)
    return list(what.missing), list(what.unused)


def values(net: Any, integrated_save: bool) -> list[tuple[str, Any]]:
    """The parameters of a net by their names in files, in the net's order."""
    found = [parameter for _, parameter in net.parameters_and_names()]
    if any(parameter.param_info.is_param_init for parameter in found) or net.parameter_layout_dict:
        return _merged_by_mindspore(net, integrated_save)
    net.init_parameters_data()
    return [
        (_saved_name(parameter), parameter) for parameter in found if not parameter.param_info.is_pipeline_shared_param
    ]


def _saved_name(parameter: Any) -> str:
    """The name in a file; a cached parameter carries its key in its name."""
    name: str = parameter.name
    return f"{name}{PARAM_KEY_MARK}{parameter.key}" if parameter.cache_enable else name


def _merged_by_mindspore(net: Any, integrated_save: bool) -> list[tuple[str, Any]]:
    """In a parallel run parameters are slices, which MindSpore gathers."""
    from mindspore.train.serialization import _convert_cell_to_param_list

    return [(one["name"], one["data"]) for one in _convert_cell_to_param_list(net, integrated_save, None, None)]


def _by_target(net: Any) -> dict[Target, list[Any]]:
    """The parameters by target. Several parameters may have equal targets; they take the same value."""
    found = [parameter for _, parameter in net.parameters_and_names()]
    parallel = any(parameter.param_info.is_param_init for parameter in found)
    by_target: dict[Target, list[Any]] = {}
    for parameter in found:
        if not parameter.param_info.is_pipeline_shared_param:
            by_target.setdefault(_target(parameter, parallel), []).append(parameter)
    return by_target


def _target(parameter: Any, parallel: bool) -> Target:
    shape = tuple(int(dim) for dim in parameter.shape)
    is_map = isinstance(parameter, MapParameter)
    return Target(parameter.name, shape, str(parameter.dtype), is_map, parallel and not parameter.sliced)


def _apply(parameters: Mapping[Target, list[Any]], what: Plan, values: Mapping[str, Any]) -> None:
    for pair, value in in_file_order(what.pairs, values):
        if pair.casts:
            log.warning(
                "The type of %s:%s in 'parameter_dict' is different from the type of it in 'net':%s: it is converted",
                pair.source, pair.candidate.dtype, pair.target.dtype,
            )  # fmt: skip
        for parameter in parameters[pair.target]:
            _bind(parameter, pair, value)


def _bind(parameter: Any, pair: Pair, value: Any) -> None:
    if pair.target.is_map:
        parameter.import_data(value)
        return
    array = _converted(value, pair)
    parameter.set_data(to_tensor(array, pair.target.dtype), parameter.sliced)
    if hasattr(parameter, "init_param") and not parameter.init_param:
        parameter.init_param = True


def _converted(value: Any, pair: Pair) -> npt.NDArray[Any]:
    """A copy of the value in the net's dtype and shape."""
    array = _read(value) if isinstance(value, Parameter) else _raw(value)
    if pair.casts:
        with np.errstate(all="ignore"):
            array = array.astype(dtype_named(pair.target.dtype))
    return array.reshape(pair.target.shape)


def _read(value: Parameter) -> npt.NDArray[Any]:
    """A copy of the values in a buffer no larger than needed, if possible, because nets keep it."""
    lies = value.origin
    made = np.empty(value.shape, value.dtype.numpy)
    return made if lies is not None and lies[1].fill(lies[0], made) else value.asnumpy(copy=True)


def _raw(value: Any) -> npt.NDArray[Any]:
    """A copy of a MindSpore Parameter's values, also for dtypes that its `asnumpy` does not support."""
    name = str(value.dtype)
    if name in BY_BYTES:
        shape = tuple(int(dim) for dim in value.shape)
        return np.frombuffer(bytearray(value.get_bytes()), dtype_named(name)).reshape(shape)
    return np.array(value.asnumpy())


def _by_mindspore(net: Any, values: Mapping[str, Any], strict: bool) -> tuple[list[str], list[str]]:
    """Let MindSpore load with redundancy removed, which only parallel runs need."""
    if get_group_size() == 1:  # MindSpore raises this only after it has changed the net
        raise ArgumentTypeError(
            "The deduplication feature for loading checkpoint can only be used in parallel scenarios, but got"
            " stand_alone."
        )
    theirs = {name: value.to_mindspore() if isinstance(value, Parameter) else value for name, value in values.items()}
    missing, unused = mindspore.load_param_into_net(net, theirs, strict, remove_redundancy=True)
    return missing, unused


def _report(what: Plan) -> None:
    report_aliases(what)
    for prefix in what.prefixes:
        log.warning("For 'load_param_into_net', remove parameter prefix name: %s, continue to load.", prefix)
    if what.missing:
        log.warning(
            "For 'load_param_into_net', %d parameters in the 'net' are not loaded, because they are not in the"
            " 'parameter_dict', please check whether the network structure is consistent: %s",
            len(what.missing), list(what.missing),
        )  # fmt: skip
