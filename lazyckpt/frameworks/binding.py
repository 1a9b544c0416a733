"""MindSpore's rules for matching a checkpoint with the parameters of a net. Pure functions.

`plan` sees names, shapes and dtypes of both sides and never a value, so that a whole net is checked before anything
changes. The rules are those of `mindspore.load_param_into_net`:

- A parameter takes the value of its own name. A string is passed over, and so is a map if the parameter is not one; the
  parameter is then neither loaded nor reported as missing.
- If not strict: take the first missing parameter whose name is the end of a name in the checkpoint. The first such name
  gives a prefix. Every missing parameter for which `prefix + name` is in the checkpoint takes that value (which is
  still reported as unused, as in MindSpore). Repeat while parameters are missing.
- A missing parameter is not reported if its memory is that of a loaded one (tied weights). If the checkpoint names it
  as an alias of a value that it holds, as `safetensors.torch.save_model` does, it takes that value.
- Shapes must be equal; the checkpoint's may have extra ones at its end. Dtypes must be equal, or, if not strict, both
  floats or both signed integers; then values are converted as numpy does.

It differs from MindSpore on purpose in four points: a net that does not fit is left untouched; extra ones are removed
only if the rest of the shape is equal, and the net keeps its shape; prefixes come from tensors only, and serve only
parameters that take one; tied weights are known.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from lazyckpt.errors import NetMismatch
from lazyckpt.model.entry import MAP, TENSOR

CASTABLE: Final = (
    frozenset({"Float16", "Float32", "Float64", "BFloat16"}),
    frozenset({"Int8", "Int16", "Int32", "Int64", "Int4"}),
)
_FEW: Final = 32  # up to so many endings, comparing each with every name is cheaper than sorting the names
NEVER_MISSED: Final = "accu_grads"  # prefix of accumulated gradients, which MindSpore does not report as missing


class Memory(NamedTuple):
    """The bytes of a parameter.

    Attributes:
        storage: identifies the memory that it is a part of.
        start: its first byte there.
        stop: the byte behind its last.
        is_dense: whether all bytes between are its own.
    """

    storage: Hashable
    start: int
    stop: int
    is_dense: bool = True

    def covers(self, other: Memory) -> bool:
        """Whether another parameter has no bytes but those of this one."""
        is_inside = self.start <= other.start and other.stop <= self.stop
        return self.is_dense and self.storage == other.storage and is_inside


class Target(NamedTuple):
    """A parameter of a net.

    Attributes:
        name: its name.
        shape: its dimensions.
        dtype: MindSpore's name of its element type.
        is_map: whether it is a map parameter.
        may_miss: whether it is not reported if the checkpoint lacks it.
        takes_any: whether only its name is known, so that any tensor fits.
        memory: its bytes, which other parameters may share; None if they are unknown.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    is_map: bool = False
    may_miss: bool = False
    takes_any: bool = False
    memory: Memory | None = None


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
        squeezes: whether ones are removed from the end of its shape.
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
    """The outcome of matching a net with a checkpoint.

    Attributes:
        pairs: parameters with their values, in the net's order.
        missing: names in the net without a value, in the net's order (MindSpore's `param_not_load`).
        unused: names in the checkpoint that no parameter of the same name takes, in its order (`ckpt_not_load`).
        passed_over: names of parameters whose value is a string, or a map although they are not.
        refusals: mismatches; any one makes loading impossible.
        prefixes: prefixes removed from names of the checkpoint, in the order found.
        tied: names of parameters without a value of their own, each with the loaded one whose memory it shares.
        aliased: names of parameters that take a value under another name, each with that name.
    """

    pairs: tuple[Pair, ...]
    missing: tuple[str, ...]
    unused: tuple[str, ...]
    passed_over: tuple[str, ...]
    refusals: tuple[Mismatch, ...]
    prefixes: tuple[str, ...]
    tied: tuple[tuple[str, str], ...] = ()
    aliased: tuple[tuple[str, str], ...] = ()


def plan(
    targets: Iterable[Target],
    candidates: Mapping[str, Candidate],
    strict: bool = False,
    aliases: Callable[[], Mapping[str, str]] = dict,
) -> Plan:
    """Pair the parameters of a net with the values of a checkpoint.

    Args:
        targets: the net's parameters, in its order.
        candidates: the checkpoint's values by name, in its order.
        strict: no prefixes, no conversions.
        aliases: gives other names of values, each with the name under which the checkpoint has the value. Called only
            if a name is missing.

    Cost: O(targets) look-ups, and one pass over the names of `candidates`; two if any is missing, and a sort of the
    names if many are.
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
    in_order = len(matcher.pairs)
    tied: dict[str, str] = {}
    aliased: dict[str, str] = {}
    if missing:
        missing = _without_tied(missing, matcher.pairs, tied)
    if missing:
        missing = _without_aliases(missing, candidates, aliases(), matcher, aliased)
        taken.update(aliased.values())
    if missing and not strict:
        missing, prefixes = _without_prefixes(missing, candidates, matcher)
        missing = _without_tied(missing, matcher.pairs, tied)
    unused = tuple(name for name in candidates if name not in taken)
    if len(matcher.pairs) > in_order:
        order = {target.name: ordinal for ordinal, target in enumerate(targets)}
        matcher.pairs.sort(key=lambda pair: order[pair.target.name])
    names = tuple(target.name for target in missing)
    return Plan(
        tuple(matcher.pairs), names, unused, tuple(passed_over), tuple(matcher.refusals), tuple(prefixes),
        tuple(tied.items()), tuple(aliased.items()),
    )  # fmt: skip


def refuse(what: Plan) -> None:
    """Raise an error if a plan has mismatches.

    Raises:
        NetMismatch: it has; the message lists the first ten.
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
    """Decides whether a value fits a parameter, and collects pairs and mismatches."""

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
    """Whether values of one dtype are converted to another, if not strict."""
    return any({one, other} <= family for family in CASTABLE)


def _without_tied(missing: list[Target], pairs: list[Pair], tied: dict[str, str]) -> list[Target]:
    """Take out the parameters whose memory is that of a loaded one, and add them to `tied`."""
    loaded: dict[Hashable, list[Target]] = {}
    for pair in pairs:
        if pair.target.memory is not None:
            loaded.setdefault(pair.target.memory.storage, []).append(pair.target)
    left = []
    for target in missing:
        memory = target.memory
        others = [] if memory is None else loaded.get(memory.storage, [])
        other = next((each for each in others if each.memory and memory and each.memory.covers(memory)), None)
        if other is None:
            left.append(target)
        else:
            tied[target.name] = other.name
    return left


def _without_aliases(
    missing: list[Target], candidates: Mapping[str, Candidate], aliases: Mapping[str, str], matcher: _Matcher,
    aliased: dict[str, str],
) -> list[Target]:  # fmt: skip
    """Match missing parameters by aliases of the checkpoint; return those still missing, and add others to `aliased`.

    The value of an alias may be another view of the same memory: one of another shape is not taken.
    """
    left = []
    for target in missing:
        source = aliases.get(target.name, "")
        candidate = candidates.get(source) if source else None
        is_same = candidate is not None and candidate.kind == TENSOR and not target.is_map
        if candidate is not None and is_same and (target.takes_any or candidate.shape == target.shape):
            matcher.consider(target, source, candidate)
            aliased[target.name] = source
        else:
            left.append(target)
    return left


def _without_prefixes(
    missing: list[Target], candidates: Mapping[str, Candidate], matcher: _Matcher
) -> tuple[list[Target], list[str]]:
    """Match missing parameters by prefix; return those still missing, and the prefixes."""
    lacking = {target.name for target in missing if target.name and not target.is_map}
    endings = _Endings(candidates, lacking)
    found: list[str] = []
    stop = missing[0].name  # MindSpore skips a prefix that equals the first missing name
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
    """Finds the first tensor whose name ends with a text, in O(log n + matches)."""

    def __init__(self, candidates: Mapping[str, Candidate], wanted: set[str]) -> None:
        """Index names by their ends; only the `wanted` ends can be searched for."""
        self._candidates = candidates
        few = tuple(wanted) if len(wanted) <= _FEW else ("",)
        names = (name for name in candidates if name.endswith(few))
        self._backwards = sorted((name[::-1], ordinal) for ordinal, name in enumerate(names))

    def is_tensor(self, name: str) -> bool:
        """Whether there is a tensor of that name."""
        candidate = self._candidates.get(name)
        return candidate is not None and candidate.kind == TENSOR

    def prefix_of(self, ending: str) -> str | None:
        """The text before `ending` in the name of the first tensor that ends with it; None if none does."""
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
