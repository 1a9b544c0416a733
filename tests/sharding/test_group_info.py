"""Group info files: groups and ranks to restore from equal MindSpore's; other files are refused."""

from __future__ import annotations

import json

import pytest
from checkpoints import checkpoint, chunk, counting, number
from hypothesis import given
from hypothesis import strategies as st
from mindspore_results import GOLDEN

from lazyckpt.errors import CorruptFile, LazyCkptError, MissingFile, TruncatedFile, UnreadableFile, WrongFormat
from lazyckpt.formats.proto.group_info_pb2 import ParallelGroupMap
from lazyckpt.sharding.group_info import GroupInfo, read_group_info

FOLDER = GOLDEN / "sharded" / "group_info"
RECORDED = json.loads((FOLDER / "expected.json").read_text(encoding="utf-8"))["files"]
GOOD = (FOLDER / "group_info_5.pb").read_bytes()


@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_file_gives_what_mindspore_gave(name):
    """The groups equal MindSpore's, and so does the result of `restore_group_info_list`."""
    groups = {group: tuple(ranks) for group, ranks in RECORDED[name]["groups"].items()}

    assert read_group_info(str(FOLDER / name)) == GroupInfo(groups, tuple(RECORDED[name]["restore_group_info_list"]))


ranks = st.lists(st.integers(0, 2**32 - 1), max_size=20)


@given(groups=st.dictionaries(st.text(min_size=1, max_size=9), ranks, max_size=5), restore=st.none() | ranks)
def test_any_group_info_is_read(groups, restore, tmp_path_factory):
    """The list of ranks to restore from may be empty, as MindSpore writes it outside of training, or missing."""
    items = [{"group_name": name, "parallel_group_ranks": {"dim": dims}} for name, dims in groups.items()]
    message = ParallelGroupMap(parallel_group_item=items)
    if restore is not None:
        message.ckpt_restore_rank_list.dim.extend(restore)
        message.ckpt_restore_rank_list.SetInParent()
    path = tmp_path_factory.mktemp("g") / "g.pb"
    path.write_bytes(message.SerializeToString() or chunk(2, b""))

    assert read_group_info(str(path)) == GroupInfo(
        {name: tuple(dims) for name, dims in groups.items()}, tuple(restore or ())
    )


@pytest.mark.parametrize(
    ("data", "error", "what"),
    [
        (b"", WrongFormat, "this is not a group info file: it is empty"),
        ((FOLDER / "strategy.ckpt").read_bytes(), WrongFormat, "its first byte is 0x08"),
        (checkpoint({"w": counting((2, 3))}), WrongFormat, "a field 2 that no"),
        (GOOD + number(9, 1), WrongFormat, "a field 9 that no"),
        (GOOD[:-1], TruncatedFile, "the group info file is damaged"),
        (chunk(1, chunk(2, number(1, 0))), CorruptFile, "a group has no name"),
    ],
    ids=["nothing", "a strategy", "a checkpoint", "an unknown field", "cut short", "a group without a name"],
)
def test_other_files_are_refused(data, error, what, tmp_path):
    """The error names the file and says that it is not a group info file."""
    (tmp_path / "g.pb").write_bytes(data)

    with pytest.raises(error, match=rf"g\.pb: .*{what}"):
        read_group_info(str(tmp_path / "g.pb"))


def test_a_file_that_cannot_be_read_is_an_error_of_its_own(tmp_path):
    """A missing file and a folder of that name have their own errors."""
    with pytest.raises(MissingFile, match=r"the group info file .*none\.pb does not exist"):
        read_group_info(str(tmp_path / "none.pb"))
    with pytest.raises(UnreadableFile, match="cannot be read"):
        read_group_info(str(tmp_path))


@given(data=st.data())
def test_damaged_files_give_a_group_info_or_are_refused(tmp_path_factory, data):
    """A change of a few bytes raises no other error."""
    damaged = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("g") / "g.pb"
    path.write_bytes(damaged[: data.draw(st.integers(0, len(damaged)))])
    try:
        outcome = isinstance(read_group_info(str(path)), GroupInfo)
    except LazyCkptError:
        outcome = True

    assert outcome
