"""`match`: a dry run of loading a checkpoint into a net.

The report is a binding plan made readable: one row per parameter, with the value it would take and how, similar names
for missing ones, and a hint if one prefix explains them. No value is read.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from lazyckpt.checkpoint import Checkpoint
from lazyckpt.display import printable, shortened, table_html
from lazyckpt.errors import ArgumentTypeError
from lazyckpt.frameworks.binding import Plan, Target, plan
from lazyckpt.frameworks.candidates import Candidates
from lazyckpt.frameworks.nets import targets_of

SHOWN: Final = 200  # rows of a report that are printed
_COLUMNS: Final = ("outcome", "name", "detail")
_CLOSE: Final = 0.75  # similarity, from 0 to 1, above which a name is suggested
_COMPARED: Final = 2000  # unused names that a missing one is compared with
_COMPARISONS: Final = 10_000  # of names, in all: about half a second


class Row(NamedTuple):
    """One line of a report.

    Attributes:
        name: the parameter in the net, or for `unused` the value in the checkpoint.
        outcome: `loads`, `casts`, `squeezes`, `tied`, `missing`, `refused`, `passed over` or `unused`.
        source: the value's name in the checkpoint, if there is one.
        note: shapes and dtypes, the reason, or near names.
    """

    name: str
    outcome: str
    source: str
    note: str


class Report:
    """The result of `match`: what would load, be converted, be missing or stay unused. Prints, renders in notebooks.

    Attributes:
        plan: the binding plan behind it.
        rows: one per parameter, in the net's order, then the unused values.
        hint: a sentence about a prefix that would explain the missing names, or empty.
    """

    def __init__(self, what: Plan, rows: list[Row], hint: str) -> None:
        self.plan = what
        self.rows = rows
        self.hint = hint

    @property
    def fits(self) -> bool:
        """Whether every parameter of the net would be loaded."""
        return not (self.plan.missing or self.plan.refusals)

    def counts(self) -> dict[str, int]:
        """The number of rows of each outcome."""
        return dict(Counter(row.outcome for row in self.rows))

    def to_dict(self) -> dict[str, Any]:
        """The report as plain data."""
        return {"fits": self.fits, "counts": self.counts(), "hint": self.hint, "rows": [r._asdict() for r in self.rows]}

    def __str__(self) -> str:
        shown = [(row.outcome, printable(row.name), self._detail(row)) for row in self.rows[:SHOWN]]
        width = max((len(name) for _, name, _ in shown), default=0)
        lines = [f"{outcome:<11}  {name:<{width}}  {detail}".rstrip() for outcome, name, detail in shown]
        if len(self.rows) > SHOWN:
            lines.append(f"… and {len(self.rows) - SHOWN:,} more")
        return "\n".join([*lines, self.summary()])

    def summary(self) -> str:
        """One sentence: the number of each outcome, and the hint."""
        total = ", ".join(f"{count:,} {outcome}" for outcome, count in self.counts().items()) or "nothing to match"
        return total + (f". {self.hint}" if self.hint else "")

    def __repr__(self) -> str:
        return f"<Report: {self.summary()}>"

    def _repr_html_(self) -> str:
        left = len(self.rows) - SHOWN
        rows = ((row.outcome, shortened(row.name), self._detail(row)) for row in self.rows[:SHOWN])
        more = f"… and {left:,} more" if left > 0 else ""
        return table_html(self.summary(), _COLUMNS if self.rows else (), rows, more, prose=_COLUMNS)

    def _detail(self, row: Row) -> str:
        origin = f"<- {row.source}  " if row.source and row.source != row.name else ""
        return printable(origin + row.note)


def match(net_or_names: Any, ckpt: Mapping[str, Any], *, strict_load: bool = False) -> Report:
    """Report what loading a checkpoint into a net would do, without doing it. No value is read.

    >>> ckpt = lazyckpt.load_checkpoint("LeNet5-1_32.ckpt")
    >>> report = lazyckpt.match({"fc3.bias": ((10,), "Float16"), "fc4.bias": ((10,), "Float32")}, ckpt)
    >>> [(row.outcome, row.name) for row in report.rows[:2]]
    [('casts', 'fc3.bias'), ('missing', 'fc4.bias')]

    Args:
        net_or_names: a MindSpore Cell, a torch Module, or a mapping from names to (shape, dtype), where the dtype is
            MindSpore's name, such as `Float32`; a list of names is compared by name alone.
        ckpt: a `Checkpoint`, or a dict of Parameters.
        strict_load: as for `load_param_into_net`.

    Returns:
        A report with one row per parameter of the net, then the values that would stay unused. It prints as a table.

    Raises:
        ArgumentTypeError: `net_or_names` is none of these, or `ckpt` holds a value of an unknown type.
        StaleIndex: the file was changed in place after it was indexed.

    Cost: a look-up for each name of the net, and a walk over the names of the checkpoint. If the index was there before
    the file was opened, the header of each value that would be loaded is read.
    """
    candidates = Candidates(ckpt)
    targets = _targets(net_or_names)
    what = plan(targets, candidates, strict_load, candidates.aliases)
    if isinstance(ckpt, Checkpoint):
        sources = [*(pair.source for pair in what.pairs), *(refusal.source for refusal in what.refusals)]
        ckpt._access.prove(name for name in sources if name in ckpt)
    return Report(what, _rows(targets, what), _hint(what, candidates))


def _targets(given: Any) -> list[Target]:
    if isinstance(given, Mapping):
        return [_described(name, described) for name, described in given.items()]
    if isinstance(given, Iterable) and not isinstance(given, (str, bytes)):
        listed = list(given)
        if all(isinstance(name, str) for name in listed):
            return [Target(name, (), "", takes_any=True) for name in listed]
    found = targets_of(given)
    if found is None:
        raise ArgumentTypeError(f"a net, names, or a mapping of names to (shape, dtype) is needed, not {type(given)}")
    return found


def _described(name: str, described: Any) -> Target:
    try:
        shape, dtype = described
        return Target(name, tuple(map(operator.index, shape)), str(dtype))
    except (TypeError, ValueError):
        raise ArgumentTypeError(f"{name!r}: (shape, dtype) is needed, not {repr(described)[:200]}") from None


def _rows(targets: list[Target], what: Plan) -> list[Row]:
    rows: dict[str, Row] = {}
    for pair in what.pairs:
        outcome = "squeezes" if pair.squeezes else "casts" if pair.casts else "loads"
        change = f"{pair.candidate.dtype} {pair.candidate.shape}"
        if pair.casts or pair.squeezes:
            change += f" -> {pair.target.dtype} {pair.target.shape}"
        rows[pair.target.name] = Row(pair.target.name, outcome, pair.source, change)
    for name, other in what.tied:
        rows[name] = Row(name, "tied", "", f"shares the memory of {other}")
    for refusal in what.refusals:
        rows[refusal.name] = Row(refusal.name, "refused", refusal.source, refusal.reason)
    for name in what.passed_over:
        rows[name] = Row(name, "passed over", name, "the checkpoint's value is not a tensor")
    taken = {row.source for row in rows.values()}
    unused = [name for name in what.unused if name not in taken]
    for name, near in zip(what.missing, _near(what.missing, unused), strict=True):
        rows[name] = Row(name, "missing", "", f"did you mean {' or '.join(near)}?" if near else "")
    ordered = [rows[target.name] for target in targets if target.name in rows]
    return [*ordered, *(Row(name, "unused", "", "") for name in unused)]


def _near(missing: tuple[str, ...], unused: list[str]) -> Iterator[list[str]]:
    """Similar unused names for each missing one, within a limit of comparisons."""
    import difflib

    candidates = unused[:_COMPARED]
    compared = 0
    for name in missing:
        compared += len(candidates)
        yield difflib.get_close_matches(name, candidates, n=2, cutoff=_CLOSE) if compared <= _COMPARISONS else []


def _hint(what: Plan, candidates: Candidates) -> str:
    """A hint if a prefix of the net's names, which MindSpore never removes, explains the missing ones."""
    for name in what.missing[:1]:
        parts = name.split(".")
        for cut in range(1, len(parts)):
            prefix, rest = ".".join(parts[:cut]) + ".", ".".join(parts[cut:])
            if rest in candidates:
                explained = sum(
                    other.startswith(prefix) and other[len(prefix) :] in candidates for other in what.missing
                )
                return f"{explained:,} of them are in the checkpoint without the prefix {prefix!r} of the net's names"
    return ""
