"""Distributed checkpoints: every recorded set gives the original tensors, or an error says what is missing."""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import os
import pickle
import re
import shutil
import tracemalloc

import numpy as np
import pytest
from checkpoints import array_value, checkpoint, counting, string_value
from encryption import KEY, encrypted
from safetensors_files import file_of
from sharded_sets import CASES, SETS, opened, problems

import lazyckpt
from lazyckpt.errors import (
    ArgumentTypeError,
    ArgumentValueError,
    CorruptFile,
    FileInTheWay,
    LazyCkptError,
    MissingFile,
    NothingLoaded,
    WrongFormat,
)
from lazyckpt.index.name_groups import tally

# What a reader cannot put together, and how it says so.
WORDS = {"missing_rank": "has no file", "missing_param": "lacks it", "shape": "slice has the shape", "dtype": "Float16"}


def truth(name):
    """The original tensors: name -> facts."""
    case = CASES[name][1]
    return {**(case.get("originals") or case["tensors"]), **case.get("original", {})}


def facts(array):
    """The recorded facts of a tensor."""
    return list(array.shape), hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


@pytest.mark.parametrize("name", CASES)
def test_every_set_gives_the_tensors_that_were_cut(name):
    """Shape, dtype and bytes equal the original tensor's, also where MindSpore is wrong or gives up."""
    lost = {*problems(name), *({"z"} if name == "damaged/truncated" else ())}
    with opened(name, **({"collisions": "last"} if name == "segmented/many" else {})) as ckpt:
        expected = {one: (facts["dtype"], facts["shape"], facts["sha256"]) for one, facts in truth(name).items()}
        found = {one: (str(ckpt[one].dtype), *facts(ckpt[one].asnumpy())) for one in expected if one not in lost}

    assert found == {one: facts for one, facts in expected.items() if one not in lost}


@pytest.mark.parametrize("name", [name for name in CASES if problems(name)])
def test_what_cannot_be_put_together_says_why(name):
    """The error names the parameter and the file or the rank; other parameters load."""
    with opened(name) as ckpt:
        for one, kind in problems(name).items():
            with pytest.raises(CorruptFile, match=rf"{WORDS[kind]}.*in parameter '{one}'"):
                ckpt[one].asnumpy()


@pytest.mark.parametrize("name", CASES)
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


def test_a_file_that_is_cut_costs_what_only_it_has(caplog):
    """Values with copies in other files load; a warning and the error name the truncated file."""
    with caplog.at_level(logging.WARNING), opened("damaged/truncated") as ckpt:
        with pytest.raises(CorruptFile, match=r"nowhere: .*rank_1/m-1_1\.ckpt: .*in parameter 'z'"):
            ckpt["z"].asnumpy()
        assert ckpt["w"].shape == (8, 4)
    assert "rank 1 cannot be read" in caplog.text


CHECKED = [name for name, (_, case) in CASES.items() if "strict_problems" in case and name != "damaged/two_files"]


@pytest.mark.parametrize("name", [name for name in CHECKED if CASES[name][1]["strict_problems"]])
def test_copies_that_disagree_are_found_on_request(name):
    """`check=True` compares every copy of every slice and lists the differing names."""
    names = {one for one, _ in CASES[name][1]["strict_problems"]}

    with pytest.raises(CorruptFile) as caught:
        opened(name, check=True)
    assert {one for one in truth(name) if f"'{one}':" in str(caught.value)} == names


@pytest.mark.parametrize(
    "name", ["damaged/good", "mixed_2x4/protobuf", "opt8/all", "pipe2x2/folder_pb", "redundancy/ckpt"]
)
def test_sound_sets_pass_the_check(name):
    """Where all copies agree, the check finds nothing."""
    opened(name, check=True).close()


def test_the_newest_file_of_a_rank_counts():
    """Among `m-9_1` and `m-10_1` the latter counts, in any order of names."""
    with opened("damaged/two_files") as ckpt:
        assert facts(ckpt["w"].asnumpy())[1] == truth("damaged/two_files")["w"]["sha256"]


KEYS = [0, -1, slice(1, 3), slice(None, None, 2), slice(None, None, -1), slice(6, 1, -3), ..., (slice(None), 1),
        (slice(2, 5), slice(1, 3)), (-1, slice(None, None, -2)), [0, 5, 5, -1], (slice(3, 3), 0), (..., 2),
        (slice(-3, None), ...), (np.array([1, 0]), slice(1, 2))]  # fmt: skip


@pytest.mark.parametrize("name", ["mixed_2x4/protobuf", "opt8/all", "opt16_layout/all", "manual_split/uneven"])
def test_slices_are_numpys(name):
    """For any cut, `param[key]` gives numpy's values and shape for the whole, or the same kind of error."""
    with opened(name) as ckpt:
        for one in truth(name):
            whole = ckpt[one].asnumpy(copy=True)
            for key in [*KEYS, np.arange(len(whole)) % 3 == 0] if whole.ndim else [(), ...]:
                assert outcome(ckpt[one], key) == outcome(whole, key), (one, key)


def outcome(indexed, key):
    """The result of indexing, in a form that can be compared."""
    try:
        value = indexed[key]
    except IndexError:
        return "IndexError"
    return type(value).__name__, value.shape, str(value.dtype), value.tobytes()


def test_loads_and_streams_are_the_whole_tensors():
    """`load`, `save` and the pieces of a stream give the values of `asnumpy`."""
    with opened("mixed_2x4/protobuf") as ckpt:
        loaded = ckpt.load()
        for name, array in loaded.items():
            entry = ckpt.entry(name)
            pieces = b"".join(piece.tobytes() for piece in ckpt._access.reader.pieces(entry, 64))

            assert facts(array) == facts(ckpt[name].asnumpy())
            assert pieces == array.tobytes()


def test_pieces_of_a_stream_can_be_asked_for_by_number():
    """A piece requested by number equals the whole stream's; pieces are rows, from any number of files."""
    with opened("mixed_2x4/protobuf") as ckpt:
        for name in ckpt:
            entry = ckpt.entry(name)
            pieces = [piece.tobytes() for piece in ckpt._access.reader.pieces(entry, 64)]
            some = [
                b"".join(p.tobytes() for p in ckpt._access.reader.pieces(entry, 64, n, 2)) for n in range(len(pieces))
            ]

            assert ckpt._access.reader.piece_count(entry, 64) == len(pieces)
            assert some == [b"".join(pieces[number : number + 2]) for number in range(len(pieces))]


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


def test_names_are_those_of_all_ranks_in_the_order_of_their_files():
    """Each name comes once, in the order of the ranks' files, strings included."""
    with opened("damaged/str_value") as ckpt:
        strings = [name for name in ckpt if isinstance(ckpt[name], str)]

        assert len(set(ckpt)) == len(list(ckpt)) == len(ckpt)
        assert strings


def test_nothing_is_read_but_the_slices_that_a_row_needs(monkeypatch):
    """One row of a tensor cut by rows reads the file of one rank."""
    with opened("llama2_tp2/tp2") as ckpt:
        name = next(name for name in ckpt if len(ckpt._access.reader._boxes(name) or ckpt.entry(name).extents) == 2
                    and ckpt[name].ndim == 2 and ckpt._access.reader._boxes(name)[1].start[0])  # fmt: skip
        touched = []
        for number, part in enumerate(ckpt._access.stored.source.parts):
            real = part._view
            monkeypatch.setattr(
                part, "_view", lambda at, size, number=number, real=real: (touched.append(number), real(at, size))[1]
            )
        ckpt[name][0]

        assert set(touched) == {0}


def test_each_file_keeps_its_own_index(tmp_path):
    """The indexes stand beside the files, and a second open scans no file."""
    folder = shutil.copytree(SETS / "damaged" / "good", tmp_path / "good")
    for _ in range(2):
        lazyckpt.open_sharded(folder, folder / "strategy.ckpt").close()

    assert sorted(path.name for path in tmp_path.rglob("*.lmdb")) == ["m-1_1.ckpt.lmdb"] * 4


def test_encrypted_ranks_open_with_their_key(tmp_path):
    """Slices of encrypted files are decrypted when they are needed."""
    folder = shutil.copytree(SETS / "damaged" / "good", tmp_path / "good")
    for file in folder.glob("rank_*/*.ckpt"):
        file.write_bytes(encrypted(file.read_bytes(), block=100))
    with lazyckpt.open_sharded(folder, folder / "strategy.ckpt", KEY) as ckpt:
        assert {name: facts(array)[1] for name, array in ckpt.load().items() if name in truth("damaged/good")} == {
            name: facts["sha256"] for name, facts in truth("damaged/good").items()
        }


# Strategies that promise more ranks than there are.


def promised(folder, layouts, ranks=2):
    """A set of few ranks, each with all names, and a JSON strategy with any layouts."""
    for rank in range(ranks):
        (folder / f"rank_{rank}").mkdir()
        data = checkpoint({name: counting((2, 2)) for name in layouts})
        (folder / f"rank_{rank}" / "net.ckpt").write_bytes(data)
    (folder / "strategy.json").write_text(json.dumps({"parallel_layout_item": layouts}))
    return lazyckpt.open_sharded(folder, folder / "strategy.json", index="memory")


def test_a_layout_of_many_ranks_costs_as_much_as_the_ranks_that_there_are(tmp_path):
    """With many parameters, each cut differently over 65,536 ranks, opening two files is cheap."""
    ways = list(itertools.permutations([2, 4, 8, 16, 64], 5))[:100]
    layouts = {f"w{number}": {"dev_matrix": list(way), "tensor_map": [0, 1]} for number, way in enumerate(ways)}
    with promised(tmp_path, layouts) as ckpt:
        tracemalloc.start()
        try:
            refused = [name for name in layouts if ckpt.entry(name).reason]
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert (len(refused), peak < 2**20) == (100, True)


@pytest.mark.parametrize("axes", [[-1, 0], [-1, -1], [0, -1]])
def test_a_part_that_nobody_has_names_five_ranks_at_most(axes, tmp_path):
    """Of thousands of ranks that should hold a copy, the error names five."""
    with promised(tmp_path, {"w": {"dev_matrix": [2**12, 4], "tensor_map": axes}}) as ckpt:
        reason = ckpt.entry("w").reason

    assert len(re.findall(r"\brank \d+ has no file", reason)) == (0 if axes == [-1, -1] else 5)


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
