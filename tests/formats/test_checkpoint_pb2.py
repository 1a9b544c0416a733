"""The generated messages write MindSpore's bytes and live beside MindSpore's own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from checkpoints import MIXED, checkpoint

from lazyckpt.formats import checkpoint_pb2

# MindSpore's messages have the same names in no package, in a file of this name, in the pool that everybody shares.
LOOK_ALIKE = """
from google.protobuf import descriptor_pb2, descriptor_pool
file = descriptor_pb2.FileDescriptorProto(name="checkpoint.proto", syntax="proto2")
for name in ("Checkpoint", "TensorProto", "MapTensorProto"):
    file.message_type.add(name=name)
descriptor_pool.Default().AddSerializedFile(file.SerializeToString())
"""
OURS = """
from lazyckpt.formats import checkpoint_pb2
assert checkpoint_pb2.Checkpoint(value=[{"tag": "w"}]).value[0].tag == "w"
"""


def test_the_messages_write_what_mindspore_writes():
    """A parsed file of every kind of value, written again, is the same bytes."""
    data = checkpoint(MIXED)

    assert checkpoint_pb2.Checkpoint.FromString(data).SerializeToString() == data


@pytest.mark.parametrize("implementation", ["python", "upb"])
@pytest.mark.parametrize("program", [LOOK_ALIKE + OURS, OURS + LOOK_ALIKE], ids=["theirs first", "ours first"])
def test_the_messages_can_be_imported_beside_mindspores(program, implementation):
    """Package-less messages of the same names can be registered before and after ours."""
    environment = {**os.environ, "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": implementation}
    run = subprocess.run([sys.executable, "-c", program], env=environment, stderr=subprocess.PIPE, check=False)

    assert (run.returncode, run.stderr) == (0, b"")
