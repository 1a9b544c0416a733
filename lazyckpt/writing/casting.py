"""Casts of tensors to other floating-point types: which values are cast, and what that loses.

A cast is asked for as one type, which leaves the state of optimizers alone, or as types for patterns of names. Overflow
and underflow are counted from the bits of both sides, for each piece as it is cast: what counts as zero or as infinite
is then the same for every type, and costs less than the cast.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from lazyckpt.errors import ArgumentValueError
from lazyckpt.index.matching import Searchable, require_matches
from lazyckpt.model.dtypes import DTYPES, DType
from lazyckpt.model.optimizer_state import is_optimizer_state
from lazyckpt.model.patterns import Pattern, shown
from lazyckpt.reading.decoding import bytes_of
from lazyckpt.writing.items import Content, Item

DTypes = str | Mapping[Pattern | None, str | None]  # None for "all but state" and for "no cast"
OnLoss = Callable[[str, int, int], object]  # name, values that became infinite, values that became zero
NAMED: Final = 3  # names in one message
_SIGN: Final = {2: 0x8000, 4: 0x8000_0000, 8: 0x8000_0000_0000_0000}
_INFINITY: Final = {"Float16": 0x7C00, "BFloat16": 0x7F80, "Float32": 0x7F80_0000, "Float64": 0x7FF0_0000_0000_0000}


class Casts(NamedTuple):
    """The types that values are cast to.

    Attributes:
        default: of values that no pattern names and that are not an optimizer's state; None to leave them.
        chosen: types by name, from patterns; None to leave a value.
        exists: whether the checkpoint has a name.
    """

    default: DType | None
    chosen: Mapping[str, DType | None]
    exists: Callable[[str], bool]

    def dtype_for(self, name: str) -> DType | None:
        """The type to cast a floating-point value to; None to leave it."""
        if name in self.chosen:
            return self.chosen[name]
        return None if self.default is None or is_optimizer_state(name, self.exists) else self.default

    def spares(self, name: str) -> bool:
        """Whether a value keeps its type only because it is the state of an optimizer."""
        return self.default is not None and name not in self.chosen and is_optimizer_state(name, self.exists)


@dataclass
class CastReport:
    """The outcome of the casts of a save.

    Attributes:
        cast: number of tensors that were cast.
        spared: number of floating-point values that keep their type as the state of an optimizer.
        some_spared: the names of the first of these.
        overflowed: name -> number of finite values that became infinite.
        underflowed: name -> number of nonzero values that became zero.
    """

    cast: int = 0
    spared: int = 0
    some_spared: tuple[str, ...] = ()
    overflowed: dict[str, int] = field(default_factory=dict)
    underflowed: dict[str, int] = field(default_factory=dict)

    def lost(self, name: str, overflowed: int, underflowed: int) -> None:
        """Note the losses of one tensor; a tensor that is read twice counts once."""
        for counts, number in ((self.overflowed, overflowed), (self.underflowed, underflowed)):
            if number:
                counts[name] = number

    def messages(self) -> Iterator[str]:
        """What users should know, one sentence each."""
        for counts, size, became in (
            (self.overflowed, "large", "infinite"),
            (self.underflowed, "small", "zero"),
        ):
            if counts:
                total = sum(counts.values())
                what = "1 value is" if total == 1 else f"{total:,} values are"
                yield f"{what} too {size} for the new type and became {became} ({_some(counts)})"
        if self.spared:
            what = "1 value" if self.spared == 1 else f"{self.spared:,} values"
            yield (
                f"{what} of optimizer state not cast ({_some(self.some_spared, self.spared)}); to cast everything, give"
                " the type for the pattern '*' (dtype={'*': …}, --dtype '*=…')"
            )


def _some(names: Mapping[str, int] | tuple[str, ...], total: int | None = None) -> str:
    left = (len(names) if total is None else total) - NAMED
    return ", ".join(map(shown, islice(names, NAMED))) + (f" and {left:,} more" if left > 0 else "")


def casts_of(dtypes: DTypes, names: Searchable, is_float: Callable[[str], bool]) -> Casts:
    """Look up the patterns of a request for casts.

    Args:
        dtypes: one type for everything but the state of optimizers; or types by pattern, where a later pattern
            overrides an earlier one, the type None leaves values alone, and the pattern None stands for all but state.
        names: of the checkpoint.
        is_float: whether a name is a floating-point tensor.

    Raises:
        ArgumentValueError: a type is unknown, or a pattern matches no floating-point tensor.
        MissingName: a pattern matches nothing.
    """
    default: DType | None = None
    chosen: dict[str, DType | None] = {}
    for pattern, name in dtypes.items() if isinstance(dtypes, Mapping) else [(None, dtypes)]:
        dtype = None if name is None and isinstance(dtypes, Mapping) else float_dtype(name)
        if pattern is None:
            default = dtype
            continue
        found = require_matches(names, [pattern])
        if not any(map(is_float, found)):
            raise ArgumentValueError(f"{shown(pattern)} matches no floating-point tensor; only these can be cast")
        chosen.update(dict.fromkeys(found, dtype))
    return Casts(default, chosen, lambda name: names.position(name) is not None)


def float_dtype(name: object) -> DType:
    """A floating-point dtype by its name, in upper or lower case.

    Raises:
        ArgumentValueError: the name is unknown.
    """
    floats = {dtype.name.lower(): dtype for dtype in DTYPES.values() if is_castable(dtype)}
    found = floats.get(str(name).lower())
    if found is None:
        raise ArgumentValueError(f"dtype {name!r} is not a floating-point type; known are {', '.join(floats)}")
    return found


def is_castable(dtype: DType | None) -> bool:
    """Whether values of a dtype may be cast. Floats of 8 bits and less need a scale to mean anything."""
    return dtype is not None and dtype.name in _INFINITY


def cast(item: Item, dtype: DType, on_loss: OnLoss) -> Item:
    """A tensor converted to another dtype, a piece at a time, as numpy's `astype` does.

    Args:
        item: a tensor.
        dtype: the new type.
        on_loss: called with the name and the number of finite values that became infinite, and of nonzero values that
            became zero, if there are any.
    """
    (content,) = item.contents
    if content.dtype is None or content.dtype is dtype:
        return item
    old, new = content.dtype, dtype
    can_lose = not np.can_cast(old.numpy, new.numpy)

    def pieces() -> Iterator[memoryview]:
        overflowed = underflowed = 0
        for piece in content.pieces():
            before = np.frombuffer(piece, old.numpy)
            with np.errstate(over="ignore", under="ignore", invalid="ignore"):
                after = before.astype(new.numpy)
            if can_lose:
                (nonzero, infinite), (left, more) = _count(before, old), _count(after, new)
                overflowed += more - infinite
                underflowed += nonzero - left
            yield bytes_of(after)
        if overflowed or underflowed:
            on_loss(item.name, overflowed, underflowed)

    size = math.prod(content.shape) * dtype.itemsize
    return item._replace(contents=(Content(dtype, content.shape, size, pieces, content.lasts),))


def _count(array: npt.NDArray[Any], dtype: DType) -> tuple[int, int]:
    """The numbers of values that are not zero, and that are infinite or NaN."""
    kind = np.dtype(f"<u{dtype.itemsize}")
    magnitude = array.view(kind) & kind.type(_SIGN[dtype.itemsize] - 1)
    return int(np.count_nonzero(magnitude)), int(np.count_nonzero(magnitude >= kind.type(_INFINITY[dtype.name])))
