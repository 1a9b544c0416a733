"""Strategy files: how each parameter of a distributed training run is cut, in protobuf or in JSON.

    ParallelStrategyMap: 1 current_stage | 2 ParallelStrategyItem* | 3 ParallelLayoutItem*
    ParallelStrategyItem: 1 node_name | 2 ParallelStrategys (1 stage)
    ParallelLayoutItem: 1 param_name | 2 ParallelLayouts
    ParallelLayouts: 1 dev_matrix | 2 tensor_map* | 3 param_split_shape | 4 indices_offset | 5 field | 6 step | 7 size
    (each of the first four is a message of numbers, `1 dim*`)

Only layouts matter here, and the pipeline stage that a file is of: that of its first operator, or, in a file merged of
several, the number before each name (`0-embed.w`). A file counts as merged only if every name has such a number.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from lazyckpt.errors import CorruptFile, LazyCkptError, MissingFile, WrongFormat
from lazyckpt.formats.protobuf_wire import VARINT, fields, read_varint, signed
from lazyckpt.sources.paths import exists, is_folder, join, names_in, read

LARGEST_FILE: Final = 2**30
_MERGED_NAME: Final = re.compile(r"(\d+)-(.*)", re.DOTALL)
_STAGE, _ITEM, _LAYOUT = 0x08, 0x12, 0x1A
_DEV, _MAP, _SPLIT, _OFFSETS = 0x0A, 0x12, 0x1A, 0x22
_FIELD, _STEP, _SIZE = 0x28, 0x30, 0x38
_DIM, _PACKED = 0x08, 0x0A


class Layout(NamedTuple):
    """How one parameter is cut.

    Attributes:
        devices: the device matrix.
        maps: for each axis of the tensor the device axes that cut it, counted from the right; -1 for none.
        optimizer: whether the first axis is cut once more among ranks that would hold the same slice.
        optimizer_size: into how many parts; -1 for as many as there are such ranks.
        rows: rows of each part of an uneven cut of the first axis; empty for an even one.
        starts: where these parts begin.
        field: of an interleaved cut, which no box describes; 0 for none.
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
    """The layouts of all stages, from a merged file or from one file a rank or a stage. Of each stage the first counts.

    Raises:
        MissingFile, UnreadableFile: a file is not there, or cannot be read.
        CorruptFile, WrongFormat: it is no strategy file.
    """
    strategy: dict[int, dict[str, Layout]] = {}
    for path in paths:
        for stage, layouts in _read(path).items():
            strategy.setdefault(stage, layouts)
    if sorted(strategy) != list(range(len(strategy))):
        raise CorruptFile(
            f"the strategy is of the pipeline stages {sorted(strategy)}: give the files of all stages from 0 on"
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
    data = read(path, LARGEST_FILE + 1, "the strategy file")
    if len(data) > LARGEST_FILE:
        raise WrongFormat("it is too large for a strategy file", file=path)
    try:
        stage, layouts = _from_json(data) if path.endswith(".json") else _from_protobuf(memoryview(data))
    except LazyCkptError as error:
        raise WrongFormat(f"this is no strategy file: {error}", file=path) from error
    if not layouts:
        raise WrongFormat("no parameter's layout is in it: is this a strategy file, or a checkpoint?", file=path)
    return _by_stage(stage, layouts)


def _by_stage(stage: int, layouts: dict[str, Layout]) -> dict[int, dict[str, Layout]]:
    matches = {name: _MERGED_NAME.fullmatch(name) for name in layouts}
    if not all(matches.values()):
        return {stage: layouts}
    merged: dict[int, dict[str, Layout]] = {}
    for name, match in matches.items():
        if match is not None:
            merged.setdefault(int(match[1]), {})[match[2]] = layouts[name]
    return merged


def _from_protobuf(data: memoryview) -> tuple[int, dict[str, Layout]]:
    stage: int | None = None
    layouts: dict[str, Layout] = {}
    for field in fields(data, 0, len(data)):
        if field.key == _ITEM and stage is None:
            stage = _stage_of(data, field.begin, field.end)
        elif field.key == _LAYOUT:
            name, layout = _layout_item(data, field.begin, field.end)
            layouts[name] = layout
    return stage or 0, layouts


def _stage_of(data: memoryview, begin: int, end: int) -> int:
    for field in fields(data, begin, end):
        if field.key == _ITEM:
            return next((one.value for one in fields(data, field.begin, field.end) if one.key == _STAGE), 0)
    return 0


def _layout_item(data: memoryview, begin: int, end: int) -> tuple[str, Layout]:
    name, layout = "", Layout((), ())
    for field in fields(data, begin, end):
        if field.key == _DEV:
            try:
                name = str(data[field.begin : field.end], "utf-8")
            except UnicodeDecodeError:
                raise CorruptFile("a name is not UTF-8", offset=field.begin) from None
        elif field.key == _ITEM:
            layout = _layout(data, field.begin, field.end)
    return name, layout


def _layout(data: memoryview, begin: int, end: int) -> Layout:
    lists: dict[int, list[tuple[int, ...]]] = {}
    numbers: dict[int, int] = {}
    for field in fields(data, begin, end):
        if field.key in (_DEV, _MAP, _SPLIT, _OFFSETS):
            lists.setdefault(field.key, []).append(tuple(_dims(data, field.begin, field.end)))
        elif field.key & 7 == VARINT:
            numbers[field.key] = signed(field.value)
    devices, split, offsets = (next(iter(lists.get(key, [])), ()) for key in (_DEV, _SPLIT, _OFFSETS))
    maps = lists.get(_MAP, [])
    return _made(devices, maps, numbers.get(_STEP, 0), numbers.get(_SIZE, 0), split, offsets, numbers.get(_FIELD, 0))


def _dims(data: memoryview, begin: int, end: int) -> Iterator[int]:
    for field in fields(data, begin, end):
        if field.key == _DIM:
            yield signed(field.value)
        elif field.key == _PACKED:
            position = field.begin
            while position < field.end:
                value, position = read_varint(data, position, field.end)
                yield signed(value)


def _from_json(data: bytes) -> tuple[int, dict[str, Layout]]:
    try:
        told: Any = json.loads(data)
        items = told.get("parallel_strategy_item") or {}
        stage = next((item.get("stage", 0) for item in items.values()), 0)
        layouts = {name: _from_json_layout(facts) for name, facts in told["parallel_layout_item"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CorruptFile(f"{type(error).__name__}: {error}") from None
    return int(stage), layouts


def _from_json_layout(facts: Mapping[str, Any]) -> Layout:
    numbers = {key: int(facts.get(key, 0)) for key in ("opt_weight_shard_step", "opt_weight_shard_size", "field")}
    lists = {key: tuple(map(int, facts.get(key, ()))) for key in ("dev_matrix", "param_split_shape", "indices_offset")}
    told = facts["tensor_map"]
    nested = any(isinstance(axes, list) for axes in told)
    maps = [tuple(map(int, axes)) for axes in told] if nested else [tuple(map(int, told))]
    return _made(
        lists["dev_matrix"], maps, numbers["opt_weight_shard_step"], numbers["opt_weight_shard_size"],
        lists["param_split_shape"], lists["indices_offset"], numbers["field"],
    )  # fmt: skip


def _made(
    devices: tuple[int, ...], maps: list[tuple[int, ...]], step: int, size: int, split: tuple[int, ...],
    offsets: tuple[int, ...], field: int,
) -> Layout:  # fmt: skip
    # One list is one device axis for each axis of the tensor. Several are one list for each axis; a tensor of one axis
    # has an empty one besides, to tell.
    axes = [(axis,) for axis in maps[0]] if len(maps) == 1 else [axes for axes in maps if axes]
    uneven = bool(split) and len(split) == len(offsets)  # others write the whole shape there
    return Layout(
        devices, tuple(axes), bool(step and size), size, split if uneven else (), offsets if uneven else (), field
    )
