"""Files are parsed piece by piece, at a cost in proportion to their size, and mean the same with both runtimes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tracemalloc

import pytest
from checkpoints import chunk, fixed64, group, key, nested_groups, number, varint
from damaged_strategies import merged
from hypothesis import given
from hypothesis import strategies as st
from mindspore_results import GOLDEN

from lazyckpt.errors import CorruptFile, TruncatedFile
from lazyckpt.formats.proto import reading
from lazyckpt.formats.proto.group_info_pb2 import ParallelGroupMap
from lazyckpt.formats.proto.reading import group_info_pieces, strategy_pieces
from lazyckpt.formats.proto.strategy_pb2 import ParallelStrategyMap

REAL = GOLDEN / "sharded" / "llama2_tp2" / "strategy" / "ckpt_strategy_rank_0.ckpt"

small = st.integers(0, 3)
dims = st.lists(st.integers(0, 300), max_size=4)
signed_dims = st.lists(st.integers(-1, 300), max_size=4)
layouts = st.fixed_dictionaries(
    {},
    optional={
        "dev_matrix": st.lists(st.fixed_dictionaries({"dim": dims}), max_size=2),
        "tensor_map": st.lists(st.fixed_dictionaries({"dim": signed_dims}), max_size=3),
        "param_split_shape": st.lists(st.fixed_dictionaries({"dim": dims}), max_size=1),
        "indices_offset": st.lists(st.fixed_dictionaries({"dim": dims}), max_size=1),
        "field": small,
        "opt_weight_shard_step": small,
        "opt_weight_shard_size": st.integers(-1, 3),
    },
)
operators = st.fixed_dictionaries(
    {"node_name": st.text(max_size=5)},
    optional={
        "parallel_strategys": st.fixed_dictionaries(
            {"stage": small, "parallel_strategy": st.lists(st.fixed_dictionaries({"dim": dims}), max_size=3)}
        )
    },
)
strategies = st.builds(
    ParallelStrategyMap,
    current_stage=small,
    parallel_strategy_item=st.lists(operators, max_size=5),
    parallel_layout_item=st.lists(
        st.fixed_dictionaries({"param_name": st.text(max_size=5), "parallel_layouts": layouts}), max_size=8
    ),
)


@given(strategies, st.integers(1, 40))
def test_all_pieces_together_are_the_file(message, items):
    """Wherever a file is cut, its pieces merge to the written message."""
    data = memoryview(message.SerializeToString())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "PIECE_ITEMS", items)
        pieces = list(strategy_pieces(data))

    assert merged(ParallelStrategyMap, pieces) == message


def test_a_real_file_is_one_piece_or_several_and_the_same():
    """The pieces of a file of 363 parameters merge to protobuf's message of the whole."""
    data = REAL.read_bytes()

    assert merged(ParallelStrategyMap, strategy_pieces(memoryview(data))) == ParallelStrategyMap.FromString(data)


@pytest.mark.parametrize("file", sorted(GOLDEN.glob("sharded/group_info/*.pb")), ids=lambda file: file.name)
def test_group_infos_are_parsed_too(file):
    """Group info files are also parsed in pieces."""
    data = file.read_bytes()

    assert merged(ParallelGroupMap, group_info_pieces(memoryview(data))) == ParallelGroupMap.FromString(data)


def parse_all(data):
    """Parse every piece and keep none."""
    for _ in strategy_pieces(memoryview(data)):
        pass


SIZE = 60_000
DENSE = {
    "operators of nothing": chunk(2, b"") * (SIZE // 2),
    "layouts of nothing": chunk(3, b"") * (SIZE // 2),
    "layouts of empty maps": chunk(3, chunk(2, chunk(2, b"") * 4000)) * (SIZE // 8000),
    "unknown numbers": number(15, 0) * (SIZE // 2),
    "unknown strings": chunk(15, b"") * (SIZE // 2),
    "the same field": number(1, 0) * (SIZE // 2),
    "packed numbers": chunk(3, chunk(2, chunk(1, chunk(1, b"\x00" * SIZE)))),
    "a real file, twice": REAL.read_bytes() * 2,
}


@pytest.mark.parametrize("what", DENSE)
def test_memory_is_bounded_by_a_piece_and_the_size_of_the_file(what):
    """Memory is bounded by a piece and the file's size, for any number of messages."""
    data = DENSE[what]
    parse_all(data[:0])
    tracemalloc.start()
    try:
        parse_all(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 6 * 2**20 + 16 * len(data)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (chunk(3, chunk(2, chunk(2, b"") * 5000)), "5,002 messages"),
        (chunk(2, chunk(2, chunk(2, b"") * 5000)), "5,002 messages"),
        (chunk(3, chunk(2, chunk(1, number(1, 1) * (2**18 + 1)))), "262,148 fields"),
        (chunk(3, chunk(2, chunk(1, chunk(1, b"\x01" * (2**18 + 1))))), "262,149 fields"),
        (group(9), "a group"),
        (chunk(3, chunk(2, group(9, number(1, 1)))), "a group"),
        (nested_groups(150), "groups are nested"),
        (number(1, 1, key_pad=1), "shortest form"),
        (chunk(3, chunk(2, number(5, 1, key_pad=2))), "shortest form"),
        (varint(2**32 + 8) + b"\x00", "too large"),
        (chunk(3, chunk(1, b"\xff\xfe")), "not UTF-8"),
        (chunk(2, chunk(1, b"\xed\xa0\x80")), "not UTF-8"),
        (key(1, 0) + b"\xff" * 9 + b"\x02", "more than 64 bits"),
        (chunk(3, chunk(2, chunk(1, chunk(1, b"\x80")))), "protobuf cannot parse"),
    ],
)
def test_files_that_nobody_writes_are_refused(data, what):
    """The error gives the fault and its offset, before protobuf or from it."""
    with pytest.raises(CorruptFile, match=what) as refused:
        parse_all(number(1, 2) + data)
    assert refused.value.offset is not None


def test_a_file_that_ends_early_is_truncated():
    """Within an item."""
    with pytest.raises(TruncatedFile):
        parse_all(REAL.read_bytes()[:-1])


def test_fields_of_later_versions_are_passed_over():
    """Unknown numbers, strings and fixed-width fields beside known ones are skipped."""
    unknown = number(99, 5) + chunk(98, b"\xff") + fixed64(97)
    data = number(1, 2) + unknown + chunk(3, unknown + chunk(1, b"w") + chunk(2, unknown + number(5, 3)))
    message = merged(ParallelStrategyMap, strategy_pieces(memoryview(data)))

    assert [(item.param_name, item.parallel_layouts.field) for item in message.parallel_layout_item] == [("w", 3)]


PROGRAM = """
import json, sys
from google.protobuf.internal import api_implementation
from damaged_strategies import mutants, outcome
print(json.dumps([api_implementation.Type(), *map(outcome, mutants())]))
"""


def test_both_runtimes_of_protobuf_read_the_same():
    """A damaged file is refused by both runtimes, or gives the same message."""
    found = {}
    for runtime in ("python", "upb"):
        environment = {
            **os.environ,
            "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": runtime,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        }
        done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, stdout=subprocess.PIPE, check=True)
        used, *found[runtime] = json.loads(done.stdout)

        assert used == runtime
    assert found["python"] == found["upb"]
    assert 0 < found["upb"].count("refused") < len(found["upb"])
