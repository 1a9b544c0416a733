"""`Verification`: the checks of a file and their outcomes, as a report that prints, renders and exports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from lazyckpt.display import human_size, printable, table_html

# Outcomes, with the word that is printed.
OUTCOMES: Final[Mapping[str, str]] = MappingProxyType({"passed": "ok", "failed": "FAILED", "unchecked": "not checked"})
_DOUBTS: Final = {"zeros"}  # checks that fail with a reason to look closer, and no proof
_COLUMNS: Final = ("check", "outcome", "detail")


class Check(NamedTuple):
    """One check that was made, or was not possible.

    Attributes:
        name: `opened`, `blocks`, `headers`, `gaps`, `index`, `crc`, `digests`, `contents`, `strings` or `zeros`; of
            several files `set` and `files`.
        outcome: a key of `OUTCOMES`.
        detail: one sentence.
    """

    name: str
    outcome: str
    detail: str


@dataclass(frozen=True, slots=True, eq=False)
class Verification:
    """The result of `verify`. Prints, renders in notebooks.

    Attributes:
        path: the file.
        size: of the file, in bytes.
        seconds: the time it took.
        checks: the checks, in the order in which they were made.
    """

    path: str
    size: int
    seconds: float
    checks: tuple[Check, ...]

    @property
    def intact(self) -> bool:
        """Whether no check failed. Checks that were not possible are in `checks`, too."""
        return not any(check.outcome == "failed" for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain data."""
        checks = [check._asdict() for check in self.checks]
        return {"path": self.path, "intact": self.intact, "size": self.size, "seconds": self.seconds, "checks": checks}

    def summary(self) -> str:
        """One line."""
        failed = [check.name for check in self.checks if check.outcome == "failed"]
        verdict = "intact"
        if "opened" in failed:
            verdict = "cannot be checked"
        elif "set" in failed:
            verdict = "CANNOT BE LOADED"
        elif failed:
            verdict = f"{'DAMAGED' if set(failed) - _DOUBTS else 'DOUBTFUL'} ({', '.join(failed)})"
        elif [check.name for check in self.checks] == ["set"]:  # the files have reports of their own
            return f"{printable(self.path)}: its files can be loaded together"
        elif any(check.name == "contents" and check.outcome == "unchecked" for check in self.checks):
            verdict = "intact, as far as it can be checked"
        return f"{printable(self.path)}: {verdict}; {human_size(self.size)} in {self.seconds:.2f} s"

    def __str__(self) -> str:
        lines = [
            f"  {check.name:<8}  {OUTCOMES[check.outcome]:<11}  {printable(check.detail)}".rstrip()
            for check in self.checks
        ]
        return "\n".join([self.summary(), *lines])

    def __repr__(self) -> str:
        return f"<Verification: {self.summary()}>"

    def _repr_html_(self) -> str:
        rows = ((check.name, OUTCOMES[check.outcome], check.detail) for check in self.checks)
        return table_html(self.summary(), _COLUMNS, rows, prose=_COLUMNS)
