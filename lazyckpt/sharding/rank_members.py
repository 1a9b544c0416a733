"""Which files of the folders `rank_<N>` are one checkpoint. Pure functions of names and sizes.

Each rank has one file of each step. The newest step that all needed ranks have whole is taken: a file is whole if it is
not empty and its index could be read. Two steps, or two runs, are never mixed. If there is only one step, its files are
taken even if some are not whole: nothing can be mixed, and what the others hold can be loaded.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Final

from lazyckpt.display import printable
from lazyckpt.errors import MissingFile, WrongFormat
from lazyckpt.formats import ENDINGS
from lazyckpt.sharding.members import RANKS, Folder, Members, names_of, several
from lazyckpt.sharding.steps import RunStep, matching, rank_variants, run_step
from lazyckpt.sources.paths import join

_SHOWN: Final = 5  # ranks, or groups of ranks, in one message
_PART: Final = re.compile(r".+(?:_part[0-9]+|-[0-9]+-of-[0-9]+)\.\w+", re.DOTALL)
_PART_OF_STAGE: Final = re.compile(r".+_part[0-9]+\.\w+", re.DOTALL)


def of_ranks(
    folders: Mapping[int, Folder], where: str, count: int | None = None, step: str | None = None,
    broken: Mapping[str, str] = {},
) -> Members:  # fmt: skip
    """The files of one step, one of each rank.

    Args:
        folders: the folders of the ranks.
        where: the folder that holds them, for messages.
        count: how many ranks there should be; None if it is unknown. The files of further ranks are not needed.
        step: the step to take; None for the newest that all needed ranks have whole.
        broken: the paths of files that cannot be read, with the reason.

    Raises:
        MissingFile: a rank lacks the step, or no step is whole on all ranks; the message names the steps of each.
        ArgumentValueError: the ranks have several checkpoints, and `step` does not choose one of them.
        WrongFormat: a rank has several parts of one checkpoint.

    Cost: linear in the number of files.
    """
    table = _by_step(folders)
    needed = [rank for rank in sorted(folders) if folders[rank].checkpoints() and (count is None or rank < count)]
    needed = needed or [rank for rank in sorted(folders) if folders[rank].checkpoints()]
    if not needed:
        raise MissingFile(f"there is no checkpoint ({' or '.join(ENDINGS)}) in the folders of ranks in {where}")
    steps = _Steps(folders, table, needed, where, broken)
    key = steps.newest() if step is None else steps.asked(step)
    return steps.members(key, count)


class _Steps:
    """The steps of all ranks, and the choice of one."""

    def __init__(
        self, folders: Mapping[int, Folder], table: Mapping[RunStep, Mapping[int, str]], needed: list[int], where: str,
        broken: Mapping[str, str],
    ) -> None:  # fmt: skip
        self._folders = folders
        self._table = {key: files for key, files in table.items() if any(rank in files for rank in needed)}
        self._needed = needed
        self._where = where
        self._broken = broken

    def newest(self) -> RunStep:
        """The newest step that all needed ranks have whole; the only one there is, even if it is not whole."""
        whole = [
            key for key, files in self._table.items() if len(files) >= len(self._needed) and not self._lacking(key)
        ]
        if not whole:
            if len(self._table) == 1 and all(rank in files for files in self._table.values() for rank in self._needed):
                return next(iter(self._table))
            raise MissingFile(f"no step is whole on all ranks in {self._where}: {self._described()}; step= chooses one")
        stepped = [key for key in whole if key.step is not None] or whole
        latest = {key[:2]: key for key in sorted(stepped, key=lambda key: key.age)}
        if len(latest) > 1:
            names = [f"{key.stem}{key.ending}" for key in latest.values()]
            raise several(self._where, names, "step= takes such a name")
        return next(iter(latest.values()))

    def asked(self, step: str) -> RunStep:
        """The step that was asked for, which every needed rank must have."""
        known = {key: {key.stem, key.stem + key.ending, *files.values()} for key, files in self._table.items()}
        found = matching(step, known)
        if len(found) > 1:
            raise several(self._where, (key.stem for key in found), f"step={step!r} means all of these")
        if not found:
            raise MissingFile(f"no rank in {self._where} has the step {step!r}: {self._described()}")
        lacking = [rank for rank in self._needed if rank not in self._table[found[0]]]
        if lacking:
            raise MissingFile(f"step {step!r} is not on {_ranks(lacking)} in {self._where}: {self._described()}")
        return found[0]

    def members(self, key: RunStep, count: int | None) -> Members:
        """The files of a step."""
        files = self._table[key]
        notes = []
        newest = max((each for each in self._table if each[:2] == key[:2]), key=lambda each: each.age)
        if newest != key:
            lacking = self._lacking(newest)
            why = f" (not whole on {_ranks(lacking)})" if lacking else ""
            notes.append(f"not the newer {newest.step}{why}")
        absent = [] if count is None else [rank for rank in range(count) if rank not in files]
        if absent:
            notes.append(f"no file of {_ranks(absent)}")
        others = {each.run for each in self._table} - {key.run}
        if others:
            notes.append(f"not {names_of(sorted(others))}, of other checkpoints")
        amount = f"{len(files):,} ranks" if len(files) > 1 else "1 rank"
        what = f"{printable(key.stem)}{key.ending} of {amount} in {self._where}"
        ranks = tuple(sorted(files))
        paths = tuple(join(self._folders[rank].path, files[rank]) for rank in ranks)
        step = "" if key.step is None else str(key.step)
        return Members(RANKS, paths, "; ".join([what, *notes]), ranks, step, warns=newest != key or bool(absent))

    def _lacking(self, key: RunStep) -> list[int]:
        """The needed ranks that do not have a step whole."""
        return [rank for rank in self._needed if rank not in self._table[key] or self._is_broken(key, rank)]

    def _is_broken(self, key: RunStep, rank: int) -> bool:
        folder, name = self._folders[rank], self._table[key][rank]
        return folder.files[name] == 0 or join(folder.path, name) in self._broken

    def _described(self) -> str:
        """What each rank has; ranks that have the same are named together."""
        is_of_one_run = len({key[:2] for key in self._table}) == 1
        held: dict[int, list[str]] = {rank: [] for rank in self._needed}
        for key in sorted(self._table, key=lambda key: key.age):
            text = str(key.step) if is_of_one_run and key.step is not None else printable(key.stem + key.ending)
            for rank in self._table[key]:
                if rank in held:
                    held[rank].append(f"{text} (not whole)" if self._is_broken(key, rank) else text)
        groups: dict[tuple[str, ...], list[int]] = {}
        for rank, steps in held.items():
            groups.setdefault(tuple(steps), []).append(rank)
        texts = [f"{_ranks(ranks)}: {_newest(steps)}" for steps, ranks in groups.items()]
        more = [f"and {len(texts) - _SHOWN:,} other groups of ranks"] if len(texts) > _SHOWN else []
        return "; ".join(texts[:_SHOWN] + more)


def _by_step(folders: Mapping[int, Folder]) -> dict[RunStep, dict[int, str]]:
    """The file of each rank by run and step.

    A run has the name that most ranks share: the names as they are, or without the number of the rank.
    """
    variants = {
        rank: {name: rank_variants(run_step(name), rank) for name in folder.checkpoints()}
        for rank, folder in folders.items()
    }
    shared: Counter[tuple[str, str]] = Counter()
    for names in variants.values():
        shared.update({each[:2] for found in names.values() for each in found})
    table: dict[RunStep, dict[int, str]] = {}
    for rank, names in variants.items():
        _check_parts(folders[rank])
        for name, found in names.items():
            key = max(found, key=lambda each: shared[each[:2]])  # of equals the first: the name as it is
            if table.setdefault(key, {}).setdefault(rank, name) != name:
                raise several(folders[rank].path, (table[key][rank], name), "both are of one step: remove one")
    return table


def _check_parts(folder: Folder) -> None:
    """Refuse a rank whose checkpoint is in several files."""
    parts = [name for name in folder.checkpoints() if _PART.fullmatch(name)]
    numbered = [name for name in parts if not _PART_OF_STAGE.fullmatch(name)]
    if folder.listings() or numbered or len(parts) > 1:
        raise WrongFormat(
            f"the rank has several parts ({names_of([*folder.listings(), *parts])}): open its folder alone",
            file=folder.path,
        )


def _ranks(ranks: list[int]) -> str:
    """`rank 3`, or `ranks 1, 2 and 3`; at most five of them by number."""
    if len(ranks) == 1:
        return f"rank {ranks[0]}"
    more = [f"{len(ranks) - _SHOWN:,} more"] if len(ranks) > _SHOWN else []
    *most, last = [*map(str, ranks[:_SHOWN]), *more]
    return f"ranks {', '.join(most)} and {last}"


def _newest(held: tuple[str, ...]) -> str:
    """The last few of the steps of a rank, and the number of the older ones."""
    older = f"{len(held) - _SHOWN:,} older, " if len(held) > _SHOWN else ""
    return older + ", ".join(held[-_SHOWN:])
