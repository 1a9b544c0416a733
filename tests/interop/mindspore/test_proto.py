"""Beside a real MindSpore: strategies and group infos, with both runtimes of protobuf, in both orders of import."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import mindspore as ms
import pytest
from mindspore.train import node_strategy_pb2

from lazyckpt.formats.proto import group_info_pb2, strategy_pb2
from lazyckpt.sharding.group_info import read_group_info

SETS = Path(__file__).parents[2] / "golden" / "sharded"
STRATEGIES = sorted([*SETS.rglob("*strategy*.ckpt"), *SETS.rglob("merged.ckpt")])
GROUP_INFOS = sorted(SETS.glob("group_info/*.pb"))

FIRST = {
    "mindspore": "import mindspore",
    "our messages": "from lazyckpt.formats.proto import reading, checkpoint_pb2",
    "lazyckpt": "import lazyckpt",
}
PROGRAM = """
{first}
import json, sys
import mindspore, lazyckpt
from google.protobuf.internal import api_implementation
from lazyckpt.sharding.group_info import read_group_info
folder, group_info, file = sys.argv[1:]
with lazyckpt.open_sharded(folder, folder + "/strategy.ckpt", index="memory") as ckpt:
    shapes = {{name: value.shape for name, value in ckpt.items()}}
whole = mindspore.load_checkpoint(file)
print(json.dumps([api_implementation.Type(), shapes, read_group_info(group_info).restore_ranks, len(whole)]))
"""


@pytest.mark.parametrize("runtime", [None, "python", "upb"])
@pytest.mark.parametrize("first", FIRST)
def test_either_order_and_either_runtime(first, runtime):
    """A sharded set, a group info and a checkpoint are read; MindSpore forces Python's runtime if it comes first."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PROTOCOL_BUFFERS")}
    if runtime is not None:
        environment["PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"] = runtime
    folder = SETS / "mixed_2x4"
    (file,) = (folder / "rank_0").glob("*.ckpt")
    command = [sys.executable, "-c", PROGRAM.format(first=FIRST[first]), str(folder), str(GROUP_INFOS[5]), str(file)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    used, shapes, restore_ranks, count = json.loads(done.stdout)
    (case,) = (
        case for case in json.loads((folder / "expected.json").read_text())["cases"] if "protobuf" in case["name"]
    )

    assert used == (runtime or ("upb" if first == "our messages" else "python"))
    assert {name: shapes[name] for name in case["tensors"]} == {
        name: facts["shape"] for name, facts in case["tensors"].items()
    }
    assert (restore_ranks, count) == ([1, 5], len(shapes))


@pytest.mark.parametrize("file", STRATEGIES, ids=lambda file: str(file.relative_to(SETS)))
def test_our_strategy_messages_are_mindspores(file):
    """Both classes give the same fields of a recorded file, and write the same bytes again."""
    data = file.read_bytes()
    ours = strategy_pb2.ParallelStrategyMap.FromString(data)
    theirs = node_strategy_pb2.ParallelStrategyMap.FromString(data)

    assert str(ours) == str(theirs)
    assert ours.SerializeToString() == theirs.SerializeToString() == data


@pytest.mark.parametrize("file", GROUP_INFOS, ids=lambda file: file.name)
def test_our_group_info_is_mindspores(file):
    """The fields are the same, and so are the ranks of `restore_group_info_list`."""
    data = file.read_bytes()
    ours = group_info_pb2.ParallelGroupMap.FromString(data)

    assert str(ours) == str(node_strategy_pb2.ParallelGroupMap.FromString(data))
    assert list(read_group_info(str(file)).restore_ranks) == ms.restore_group_info_list(str(file))


@pytest.mark.parametrize("module", [strategy_pb2, group_info_pb2], ids=lambda module: module.DESCRIPTOR.name)
def test_our_schemas_are_mindspores_with_every_field_optional(module):
    """The messages have the same fields, numbers and types."""
    for name, ours in module.DESCRIPTOR.message_types_by_name.items():
        theirs = node_strategy_pb2.DESCRIPTOR.message_types_by_name[name]

        assert [(one.name, one.number, one.type) for one in ours.fields] == [
            (one.name, one.number, one.type) for one in theirs.fields
        ]
