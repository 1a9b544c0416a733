"""`load_param_into_net`, and the parameters of nets of any framework."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from lazyckpt.errors import ArgumentTypeError, ArgumentValueError
from lazyckpt.frameworks.binding import Target


def load_param_into_net(
    net: Any, parameter_dict: Mapping[str, Any], strict_load: bool = False, remove_redundancy: bool = False
) -> tuple[list[str], list[str]]:
    """Load values into a MindSpore net: `mindspore.load_param_into_net`, lazily.

    Names, shapes and dtypes are checked before anything changes. Then each parameter is given its value, in file order,
    one value at a time.

    Values are not checked in advance, because each would have to be read twice. If one turns out to be damaged while it
    is read (`DamagedBlock`, `ChangedFile`, `StaleIndex`, `CorruptFile`), the net keeps the values that were loaded
    before it. Load again from a good file, or check beforehand: `lazyckpt verify FILE` reads everything, and
    `parameter_dict.load()` gives all values or an error.

    Args:
        net: a Cell.
        parameter_dict: a `Checkpoint`, or a dict of Parameters (ours, MindSpore's, or both).
        strict_load: remove no prefixes from names, and convert no dtypes.
        remove_redundancy: for parallel runs; MindSpore does the loading then.

    Returns:
        Two lists, param_not_load and ckpt_not_load. They hold the names in the net without a value, and the names in
        the checkpoint that no parameter of the same name took.

    Raises:
        TypeError: an argument has the wrong type (`ArgumentTypeError`).
        ValueError: `remove_redundancy` is not a bool (`ArgumentValueError`), as in MindSpore.
        RuntimeError: shapes or dtypes do not fit (`NetMismatch`); the net is left as it was.
        ValueError: a value cannot be read; see above.

    Cost: reads each value that is used once; peak memory is the net and one value.
    """
    mindspore = _framework("mindspore")
    if mindspore is None:
        raise ArgumentTypeError(f"For 'load_param_into_net', the argument 'net' should be a Cell, but got {type(net)}.")
    mindspore.check_arguments(net, parameter_dict)
    if not isinstance(strict_load, bool):
        raise ArgumentTypeError(f"The input value must be a bool, but got {type(strict_load).__name__}.")
    if not isinstance(remove_redundancy, bool):
        raise ArgumentValueError(f"The parameter 'remove_redundancy' must be bool, but got {remove_redundancy!r}.")
    done: tuple[list[str], list[str]] = mindspore.load(net, parameter_dict, strict_load, remove_redundancy)
    return done


def _framework(name: str) -> Any:
    """Our module for a framework, or None if the framework was not imported (then no net is its)."""
    if name not in sys.modules:
        return None
    leaf: ModuleType
    if name == "mindspore":
        from lazyckpt.frameworks import mindspore as leaf
    else:
        from lazyckpt.frameworks import torch as leaf
    return leaf


def targets_of(net: Any) -> list[Target] | None:
    """The parameters of a net of any framework; None if it is not a net."""
    mindspore, torch = _framework("mindspore"), _framework("torch")
    if mindspore is not None and mindspore.is_cell(net):
        return list(mindspore.targets(net))
    if torch is not None and torch.is_module(net):
        return list(torch.targets(net))
    return None


def values_of(net: Any, integrated_save: bool = True) -> list[tuple[str, Any]] | None:
    """The parameters of a MindSpore net by their names in files; None if it is not a Cell."""
    mindspore = _framework("mindspore")
    if mindspore is None or not mindspore.is_cell(net):
        return None
    values: list[tuple[str, Any]] = mindspore.values(net, integrated_save)
    return values
