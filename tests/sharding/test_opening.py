"""Distributed checkpoints: every recorded set gives the original tensors, or an error says what is missing."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pickle
import resource
import shutil

import numpy as np
import pytest
from checkpoints import array_value, checkpoint, counting, string_value
from encryption import KEY, encrypted
from forking import ended, forked
from run_folders import rank_folder, strategy_of, write
from safetensors_files import file_of
from sharded_sets import CASES, SETS, facts, opened, problems, truth

import lazyckpt
from lazyckpt.errors import (
    ArgumentTypeError,
    ArgumentValueError,
    CorruptFile,
    FileInTheWay,
    LazyCkptError,
    MissingFile,
    NothingLoaded,
    TooManyOpenFiles,
    WrongFormat,
)
from lazyckpt.index.name_groups import tally

# What a reader cannot put together, and how it says so.
STEPS_DIFFER = "damaged/two_files"  # rank 0 has two steps that no other rank has
WHOLE = [name for name in CASES if name != STEPS_DIFFER]
WORDS = {"missing_rank": "has no file", "missing_param": "lacks it", "shape": "slice has the shape", "dtype": "Float16"}


@pytest.mark.parametrize("name", WHOLE)
def test_every_set_gives_the_tensors_that_were_cut(name):
    """Shape, dtype and bytes equal the original tensor's, also where MindSpore is wrong or gives up."""
    lost = {*problems(name), *({"z"} if name == "damaged/truncated" else ())}
    with opened(name, **({"collisions": "last"} if name == "segmented/many" else {})) as ckpt:
        expected = {one: (known["dtype"], known["shape"], known["sha256"]) for one, known in truth(name).items()}
        found = {one: (str(ckpt[one].dtype), *facts(ckpt[one].asnumpy())) for one in expected if one not in lost}

    assert found == {one: known for one, known in expected.items() if one not in lost}


@pytest.mark.parametrize("name", [name for name in CASES if problems(name)])
def test_what_cannot_be_put_together_says_why(name):
    """The error names the parameter and the file or the rank; other parameters load."""
    with opened(name) as ckpt:
        for one, kind in problems(name).items():
            with pytest.raises(CorruptFile, match=rf"{WORDS[kind]}.*in parameter '{one}'"):
                ckpt[one].asnumpy()


@pytest.mark.parametrize("name", WHOLE)
def test_a_set_that_was_pickled_gives_the_same(name):
    """Each pickled parameter alone can also be read, whole and in rows, before any other was read there."""
    lost = {*problems(name), *({"z"} if name == "damaged/truncated" else ())}
    with opened(name, **({"collisions": "last"} if name == "segmented/many" else {})) as ckpt:
        kept = [one for one in truth(name) if one not in lost]
        expected = [facts(ckpt[one].asnumpy()) for one in kept]
        sent = pickle.dumps(ckpt)
        params = [(pickle.dumps(ckpt[one]), facts(ckpt[one][..., :1])) for one in kept[:9] if ckpt[one].ndim]
    for data, row in params:
        assert facts(pickle.loads(data)[..., :1]) == row
    received = pickle.loads(sent)

    assert [facts(received[one].asnumpy()) for one in kept] == expected


def test_ranks_of_two_steps_are_refused():
    """MindSpore merges them; the error names the steps of each rank."""
    with pytest.raises(MissingFile, match=r"rank 0: 9_1, 10_1; ranks 1, 2 and 3: 1_1"):
        opened(STEPS_DIFFER)


def test_a_file_that_is_cut_costs_what_only_it_has(caplog):
    """Values with copies in other files load; a warning and the error name the truncated file."""
    with caplog.at_level(logging.WARNING), opened("damaged/truncated") as ckpt:
        with pytest.raises(CorruptFile, match=r"nowhere: .*rank_1/m-1_1\.ckpt: .*in parameter 'z'"):
            ckpt["z"].asnumpy()
        assert ckpt["w"].shape == (8, 4)
    assert "rank 1 cannot be read" in caplog.text


@pytest.mark.parametrize("ending", ["ckpt", "safetensors"])
def test_a_distributed_checkpoint_is_saved_as_one_file(ending, tmp_path):
    """A saved distributed checkpoint is one file with the whole tensors."""
    with opened("mixed_2x4/protobuf") as ckpt:
        ckpt.save(tmp_path / f"whole.{ending}")
        expected = {name: facts(array) for name, array in ckpt.load().items()}
    with lazyckpt.load_checkpoint(tmp_path / f"whole.{ending}", format=ending) as whole:
        assert {name: facts(array) for name, array in whole.load().items()} == expected


@pytest.mark.parametrize("name", ["rank_0/m-1_1.ckpt", "strategy.ckpt"])
def test_a_distributed_checkpoint_replaces_nothing_that_it_is_made_of(name, tmp_path):
    """A rank's file and the strategy are never replaced: the other ranks' files are useless without them."""
    folder = shutil.copytree(SETS / "damaged" / "good", tmp_path / "good")
    before = (folder / name).read_bytes()
    with lazyckpt.open_sharded(folder, folder / "strategy.ckpt") as ckpt, pytest.raises(FileInTheWay):
        ckpt.save(folder / name)

    assert (folder / name).read_bytes() == before


def test_each_file_keeps_its_own_index(tmp_path):
    """The indexes stand beside the files, and a second open scans no file."""
    folder = shutil.copytree(SETS / "damaged" / "good", tmp_path / "good")
    for _ in range(2):
        lazyckpt.open_sharded(folder, folder / "strategy.ckpt").close()

    assert sorted(path.name for path in tmp_path.rglob("*.lmdb")) == ["m-1_1.ckpt.lmdb"] * 4


def rank_folders(folder, count):
    """Folders of ranks, each with a row of `w`; returns the folder and the strategy's path."""
    for rank in range(count):
        (folder / f"rank_{rank}").mkdir(parents=True)
        row = np.full((1, 4), rank, np.float32)
        (folder / f"rank_{rank}" / "m-1_1.ckpt").write_bytes(checkpoint({"w": row}))
    strategy = folder / "strategy.json"
    layout = {"dev_matrix": [count], "tensor_map": [0, -1]}
    strategy.write_text(json.dumps({"parallel_layout_item": {"w": layout}}), encoding="utf-8")
    return folder, strategy


def with_descriptors(count, act):
    """Call a function in a child that may have so many files open more than now; returns how the child ended."""

    def act_with_few():
        used = len(os.listdir("/proc/self/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + count, used + count))
        act()

    return ended(forked(act_with_few))


def test_more_ranks_than_a_process_may_have_files_open(tmp_path):
    """Three hundred ranks are indexed, opened again and read with fewer descriptors than a third of that."""
    folder, strategy = rank_folders(tmp_path, 300)

    def read():
        for _ in range(2):
            with lazyckpt.open_sharded(folder, strategy) as ckpt:
                assert ckpt["w"].asnumpy()[:, 0].tolist() == list(range(300))
                assert ckpt["w"][150, 2] == 150
                soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
                opened = [path for path in open_files() if path.startswith(str(tmp_path))]
                assert 0 < len(opened) <= soft // 2

    assert with_descriptors(90, read) == 0


def test_more_checkpoints_than_a_process_may_have_files_open(tmp_path):
    """Two hundred files are open at once, each with its index, their values and slices with them."""
    folder, _ = rank_folders(tmp_path, 200)
    files = [folder / f"rank_{rank}" / "m-1_1.ckpt" for rank in range(200)]

    def read():
        opened = [lazyckpt.load_checkpoint(file) for file in files]
        values = [ckpt["w"].asnumpy() for ckpt in opened]
        assert [value[0, 0] for value in values] == list(range(200))
        assert [ckpt["w"][0, 1] for ckpt in reversed(opened)] == list(range(199, -1, -1))
        assert len(open_files()) < 90

    assert with_descriptors(90, read) == 0


def open_files():
    """The paths of the files that this process has open."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.append(os.readlink(f"/proc/self/fd/{number}"))
    return found


@pytest.mark.parametrize("index", ["auto", "memory"])
def test_where_no_file_can_be_opened_no_rank_is_called_damaged(index, tmp_path, caplog):
    """If other files use up the limit, the error names the limit; no rank is left out, and no index is built."""
    folder, strategy = rank_folders(tmp_path, 3)
    if index == "auto":
        lazyckpt.open_sharded(folder, strategy).close()

    def read():
        others = []
        with contextlib.suppress(OSError):
            while True:
                others.append(os.open("/dev/null", os.O_RDONLY))
        errors = []
        while True:
            try:
                lazyckpt.open_sharded(folder, strategy, index=index).close()
                break
            except TooManyOpenFiles as error:
                errors.append(str(error))
            os.close(others.pop())
        assert errors
        assert [error for error in errors if "ulimit -n" not in error or "permission" in error] == []
        assert caplog.records == []

    assert with_descriptors(20, read) == 0


def test_encrypted_ranks_open_with_their_key(tmp_path):
    """Slices of encrypted files are decrypted when they are needed."""
    folder = shutil.copytree(SETS / "damaged" / "good", tmp_path / "good")
    for file in folder.glob("rank_*/*.ckpt"):
        file.write_bytes(encrypted(file.read_bytes(), block=100))
    with lazyckpt.open_sharded(folder, folder / "strategy.ckpt", KEY) as ckpt:
        assert {name: facts(array)[1] for name, array in ckpt.load().items() if name in truth("damaged/good")} == {
            name: known["sha256"] for name, known in truth("damaged/good").items()
        }


# Parts.


def parts(folder, *contents):
    """The parts' paths."""
    paths = []
    for number, content in enumerate(contents):
        paths.append(folder / f"part{number}.ckpt")
        paths[-1].write_bytes(checkpoint(content))
    return paths


def test_parts_are_united(tmp_path):
    """A folder of files, or a list of them, is one checkpoint with all their names."""
    paths = parts(tmp_path, {"a": counting((2,)), "s": "text"}, {"b": counting((3,))})
    for given in (tmp_path, paths, [str(path) for path in paths]):
        with lazyckpt.open_sharded(given, index="memory") as ckpt:
            assert list(ckpt) == ["a", "s", "b"]
            assert (ckpt["s"], ckpt["b"].asnumpy().tolist()) == ("text", [0, 1, 2])


@pytest.mark.parametrize(("collisions", "value"), [("first", 0), ("last", 1)])
def test_of_names_that_collide_one_counts_as_asked(collisions, value, tmp_path):
    """The value follows the option; the position is the first file's."""
    parts(tmp_path, {"a": counting((2,)), "b": np.float32(0)}, {"b": np.float32(1), "c": counting((2,))})
    with lazyckpt.open_sharded(tmp_path, collisions=collisions) as ckpt:
        assert (list(ckpt), float(ckpt["b"]), len(ckpt.select("b"))) == (["a", "b", "c"], value, 1)


def test_names_that_collide_are_refused(tmp_path):
    """The error names the parameter and both files."""
    parts(tmp_path, {"b": counting((1,))}, {"b": counting((1,))})

    with pytest.raises(CorruptFile, match=r"part0\.ckpt and in .*part1\.ckpt.*'b'"):
        lazyckpt.open_sharded(tmp_path)


def test_files_saved_whole_need_no_strategy(tmp_path):
    """With `whole=True` the lowest rank's values count."""
    for rank in (0, 1):
        (tmp_path / f"rank_{rank}").mkdir()
        (tmp_path / f"rank_{rank}" / "net.ckpt").write_bytes(
            array_value("w", np.float32(rank)) + string_value("s", "x")
        )
    with lazyckpt.open_sharded(tmp_path, whole=True) as ckpt:
        assert (float(ckpt["w"]), list(ckpt)) == (0, ["w", "s"])


def test_parts_of_two_formats_are_refused(tmp_path):
    """The error names one file of each."""
    parts(tmp_path, {"a": counting((2,))})
    (tmp_path / "b.safetensors").write_bytes(file_of({"b": counting((2,))}))

    with pytest.raises(ArgumentValueError, match="one format"):
        lazyckpt.open_sharded(tmp_path)


WRONG = {
    "no strategy": (lambda folder: ((folder / "good",), {}), ArgumentValueError, "files of 4 ranks: give the strategy"),
    "no ranks": (lambda folder: ((folder, folder / "good" / "strategy.ckpt"), {}), MissingFile, "rank_<N> folders"),
    "no files": (lambda folder: ((folder,), {}), MissingFile, "no checkpoint"),
    "no folder": (lambda folder: ((folder / "none",), {}), LazyCkptError, "none"),
    "no strategy file": (lambda folder: ((folder / "good", folder / "x.ckpt"), {}), MissingFile, "no strategy file"),
    "an empty folder of strategies": (lambda folder: ((folder / "good", folder), {}), MissingFile, "no strategy file"),
    "a checkpoint for a strategy": (
        lambda folder: ((folder / "good", folder / "good" / "rank_0" / "m-1_1.ckpt"), {}), WrongFormat, "strategy file"
    ),
    "a place for the index": (lambda folder: ((folder,), {"index": "x.lmdb"}), ArgumentValueError, "index of its own"),
    "collisions": (lambda folder: ((folder,), {"collisions": "ask"}), ArgumentValueError, "refuse, first, last"),
    "a number": (lambda folder: ((7,), {}), ArgumentTypeError, "folder, or paths"),
    "bytes": (lambda folder: (([b"x"],), {}), ArgumentTypeError, "not bytes"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_what_makes_no_sense_is_refused(what, tmp_path):
    """Each invalid argument has its own message, and no file stays open."""
    shutil.copytree(SETS / "damaged" / "good", tmp_path / "good")
    make, kind, message = WRONG[what]
    arguments, options = make(tmp_path)

    with pytest.raises(kind, match=message):
        lazyckpt.open_sharded(*arguments, **options)


def test_empty_parts_are_nothing(tmp_path):
    """Files without parameters are refused as such."""
    parts(tmp_path, {}, {})

    with pytest.raises(NothingLoaded):
        lazyckpt.open_sharded(tmp_path)


def test_no_rank_that_can_be_read_is_an_error(tmp_path):
    """If every file is damaged, the first fault is reported."""
    (tmp_path / "rank_0").mkdir()
    (tmp_path / "rank_0" / "net.ckpt").write_bytes(b"\xff" * 50)

    with pytest.raises(MissingFile, match=r"rank_0/net\.ckpt"):
        lazyckpt.open_sharded(tmp_path, SETS / "damaged" / "good" / "strategy.ckpt")


def test_descriptors_are_not_needed_to_list_names(tmp_path):
    """Names, shapes and dtypes are known without a payload."""
    with opened("llama2_tp2/tp2") as ckpt:
        shapes = {name: ckpt[name].shape for name in ckpt}

    assert shapes == {name: tuple(facts["shape"]) for name, facts in truth("llama2_tp2/tp2").items()}
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("name", [name for name in CASES if not problems(name) and name.partition("/")[0] != "damaged"])
def test_whole_tensors_are_shown_and_measured(name):
    """Trees show whole shapes, and statistics equal those of the original tensor."""
    with opened(name, **({"collisions": "last"} if name == "segmented/many" else {})) as ckpt:
        entries, groups = list(ckpt.index.entries()), tally(ckpt.index)
        measured = {row.name: row.moments.square for row in ckpt.stats() if not row.skipped}
        values = {one: value.asnumpy() for one, value in ckpt.items() if isinstance(value, lazyckpt.Parameter)}
        shown = ckpt.tree().to_dict()

    assert sum(group.nbytes for group in groups) == sum(entry.nbytes for entry in entries)
    assert sum(group.amount for group in groups) == len(entries)
    assert shown["count"] == len(ckpt)
    assert {one: measured[one] for one in values} == pytest.approx(
        {one: float((value.astype(np.float64) ** 2).sum()) for one, value in values.items()}
    )


# Folders of which only some files belong together.


def test_what_was_taken_is_logged(tmp_path, caplog):
    """One sentence; a warning if something newer was passed over."""
    folder = rank_folder(tmp_path, {(0, "m-1_10.ckpt"): 1, (1, "m-1_10.ckpt"): 1})
    with caplog.at_level(logging.INFO):
        lazyckpt.open_sharded(folder, strategy_of(folder, 2), index="memory").close()
        write(folder / "rank_1" / "m-1_20.ckpt", 2)
        lazyckpt.open_sharded(folder, strategy_of(folder, 2), index="memory").close()

    assert [(record.levelname, record.message) for record in caplog.records if "opened" in record.message] == [
        ("INFO", f"opened m-1_10.ckpt of 2 ranks in {folder}"),
        ("WARNING", f"opened m-1_10.ckpt of 2 ranks in {folder}; not the newer 1_20 (not whole on rank 0)"),
    ]


@pytest.mark.parametrize(("step", "value"), [(None, 2), (10, 1), ("1_10", 1), ("net-1_20", 2)])
def test_a_step_of_a_run_is_one_file(step, value, tmp_path):
    """The newest, or the one that was asked for; the checkpoint has the path of the file."""
    for number in (1, 2):
        write(tmp_path / f"net-1_{number}0.ckpt", number)
    with lazyckpt.open_sharded(tmp_path, step=step, index="memory") as ckpt:
        assert (float(ckpt["own"][0]), ckpt.path) == (value, str(tmp_path / f"net-1_{value}0.ckpt"))


def test_the_newest_step_that_can_be_read_is_taken(tmp_path):
    """A cut file is noticed when it is opened; a step that was asked for is not replaced by another."""
    for number, state in ((1, "whole"), (2, "cut"), (3, "empty")):
        write(tmp_path / f"net-{number}_1.ckpt", number, state)
    with lazyckpt.open_sharded(tmp_path, index="memory") as ckpt:
        assert float(ckpt["own"][0]) == 1
    with pytest.raises(CorruptFile, match=r"net-2_1\.ckpt"):
        lazyckpt.open_sharded(tmp_path, step="2_1", index="memory")


def test_parts_with_names_of_steps_are_refused(tmp_path):
    """Two files without a common name are no steps of one run: one of them would be half of it."""
    for number in (1, 2):
        (tmp_path / f"net-{number}_2.ckpt").write_bytes(checkpoint({f"w{number}": counting((2,))}))
    with pytest.raises(CorruptFile, match="no name in common"):
        lazyckpt.open_sharded(tmp_path, index="memory")
    with lazyckpt.open_sharded(sorted(tmp_path.glob("*.ckpt")), index="memory") as ckpt:
        assert list(ckpt) == ["w1", "w2"]


def test_a_missing_key_is_not_a_damaged_step(tmp_path):
    """Without the key of the newest file, an older one that is not encrypted is not taken in its place."""
    path = write(tmp_path / "net-1_1.ckpt", 1)
    (tmp_path / "net-1_2.ckpt").write_bytes(encrypted(path.read_bytes(), block=100))

    with pytest.raises(lazyckpt.errors.EncryptedFile, match=r"net-1_2\.ckpt"):
        lazyckpt.open_sharded(tmp_path, index="memory")
    with pytest.raises(lazyckpt.errors.WrongKey, match=r"net-1_2\.ckpt"):
        lazyckpt.open_sharded(tmp_path, None, bytes(16), index="memory")
    with pytest.raises(ArgumentValueError, match="mode"):
        lazyckpt.open_sharded(tmp_path, None, KEY, "AES-XYZ", index="memory")


@pytest.mark.parametrize("listing", ["m.safetensors.index.json", "param_name_map.json"])
def test_the_listing_of_a_folder_says_what_belongs_to_it(listing, tmp_path, caplog):
    """A part that is not there is an error with its name; a file that the listing does not name is not opened."""
    for name in ("a", "b", "other"):
        (tmp_path / f"{name}.safetensors").write_bytes(file_of({name: counting((2,))}))
    homes = {name: f"{name}.safetensors" for name in ("a", "b")}
    (tmp_path / listing).write_text(json.dumps({"weight_map": homes}))
    with lazyckpt.open_sharded(tmp_path, index="memory") as ckpt:
        assert list(ckpt) == ["a", "b"]
    assert "not other.safetensors, which it does not name" in caplog.text
    (tmp_path / "b.safetensors").unlink()

    for given in (tmp_path, tmp_path / listing):
        with pytest.raises(MissingFile, match=r"b\.safetensors does not exist"):
            lazyckpt.open_sharded(given, index="memory")


@pytest.mark.parametrize("is_flat", [True, False])
def test_a_map_of_names_is_a_listing(is_flat, tmp_path):
    """MindSpore's `unified_safetensors` writes `weight_map`, MindFormers the names alone; a file beside it belongs."""
    (tmp_path / "part0.safetensors").write_bytes(file_of({"w": counting((2,))}))
    (tmp_path / "hyper_param.safetensors").write_bytes(file_of({"step": counting((1,))}))
    homes = {"w": "part0.safetensors"}
    (tmp_path / "param_name_map.json").write_text(json.dumps(homes if is_flat else {"weight_map": homes}))

    with lazyckpt.open_sharded(tmp_path, index="memory") as ckpt:
        assert sorted(ckpt) == ["step", "w"]


def test_a_set_that_was_pickled_opens_by_its_listing(tmp_path):
    """Also from a folder to which another listing was added."""
    (tmp_path / "a.safetensors").write_bytes(file_of({"w": counting((2,))}))
    listing = tmp_path / "m.safetensors.index.json"
    listing.write_text(json.dumps({"weight_map": {"w": "a.safetensors"}}))
    with lazyckpt.open_sharded(tmp_path, index="memory") as ckpt:
        sent = pickle.dumps(ckpt["w"])
    (tmp_path / "n.safetensors.index.json").write_text(listing.read_text())

    assert pickle.loads(sent).asnumpy().tolist() == [0, 1]


def test_a_step_is_for_a_folder(tmp_path):
    """With the path of a file it is an error."""
    path = write(tmp_path / "net-1_1.ckpt", 1)
    with pytest.raises(ArgumentValueError, match="files are given"):
        lazyckpt.open_sharded(path, step=1)


def test_a_numbered_part_that_is_not_given_is_named(tmp_path, caplog):
    """Some parts of a set open if they are given, with a warning."""
    (tmp_path / "m-1-of-2.ckpt").write_bytes(checkpoint({"a": counting((2,))}))
    lazyckpt.open_sharded([tmp_path / "m-1-of-2.ckpt"], index="memory").close()

    assert "not m-2-of-2.ckpt" in caplog.text
    with pytest.raises(MissingFile, match=r"its part m-2-of-2\.ckpt does not exist"):
        lazyckpt.open_sharded(tmp_path, index="memory")
