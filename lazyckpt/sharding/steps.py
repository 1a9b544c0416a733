"""Steps of a run, as the names of its checkpoints give them. Pure functions.

MindSpore names a checkpoint `<prefix>-<epoch>_<step>.ckpt`, and `<prefix>-<epoch>_<step>_breakpoint.ckpt` if training
ended with an error. The prefix names the run: a second run in the same folder has another (`net_1`). A name without a
step is older than every step of its run. Steps are compared as numbers, the epoch first.

Some writers put the number of the rank into the name (`net_rank_3-1_10.ckpt`, `checkpoint_3.ckpt`). Such names are of
one run if they are equal apart from it.
"""

from __future__ import annotations

import operator
import os
import re
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from lazyckpt.errors import ArgumentTypeError, ArgumentValueError

_STEP: Final = re.compile(r"(.*)-([0-9]{1,18})_([0-9]{1,18})(_breakpoint)?", re.DOTALL)
_ASKED: Final = re.compile(r"(?:([0-9]{1,18})_)?([0-9]{1,18})(_breakpoint)?")
_AFTER_RANK: Final = re.compile(r"(rank_?)([0-9]{1,18})(?![0-9])")
_AT_END: Final = re.compile(r"(?<![0-9])()([0-9]{1,18})$")
_RANK_SIGN: Final = "<N>"  # stands for the number of the rank in the name of a run


class Step(NamedTuple):
    """A step of a run; the newest is the greatest.

    Attributes:
        epoch: number of the epoch.
        number: number of the step within it.
        is_breakpoint: whether the file was written when training ended with an error.
    """

    epoch: int
    number: int
    is_breakpoint: bool = False

    def __str__(self) -> str:
        return f"{self.epoch}_{self.number}{'_breakpoint' if self.is_breakpoint else ''}"


class RunStep(NamedTuple):
    """One checkpoint of a run, as its name says.

    Attributes:
        run: the prefix.
        ending: `.ckpt` or `.safetensors`: files of two formats are of two runs.
        step: None for a name without one.
    """

    run: str
    ending: str
    step: Step | None

    @property
    def stem(self) -> str:
        """The name of the file without its ending."""
        return self.run if self.step is None else f"{self.run}-{self.step}"

    @property
    def age(self) -> tuple[int, int, bool]:
        """A key that sorts the steps of a run, the oldest first."""
        return (-1, -1, False) if self.step is None else self.step


def run_step(name: str) -> RunStep:
    """The run and the step that the name of a file gives."""
    stem, ending = os.path.splitext(name)
    match = _STEP.fullmatch(stem)
    if match is None:
        return RunStep(stem, ending, None)
    return RunStep(match[1], ending, Step(int(match[2]), int(match[3]), bool(match[4])))


def rank_variants(found: RunStep, rank: int) -> list[RunStep]:
    """The checkpoint under each name that its run may have: as it is, and without the number of its rank."""

    def mark(match: re.Match[str]) -> str:
        return match[1] + _RANK_SIGN if int(match[2]) == rank else match[0]

    runs = (found.run, *(pattern.sub(mark, found.run) for pattern in (_AFTER_RANK, _AT_END)))
    return [found._replace(run=run) for run in dict.fromkeys(runs)]


def asked_step(step: object) -> str | None:
    """A `step` argument as text: `10`, `1_10`, or the name of a file such as `net-1_10`.

    Raises:
        ArgumentTypeError: it is neither a number nor a string.
        ArgumentValueError: it is negative or empty.
    """
    if step is None:
        return None
    if isinstance(step, str):
        text = step.strip()
    else:
        try:
            text = str(operator.index(step))  # type: ignore[arg-type]  # anything else raises the TypeError
        except TypeError:
            text = ""
        if not text or isinstance(step, bool):
            raise ArgumentTypeError(f"step must be a number or a string such as '1_10', not {type(step).__name__}")
    if not text or text.startswith("-"):
        raise ArgumentValueError(f"step must be a number such as 10, or a string such as '1_10', not {step!r}")
    return text


def matching(asked: str, known: Mapping[RunStep, Iterable[str]]) -> list[RunStep]:
    """The checkpoints that an asked step means; more than one if it is ambiguous.

    A file's name, with or without its ending, means that file. `1_10` means epoch 1 and step 10, and the file of a
    breakpoint only if there is no other of that step; `10` means step 10 of any epoch.

    Args:
        asked: the step, as `asked_step` returns it.
        known: the checkpoints with the names of their files.
    """
    named = [each for each, names in known.items() if any(asked in (name, os.path.splitext(name)[0]) for name in names)]
    match = _ASKED.fullmatch(asked)
    if named or match is None:
        return named
    epoch, number = None if match[1] is None else int(match[1]), int(match[2])
    steps = [(each, each.step) for each in known if each.step is not None]
    fitting = [(each, step) for each, step in steps if step.number == number and epoch in (None, step.epoch)]
    if match[3]:
        return [each for each, step in fitting if step.is_breakpoint]
    regular = {(each.run, each.ending, step.epoch) for each, step in fitting if not step.is_breakpoint}
    return [
        each for each, step in fitting if not step.is_breakpoint or (each.run, each.ending, step.epoch) not in regular
    ]
