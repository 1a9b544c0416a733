"""Opening the files of a checkpoint: broken ones are found, and nothing stays open that was not kept."""

from __future__ import annotations

import os

import pytest
from run_folders import write

from lazyckpt.errors import CorruptFile
from lazyckpt.sharding.file_opener import FileOpener
from lazyckpt.sharding.members import PARTS, RANKS, Members


@pytest.fixture
def opener():
    """An opener whose files are closed in the end."""
    with FileOpener(None, "AES-GCM", "memory", 0) as opened:
        yield opened


def descriptors():
    """The number of open files of this process."""
    return len(os.listdir("/proc/self/fd"))


def test_members_are_found_again_until_all_files_are_whole(opener, tmp_path):
    """Each time with the faults so far, and without opening a file twice."""
    paths = [
        str(write(tmp_path / f"{number}.ckpt", number, state))
        for number, state in enumerate(["cut", "cut", "whole", "whole"])
    ]
    asked = []

    def find(broken):
        asked.append(list(broken))
        whole = [path for path in paths if path not in broken]
        return Members(RANKS, (whole[0], paths[3]), "")

    assert opener.members(find).files == (paths[2], paths[3])
    assert asked == [[], paths[:1], paths[:2]]
    assert opener.opened(paths[2]) is opener.opened(paths[2])
    with pytest.raises(CorruptFile, match=r"0\.ckpt"):
        opener.opened(paths[0])


def test_members_that_stay_the_same_are_taken_with_their_faults(opener, tmp_path):
    """All files that can be opened are open then."""
    paths = tuple(str(write(tmp_path / f"{state}.ckpt", 1, state)) for state in ("cut", "whole"))

    assert opener.members(lambda broken: Members(RANKS, paths, "")).files == paths
    assert len(opener.opened(paths[1]).index) == 2


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="descriptors are counted in /proc")
def test_files_that_are_not_kept_are_closed(tmp_path):
    """On leaving the block."""
    paths = [str(write(tmp_path / f"{number}.ckpt", number)) for number in range(3)]
    before = descriptors()
    with FileOpener(None, "AES-GCM", "memory", 0) as opened:
        kept = opened.opened(paths[0])
        opened.opened(paths[1])
        opened.keep(paths[:1])
    left = descriptors()
    kept.close()

    assert (left > before, descriptors()) == (True, before)


def test_parts_are_not_opened_in_advance(opener, tmp_path):
    """There is nothing to choose: the first fault is raised when the files are opened in their order."""
    path = str(write(tmp_path / "a.ckpt", 1, "cut"))
    found = Members(PARTS, (path,), "")

    assert opener.members(lambda broken: found) is found
    with pytest.raises(CorruptFile):
        opener.opened(path)
