"""`Diagnosis`: the facts and findings about a file, as a report that prints, renders and exports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from lazyckpt.display import printable, table_html

# Severities of findings, most serious first.
LEVELS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "fatal": "nothing of it can be loaded",
        "error": "it, or something of it, cannot be loaded as it is",
        "warning": "it loads, and something is odd",
        "note": "worth knowing",
    }
)
BRIEF: Final = ("parameters", "values", "blocks", "index", "crc")  # facts printed for a healthy file
_FINDINGS: Final = ("level", "finding", "advice")
_FACTS: Final = ("fact", "value")
SICK: Final = ("fatal", "error", "warning")


class Finding(NamedTuple):
    """One finding about a file.

    Attributes:
        level: a key of `LEVELS`.
        what: one sentence.
        advice: what to do; empty if nothing needs to be done.
    """

    level: str
    what: str
    advice: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Diagnosis:
    """The result of `diagnose`. Prints, renders in notebooks.

    Attributes:
        path: the file.
        what: the kind of file, in a few words.
        facts: facts by name, as plain data.
        findings: the findings, most serious first.
        needs_key: whether it is encrypted, and no key was given.
    """

    path: str
    what: str
    facts: Mapping[str, Any]
    findings: tuple[Finding, ...]
    needs_key: bool = False

    @property
    def healthy(self) -> bool:
        """Whether there is no finding above a note."""
        return not any(finding.level in SICK for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain data."""
        findings = [finding._asdict() for finding in self.findings]
        head = {"path": self.path, "what": self.what, "healthy": self.healthy}
        return {**head, "facts": dict(self.facts), "findings": findings}

    def summary(self) -> str:
        """One line."""
        worst = next((finding.level for finding in self.findings if finding.level in SICK), "")
        verdict = f"{worst}: {LEVELS[worst]}" if worst else "healthy"
        if not worst and self.needs_key:
            verdict = "healthy, as far as it can be looked at without the key"
        return f"{printable(self.path)}: {self.what}; {verdict}"

    def __str__(self) -> str:
        """The report; for a healthy file only the `BRIEF` facts."""
        facts = self._facts_in_words()
        if self.healthy:
            facts = {name: text for name, text in facts.items() if name in BRIEF}
        width = max(map(len, facts), default=0)
        lines = [f"  {name:<{width}}  {printable(text)}" for name, text in facts.items()]
        for finding in self.findings:
            lines.append(f"{finding.level:<7}  {printable(finding.what)}")
            lines += [f"{'':<7}  -> {printable(finding.advice)}"] if finding.advice else []
        return "\n".join([self.summary(), *lines])

    def _facts_in_words(self) -> dict[str, str]:
        """The facts that are not empty, as text."""
        return {name: _text(value) for name, value in self.facts.items() if value not in ("", None, [], {})}

    def __repr__(self) -> str:
        return f"<Diagnosis: {self.summary()}>"

    def _repr_html_(self) -> str:
        facts = table_html(
            "Facts" if self.findings else self.summary(), _FACTS, self._facts_in_words().items(), prose=_FACTS
        )
        if not self.findings:
            return facts
        return table_html(self.summary(), _FINDINGS, self.findings, prose=_FINDINGS) + facts


def by_level(findings: list[Finding]) -> tuple[Finding, ...]:
    """Findings, most serious first."""
    order = list(LEVELS)
    return tuple(sorted(findings, key=lambda finding: order.index(finding.level)))


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_text(part)}" for name, part in value.items())
    if isinstance(value, (list, tuple)):
        return "; ".join(map(_text, value))
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
