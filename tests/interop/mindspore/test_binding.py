"""Beside a real MindSpore: nets are bound as by `mindspore.load_param_into_net`, with deliberate improvements.

The improvements: a net that cannot be bound is left untouched, a net keeps its own shapes, axes of length one are only
removed if the rest of the shape is equal, and strings give no prefix. `mindspore_binding.bind` states these rules.
"""

from __future__ import annotations

import itertools
import logging
import math
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import mindspore as ms
import ml_dtypes
import numpy as np
import pytest
from checkpoints import checkpoint, counting, map_value, string_value, tensor_value
from encryption import KEY, MODES, encrypted
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from mindspore import nn
from mindspore.experimental import MapParameter
from mindspore.nn.utils import no_init_parameters
from mindspore_binding import DTYPES, FLOATS, SIGNED, TABLE, TEXT, Refused, bind, nets_and_checkpoints
from mindspore_cells import cell_of, parameter, parameters, raw, state
from mindspore_results import GOLDEN
from opening import opened_and_traced
from tracing import TracingSource, places

import lazyckpt
from lazyckpt.errors import ArgumentTypeError, NetMismatch
from lazyckpt.formats.ckpt import header_extents
from lazyckpt.frameworks import mindspore as leaf
from lazyckpt.model.dtypes import DTYPES as TABLE_OF_DTYPES
from lazyckpt.tensors.mindspore import to_parameter

# MindSpore's own bfloat16 arrays need the major version of numpy that it was built with.
THEIRS = [name for name in DTYPES if name != "BFloat16" or np.__version__.startswith("1.")]
DEMO = Path(lazyckpt.__file__).parent / "demo_data" / "LeNet5-1_32.ckpt"
REAL = [GOLDEN / "real", *map(Path, filter(None, [os.environ.get("LAZYCKPT_REAL")]))]
PUBLISHED = [DEMO, *(file for folder in REAL for file in sorted(folder.glob("*.ckpt")))]
LENETS = [file for file in PUBLISHED if "lenet" in file.name.lower()]
TABLES = [counting((2,), "int32"), counting((2, 2)), counting((2,), "int32")]


def written(path, data):
    """A file with these bytes."""
    path.write_bytes(data)
    return str(path)


def noise(shape, dtype, seed=0):
    """An array of random bits, so that every sort of number comes up, as a tensor of a checkpoint has them."""
    kind, count = TABLE_OF_DTYPES[dtype].numpy, math.prod(shape)
    data = np.frombuffer(np.random.default_rng(seed).bytes(count * kind.itemsize), np.uint8)
    largest = {"Bool": 1, "Int4": 15}.get(dtype, 255)
    return (data & np.uint8(largest)).view(kind).reshape(shape)


def file_of(values, seed=0):
    """The bytes of a checkpoint that is given as name -> (shape, dtype), `TEXT` or `TABLE`."""
    parts = []
    for number, (name, value) in enumerate(values.items()):
        if value is TEXT:
            parts.append(string_value(name, "text"))
        elif value is TABLE:
            parts.append(map_value(name, TABLES))
        else:
            parts.append(tensor_value(name, *value, noise(*value, seed + number).tobytes()))
    return b"".join(parts)


def described(values):
    """The same description, of MindSpore's result."""
    kinds = {str: TEXT, list: TABLE}
    return {name: kinds.get(type(value)) or (tuple(value.shape), str(value.dtype)) for name, value in values.items()}


def outcome(function, *arguments):
    """The result of a function, or the exception that it raises."""
    try:
        return function(*arguments)
    except (Refused, RuntimeError, ValueError, AttributeError) as error:
        return error


def same_values(one, other):
    """Whether two nets hold the same names, dtypes and numbers; any nan is as good as another."""
    kinds = [(name, dtype, len(data)) for name, (_, dtype, data) in one.items()]
    return kinds == [(name, dtype, len(data)) for name, (_, dtype, data) in other.items()] and all(
        np.array_equal(*(np.frombuffer(net[name][2], TABLE_OF_DTYPES[dtype].numpy) for net in (one, other)), equal_nan)
        for name, dtype, _ in kinds
        for equal_nan in [dtype in FLOATS]
    )


def net_and_checkpoint(**changes):
    """Five vectors, and a checkpoint that has them in another order; `changes` are of the checkpoint."""
    names = "abcde"
    values = dict.fromkeys(reversed(names), ((3,), "Float32")) | changes
    return cell_of(dict.fromkeys(names, ((3,), "Float32"))), values


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    """A file that each example writes anew."""
    return tmp_path_factory.mktemp("scratch") / "a.ckpt"


@settings(max_examples=500)
@given(nets_and_checkpoints(THEIRS), st.integers(0, 2**32))
def test_any_net_and_checkpoint(scratch, case, seed):
    """Both frameworks' outcomes are those of the written rules: same lists, same values and dtypes, or a refusal."""
    net, values, strict = case
    assume(all(value[0] != (0,) for value in values.values()))  # which MindSpore reads as a scalar
    path = written(scratch, file_of(values | {"!": ((1,), "Float32")}, seed))
    theirs, ours = ms.load_checkpoint(path), lazyckpt.load_checkpoint(path, index="memory")
    one, other = cell_of(net), cell_of(net)
    before = state(other)

    found = (
        outcome(ms.load_param_into_net, one, theirs, strict),
        outcome(lazyckpt.load_param_into_net, other, ours, strict),
    )
    rules = [outcome(bind, net, described(theirs), strict, wanted) for wanted in (False, True)]
    ours.close()

    assert [isinstance(result, Exception) for result in found] == [isinstance(rule, Refused) for rule in rules]
    for result, rule in zip(found, rules, strict=True):
        assert isinstance(result, Exception) or result == (rule[1], rule[2])
    after = state(other)
    assert {name: value[:2] for name, value in after.items()} == net
    if isinstance(found[1], Exception):
        assert isinstance(found[1], NetMismatch)
        assert after == before
    elif not isinstance(found[0], Exception):
        assert rules[0] == rules[1]
        assert same_values(state(one), after)


def casts(dtypes):
    """All pairs of different dtypes of one family."""
    return [pair for family in (FLOATS, SIGNED) for pair in itertools.permutations(family, 2) if {*pair} <= {*dtypes}]


@pytest.mark.parametrize(("mine", "theirs"), casts(THEIRS))
def test_conversions(mine, theirs, tmp_path):
    """Every number is converted as MindSpore converts it: overflow, rounding, wrapping, infinities."""
    kind = TABLE_OF_DTYPES[theirs].numpy
    array = noise((65536,), theirs)
    if theirs in FLOATS:
        edges = [0.0, -0.0, math.inf, math.nan, 65504, 65519.96875, 65520, 1e-8, 3.4e38, 1.00390625, 1.01171875, 0.1]
        with np.errstate(all="ignore"):
            array = np.concatenate([array, np.array(edges, "float64").astype(kind)])
    path = written(tmp_path / "a.ckpt", tensor_value("w", array.shape, theirs, array.tobytes()))
    one, other = (cell_of({"w": (array.shape, mine)}) for _ in range(2))
    ms.load_param_into_net(one, ms.load_checkpoint(path))
    with lazyckpt.load_checkpoint(path) as ours:
        lazyckpt.load_param_into_net(other, ours)

    assert same_values(state(one), state(other))


@pytest.mark.parametrize("strict", [False, True])
def test_dtypes_that_fit(strict):
    """For every pair of dtypes a MindSpore Parameter is accepted or refused as by MindSpore."""
    names = [*THEIRS, "Complex64"]
    pairs = list(itertools.product(names, repeat=2))
    taken = {}
    for load in (ms.load_param_into_net, lazyckpt.load_param_into_net):
        for mine, theirs in pairs:
            cell = cell_of({"w": ((3,), mine)})
            result = outcome(load, cell, {"w": parameter("w", (3,), theirs)}, strict)
            taken.setdefault((mine, theirs), []).append(not isinstance(result, RuntimeError) and state(cell)["w"][:2])

    assert {pair: found for pair, found in taken.items() if found[0] != found[1]} == {}


def test_bfloat16_is_bound_whatever_numpy_there_is(tmp_path):
    """Into bfloat16 from bfloat16 and float32, and from it into float32, also where MindSpore itself cannot."""
    array = counting((2, 3)) / 7
    brain = array.astype(ml_dtypes.bfloat16)
    path = written(
        tmp_path / "a.ckpt", tensor_value("b", (2, 3), "BFloat16", brain.tobytes()) + checkpoint({"f": array})
    )
    cell = cell_of({"b": ((2, 3), "BFloat16"), "x.f": ((2, 3), "BFloat16")})
    other = cell_of({"b": ((2, 3), "Float32")})
    with lazyckpt.load_checkpoint(path) as ours:
        ours["x.f"] = ours["f"]
        lazyckpt.load_param_into_net(cell, ours)
        lazyckpt.load_param_into_net(other, ours)
        lazyckpt.load_param_into_net(other, {"b": ours["b"].to_mindspore()})

    assert {name: found[1:] for name, found in state(cell).items()} == dict.fromkeys(
        ("b", "x.f"), ("BFloat16", brain.tobytes())
    )
    assert parameters(other)["b"].asnumpy().tobytes() == brain.astype("float32").tobytes()


@pytest.mark.parametrize("broken", ["a", "c", "e"])
@pytest.mark.parametrize("change", [((4,), "Float32"), ((3,), "Int32"), ((1, 3), "Float32")])
def test_a_net_that_cannot_be_bound_is_left_untouched(broken, change, tmp_path):
    """Whichever parameter does not fit, no parameter has changed, and no byte of a value was read."""
    cell, values = net_and_checkpoint(**{broken: change})
    before = state(cell)
    source = TracingSource(file_of(values))
    with pytest.raises(NetMismatch, match=f"{broken}: it should have the same"):
        lazyckpt.load_param_into_net(cell, opened_and_traced(source))

    assert state(cell) == before
    assert source.reads == []


def test_only_what_is_used_is_read_and_in_file_order():
    """Only the values that the net takes are read, front to back, each once."""
    cell, values = net_and_checkpoint()
    source = TracingSource(file_of(values | {"m": TABLE, "s": TEXT, "unused": ((100,), "Float32")}))
    ours = opened_and_traced(source)
    lazyckpt.load_param_into_net(cell, ours)
    used = [ours.entry(name) for name in "edcba"]
    contents = [extent for entry in used for extent in entry.extents]

    assert [read for read in source.reads if read in contents] == contents
    assert source.looked_at() == places([*contents, *(extent for entry in used for extent in header_extents(entry))])


def test_what_is_found_behind_a_prefix_is_read_in_file_order():
    """The order is that of the file, not that of the rounds in which prefixes are found."""
    cell = cell_of(dict.fromkeys("abc", ((3,), "Float32")))
    source = TracingSource(file_of(dict.fromkeys(("y.c", "x.b", "a"), ((3,), "Float32"))))
    ours = opened_and_traced(source)
    lazyckpt.load_param_into_net(cell, ours)
    offsets = [ours.entry(name).extents[0].offset for name in ("y.c", "x.b", "a")]

    assert [offset for offset, _ in source.reads if offset in offsets] == offsets


def test_matching_reads_nothing():
    """`match` reports the whole result, strings and maps included, without reading a value."""
    cell, values = net_and_checkpoint(a=((3,), "Float16"), b=((3, 1), "Float32"), c=((4,), "Float32"), d=TEXT)
    del values["e"]
    before = state(cell)
    source = TracingSource(file_of(values | {"m": TABLE}))
    report = lazyckpt.match(cell, opened_and_traced(source))

    assert [(row.name, row.outcome) for row in report.rows] == [
        *[("a", "casts"), ("b", "squeezes"), ("c", "refused"), ("d", "passed over"), ("e", "missing"), ("m", "unused")]
    ]
    assert source.reads == []
    assert state(cell) == before


def test_a_net_keeps_its_shape():
    """After ones were taken off, the parameter has the shape it had, and works in the net."""
    cell = nn.Dense(3, 2, has_bias=False)
    weight = counting((2, 3, 1, 1))
    lazyckpt.load_param_into_net(cell, {"weight": ms.Parameter(ms.Tensor(weight), name="weight")})

    assert cell.weight.shape == (2, 3)
    assert np.array_equal(cell(ms.Tensor(np.eye(3, dtype=np.float32))).asnumpy().T, weight[:, :, 0, 0])


class LeNet5(nn.Cell):
    """The LeNet of MindSpore's tutorials."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5, pad_mode="valid")
        self.conv2 = nn.Conv2d(6, 16, 5, pad_mode="valid")
        self.fc1 = nn.Dense(16 * 5 * 5, 120)
        self.fc2 = nn.Dense(120, 84)
        self.fc3 = nn.Dense(84, 10)
        self.relu = nn.ReLU()
        self.pool = nn.MaxPool2d(2, 2)
        self.flatten = nn.Flatten()

    def construct(self, x):
        """Images of 32 x 32 to logits."""
        x = self.pool(self.relu(self.conv1(x)))
        x = self.flatten(self.pool(self.relu(self.conv2(x))))
        return self.fc3(self.relu(self.fc2(self.relu(self.fc1(x)))))


@pytest.mark.parametrize("file", LENETS, ids=lambda file: file.name)
def test_a_lenet_gives_the_same_logits(file, tmp_path):
    """A published LeNet answers bit for bit as the same net that MindSpore loaded."""
    path = shutil.copy(file, tmp_path)
    images = ms.Tensor(np.random.default_rng(5).random((4, 1, 32, 32), np.float32))
    one, other = LeNet5(), LeNet5()
    expected = ms.load_param_into_net(one, ms.load_checkpoint(path))
    with lazyckpt.load_checkpoint(path) as ours:
        found = lazyckpt.load_param_into_net(other, ours)

    assert found == expected
    assert found[0] == []
    assert other(images).asnumpy().tobytes() == one(images).asnumpy().tobytes()


@pytest.mark.parametrize("file", PUBLISHED, ids=lambda file: file.name)
def test_published_checkpoints_are_bound(file, tmp_path):
    """Nets built from a published checkpoint's names and shapes get the same values as with MindSpore."""
    path = shutil.copy(file, tmp_path)
    theirs = ms.load_checkpoint(path)
    one, other = cell_of(described(theirs)), cell_of(described(theirs))
    expected = ms.load_param_into_net(one, theirs, True)
    with lazyckpt.load_checkpoint(path, net=other, strict_load=True) as ours:
        again = lazyckpt.load_param_into_net(other, ours, True)

    assert again == expected == ([], [])
    assert state(other) == state(one)


@pytest.mark.parametrize("mode", MODES)
def test_encrypted_checkpoints_are_bound(mode, tmp_path):
    """A net loaded from an encrypted file, block by block, gets the values that MindSpore decrypts."""
    net = {"a": ((3,), "Float32"), "b": ((40, 50), "Float16"), "c": ((), "Int64")}
    path = written(tmp_path / "a.ckpt", encrypted(file_of(net), mode=mode, block=1000))
    one, other = cell_of(net), cell_of(net)
    ms.load_checkpoint(path, one, dec_key=KEY, dec_mode=mode)
    lazyckpt.load_checkpoint(path, other, dec_key=KEY, dec_mode=mode).close()

    assert same_values(state(one), state(other))


def test_loading_with_a_net_is_one_call(tmp_path):
    """`load_checkpoint(net=…)` binds the chosen values, by default loosely, and returns the mapping."""
    path = written(tmp_path / "a.ckpt", file_of({"x.a": ((3,), "Float16"), "x.b": ((3,), "Float16")}, 2))
    half = noise((3,), "Float16", 2)
    cell = cell_of({"a": ((3,), "Float32"), "b": ((3,), "Float32")})
    strictly = cell_of({"x.a": ((3,), "Float32")})
    before = state(strictly)

    with lazyckpt.load_checkpoint(path, cell, choice_func=lambda name: name.endswith("a")) as ours:
        assert list(ours) == ["x.a"]
    assert np.array_equal(parameters(cell)["a"].asnumpy(), half.astype(np.float32), equal_nan=True)
    assert parameters(cell)["b"].asnumpy().tolist() == [1, 1, 1]
    with pytest.raises(NetMismatch, match="strict_load=False would convert it"):
        lazyckpt.load_checkpoint(path, strictly, strict_load=True)
    assert state(strictly) == before


def test_dicts_of_parameters_of_either_kind(tmp_path):
    """A dict may hold MindSpore's Parameters, lazy ones, edited ones, strings and maps, mixed."""
    net = dict.fromkeys("abc", ((3,), "Float32"))
    cell = cell_of(net)
    with lazyckpt.load_checkpoint(written(tmp_path / "a.ckpt", file_of(net | {"m": TABLE}))) as ours:
        ours["b"].set_data(counting((3,), "float64"))
        mixed = {"a": ours["a"], "b": ours["b"], "c": parameter("other", (3,), "Float16"), "s": "text", "m": ours["m"]}
        missing, unused = lazyckpt.load_param_into_net(cell, mixed)

    assert (missing, unused) == ([], ["s", "m"])
    assert {name: found[2] for name, found in state(cell).items()} == {
        "a": noise((3,), "Float32").tobytes(),
        "b": counting((3,)).tobytes(),
        "c": np.ones(3, np.float32).tobytes(),
    }


def test_edits_are_bound(tmp_path):
    """Assigned, edited and deleted values of a checkpoint count, as in any dict."""
    net = dict.fromkeys("abcd", ((3,), "Float32"))
    cell = cell_of(net)
    with lazyckpt.load_checkpoint(written(tmp_path / "a.ckpt", file_of(dict.fromkeys("abc", net["a"])))) as ours:
        ours["a"] = parameter("a", (3,), "Float32")
        ours["d"] = ours.pop("b")
        ours["c"].set_data(counting((3,)))
        result = lazyckpt.load_param_into_net(cell, ours)

    assert result == (["b"], [])
    assert {name: found[2] for name, found in state(cell).items()} == {
        "a": np.ones(3, np.float32).tobytes(),
        "b": np.ones(3, np.float32).tobytes(),
        "c": counting((3,)).tobytes(),
        "d": noise((3,), "Float32", 1).tobytes(),
    }


def test_a_net_and_a_checkpoint_share_no_memory(tmp_path):
    """Writing to a bound parameter does not change the file, the mapping, or a dict's Parameters."""
    net = {"a": ((3,), "Float32"), "b": ((3,), "Float32")}
    path = tmp_path / "a.ckpt"
    data = file_of({"a": net["a"]})
    cell, mine = cell_of(net), parameter("b", (3,), "Float32")
    with lazyckpt.load_checkpoint(written(path, data)) as ours:
        ours["a"].set_data(counting((3,)))
        lazyckpt.load_param_into_net(cell, {"a": ours["a"], "b": mine})
        for one in parameters(cell).values():
            one[0] = 99.0

        assert ours["a"].asnumpy().tolist() == [0, 1, 2]
    assert mine.asnumpy().tolist() == [1, 1, 1]
    assert path.read_bytes() == data


def map_parameter(name):
    """A map parameter."""
    return MapParameter(
        key_tensor=ms.Tensor(TABLES[0]), value_tensor=ms.Tensor(TABLES[1]), default_value="zeros", name=name
    )


def test_maps_are_imported(monkeypatch, tmp_path):
    """A map parameter is given the three arrays; the map stays counted as unused, and no tensor is imported."""
    imported = {}
    monkeypatch.setattr(MapParameter, "import_data", lambda self, data: imported.setdefault(self.name, data))
    cell = cell_of({"w": ((3,), "Float32")})
    for name in ("m", "n", "k"):
        setattr(cell, name, map_parameter(name))
    values = {"m": TABLE, "n": ((2, 2), "Float32"), "x.k": ((2, 2), "Float32"), "w": ((3,), "Float32")}
    with lazyckpt.load_checkpoint(written(tmp_path / "a.ckpt", file_of(values))) as ours:
        missing, unused = lazyckpt.load_param_into_net(cell, ours)

    assert {name: [array.tolist() for array in arrays] for name, arrays in imported.items()} == {
        "m": [array.tolist() for array in TABLES]
    }
    assert (missing, unused) == (["k"], ["m", "n", "x.k"])


def test_parameters_that_share_a_name_are_all_filled():
    """Where MindSpore fails half way, every parameter of that name gets the value in its own form."""
    cell = nn.Cell()
    cell.one, cell.two, cell.three = (parameter("w", (3,), dtype) for dtype in ("Float32", "Float32", "Float16"))
    result = lazyckpt.load_param_into_net(cell, {"w": ms.Parameter(ms.Tensor(counting((3,))), name="w")})

    assert result == ([], [])
    assert [(str(one.dtype), one.asnumpy().tolist()) for one in (cell.one, cell.two, cell.three)] == [
        ("Float32", [0, 1, 2]),
        ("Float32", [0, 1, 2]),
        ("Float16", [0, 1, 2]),
    ]


@pytest.mark.parametrize("flag", ["is_pipeline_shared_param", "is_param_init"])
def test_flags_of_parallel_runs_mean_what_they_mean_to_mindspore(flag):
    """Parameters that another stage shares are left alone; in a parallel run those that are not cut are not missed."""
    results = []
    for load in (ms.load_param_into_net, lazyckpt.load_param_into_net):
        cell = cell_of(dict.fromkeys("abc", ((3,), "Float32")))
        setattr(parameters(cell)["a"].param_info, flag, True)
        parameters(cell)["b"].sliced = parameters(cell)["c"].sliced = True
        parameters(cell)["c"].init_param = False
        result = load(cell, {"c": ms.Parameter(ms.Tensor(counting((3,))), name="c")})
        results.append((result, parameters(cell)["c"].init_param, [one.sliced for one in parameters(cell).values()]))

    assert results[0] == results[1] == ((["b"], []), True, [False, True, True])


def test_a_net_without_memory_is_given_some():
    """Loading initialises Parameters that were not initialised yet."""
    with no_init_parameters():
        cell = nn.Dense(3, 2, has_bias=False)
    lazyckpt.load_param_into_net(cell, {"weight": ms.Parameter(ms.Tensor(counting((2, 3))), name="weight")})

    assert not cell.weight.has_init
    assert cell(ms.Tensor(np.ones((1, 3), np.float32))).asnumpy().tolist() == [[3, 12]]


WRONG = {
    "net: a class": (nn.Cell, {}, False, False),
    "net: a checkpoint": ({}, {}, False, False),
    "dict: a list": (None, [], False, False),
    "dict: of arrays": (None, {"w": np.zeros(3, np.float32)}, False, False),
    "dict: of tensors": (None, {"w": ms.Tensor([1.0])}, False, False),
    "dict: of numbers": (None, {"w": 1}, False, False),
    "dict: with a number for a name": (None, {1: "text"}, False, False),
    "strict_load": (None, {}, 1, False),
    "remove_redundancy": (None, {}, False, 1),
}


@pytest.mark.parametrize(("net", "values", "strict", "redundancy"), WRONG.values(), ids=WRONG)
def test_wrong_arguments_are_refused_as_mindspore_refuses_them(net, values, strict, redundancy):
    """The exception is one of ours and has MindSpore's type; the net is untouched."""
    cell = cell_of({"w": ((3,), "Float32")}) if net is None else net
    with pytest.raises((TypeError, ValueError)) as theirs:
        ms.load_param_into_net(cell, values, strict, redundancy)

    with pytest.raises(theirs.type) as ours:
        lazyckpt.load_param_into_net(cell, values, strict, redundancy)
    assert isinstance(ours.value, lazyckpt.errors.LazyCkptError)


def test_redundancy_is_the_business_of_parallel_runs():
    """Outside a parallel run the TypeError is MindSpore's, but nothing was read or changed before."""
    cell, values = net_and_checkpoint()
    before = state(cell)
    source = TracingSource(file_of(values))
    with pytest.raises(ArgumentTypeError, match=r"can only be used in parallel scenarios, but got stand_alone\.$"):
        lazyckpt.load_param_into_net(cell, opened_and_traced(source), remove_redundancy=True)

    assert state(cell) == before
    assert source.reads == []


def test_in_a_parallel_run_redundancy_is_left_to_mindspore(monkeypatch, tmp_path):
    """MindSpore receives a dict of its own Parameters, from any kind of mapping."""
    handed = []
    monkeypatch.setattr(leaf, "get_group_size", lambda: 8)
    monkeypatch.setattr(ms, "load_param_into_net", lambda *given, **named: handed.append((given, named)) or ([], ["s"]))
    cell = cell_of({"a": ((3,), "Float32")})
    with lazyckpt.load_checkpoint(
        written(tmp_path / "a.ckpt", file_of({"a": ((3,), "Float32"), "s": TEXT, "m": TABLE}))
    ) as ours:
        mixed = {"a": ours["a"], "b": parameter("b", (3,), "Float32")}
        results = [lazyckpt.load_param_into_net(cell, values, True, True) for values in (ours, mixed)]

    assert results == [([], ["s"])] * 2
    assert [(given[0] is cell, given[2:], named) for given, named in handed] == [
        (True, (True,), {"remove_redundancy": True})
    ] * 2
    kinds = [{name: type(value) for name, value in given[1].items()} for given, _ in handed]
    assert [type(given[1]) for given, _ in handed] == [dict, dict]
    assert [issubclass(kind["a"], ms.Parameter) for kind in kinds] == [True, True]
    assert [kinds[0]["s"], kinds[0]["m"]] == [str, list]


def test_each_warning_is_logged_once(caplog):
    """One line for each prefix, one for each conversion, one for all that is missing."""
    caplog.set_level(logging.WARNING, "lazyckpt")
    cell = cell_of({"a": ((3,), "Float32"), "b": ((3,), "Float16"), "c": ((3,), "Float32"), "d": ((3,), "Float32")})
    values = {name: parameter(name, (3,), "Float32") for name in ("x.a", "b", "y.c")}
    lazyckpt.load_param_into_net(cell, values)

    messages = sorted(record.getMessage() for record in caplog.records if record.name == "lazyckpt")
    assert [line.partition(": ")[2] or line for line in messages if "prefix" in line] == [
        "x., continue to load.",
        "y., continue to load.",
    ]
    assert [line for line in messages if "b:Float32" in line and "Float16" in line] == [messages[-1]]
    assert [line for line in messages if "1 parameters in the 'net' are not loaded" in line and "['d']" in line] == [
        messages[0]
    ]
    assert len(messages) == 4


def test_parameters_of_mindspore(tmp_path):
    """`to_mindspore` gives real Parameters with the name, shape, dtype and bytes of the value, for every dtype."""
    shapes = [(), (1,), (2, 3), (0, 3)]
    values = {f"{name} {shape}": (shape, name) for name in DTYPES for shape in shapes}
    with lazyckpt.load_checkpoint(written(tmp_path / "a.ckpt", file_of(values))) as ours:
        made = {name: one.to_mindspore() for name, one in ours.items()}
        contents = {name: one.tobytes() for name, one in ours.items()}

    assert {name: isinstance(one, ms.Parameter) for name, one in made.items()} == dict.fromkeys(values, True)
    assert {name: (tuple(one.shape), str(one.dtype), one.name) for name, one in made.items()} == {
        name: (shape, dtype, name) for name, (shape, dtype) in values.items()
    }
    assert {name: raw(one) for name, one in made.items()} == contents
    assert str(made["Int4 (2, 3)"]) == "Parameter (name=Int4 (2, 3), shape=(2, 3), dtype=Int4, requires_grad=True)"


def test_a_parameter_without_a_name_is_given_one(tmp_path):
    """MindSpore makes a name up, as it does when it loads the same file."""
    with lazyckpt.load_checkpoint(written(tmp_path / "a.ckpt", file_of({"": ((3,), "Float32")}))) as ours:
        assert ours[""].to_mindspore().name.startswith("Parameter#")


def test_a_parameter_takes_over_the_memory_it_is_given():
    """A MindSpore Parameter takes an array without a copy, so a large value costs only the pages written to."""
    array = counting((1000,))
    made = to_parameter("w", array, "Float32")

    assert made.data_ptr() == array.ctypes.data


WRITES = {
    "an element": "p[0] = 7",
    "an element of any of them": "for value in c.values(): p = value.to_mindspore(); p[0] = 7",
    "assign_add": "mindspore.ops.assign_add(p, mindspore.Tensor(numpy.ones(p.shape, numpy.float32)))",
    "through numpy": "p.asnumpy()[...] = 7",
    "set_data": "p.set_data(mindspore.Tensor(numpy.full(p.shape, 7, numpy.float32)))",
    "an optimiser": """
        class Net(mindspore.nn.Cell):
            def __init__(self):
                super().__init__()
                self.w = p
            def construct(self):
                return (self.w * self.w).sum()
        net = Net()
        grad = mindspore.value_and_grad(net, None, net.trainable_params())
        mindspore.nn.SGD(net.trainable_params(), 0.5)(grad()[1])
        """,
}


@pytest.mark.parametrize("count", [1000, 400_001], ids=["a small value", "a mapped value"])
def test_writing_to_a_parameter_touches_nothing_else(count, tmp_path):
    """Writing to a Parameter neither ends the process nor changes the file or other calls' Parameters.

    The values lie at offsets of every alignment.
    """
    path = tmp_path / "a.ckpt"
    data = checkpoint({"w" * length: np.ones(count, np.float32) for length in range(1, 9)})
    path.write_bytes(data)
    lines = ["import mindspore, numpy, lazyckpt", f"c = lazyckpt.load_checkpoint({str(path)!r})"]
    for name, write in WRITES.items():
        lines += ["p, other = c['w'].to_mindspore(), c['w'].to_mindspore()", textwrap.dedent(write)]
        lines.append(f"print({name!r}, (p.asnumpy() != 1).any(), (other.asnumpy() == 1).all(), sep='|')")
    lines.append("print(all((value.asnumpy() == 1).all() for value in c.values()))")
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=False)

    assert done.stdout.split("\n") == [*(f"{name}|True|True" for name in WRITES), "True", ""], done.stderr[-2000:]
    assert done.returncode == 0
    assert path.read_bytes() == data


def test_all_values_as_mindspores_own_mapping(tmp_path):
    """`Checkpoint.to_mindspore` gives a plain dict in file order that MindSpore's own functions take."""
    described_here = {"b": ((3,), "Float32"), "a": ((300_000,), "Float32"), "c": ((2, 2), "Int4"), "s": TEXT}
    with lazyckpt.load_checkpoint(written(tmp_path / "a.ckpt", file_of(described_here))) as ours:
        made = ours.to_mindspore()
        some = ours.to_mindspore(["c", "b"])
        contents = {name: ours[name].tobytes() for name in "bac"}
        with pytest.raises(KeyError):
            ours.to_mindspore(["b", "d"])
    cell = cell_of({name: described_here[name] for name in "abc"})
    result = ms.load_param_into_net(cell, made)
    ms.save_checkpoint(made, str(tmp_path / "again.ckpt"))
    again = ms.load_checkpoint(str(tmp_path / "again.ckpt"))

    assert (type(made), list(made), made["s"], list(some)) == (dict, ["b", "a", "c", "s"], "text", ["c", "b"])
    assert result == ([], ["s"])
    assert {name: found[2] for name, found in state(cell).items()} == contents
    assert {name: raw(value) for name, value in again.items() if name != "s"} == contents
    assert again["s"] == "text"


def test_values_stay_when_the_checkpoint_is_closed(tmp_path):
    """Parameters, small or mapped, outlive the checkpoint and the file's name."""
    values = {"a": ((3,), "Float32"), "b": ((300_000,), "Float32")}
    path = tmp_path / "a.ckpt"
    ours = lazyckpt.load_checkpoint(written(path, file_of(values)))
    made = ours.to_mindspore()
    ours.close()
    path.unlink()

    assert {name: raw(one) for name, one in made.items()} == {
        name: noise(*value, number).tobytes() for number, (name, value) in enumerate(values.items())
    }


def test_a_closed_checkpoint_is_refused_before_anything_changes():
    """Binding from a closed checkpoint raises, and leaves the net alone."""
    cell, values = net_and_checkpoint()
    before = state(cell)
    ours = opened_and_traced(TracingSource(file_of(values)))
    ours.close()

    with pytest.raises(lazyckpt.errors.ClosedCheckpoint):
        lazyckpt.load_param_into_net(cell, ours)
    assert state(cell) == before
