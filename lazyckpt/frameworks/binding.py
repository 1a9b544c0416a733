"""Which value of a checkpoint goes into which parameter of a net, and as what: MindSpore's rules, as a pure function.

`plan` sees names, shapes and dtypes of both sides and never a value, so that a whole net is checked before anything
changes. The rules are those of `mindspore.load_param_into_net`:

- A parameter takes the value of its own name. A string, or a map for a parameter that is no map, is passed over; the
  parameter is then neither loaded nor reported as missing.
- Loose: while parameters are missing, the first name of the checkpoint that ends with the name of the first missing
  parameter that has one gives a prefix; all missing parameters whose name behind that prefix is in the checkpoint take
  those values (which the report still counts as unused, as MindSpore does).
- Shapes must be equal, or the checkpoint's may go on with ones. Dtypes must be equal, or (loose only) both be floats,
  or both signed integers; then values are converted as numpy converts them.

Better than MindSpore on purpose: a net that cannot be bound is left untouched; extra ones are only taken off if the
rest of the shape is equal, and the net keeps its own shape; prefixes are found among tensors, and for parameters that
take one.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from lazyckpt.errors import NetMismatch
from lazyckpt.model.entry import MAP, TENSOR

CASTABLE: Final = (
    frozenset({"Float16", "Float32", "Float64", "BFloat16"}),
    frozenset({"Int8", "Int16", "Int32", "Int64", "Int4"}),
)
_FEW: Final = 32  # endings that are cheaper to compare with every name than to sort all names for
NEVER_MISSED: Final = "accu_grads"  # gradients under accumulation are not reported as missing


class Target(NamedTuple):
    """A parameter of a net.

    Attributes:
        name: its name.
        shape: its dimensions.
        dtype: MindSpore's name of its element type.
        is_map: whether it is a map parameter.
        may_miss: whether nobody minds if the checkpoint does not have it.
        takes_any: whether only its name is known, so that every tensor fits.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    is_map: bool = False
    may_miss: bool = False
    takes_any: bool = False


class Candidate(NamedTuple):
    """A value of a checkpoint.

    Attributes:
        kind: `tensor`, `string` or `map`.
        shape: the dimensions of a tensor.
        dtype: MindSpore's name of its element type; empty for strings and maps.
        offset: of its first byte in the file; -1 for a value in memory.
    """

    kind: str
    shape: tuple[int, ...] = ()
    dtype: str = ""
    offset: int = -1


class Pair(NamedTuple):
    """A parameter and the value it takes.

    Attributes:
        target: the parameter.
        source: the value's name in the checkpoint.
        candidate: the value.
        casts: whether its dtype is converted.
        squeezes: whether ones are taken off the end of its shape.
    """

    target: Target
    source: str
    candidate: Candidate
    casts: bool = False
    squeezes: bool = False


class Mismatch(NamedTuple):
    """A parameter that cannot take the value meant for it, and why."""

    name: str
    source: str
    reason: str


class Plan(NamedTuple):
    """What binding would do.

    Attributes:
        pairs: what goes where, in the net's order.
        missing: names in the net that nothing is found for, in the net's order (MindSpore's `param_not_load`).
        unused: names in the checkpoint that no parameter of that very name takes, in its order (`ckpt_not_load`).
        passed_over: names of parameters whose value is a string, or a map though they are none.
        refusals: what makes binding impossible.
        prefixes: prefixes that were taken off names of the checkpoint, in the order found.
    """

    pairs: tuple[Pair, ...]
    missing: tuple[str, ...]
    unused: tuple[str, ...]
    passed_over: tuple[str, ...]
    refusals: tuple[Mismatch, ...]
    prefixes: tuple[str, ...]


def plan(targets: Iterable[Target], candidates: Mapping[str, Candidate], strict: bool = False) -> Plan:
    """Pair the parameters of a net with the values of a checkpoint.

    Args:
        targets: the net's parameters, in its order.
        candidates: the checkpoint's values by name, in its order.
        strict: no prefixes, no conversions.

    Cost: O(targets) look-ups, and one pass over the names of `candidates` (two if something is missing, and a sort of
    them if much is).
    """
    targets = list(targets)
    matcher = _Matcher(strict)
    taken: set[str] = set()
    missing: list[Target] = []
    passed_over = []
    for target in targets:
        candidate = candidates.get(target.name)
        if candidate is None:
            if not target.may_miss and not target.name.startswith(NEVER_MISSED):
                missing.append(target)
        elif (candidate.kind == MAP) if target.is_map else (candidate.kind == TENSOR):
            matcher.consider(target, target.name, candidate)
            if not target.is_map:
                taken.add(target.name)
        else:
            passed_over.append(target.name)
    prefixes: list[str] = []
    if missing and not strict:
        missing, prefixes = _without_prefixes(missing, candidates, matcher)
    unused = tuple(name for name in candidates if name not in taken)
    if prefixes:
        order = {target.name: ordinal for ordinal, target in enumerate(targets)}
        matcher.pairs.sort(key=lambda pair: order[pair.target.name])
    names = tuple(target.name for target in missing)
    return Plan(tuple(matcher.pairs), names, unused, tuple(passed_over), tuple(matcher.refusals), tuple(prefixes))


def refuse(what: Plan) -> None:
    """Raise what makes a plan impossible.

    Raises:
        NetMismatch: it has refusals; the message tells them all, up to a limit.
    """
    if not what.refusals:
        return
    lines = [f"{refusal.name}: {refusal.reason}" for refusal in what.refusals[:10]]
    more = f"; and {len(what.refusals) - 10:,} more" if len(what.refusals) > 10 else ""
    raise NetMismatch(
        f"For 'load_param_into_net', {len(what.refusals):,} parameters of the net do not fit the checkpoint; the net is"
        f" left as it was. {'; '.join(lines)}{more}",
        tuple((refusal.name, refusal.reason) for refusal in what.refusals),
    )


class _Matcher:
    """Decides whether a value fits a parameter, and collects the verdicts."""

    def __init__(self, strict: bool) -> None:
        self._strict = strict
        self.pairs: list[Pair] = []
        self.refusals: list[Mismatch] = []

    def consider(self, target: Target, source: str, candidate: Candidate) -> None:
        alike = candidate.shape == target.shape and candidate.dtype == target.dtype
        if alike or target.is_map or target.takes_any:
            self.pairs.append(Pair(target, source, candidate))
            return
        reason = self._misfit(target, candidate)
        if reason:
            self.refusals.append(Mismatch(target.name, source, reason))
        else:
            casts, squeezes = candidate.dtype != target.dtype, candidate.shape != target.shape
            self.pairs.append(Pair(target, source, candidate, casts, squeezes))

    def _misfit(self, target: Target, candidate: Candidate) -> str:
        shape, rest = candidate.shape[: len(target.shape)], candidate.shape[len(target.shape) :]
        if shape != target.shape or any(dim != 1 for dim in rest):
            return (
                f"it should have the same shape: {target.shape} in the net, {candidate.shape} in the checkpoint; check"
                " whether the checkpoint is the right one, and the batch size and the like of the net"
            )
        if candidate.dtype == target.dtype or (not self._strict and castable(candidate.dtype, target.dtype)):
            return ""
        hint = "; strict_load=False would convert it" if castable(candidate.dtype, target.dtype) else ""
        return f"it should have the same type: {target.dtype} in the net, {candidate.dtype} in the checkpoint{hint}"


def castable(one: str, other: str) -> bool:
    """Whether values of one dtype are converted to another when loading loosely."""
    return any({one, other} <= family for family in CASTABLE)


def _without_prefixes(
    missing: list[Target], candidates: Mapping[str, Candidate], matcher: _Matcher
) -> tuple[list[Target], list[str]]:
    """MindSpore's removal of prefixes: what is still missing, and the prefixes taken off."""
    lacking = {target.name for target in missing if target.name and not target.is_map}
    endings = _Endings(candidates, lacking)
    found: list[str] = []
    stop = missing[0].name  # MindSpore passes over a prefix that happens to equal the first missing name
    for name in [target.name for target in missing]:
        prefix = endings.prefix_of(name) if name in lacking else None
        if prefix is None or prefix == stop:
            continue
        found.append(prefix)
        behind = [target for target in missing if target.name in lacking and endings.is_tensor(prefix + target.name)]
        for target in behind:
            matcher.consider(target, prefix + target.name, candidates[prefix + target.name])
        loaded = {target.name for target in behind}
        lacking -= loaded
        missing = [target for target in missing if target.is_map or target.name not in loaded]
    return missing, found


class _Endings:
    """Finds the first tensor of many values whose name ends with a given text, in O(log n + matches)."""

    def __init__(self, candidates: Mapping[str, Candidate], wanted: set[str]) -> None:
        """Only endings that are `wanted` will be asked for."""
        self._candidates = candidates
        few = tuple(wanted) if len(wanted) <= _FEW else ("",)
        names = (name for name in candidates if name.endswith(few))
        self._backwards = sorted((name[::-1], ordinal) for ordinal, name in enumerate(names))

    def is_tensor(self, name: str) -> bool:
        """Whether there is a tensor of that name."""
        candidate = self._candidates.get(name)
        return candidate is not None and candidate.kind == TENSOR

    def prefix_of(self, ending: str) -> str | None:
        """What stands before `ending` in the name of the first tensor that ends so; None if there is none."""
        for _, backwards in sorted(self._ending_with(ending[::-1])):
            name = backwards[::-1]
            if self.is_tensor(name):
                return name[: len(name) - len(ending)]
        return None

    def _ending_with(self, wanted: str) -> Iterator[tuple[int, str]]:
        for at in range(bisect.bisect_left(self._backwards, (wanted, -1)), len(self._backwards)):
            backwards, ordinal = self._backwards[at]
            if not backwards.startswith(wanted):
                return
            yield ordinal, backwards
