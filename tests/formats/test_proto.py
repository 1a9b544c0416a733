"""The generated messages: MindSpore's bytes, both protobuf runtimes, and MindSpore's own messages."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from checkpoints import MIXED, checkpoint
from google.protobuf.json_format import MessageToDict, ParseDict
from mindspore_results import GOLDEN

from lazyckpt.formats.proto import checkpoint_pb2, group_info_pb2, strategy_pb2

MODULES = (checkpoint_pb2, group_info_pb2, strategy_pb2)
STRATEGIES = sorted([*GOLDEN.glob("sharded/**/*strategy*.ckpt"), *GOLDEN.glob("sharded/**/merged.ckpt")])
GROUP_INFOS = sorted(GOLDEN.glob("sharded/**/group_info_*.pb"))

# MindSpore registers these, in the pool that a process shares.
LOOK_ALIKE = """
from google.protobuf import descriptor_pb2, descriptor_pool
THEIRS = {
    ("checkpoint.proto", ""): ("Checkpoint", "TensorProto", "MapTensorProto"),
    ("node_strategy.proto", "mindspore.straspb"): ("ParallelStrategyMap", "ParallelLayouts", "ParallelGroupMap"),
}
for (path, package), names in THEIRS.items():
    file = descriptor_pb2.FileDescriptorProto(name=path, package=package, syntax="proto2")
    for name in names:
        file.message_type.add(name=name)
    descriptor_pool.Default().AddSerializedFile(file.SerializeToString())
"""
OURS = """
from lazyckpt.formats.proto import checkpoint_pb2, group_info_pb2, strategy_pb2
assert checkpoint_pb2.Checkpoint(value=[{"tag": "w"}]).value[0].tag == "w"
assert strategy_pb2.ParallelStrategyMap(current_stage=7).current_stage == 7
assert group_info_pb2.ParallelGroupRanks(dim=[1, 2]).SerializeToString() == bytes([8, 1, 8, 2])
"""


def test_the_messages_write_what_mindspore_writes():
    """A file with every kind of value, parsed and written again, has the same bytes."""
    data = checkpoint(MIXED)

    assert checkpoint_pb2.Checkpoint.FromString(data).SerializeToString() == data


@pytest.mark.parametrize(
    ("kind", "files"),
    [(strategy_pb2.ParallelStrategyMap, STRATEGIES), (group_info_pb2.ParallelGroupMap, GROUP_INFOS)],
    ids=["strategies", "group infos"],
)
def test_recorded_files_have_no_field_that_the_messages_lack(kind, files):
    """With only the known fields, a message is written as the same bytes."""
    for file in files:
        known = MessageToDict(kind.FromString(file.read_bytes()), preserving_proto_field_name=True)

        assert ParseDict(known, kind()).SerializeToString() == file.read_bytes(), file


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.DESCRIPTOR.name)
def test_names_in_the_shared_pool_are_our_own(module):
    """The file's path and the package of its messages begin with this project's name."""
    assert module.DESCRIPTOR.package == "lazyckpt.proto"
    assert module.DESCRIPTOR.name.startswith("lazyckpt/formats/proto/")


@pytest.mark.parametrize("module", [group_info_pb2, strategy_pb2], ids=lambda module: module.DESCRIPTOR.name)
def test_no_field_of_a_file_that_older_versions_wrote_is_required(module):
    """An empty message is complete."""
    kinds = [getattr(module, name) for name in module.DESCRIPTOR.message_types_by_name]

    assert all(kind.FromString(b"").IsInitialized() for kind in kinds)


@pytest.mark.parametrize("implementation", ["python", "upb"])
@pytest.mark.parametrize("program", [LOOK_ALIKE + OURS, OURS + LOOK_ALIKE], ids=["theirs first", "ours first"])
def test_the_messages_can_be_imported_beside_mindspores(program, implementation):
    """Messages of the same names under MindSpore's packages can be registered before and after ours."""
    environment = {**os.environ, "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": implementation}
    run = subprocess.run([sys.executable, "-c", program], env=environment, stderr=subprocess.PIPE, check=False)

    assert (run.returncode, run.stderr) == (0, b"")
