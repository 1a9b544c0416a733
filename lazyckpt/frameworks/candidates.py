"""Candidates for a net's parameters: kind, shape and dtype of each value. Reads no value.

The values of a `Checkpoint` are found through its index. A plain dict may hold our Parameters, MindSpore's, arrays,
strings and lists.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import numpy as np

from lazyckpt.checkpoint import Checkpoint
from lazyckpt.errors import ArgumentTypeError
from lazyckpt.frameworks.binding import Candidate, Pair, Plan
from lazyckpt.model.dtypes import DTYPES, of_array
from lazyckpt.model.entry import MAP, STRING, TENSOR, Entry
from lazyckpt.parameter import Parameter
from lazyckpt.runtime import log

_RELEASED_AT_ONCE: Final = 2**20  # bytes of a file after which pages are dropped


class Candidates(Mapping[str, Candidate]):
    """The values of a mapping as candidates, by name, in its order. Reads no value."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values
        self._access = values._access if isinstance(values, Checkpoint) else None

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def __getitem__(self, name: str) -> Candidate:
        found = self._values[name] if self._access is None else self._access.value_or_entry(name)
        return candidate_of_entry(found) if isinstance(found, Entry) else candidate_of(found)

    def aliases(self) -> Mapping[str, str]:
        """Other names of values of a safetensors file, each with the name that it has there. Cost: reads the header.

        `safetensors.torch.save_model` writes one of several names with the same memory, and the others as metadata.
        """
        if not isinstance(self._values, Checkpoint):
            return {}
        found = self._values.metadata.items()
        return {name: kept for name, kept in found if kept in self._values and name not in self._values}


def candidate_of_entry(entry: Entry) -> Candidate:
    """A value that lies in a file."""
    return Candidate(entry.kind, entry.shape, "" if entry.dtype is None else entry.dtype.name, entry.offset)


def candidate_of(value: Any) -> Candidate:
    """A value in memory.

    Raises:
        ArgumentTypeError: a value of its type cannot be loaded into a net.
    """
    if isinstance(value, str):
        return Candidate(STRING)
    if isinstance(value, list):
        return Candidate(MAP)
    if isinstance(value, Parameter):
        return Candidate(TENSOR, value.shape, value.dtype.name)
    if isinstance(value, np.ndarray):
        return Candidate(TENSOR, value.shape, of_array(value).name)
    if hasattr(value, "asnumpy") and hasattr(value, "shape"):  # a Parameter of MindSpore's
        return Candidate(TENSOR, tuple(int(dim) for dim in value.shape), str(value.dtype))
    raise ArgumentTypeError(f"a {type(value).__name__} cannot be bound to a parameter")


def report_aliases(what: Plan) -> None:
    """Log which parameters take a value that the checkpoint has under another name."""
    for name, source in what.aliased:
        log.info("%s takes the value of %s: the checkpoint says that they are one", name, source)


def check_values(values: Any, allowed: tuple[type, ...]) -> None:
    """Check that a mapping can be loaded into a net; a `Checkpoint` is not walked.

    Raises:
        ArgumentTypeError: it is not a mapping, a key is not a string, or the type of a value is not allowed.
    """
    if not isinstance(values, (dict, Checkpoint)):
        raise ArgumentTypeError(
            f"For 'load_param_into_net', the argument 'parameter_dict' should be a dict or a Checkpoint, but got"
            f" {type(values)}."
        )
    edited = values._access.assigned() if isinstance(values, Checkpoint) else values
    for name, value in edited.items():
        if not isinstance(name, str) or not isinstance(value, allowed):
            raise ArgumentTypeError(
                "For 'parameter_dict', the element in the argument 'parameter_dict' should be a 'str' and 'Parameter',"
                f" but got {type(name)} and {type(value)}."
            )


def in_file_order(pairs: Iterable[Pair], values: Mapping[str, Any]) -> Iterator[tuple[Pair, Any]]:
    """Yield pairs with their values: those in memory first, then those in the file in file order.

    Pages of a mapped file are dropped after use, so that only one value at a time is in memory.
    """
    passed = 0
    file = values._access if isinstance(values, Checkpoint) else None
    for pair in sorted(pairs, key=lambda pair: pair.candidate.offset):
        if file is not None and pair.candidate.offset - passed >= _RELEASED_AT_ONCE:
            file.drop_pages(passed, pair.candidate.offset)
            passed = pair.candidate.offset
        yield pair, values[pair.source]
    if file is not None:
        file.drop_pages(passed)


def dtype_named(name: str) -> np.dtype[np.generic]:
    """The numpy dtype of a MindSpore dtype name.

    Raises:
        KeyError: the name is unknown.
    """
    return DTYPES[name].numpy
