"""`Diff`: the differences between two checkpoints, as a report that prints, renders and exports."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from lazyckpt.display import printable, shortened, table_html
from lazyckpt.explore.compare import Difference

SHOWN: Final = 200  # rows of a report that are printed
# The outcomes in the order of the report, each with the sign before its line.
OUTCOMES: Final = {
    "removed": "-",
    "added": "+",
    "renamed": ">",
    "kind": "!",
    "shape": "!",
    "dtype": "!",
    "value": "~",
    "refused": "?",
}
_COLUMNS: Final = ("outcome", "name", "detail")
_WORDS: Final = {
    "kind": "of another kind",
    "shape": "of another shape",
    "dtype": "of another dtype",
    "value": "with other values",
    "refused": "that cannot be compared",
}


class Row(NamedTuple):
    """One name that is different.

    Attributes:
        name: in the first checkpoint; of what was added, in the second.
        outcome: a key of `OUTCOMES`.
        before: dtype and shape in the first checkpoint, such as `Float32 (10, 84)`; empty if it is not in it.
        after: the same in the second.
        new_name: the name in the second checkpoint if it was renamed, else empty.
        difference: the distance between the values, if they were compared and differ.
        note: an explanation, or empty.
    """

    name: str
    outcome: str
    before: str
    after: str
    new_name: str = ""
    difference: Difference | None = None
    note: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Diff:
    """The differences between two checkpoints. Prints as a table, renders in notebooks.

    Attributes:
        a: the first checkpoint's path.
        b: the second's.
        rows: the differences, in the order of `OUTCOMES`, then of the file.
        equal: number of equal values.
        uncompared: number of values with the same name, dtype and shape whose contents were not compared.
        same_file: whether both are one file, so that nothing had to be read.
        by_digest: number of values that were compared by the digests in both indexes, and samples of their bytes.
        by_bytes: number of values that were compared by all of their bytes.
    """

    a: str
    b: str
    rows: tuple[Row, ...]
    equal: int
    uncompared: int = 0
    same_file: bool = False
    by_digest: int = 0
    by_bytes: int = 0

    @property
    def same(self) -> bool:
        """Whether there is no difference, as far as it was compared (see `uncompared`)."""
        return not self.rows

    def counts(self) -> dict[str, int]:
        """The number of rows of each outcome, and of values that are equal or were not compared."""
        found = Counter(row.outcome for row in self.rows)
        counts = {outcome: found[outcome] for outcome in OUTCOMES} | {
            "equal": self.equal,
            "uncompared": self.uncompared,
        }
        return {outcome: count for outcome, count in counts.items() if count}

    def to_dict(self) -> dict[str, Any]:
        """The report as plain data."""
        rows = [
            row._asdict() | {"difference": row.difference._asdict() if row.difference is not None else None}
            for row in self.rows
        ]
        head = {"a": self.a, "b": self.b, "same": self.same, "same_file": self.same_file}
        compared = {"by_digest": self.by_digest, "by_bytes": self.by_bytes}
        return {**head, "counts": self.counts(), "compared": compared, "rows": rows}

    def summary(self) -> str:
        """The number of each outcome, the largest change, and how values were compared if not by all of their bytes."""
        if self.same_file:
            return f"the same file: {self.equal:,} values, nothing to compare"
        counts = self.counts()
        parts = [f"{counts[outcome]:,} {_WORDS.get(outcome, outcome)}" for outcome in OUTCOMES if outcome in counts]
        parts += [f"{self.equal:,} equal"] if self.equal or not (parts or self.uncompared) else []
        parts += [f"{self.uncompared:,} whose values were not compared"] if self.uncompared else []
        largest = self._largest()
        sentences = [", ".join(parts), *([f"Largest change: {printable(largest.name)}"] if largest is not None else [])]
        return ". ".join([*sentences, *filter(None, [self._means()])])

    def _means(self) -> str:
        """How values were compared, if digests had a part in it."""
        if not self.by_digest:
            return ""
        rest = f", {self.by_bytes:,} by all bytes" if self.by_bytes else ""
        return f"{self.by_digest:,} compared by digest and samples of their bytes{rest}"

    def __str__(self) -> str:
        if self.same:
            return self.summary()
        head = [f"--- {printable(self.a)}", f"+++ {printable(self.b)}"]
        shown = [(OUTCOMES[row.outcome], printable(_title(row)), printable(_detail(row))) for row in self.rows[:SHOWN]]
        width = min(60, max(len(title) for _, title, _ in shown))
        lines = [f"{sign} {title:<{width}}  {detail}".rstrip() for sign, title, detail in shown]
        if len(self.rows) > SHOWN:
            lines.append(f"… and {len(self.rows) - SHOWN:,} more")
        return "\n".join([*head, *lines, self.summary()])

    def __repr__(self) -> str:
        return f"<Diff: {self.summary()}>"

    def _repr_html_(self) -> str:
        left = len(self.rows) - SHOWN
        rows = ((row.outcome, _short_title(row), _detail(row)) for row in self.rows[:SHOWN])
        more = f"… and {left:,} more" if left > 0 else ""
        return table_html(self.summary(), _COLUMNS if self.rows else (), rows, more, prose=_COLUMNS)

    def _largest(self) -> Row | None:
        """The row with the largest relative change, if several have one."""
        moved = [row for row in self.rows if row.difference is not None and row.difference.relative_l2 is not None]
        return max(moved, key=lambda row: row.difference.relative_l2 or 0.0, default=None) if len(moved) > 1 else None  # type: ignore[union-attr]


def _title(row: Row) -> str:
    return f"{row.name} => {row.new_name}" if row.new_name else row.name


def _short_title(row: Row) -> str:
    return " => ".join(shortened(name) for name in (row.name, row.new_name) if name)


def _detail(row: Row) -> str:
    facts = row.before if row.before == row.after else " => ".join(filter(None, (row.before, row.after)))
    parts = [facts]
    if row.difference is not None:
        parts.append(in_words(row.difference))
    if row.note:
        parts.append(row.note)
    return "  ".join(filter(None, parts))


def in_words(difference: Difference) -> str:
    """A difference in words."""
    parts = []
    if difference.max_abs is not None:
        parts.append(f"max |Δ| {difference.max_abs:.3g}")
    if difference.relative_l2 is not None:
        parts.append(f"relative L2 {difference.relative_l2:.2e}")
    if difference.cosine is not None:
        parts.append(f"cosine {difference.cosine:.6f}")
    parts.append(f"{difference.differing:,} of {difference.size:,} differ")
    if difference.nonfinite:
        parts.append(f"{difference.nonfinite:,} of them NaN or infinite")
    return ", ".join(parts)
