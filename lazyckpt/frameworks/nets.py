"""Nets, whatever framework they are of: `load_param_into_net`, and what a net's parameters are."""

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

    The net is checked as a whole before anything changes; then each of its parameters is given its value, in file
    order, one value at a time.

    Names, shapes and dtypes are checked as a whole before anything changes. Values are not: to know that every byte is
    good, all would have to be read twice. So where one proves damaged while it is read (`DamagedBlock`, `ChangedFile`,
    `StaleIndex`, `CorruptFile`), the net keeps the values that were filled in before it. Fill it again from a good
    file, or be sure beforehand: `lazyckpt verify FILE` reads everything, and `parameter_dict.load()` gives all values
    or an error.

    Args:
        net: a Cell.
        parameter_dict: a `Checkpoint`, or a dict of Parameters (ours, MindSpore's, or both).
        strict_load: no prefixes are taken off names, no dtypes converted.
        remove_redundancy: for parallel runs; left to MindSpore's own logic.

    Returns:
        The lists param_not_load and ckpt_not_load, names of the net that nothing was found for, and names of the
        checkpoint that no parameter of that very name took.

    Raises:
        TypeError: an argument has the wrong type (`ArgumentTypeError`).
        ValueError: `remove_redundancy` is no bool (`ArgumentValueError`), as in MindSpore.
        RuntimeError: shapes or dtypes do not fit (`NetMismatch`); the net is left as it was.
        ValueError: a value cannot be read; see above.

    Cost: reads the values that are used, once; peak memory is the net and one value.
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
    """Our leaf for a framework that the program has imported already (else no net can be its), or None."""
    if name not in sys.modules:
        return None
    leaf: ModuleType
    if name == "mindspore":
        from lazyckpt.frameworks import mindspore as leaf
    else:
        from lazyckpt.frameworks import torch as leaf
    return leaf


def targets_of(net: Any) -> list[Target] | None:
    """The parameters of a net of any framework, as binding sees them; None if it is no net."""
    mindspore, torch = _framework("mindspore"), _framework("torch")
    if mindspore is not None and mindspore.is_cell(net):
        return list(mindspore.targets(net))
    if torch is not None and torch.is_module(net):
        return list(torch.targets(net))
    return None


def values_of(net: Any, integrated_save: bool = True) -> list[tuple[str, Any]] | None:
    """What is saved of a MindSpore net: its parameters under the names they have in files; None if it is no Cell."""
    mindspore = _framework("mindspore")
    if mindspore is None or not mindspore.is_cell(net):
        return None
    values: list[tuple[str, Any]] = mindspore.values(net, integrated_save)
    return values
