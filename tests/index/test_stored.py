"""An index found damaged during reading is rebuilt once, and the interrupted reader continues."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from checkpoints import checkpoint, counting
from encryption import KEY, MODES, encrypted
from forking import ended, forked

import lazyckpt
from lazyckpt.errors import ClosedCheckpoint, StaleIndex
from lazyckpt.explore.index_status import sidecars_of
from lazyckpt.index import locations, stored
from lazyckpt.index.name_groups import tally

VALUES = {f"layer{number}.weight": counting((2, 2)) + number for number in range(3000)}
FILE = checkpoint(VALUES)
SOME = "layer1234.weight"
LOOKS = {
    "a name": lambda index: index[SOME].name == SOME,
    "whether there is a name": lambda index: SOME in index,
    "all names": lambda index: list(index) == list(VALUES),
    "all entries": lambda index: [entry.name for entry in index.entries()] == list(VALUES),
    "names by their beginning": lambda index: [name for name, _ in index.with_prefix("layer1234.")] == [SOME],
    "what is irregular": lambda index: list(index._irregular()) == [],
    "kinds": lambda index: sum(group.amount for group in tally(index)) == len(VALUES),
}


@pytest.fixture
def file(tmp_path):
    """A checkpoint with an index of many pages."""
    path = tmp_path / "net.ckpt"
    path.write_bytes(FILE)
    return path


def damage(sidecar):
    """Clear every page of a sidecar, open or not, except those that opening reads."""
    path = Path(sidecar)
    path.chmod(0o600)
    os.truncate(path, 0)


@pytest.fixture
def damaged(file):
    """The open index of the checkpoint, damaged after opening."""
    index = lazyckpt.build_index(file)
    damage(index.path)
    yield index
    index.close()


def is_sound(file):
    """Whether the index beside a file is fresh."""
    return [sidecar.state for sidecar in sidecars_of(str(file))] == ["fresh"]


@pytest.mark.parametrize("look", LOOKS)
def test_who_meets_damage_reads_on(look, file, damaged, walks):
    """The reader gets its value, and the damaged sidecar is replaced by a sound one after one scan."""
    assert LOOKS[look](damaged)
    assert all(each(damaged) for each in LOOKS.values())
    assert (is_sound(file), len(walks)) == (True, 1)


def test_values_are_read_on(file):
    """An open checkpoint gives all its values."""
    with lazyckpt.load_checkpoint(str(file)) as ckpt:
        damage(f"{file}.lmdb")

        assert {name: value.tolist() for name, value in ckpt.load().items()} == {
            name: value.tolist() for name, value in VALUES.items()
        }


def test_a_walk_that_had_begun_goes_on(file, damaged):
    """Names yielded before the damage are not repeated."""
    os.truncate(damaged.path, 0)
    names = iter(damaged)
    first = [next(names) for _ in range(3)]

    assert [*first, *names] == list(VALUES)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("sealed", [True, False], ids=["sealed", "clear"])
def test_the_index_of_an_encrypted_file_is_built_again_with_its_key(mode, sealed, file):
    """The rebuilt index is sealed or in clear, as the old one was."""
    file.write_bytes(encrypted(FILE, mode, block=8192))
    index = lazyckpt.build_index(file, KEY, mode, sealed=sealed)
    damage(index.path)

    assert list(index) == list(VALUES)
    assert (b"layer1234" in Path(f"{file}.lmdb").read_bytes()) is not sealed
    index.close()


def test_many_threads_that_meet_it_build_one(damaged, walks):
    """Threads that meet the same damage wait, and use what the first one built."""
    wrong = []

    def read():
        wrong.extend(name for name in VALUES if damaged[name].name != name)

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (wrong, len(walks)) == ([], 1)


def test_what_another_process_built_meanwhile_is_used(file, damaged, walks):
    """A sound index built by another process in the meantime is not rebuilt."""
    lazyckpt.build_index(file, force=True).close()

    assert (damaged[SOME].name, len(walks)) == (SOME, 1)


def test_damage_of_the_rebuilt_index_is_reported(damaged):
    """An index is rebuilt once; if the rebuilt one is damaged too, the disk is suspect."""
    assert SOME in damaged
    damage(damaged.path)

    with pytest.raises(StaleIndex, match="damaged"):
        list(damaged)


def test_a_file_that_was_replaced_is_not_taken_for_the_old_one(file, damaged, walks):
    """The damage is reported; nothing is built for the replaced file until it is opened."""
    new = file.with_name("new")
    new.write_bytes(checkpoint({"other": counting((3,))}))
    os.replace(new, file)

    with pytest.raises(StaleIndex, match="damaged") as caught:
        list(damaged)
    assert "replaced" in str(caught.value.__cause__)
    assert len(walks) == 0
    assert list(lazyckpt.build_index(file)) == ["other"]


def test_a_file_that_is_gone_leaves_the_error(file, damaged):
    """Without the file the index cannot be rebuilt."""
    file.unlink()

    with pytest.raises(StaleIndex, match="damaged"):
        list(damaged)


def test_lost_digests_are_reported_and_the_next_open_finds_an_index(file):
    """Lost digests cannot be computed again: digests of today's bytes would hide damage."""
    index = lazyckpt.build_index(file, digest="blake2b")
    damage(index.path)

    with pytest.raises(StaleIndex, match="had digests"):
        list(index)
    assert is_sound(file)
    again = lazyckpt.build_index(file)
    assert (list(again), again.has_digests) == (list(VALUES), False)


def test_where_it_cannot_be_replaced_it_is_kept_elsewhere(file, damaged, monkeypatch):
    """Where the damaged index cannot be replaced, the new one goes to the user's cache folder."""
    monkeypatch.setattr(locations, "beside", lambda path: str(file / "no folder"))

    assert list(damaged) == list(VALUES)
    assert damaged.path == locations.cached(str(file))


def test_an_index_at_a_path_of_its_own_is_built_again_there(file, tmp_path):
    """An index at an explicit path is rebuilt there only."""
    index = lazyckpt.build_index(file, index_path=tmp_path / "elsewhere.lmdb")
    damage(index.path)

    assert list(index) == list(VALUES)
    assert index.path == str(tmp_path / "elsewhere.lmdb")
    assert not os.path.exists(f"{file}.lmdb")


def test_a_closed_index_stays_closed(damaged):
    """Damage does not reopen a closed index."""
    damaged.close()

    with pytest.raises(ClosedCheckpoint):
        list(damaged)


def test_a_child_forked_while_another_thread_builds_does_not_wait(damaged):
    """The child does not inherit the lock held by a thread of its parent."""

    def read():
        assert list(damaged) == list(VALUES)

    with stored._lock:
        child = forked(read)

    assert ended(child) == 0
