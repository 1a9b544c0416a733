"""Strategy files, protobuf and JSON, merged or not, give layouts; other files are refused."""

from __future__ import annotations

import json
import tracemalloc

import pytest
from checkpoints import chunk, number
from hypothesis import given
from hypothesis import strategies as st
from mindspore_results import GOLDEN

from lazyckpt.errors import CorruptFile, LazyCkptError, MissingFile, UnreadableFile, WrongFormat
from lazyckpt.sharding.strategy import Layout, read_strategy, strategy_files

SETS = GOLDEN / "sharded"


def numbers(values, packed=False):
    """A message of numbers."""
    if packed:
        return chunk(1, b"".join(number(1, value)[1:] for value in values))
    return b"".join(number(1, value) for value in values)


def layout(devices, *maps, split=(), offsets=(), field=0, step=0, size=0, packed=False):
    """A ParallelLayouts message."""
    parts = [chunk(1, numbers(devices, packed)), *(chunk(2, numbers(axes, packed)) for axes in maps)]
    parts += [chunk(3, numbers(split)), chunk(4, numbers(offsets)), number(5, field), number(6, step), number(7, size)]
    return b"".join(parts)


def strategy_file(path, layouts, stage=None):
    """Write a protobuf strategy file."""
    items = b"" if stage is None else chunk(2, chunk(1, b"op") + chunk(2, number(1, stage)))
    items += b"".join(chunk(3, chunk(1, name.encode()) + chunk(2, body)) for name, body in layouts.items())
    path.write_bytes(number(1, 2) + items)
    return str(path)


def read(*paths):
    """The layouts of these files."""
    return {stage: dict(layouts) for stage, layouts in read_strategy(map(str, paths)).items()}


@pytest.mark.parametrize("packed", [False, True])
def test_layouts_are_read(packed, tmp_path):
    """Device matrix, maps (one list, or one for each axis), optimizer shards, uneven parts, fields."""
    path = strategy_file(
        tmp_path / "s.ckpt",
        {
            "w": layout([2, 4], [0, -1], packed=packed),
            "nested": layout([2, 2, 2], [2, 0], [1], packed=packed),
            "one": layout([2, 2], [1, 0], [], packed=packed),
            "scalar": layout([8], [], packed=packed),
            "moments": layout([8], [-1], step=1, size=-1),
            "table": layout([2], [0, -1], split=[3, 5], offsets=[0, 3]),
            "theirs": layout([2], [0, -1], split=[8, 4]),
            "field": layout([2], [0], field=3),
        },
    )

    assert read(path) == {
        0: {
            "w": Layout((2, 4), ((0,), (-1,))),
            "nested": Layout((2, 2, 2), ((2, 0), (1,))),
            "one": Layout((2, 2), ((1, 0),)),
            "scalar": Layout((8,), ()),
            "moments": Layout((8,), ((-1,),), True, -1),
            "table": Layout((2,), ((0,), (-1,)), rows=(3, 5), starts=(0, 3)),
            "theirs": Layout((2,), ((0,), (-1,))),
            "field": Layout((2,), ((0,),), field=3),
        }
    }


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("mixed_2x4/strategy.ckpt", "mixed_2x4/strategy.json"),
        ("pipe2x2/merged.ckpt", "pipe2x2/merged.json"),
        ("pipe2x2/merged.ckpt", "pipe2x2/strategy_ckpt"),
        ("pipe2x2/merged.ckpt", "pipe2x2/strategy_json"),
        ("manual_split/strategy.ckpt", "manual_split/strategy.json"),
    ],
)
def test_all_forms_of_a_strategy_give_the_same_layouts(one, other):
    """Protobuf and JSON agree, merged from all stages or in one file for each rank."""
    assert read(*strategy_files(str(SETS / one))) == read(*strategy_files(str(SETS / other)))


def test_a_name_with_a_number_is_a_stage_only_if_all_have_one(tmp_path):
    """`1-w` among names without numbers is an ordinary name."""
    merged = strategy_file(tmp_path / "a.ckpt", {"0-w": layout([2], [0]), "1-head-2.w": layout([2], [-1])})
    plain = strategy_file(tmp_path / "b.ckpt", {"1-w": layout([2], [0]), "head-1.w": layout([2], [-1])})

    assert {stage: list(names) for stage, names in read(merged).items()} == {0: ["w"], 1: ["head-2.w"]}
    assert {stage: list(names) for stage, names in read(plain).items()} == {0: ["1-w", "head-1.w"]}


def test_files_of_stages_are_put_together(tmp_path):
    """The first file of each stage counts."""
    paths = [
        strategy_file(tmp_path / "a.ckpt", {"x": layout([2], [0])}, stage=0),
        strategy_file(tmp_path / "b.ckpt", {"y": layout([2], [0])}, stage=1),
        strategy_file(tmp_path / "c.ckpt", {"z": layout([2], [0])}, stage=1),
    ]

    assert {stage: list(names) for stage, names in read(*paths).items()} == {0: ["x"], 1: ["y"]}


def test_a_stage_that_is_missing_is_reported(tmp_path):
    """A file of the second stage alone is refused."""
    with pytest.raises(CorruptFile, match=r"stages \[1\].*all stages"):
        read(strategy_file(tmp_path / "b.ckpt", {"y": layout([2], [0])}, stage=1))


@pytest.mark.parametrize("data", [b"", b"\x08\x02", b"text that is none", b"\x0a\x05abc", b"\xff" * 30])
def test_other_files_are_refused(data, tmp_path):
    """The error names the file and says that it is not a strategy file."""
    path = tmp_path / "s.ckpt"
    path.write_bytes(data)

    with pytest.raises(WrongFormat, match=r"s\.ckpt: .*strategy file"):
        read(path)


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "7", "{}", '{"parallel_layout_item": []}', '{"parallel_layout_item": {}}', "[" * 100_000,
    ],
)  # fmt: skip
def test_other_json_is_refused(text, tmp_path):
    """JSON of any other content is refused."""
    path = tmp_path / "s.json"
    path.write_text(text)

    with pytest.raises(WrongFormat, match=r"s\.json"):
        read(path)


def strategy_json(path, facts, **others):
    """Write a JSON strategy of one parameter."""
    path.write_text(json.dumps({"parallel_layout_item": {"w": facts}, **others}))
    return str(path)


SOUND = {"dev_matrix": [2], "tensor_map": [0]}
OPERATOR = "parallel_strategy_item"


@pytest.mark.parametrize(
    ("facts", "what"),
    [
        (1, "not an object"),
        ({"dev_matrix": [2]}, "no list tensor_map"),
        ({**SOUND, "tensor_map": "01"}, "no list tensor_map"),
        ({**SOUND, "tensor_map": ["x"]}, "tensor_map is not of integers"),
        ({**SOUND, "tensor_map": [[0], 1]}, "tensor_map is of type int"),
        ({**SOUND, "tensor_map": [[[0]]]}, "tensor_map is not of integers"),
        ({**SOUND, "dev_matrix": 3}, "dev_matrix is of type int"),
        ({**SOUND, "dev_matrix": {"2": 1}}, "dev_matrix is of type dict"),
        ({**SOUND, "dev_matrix": [2.0]}, "dev_matrix is not of integers"),
        ({**SOUND, "dev_matrix": [True]}, "dev_matrix is not of integers"),
        ({**SOUND, "dev_matrix": [None]}, "dev_matrix is not of integers"),
        ({**SOUND, "dev_matrix": [2**63]}, "dev_matrix is not of integers of 64 bits"),
        ({**SOUND, "field": float("inf")}, "field is not of integers"),
        ({**SOUND, "field": "1"}, "field is not of integers"),
        ({**SOUND, "opt_weight_shard_step": []}, "opt_weight_shard_step is not of integers"),
        ({**SOUND, "param_split_shape": None}, "param_split_shape is of type NoneType"),
        ({**SOUND, "indices_offset": [float("nan")]}, "indices_offset is not of integers"),
        ({**SOUND, "dev_matrix": [2**9, 2**9]}, "262,144 ranks"),
    ],
)
def test_what_json_has_in_place_of_numbers_is_refused(facts, what, tmp_path):
    """The error names the parameter with the invalid layout."""
    with pytest.raises(CorruptFile, match=rf"s\.json: .*{what}.*in parameter 'w'"):
        read(strategy_json(tmp_path / "s.json", facts))


@pytest.mark.parametrize(
    ("operators", "what"),
    [
        ([], "not an object"),
        ({"op": 3}, "not an object"),
        ({"op": {"stage": []}}, "stage is not of integers"),
        ({"op": {"stage": "0"}}, "stage is not of integers"),
        ({"op": {"stage": float("inf")}}, "stage is not of integers"),
        ({"op": {"stage": -1}}, "-1 is not a pipeline stage"),
        ({"op": {"stage": 2**40}}, "1,099,511,627,776 is not a pipeline stage"),
    ],
)
def test_stages_of_json_are_numbers(operators, what, tmp_path):
    """Stages in JSON are small numbers that count from 0."""
    with pytest.raises(CorruptFile, match=rf"s\.json: .*{what}"):
        read(strategy_json(tmp_path / "s.json", SOUND, **{OPERATOR: operators}))


@pytest.mark.parametrize("digits", [10, 5000])
def test_a_number_before_a_name_is_a_stage_only_if_it_can_be_one(digits, tmp_path):
    """A number with more digits than any stage is part of the name."""
    name = "1" * digits + "-w"

    assert read(strategy_file(tmp_path / "s.ckpt", {name: layout([2], [0])})) == {0: {name: Layout((2,), ((0,),))}}


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (layout([2**20], [0]), "device matrix is of 1,048,576 ranks"),
        (layout([2**8] * 4, [0]), "device matrix is of 4,294,967,296 ranks"),
        (layout([1] * 33, [0]), "device matrix is of 33 axes"),
        (layout([2], [-1] * 33), "more than 32 axes"),
        (layout([2], [-1] * 33, [-1]), "more than 32 axes"),
        (layout([2], *[[-1]] * 33), "more than 32 axes"),
        (layout([2], [0], split=[0] * 100_000, offsets=[0] * 100_000), "100,000 uneven parts"),
    ],
)
def test_numbers_that_no_run_has_are_refused(body, what, tmp_path):
    """The error names the file and the parameter, before any computation with the numbers."""
    with pytest.raises(CorruptFile, match=rf"s\.ckpt: .*{what} \(in parameter 'w'\)"):
        read(strategy_file(tmp_path / "s.ckpt", {"w": body}))


@pytest.mark.parametrize("data", [chunk(3, b""), chunk(3, chunk(1, b"")), chunk(3, chunk(2, layout([2], [0])))])
def test_a_layout_without_a_name_is_refused(data, tmp_path):
    """A layout without a name belongs to no parameter."""
    (tmp_path / "s.ckpt").write_bytes(data)

    with pytest.raises(CorruptFile, match="no name of a parameter"):
        read(tmp_path / "s.ckpt")


@pytest.mark.parametrize("cut", [1, 5, 100])
def test_a_strategy_that_is_cut_short_is_damaged(cut, tmp_path):
    """A truncated strategy file is reported as a strategy without its end."""
    path = tmp_path / "s.ckpt"
    path.write_bytes(max(SETS.rglob("strategy*.ckpt"), key=lambda file: file.stat().st_size).read_bytes()[:-cut])

    with pytest.raises(CorruptFile, match=r"s\.ckpt: the strategy file is damaged"):
        read(path)


def test_five_stages_are_named_of_many(tmp_path):
    """Of the thousands of stages in a file without stage 0, the error names five."""
    path = strategy_file(tmp_path / "s.ckpt", {f"{stage}-w": layout([2], [0]) for stage in range(1, 1001)})

    with pytest.raises(CorruptFile, match=r"\[1, 2, 3, 4, 5\] and 995 more: "):
        read(path)


def test_equal_layouts_are_one_object(tmp_path):
    """A model has many parameters and few layouts, so equal layouts are one object."""
    (layouts,) = read(strategy_file(tmp_path / "s.ckpt", {"a": layout([2], [0]), "b": layout([2], [0])})).values()

    assert layouts["a"] is layouts["b"]


@pytest.mark.parametrize("ending", ["ckpt", "json"])
def test_memory_for_a_strategy_is_in_proportion_to_its_file(ending, tmp_path):
    """Memory is proportional to the file even if each parameter has another arrangement of 65,536 ranks."""
    names = [f"w{number}" for number in range(256)]
    devices = [[1 << (number >> axis & 1) for axis in range(8)] + [2**8] for number in range(256)]
    if ending == "ckpt":
        path = strategy_file(tmp_path / "s.ckpt", {n: layout(d, [0]) for n, d in zip(names, devices, strict=True)})
    else:
        facts = {n: {"dev_matrix": d, "tensor_map": [0]} for n, d in zip(names, devices, strict=True)}
        path = str(tmp_path / "s.json")
        (tmp_path / "s.json").write_text(json.dumps({"parallel_layout_item": facts}))
    read(path)
    tracemalloc.start()
    try:
        read(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 6 * 2**20


@pytest.mark.parametrize("dense", ["[],", "{},", "0,", '"",', "[0],"])
def test_memory_for_json_is_in_proportion_to_the_file(dense, tmp_path):
    """Any JSON takes some tens of bytes of memory for each of its bytes."""
    path = tmp_path / "s.json"
    axes = dense * (120_000 // len(dense)) + "0"
    path.write_text('{"parallel_layout_item": {"w": {"dev_matrix": [2], "tensor_map": [' + axes + "]}}}")
    tracemalloc.start()
    try:
        with pytest.raises(CorruptFile):
            read(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 48 * path.stat().st_size + 2**20


def test_a_file_that_cannot_be_read_is_reported(tmp_path):
    """A missing file and a folder of that name are reported."""
    (tmp_path / "folder").mkdir()

    with pytest.raises(MissingFile, match="none"):
        read(tmp_path / "none.ckpt")
    with pytest.raises(UnreadableFile, match="folder"):
        read(tmp_path / "folder")


GOOD = min(SETS.rglob("strategy*.ckpt")).read_bytes()


@given(data=st.data())
def test_damaged_files_give_layouts_or_are_refused(tmp_path_factory, data):
    """A change of a few bytes raises no other error."""
    damaged = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("s") / "s.ckpt"
    path.write_bytes(damaged[: data.draw(st.integers(0, len(damaged)))])
    try:
        outcome = all(isinstance(one, Layout) for layouts in read(path).values() for one in layouts.values())
    except LazyCkptError:
        outcome = True

    assert outcome


def test_nested_maps_of_json_are_lists_for_axes(tmp_path):
    """Maps nested by axis, as some writers keep them, are understood."""
    path = tmp_path / "s.json"
    facts = {"dev_matrix": [2, 2, 2], "tensor_map": [[2, 0], [1]]}
    path.write_text(json.dumps({"parallel_layout_item": {"w": facts}}))

    assert read(path) == {0: {"w": Layout((2, 2, 2), ((2, 0), (1,)))}}
