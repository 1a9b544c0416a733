"""Which files of a folder are one checkpoint. Pure functions of names and sizes.

Every way to open a folder asks here (and, for the folders of ranks, `rank_members`), so that all of them take the same
files. The rules, of which the first that fits counts:

- A listing (`<name>.<format>.index.json`, `param_name_map.json`): the files that it names.
- Steps of one run (`net-1_10.ckpt`): the newest whole one.
- Numbers (`-00001-of-00002`): all of them.
- Other files are parts of one checkpoint.

Files that belong to several checkpoints are an error that lists these. Whether a file is whole is found out by opening
it: the caller adds a file that is not to `broken`, and asks again.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from lazyckpt.display import printable
from lazyckpt.errors import ArgumentValueError, CorruptFile, MissingFile, NothingLoaded, WrongFormat
from lazyckpt.formats import ENDINGS
from lazyckpt.sharding.steps import RunStep, matching, run_step
from lazyckpt.sources.paths import LISTING, NAME_MAP, is_listing, join

RANKS: Final = "ranks"  # kinds of members
STEP: Final = "step"
SET: Final = "set"
PARTS: Final = "parts"
_EMPTY: Final = "the file is empty (0 bytes): get or save it again"
_LISTINGS: Final = tuple(ending + LISTING for ending in ENDINGS)
_SHOWN: Final = 5  # names in one message
_NUMBERED: Final = re.compile(r"(.+)-([0-9]{1,18})-of-([0-9]{1,18})(\.\w+)", re.DOTALL)
_PROCESS_FILE: Final = re.compile(r"(.+)-([0-9]{7})-([0-9]{7})\.safetensors", re.DOTALL)
_ITERATION: Final = re.compile(r"iteration_[0-9]{8}")
_TRACKER: Final = "latest_checkpointed_iteration.txt"
_SPLIT_INFO: Final = re.compile(r"params_(?:split_)?info.*\.json", re.DOTALL)


class Folder(NamedTuple):
    """The names in a folder.

    Attributes:
        path: a path or URL.
        files: the size of each file in bytes; -1 if it is unknown.
        folders: the names of its folders.
    """

    path: str
    files: Mapping[str, int]
    folders: Collection[str] = ()

    def checkpoints(self) -> list[str]:
        """The names of its checkpoints, sorted; without hidden files."""
        return sorted(name for name in self.files if name.endswith(ENDINGS) and not name.startswith("."))

    def listings(self) -> list[str]:
        """The names of the listings of sets, sorted. Those of other formats (torch's) do not count."""
        return sorted(
            name for name in self.files if name == NAME_MAP or (name.endswith(_LISTINGS) and not name.startswith("."))
        )


@dataclass(frozen=True)
class Members:
    """The files of one checkpoint.

    Attributes:
        kind: `ranks`, `step` (one file of a run), `set` (by a listing or by numbers) or `parts`.
        files: their paths; empty for a set with a listing, which names them.
        what: one sentence about what was taken, and what was not.
        ranks: the ranks that the files are of, if they are of ranks.
        step: the step, as `1_10`; empty if there is none.
        listing: the path of the listing of a set.
        others: for a step, the files of other steps of its run, the nearest first.
        warns: whether the user should know it: something newer is passed over, or something needed is not there.
    """

    kind: str
    files: tuple[str, ...]
    what: str
    ranks: tuple[int, ...] = ()
    step: str = ""
    listing: str = ""
    others: tuple[str, ...] = ()
    warns: bool = False


def of_files(paths: Sequence[str]) -> Members:
    """The given files: a listing, or parts of one checkpoint.

    Raises:
        MissingFile: there are none.
    """
    if not paths:
        raise MissingFile("no file is given")
    if len(paths) == 1 and is_listing(paths[0]):
        return Members(SET, (), f"the files that {paths[0]} names", listing=paths[0])
    missing = missing_number(map(os.path.basename, paths))
    note = f"; not {printable(missing)}, which by its number is a part, too" if missing else ""
    return Members(PARTS, tuple(paths), f"{len(paths):,} given files{note}", warns=bool(missing))


def of_folder(folder: Folder, step: str | None = None, broken: Mapping[str, str] = {}) -> Members:
    """The files directly in a folder that are one checkpoint.

    Args:
        folder: the folder.
        step: the step to take; None for the newest one.
        broken: the paths of files that cannot be read, with the reason.

    Raises:
        MissingFile: there is no checkpoint, a part is missing, or there is no such step.
        ArgumentValueError: there are several checkpoints.
        NothingLoaded: a part is empty.
        CorruptFile: no step is whole, or there are too many parts.
        WrongFormat: the folder is of a kind that cannot be opened as one checkpoint.

    Cost: linear in the number of files.
    """
    _refuse_known_kinds(folder)
    names, listings = folder.checkpoints(), folder.listings()
    if len(listings) > 1:
        raise several(folder.path, listings, "give the one you want")
    if not listings and not names:
        raise MissingFile(f"there is no checkpoint ({' or '.join(ENDINGS)}) in {folder.path}")
    numbered = {name: match for name in names if (match := _NUMBERED.fullmatch(name)) is not None}
    found = {name: run_step(name) for name in names}
    if not listings and not numbered and any(each.step is not None for each in found.values()):
        return _of_run(folder, found, step, broken)
    if step is not None:
        raise ArgumentValueError(f"step={step!r}: {folder.path} has no files of steps")
    if listings:
        listing = join(folder.path, listings[0])
        return Members(SET, (), f"the files that {printable(listings[0])} names", listing=listing)
    if numbered:
        return _numbered_set(folder, names, numbered)
    empty = [name for name in names if folder.files[name] == 0]
    if empty and len(names) > 1:
        raise NothingLoaded(_EMPTY, file=join(folder.path, empty[0]))
    what = "1 file" if len(names) == 1 else f"all {len(names):,} files, as parts of one checkpoint"
    return Members(PARTS, tuple(join(folder.path, name) for name in names), f"{what} of {folder.path}")


def of_listing(folder: Folder, found: Members, parts: Collection[str]) -> Members:
    """The members of a set, after its listing was read.

    Args:
        folder: where the listing is.
        found: what `of_folder` returned.
        parts: the names of the files that the listing names.
    """
    beside = [name for name in folder.checkpoints() if name not in parts]
    left = f"; not {names_of(beside)}, which it does not name" if beside else ""
    what = f"the {len(parts):,} files that {found.listing} names{left}"
    return Members(SET, (), what, listing=found.listing, warns=bool(beside))


def missing_number(names: Iterable[str]) -> str:
    """The first missing file of sets with numbers, such as `model-00002-of-00002.ckpt`; empty if all are there."""
    groups: dict[tuple[str, str, str], dict[int, int]] = {}
    for name in names:
        match = _NUMBERED.fullmatch(name)
        if match is not None:
            groups.setdefault((match[1], match[3], match[4]), {})[int(match[2])] = len(match[2])
    for (prefix, total, ending), numbers in groups.items():
        first = 0 if 0 in numbers else 1
        width = max(numbers.values())
        for number in range(first, first + int(total)):  # stops at the first gap
            if number not in numbers:
                return f"{prefix}-{number:0{width}}-of-{total}{ending}"
    return ""


def several(where: str, names: Iterable[str], advice: str) -> ArgumentValueError:
    """The error for a folder that holds more than one checkpoint."""
    return ArgumentValueError(
        f"{where} holds several checkpoints, which do not belong together: {names_of(names)}; {advice}"
    )


def names_of(names: Iterable[str]) -> str:
    """A few names, and the number of the others."""
    names = list(names)
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(map(printable, names[:_SHOWN])) + more


def _of_run(folder: Folder, found: Mapping[str, RunStep], step: str | None, broken: Mapping[str, str]) -> Members:
    """The file of one step of a run."""
    files: dict[RunStep, str] = {}
    for name, each in found.items():
        if files.setdefault(each, name) != name:
            raise several(folder.path, (files[each], name), "both are of one step: give the file")
    if step is None:
        chosen = _newest(folder, files, broken)
    else:
        meant = matching(step, {each: (name,) for each, name in files.items()})
        if len(meant) > 1:
            raise several(folder.path, (files[each] for each in meant), f"step={step!r} means all of these")
        if not meant:
            raise MissingFile(f"{folder.path} has no step {step!r}; it has {names_of(newest_first(files, files))}")
        chosen = meant[0]
    run = [each for each in sorted(files, key=lambda each: each.age) if each[:2] == chosen[:2]]
    newer = [each for each in run if each.age > chosen.age] if step is None else []
    notes = [f"not {names_of(files[each] for each in reversed(newer))}, newer but not whole"] if newer else []
    left = [name for each, name in files.items() if each[:2] != chosen[:2]]
    notes += [f"not {names_of(left)}, of other checkpoints"] if left else []
    position = run.index(chosen)
    others = tuple(join(folder.path, files[each]) for each in [*reversed(run[:position]), *run[position + 1 :]])
    which = "" if step is not None or len(run) == 1 else f", the newest of {len(run):,} steps that is whole,"
    what = f"{printable(files[chosen])}{which} of {folder.path}"
    return Members(
        STEP, (join(folder.path, files[chosen]),), "; ".join([what, *notes]),
        step=str(chosen.step or ""), others=others, warns=bool(newer),
    )  # fmt: skip


def _newest(folder: Folder, files: Mapping[RunStep, str], broken: Mapping[str, str]) -> RunStep:
    """The newest whole step of the only run in a folder."""
    if len(files) == 1:  # its fault is raised when it is opened
        return next(iter(files))
    runs = {each[:2] for each in files}
    if len(runs) > 1:
        latest = {each[:2]: files[each] for each in sorted(files, key=lambda each: each.age)}
        raise several(folder.path, latest.values(), "give a file, or choose one with step=")
    faults = {each: _fault(folder, name, broken) for each, name in files.items()}
    whole = [each for each, fault in faults.items() if not fault]
    if not whole:
        newest = max(files, key=lambda each: each.age)
        raise CorruptFile(f"no step in {folder.path} is whole; {printable(files[newest])}: {printable(faults[newest])}")
    return max(whole, key=lambda each: each.age)


def _fault(folder: Folder, name: str, broken: Mapping[str, str]) -> str:
    """Why a file is not whole, or an empty string."""
    return _EMPTY if folder.files[name] == 0 else broken.get(join(folder.path, name), "")


def newest_first(files: Mapping[RunStep, str], steps: Iterable[RunStep]) -> list[str]:
    """The names of the files of some steps, the newest first."""
    return [files[each] for each in sorted(steps, key=lambda each: each.age, reverse=True)]


def _numbered_set(folder: Folder, names: list[str], numbered: Mapping[str, re.Match[str]]) -> Members:
    """All the files of a set whose names are numbered."""
    sets = {(match[1], match[3], match[4]) for match in numbered.values()}
    others = [name for name in names if name not in numbered]
    if len(sets) > 1 or others:
        patterns = [f"{prefix}-…-of-{total}{ending}" for prefix, total, ending in sorted(sets)]
        raise several(folder.path, [*patterns, *others], "give the paths of the parts of one")
    missing = missing_number(names)
    if missing:
        raise MissingFile(f"{folder.path}: its part {printable(missing)} does not exist: get it, too")
    prefix, total, ending = next(iter(sets))
    shown = f"{printable(prefix)}-…-of-{total}{ending}"
    if len(names) != int(total):
        raise CorruptFile(f"{len(names):,} files are numbered {shown}: remove those of another set", file=folder.path)
    for name in names:
        if folder.files[name] == 0:
            raise NothingLoaded(_EMPTY, file=join(folder.path, name))
    what = f"the {len(names):,} files {shown} of {folder.path}"
    return Members(SET, tuple(join(folder.path, name) for name in names), what)


def _refuse_known_kinds(folder: Folder) -> None:
    """Refuse folders that cannot be opened as one checkpoint, by what they are."""
    slices = sorted({match[1] for name in folder.files if (match := _PROCESS_FILE.fullmatch(name))})
    if slices:
        raise WrongFormat(
            f"it is MindFormers' checkpoint 2.0 ({names_of(f'{name}-<process>-<processes>' for name in slices)}): its"
            " files hold the slices of its processes, which cannot be put together yet; each file can be opened alone",
            file=folder.path,
        )
    iterations = sorted(name for name in folder.folders if _ITERATION.fullmatch(name))
    if iterations or _TRACKER in folder.files:
        raise WrongFormat(
            f"it is a run of MindFormers' checkpoint 2.0 ({names_of(reversed(iterations)) or _TRACKER}), which cannot"
            " be opened as one checkpoint yet",
            file=folder.path,
        )
    split = sorted(name for name in folder.files if _SPLIT_INFO.fullmatch(name))
    if split:
        raise WrongFormat(
            f"it holds the parts of a ZeRO optimizer ({names_of(split)}): each file has the slices of one process,"
            " which cannot be put together yet; each file can be opened alone",
            file=folder.path,
        )
