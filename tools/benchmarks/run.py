"""What every row is given: the files, the peers that are there, and how often to measure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.checkpoints import Checkpoints
from benchmarks.measure import Side
from benchmarks.table import Row


@dataclass(frozen=True)
class Run:
    """One run of the tool.

    Attributes:
        files: what is measured.
        mindspore: a Python that has MindSpore, or None.
        repeat: turns a row; None for as many as each row takes of itself.
    """

    files: Checkpoints
    mindspore: str | None = None
    repeat: int | None = None

    def turns(self, usual: int) -> int:
        """How many turns a row takes."""
        return usual if self.repeat is None else self.repeat

    def mindspore_side(self, **arguments: object) -> Side:
        """MindSpore's load_checkpoint as the peer. See `tasks.mindspore_load`."""
        return Side("MindSpore", "mindspore_load", arguments, ("mindspore",), self.mindspore)


RowFunction = Callable[[Run], Row]
