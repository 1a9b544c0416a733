"""Group info files: the communication groups of a rank, and ranks with the same checkpoint.

MindSpore writes one for each rank, where the environment variable GROUP_INFO_FILE says. It is not needed to open a
distributed checkpoint: which ranks hold copies of a slice follows from the strategy. It shows which files of another
rank can be copied for a rank whose own files are lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from lazyckpt.errors import CorruptFile, FileFault, WrongFormat
from lazyckpt.sharding.rank_folders import content_of

_FIRST_KEYS: Final = (0x0A, 0x12)


class GroupInfo(NamedTuple):
    """The content of a group info file.

    Attributes:
        groups: the ranks of each communication group that the rank is in, except that of all ranks.
        restore_ranks: the ranks whose checkpoint is the same as this rank's, itself among them. Empty if the file was
            not written by a training run.
    """

    groups: Mapping[str, tuple[int, ...]]
    restore_ranks: tuple[int, ...]


def read_group_info(path: str) -> GroupInfo:
    """Read a group info file.

    Args:
        path: a path or URL of the file.

    Returns:
        Its groups, and the ranks that `mindspore.restore_group_info_list` gives.

    Raises:
        MissingFile, UnreadableFile: the file does not exist, or cannot be read.
        WrongFormat: it is something else.
        CorruptFile: it is damaged.

    Cost: in proportion to the file, which has some hundred bytes.
    """
    try:
        return _parsed(memoryview(content_of(path, "group info file")))
    except WrongFormat as error:
        raise WrongFormat(f"this is not a group info file: {error.what}", file=path) from error
    except FileFault as error:
        raise type(error)(f"the group info file is damaged: {error.what}", offset=error.offset, file=path) from error


def _parsed(data: memoryview) -> GroupInfo:
    from lazyckpt.formats.proto.reading import group_info_pieces  # protobuf is imported only where it parses

    if not len(data) or data[0] not in _FIRST_KEYS:
        raise WrongFormat(f"its first byte is {data[0]:#04x}" if len(data) else "it is empty")
    groups: dict[str, tuple[int, ...]] = {}
    restore_ranks: list[int] = []
    for piece in group_info_pieces(data):
        for item in piece.parallel_group_item:
            if not item.group_name:
                raise CorruptFile("a group has no name")
            groups[item.group_name] = tuple(item.parallel_group_ranks.dim)
        restore_ranks += piece.ckpt_restore_rank_list.dim
    return GroupInfo(groups, tuple(restore_ranks))
