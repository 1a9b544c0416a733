"""Strategy files (protobuf or JSON): the layout of each parameter of a distributed run.

Only layouts matter here (see `formats/proto/strategy.proto`), and the pipeline stage of the file: that of its first
operator, or, in a file merged of several, the number before each name (`0-embed.w`). A file counts as merged only if
every name has such a number.

A strategy file is not trusted. Its numbers are checked against the limits of real runs before anything is computed
from them.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from lazyckpt.errors import CorruptFile, FileFault, MissingFile, WrongFormat
from lazyckpt.sharding.rank_folders import content_of
from lazyckpt.sources.paths import exists, is_folder, join, names_in

if TYPE_CHECKING:
    from lazyckpt.formats.proto.strategy_pb2 import ParallelLayouts

MOST_RANKS: Final = 2**16  # of one pipeline stage, and so of parts of one axis
MOST_STAGES: Final = 2**16
MOST_AXES: Final = 32  # of a device matrix, of a tensor, and of device axes that cut one axis of a tensor
_NAMED: Final = 5  # stages in one message
_MERGED_NAME: Final = re.compile(r"([0-9]{1,9})-(.*)", re.DOTALL)
# A strategy's first field is one of these three: any other file is not one.
_FIRST_KEYS: Final = (0x08, 0x12, 0x1A)


class Layout(NamedTuple):
    """The layout of one parameter over the devices.

    Attributes:
        devices: the device matrix.
        maps: for each axis of the tensor the device axes that cut it, counted from the right; -1 for none.
        optimizer: whether the first axis is cut once more among ranks that would hold the same slice.
        optimizer_size: number of these parts; -1 for one per such rank.
        rows: rows of each part of an uneven cut of the first axis; empty for an even one.
        starts: the first row of each of these parts.
        field: of an interleaved cut, whose parts are not boxes; 0 for none.
    """

    devices: tuple[int, ...]
    maps: tuple[tuple[int, ...], ...]
    optimizer: bool = False
    optimizer_size: int = 0
    rows: tuple[int, ...] = ()
    starts: tuple[int, ...] = ()
    field: int = 0


Strategy = Mapping[int, Mapping[str, Layout]]  # pipeline stage -> parameter -> layout


def read_strategy(paths: Iterable[str]) -> Strategy:
    """The layouts of all stages, from one or several files; the first of each stage is used.

    Raises:
        MissingFile, UnreadableFile: a file does not exist, or cannot be read.
        WrongFormat: a file is something else.
        CorruptFile: a file is damaged or holds impossible numbers, or the files of some stages are missing.
    """
    strategy: dict[int, dict[str, Layout]] = {}
    for path in paths:
        for stage, layouts in _read(path).items():
            strategy.setdefault(stage, layouts)
    if sorted(strategy) != list(range(len(strategy))):
        stages = sorted(strategy)
        more = f" and {len(stages) - _NAMED:,} more" if len(stages) > _NAMED else ""
        raise CorruptFile(
            f"the strategy is of the pipeline stages {stages[:_NAMED]}{more}: give the files of all stages from 0 on"
        )
    return strategy


def strategy_files(path: str) -> list[str]:
    """The strategy files that a path names: the file, or those of a folder, sorted.

    Raises:
        MissingFile: there are none.
    """
    if not is_folder(path):
        if not exists(path):
            raise MissingFile(f"there is no strategy file {path}")
        return [path]
    found = sorted(name for name in names_in(path) if name.endswith((".ckpt", ".json")))
    if not found:
        raise MissingFile(f"there is no strategy file (*.ckpt or *.json) in the folder {path}")
    return [join(path, name) for name in found]


def _read(path: str) -> dict[int, dict[str, Layout]]:
    data = content_of(path, "strategy file")
    try:
        stage, layouts = _from_json(data) if path.endswith(".json") else _from_protobuf(memoryview(data))
        if not layouts:
            raise WrongFormat("it has no layout of any parameter: is it a checkpoint?")
        return _by_stage(stage, layouts)
    except WrongFormat as error:
        raise WrongFormat(f"this is not a strategy file: {error.what}", file=path) from error
    except FileFault as error:
        fault = type(error)
        what = f"the strategy file is damaged: {error.what}"
        raise fault(what, offset=error.offset, parameter=error.parameter, file=path) from error


def _by_stage(stage: int, layouts: dict[str, Layout]) -> dict[int, dict[str, Layout]]:
    matches = {name: _MERGED_NAME.fullmatch(name) for name in layouts}
    if not all(matches.values()):
        return {_checked_stage(stage): layouts}
    merged: dict[int, dict[str, Layout]] = {}
    for name, match in matches.items():
        if match is not None:
            merged.setdefault(_checked_stage(int(match[1])), {})[match[2]] = layouts[name]
    return merged


def _checked_stage(stage: int) -> int:
    if not 0 <= stage < MOST_STAGES:
        raise CorruptFile(f"{stage:,} is not a pipeline stage")
    return stage


def _from_protobuf(data: memoryview) -> tuple[int, dict[str, Layout]]:
    from lazyckpt.formats.proto.reading import strategy_pieces  # protobuf is imported only where a strategy is read

    if len(data) and data[0] not in _FIRST_KEYS:
        raise WrongFormat(f"its first byte is {data[0]:#04x}")
    stage: int | None = None
    layouts: dict[str, Layout] = {}
    shared: dict[Layout, Layout] = {}
    for piece in strategy_pieces(data):
        if stage is None and piece.parallel_strategy_item:
            stage = piece.parallel_strategy_item[0].parallel_strategys.stage
        for item in piece.parallel_layout_item:
            name = item.param_name
            if not name:
                raise CorruptFile("a layout has no name of a parameter")
            layout = _checked(name, _from_message(item.parallel_layouts))
            layouts[name] = shared.setdefault(layout, layout)
    return stage or 0, layouts


def _from_message(message: ParallelLayouts) -> Layout:
    devices, split, offsets = (
        tuple(lists[0].dim) if lists else ()
        for lists in (message.dev_matrix, message.param_split_shape, message.indices_offset)
    )
    maps = [tuple(axes.dim) for axes in message.tensor_map]
    step, size = message.opt_weight_shard_step, message.opt_weight_shard_size
    return _made(devices, maps, step, size, split, offsets, message.field)


def _from_json(data: bytes) -> tuple[int, dict[str, Layout]]:
    try:
        content: Any = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise WrongFormat(f"it cannot be read as JSON: {type(error).__name__}: {error}") from None
    items = content.get("parallel_layout_item") if isinstance(content, dict) else None
    if not isinstance(items, dict):
        raise WrongFormat("it has no parallel_layout_item")
    operators = _object(content, "parallel_strategy_item")
    first = next(iter(operators), None)
    stage = 0 if first is None else _number(_object(operators, first), "stage")
    shared: dict[Layout, Layout] = {}
    layouts = {}
    for name in items:
        try:
            layout = _checked(name, _from_json_layout(_object(items, name)))
        except CorruptFile as error:
            raise CorruptFile(error.what, parameter=name) from None
        layouts[name] = shared.setdefault(layout, layout)
    return stage, layouts


def _from_json_layout(facts: Mapping[str, Any]) -> Layout:
    maps = facts.get("tensor_map")
    if not isinstance(maps, list):
        raise CorruptFile("it has no list tensor_map")
    nested = any(isinstance(axes, list) for axes in maps)
    return _made(
        _numbers(facts.get("dev_matrix", []), "dev_matrix"),
        [_numbers(axes, "tensor_map") for axes in maps] if nested else [_numbers(maps, "tensor_map")],
        _number(facts, "opt_weight_shard_step"),
        _number(facts, "opt_weight_shard_size"),
        _numbers(facts.get("param_split_shape", []), "param_split_shape"),
        _numbers(facts.get("indices_offset", []), "indices_offset"),
        _number(facts, "field"),
    )


def _object(facts: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = facts.get(key)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise CorruptFile(f"{key[:100]!r} is of type {type(found).__name__}, not an object")
    return found


def _number(facts: Mapping[str, Any], key: str) -> int:
    return _numbers([facts.get(key, 0)], key)[0]


def _numbers(values: Any, key: str) -> tuple[int, ...]:
    """A JSON list of integers; bools, which are integers in Python, are refused."""
    if not isinstance(values, list):
        raise CorruptFile(f"{key} is of type {type(values).__name__}, not a list")
    if any(type(value) is not int or not -(2**63) <= value < 2**63 for value in values):
        raise CorruptFile(f"{key} is not of integers of 64 bits")
    return tuple(values)


def _made(
    devices: tuple[int, ...], maps: list[tuple[int, ...]], step: int, size: int, split: tuple[int, ...],
    offsets: tuple[int, ...], field: int,
) -> Layout:  # fmt: skip
    # One list is one device axis for each axis of the tensor. Several are one list for each axis; MindSpore writes an
    # empty one in addition for a tensor of one axis, so that the two forms differ.
    axes = [(axis,) for axis in maps[0]] if len(maps) == 1 else [axes for axes in maps if axes]
    uneven = bool(split) and len(split) == len(offsets)  # MindFormers writes the full shape as the split
    return Layout(
        devices, tuple(axes), bool(step and size), size, split if uneven else (), offsets if uneven else (), field
    )


def _checked(name: str, layout: Layout) -> Layout:
    """The layout, if its numbers are within limits. `partition_of` checks them against each other."""
    devices = layout.devices
    if len(devices) > MOST_AXES:
        raise CorruptFile(f"its device matrix is of {len(devices):,} axes", parameter=name)
    ranks = math.prod(devices)
    if ranks > MOST_RANKS:
        count = f"{ranks:,}" if ranks < 2**63 else f"more than {2**63:,}"
        raise CorruptFile(f"its device matrix is of {count} ranks", parameter=name)
    if len(layout.maps) > MOST_AXES or any(len(axes) > MOST_AXES for axes in layout.maps):
        raise CorruptFile(f"its tensor map has more than {MOST_AXES} axes", parameter=name)
    if len(layout.rows) > MOST_RANKS:
        raise CorruptFile(f"it is cut into {len(layout.rows):,} uneven parts", parameter=name)
    return layout
