"""Checkpoints in several files: opened as one, and only if the listing and the files agree."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil

import numpy as np
import pytest
from checkpoints import MIXED, checkpoint, counting
from encryption import encrypted
from safetensors_files import file_of

import lazyckpt
from lazyckpt.errors import (
    ArgumentValueError,
    CorruptFile,
    LazyCkptError,
    MissingFile,
    StaleIndex,
    UnreadableFile,
    WrongFormat,
)
from lazyckpt.sharding.weight_map import format_of_name

KEY = bytes(range(1, 17))
TENSORS = {f"layer{number}.weight": counting((number + 1, 4)) for number in range(6)}
FIRST, SECOND = dict([*TENSORS.items()][:4]), dict([*TENSORS.items()][4:])


def set_of(folder, first, second, ending="safetensors", homes=None):
    """The path of a listing over two files with these contents."""
    names = [f"model-{number}-of-2.{ending}" for number in (1, 2)]
    for name, (data, _) in zip(names, (first, second), strict=True):
        (folder / name).write_bytes(data)
    held = {name: file for file, (_, held) in zip(names, (first, second), strict=True) for name in held}
    listing = folder / f"model.{ending}.index.json"
    listing.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": held if homes is None else homes}))
    return str(listing)


def safetensors_set(folder, **options):
    """A set of two safetensors files."""
    return set_of(folder, (file_of(FIRST, {"format": "pt"}), FIRST), (file_of(SECOND), SECOND), **options)


def opened(path, **options):
    """The set, opened."""
    return lazyckpt.load_checkpoint(path, format="safetensors" if "safetensors" in path else "ckpt", **options)


def test_a_set_is_one_checkpoint(tmp_path):
    """Names, values, slices, selections and loads equal those of one file with everything."""
    with opened(safetensors_set(tmp_path)) as ckpt:
        assert list(ckpt) == sorted(FIRST) + sorted(SECOND)
        assert all((ckpt[name].asnumpy() == array).all() for name, array in TENSORS.items())
        assert (ckpt["layer5.weight"][2:4, 1] == TENSORS["layer5.weight"][2:4, 1]).all()
        assert list(ckpt.select("layer5")) == ["layer5.weight"]
        assert {name: array.tolist() for name, array in ckpt.load().items()} == {
            name: array.tolist() for name, array in TENSORS.items()
        }
        assert (ckpt.metadata, ckpt.path) == ({"format": "pt"}, str(tmp_path / "model.safetensors.index.json"))


def test_values_are_views_of_their_files(tmp_path):
    """A value is copied only if it would also be copied from a single file."""
    with opened(safetensors_set(tmp_path)) as ckpt:
        array = ckpt["layer4.weight"].asnumpy()

        assert not array.flags.owndata
        assert np.shares_memory(array, ckpt["layer4.weight"].asnumpy())


def test_each_file_has_an_index_of_its_own(tmp_path, walks):
    """A second open scans no file."""
    path = safetensors_set(tmp_path)
    for _ in range(2):
        opened(path).close()

    assert len(walks) == 2
    assert sorted(name for name in os.listdir(tmp_path) if name.endswith(".lmdb")) == [
        "model-1-of-2.safetensors.lmdb",
        "model-2-of-2.safetensors.lmdb",
    ]


@pytest.mark.parametrize("encrypts", [False, True])
def test_a_set_may_be_of_ckpt_files(encrypts, tmp_path):
    """A set may consist of `.ckpt` files, also of encrypted ones, with strings and maps."""
    first, second = dict([*MIXED.items()][:3]), dict([*MIXED.items()][3:])
    data = [checkpoint(part) if not encrypts else encrypted(checkpoint(part), block=100) for part in (first, second)]
    path = set_of(tmp_path, (data[0], first), (data[1], second), "ckpt")
    with opened(path, dec_key=KEY if encrypts else None) as ckpt:
        read = ckpt.load()

    assert list(read) == list(MIXED)
    assert all(np.array_equal(read[name], value) for name, value in MIXED.items() if name != "table")
    assert [array.tolist() for array in read["table"]] == [array.tolist() for array in MIXED["table"]]


def test_a_file_that_changed_is_noticed(tmp_path):
    """A changed header is a stale index, as with a single file."""
    path = safetensors_set(tmp_path)
    with opened(path, index="memory") as ckpt:
        part = tmp_path / "model-2-of-2.safetensors"
        data = part.read_bytes()
        with part.open("r+b") as file:
            file.seek(data.index(b'"layer4.weight"') + 1)
            file.write(b"LAYER4")

        with pytest.raises(StaleIndex, match=r"layer4\.weight"):
            ckpt["layer4.weight"].asnumpy()


def test_what_the_listing_leaves_out_is_there_all_the_same(tmp_path):
    """A tensor that a file holds belongs to the checkpoint, listed or not."""
    homes = dict.fromkeys(FIRST, "model-1-of-2.safetensors") | {"layer4.weight": "model-2-of-2.safetensors"}

    with opened(safetensors_set(tmp_path, homes=homes)) as ckpt:
        assert (ckpt["layer5.weight"].asnumpy() == TENSORS["layer5.weight"]).all()


FAULTS = {
    "a name in no file": ({"ghost": "model-1-of-2.safetensors"}, CorruptFile, "in no part.*'ghost'"),
    "a name in the other file": (
        {"layer0.weight": "model-2-of-2.safetensors", "layer1.weight": "model-1-of-2.safetensors"},
        CorruptFile,
        "it is in model-1.*layer0",
    ),
    "a file outside": ({"layer0.weight": "../secret.safetensors"}, CorruptFile, "outside its folder.*secret"),
    "an absolute path": ({"layer0.weight": "/etc/passwd"}, CorruptFile, "outside its folder"),
    "a file in a folder": ({"layer0.weight": "sub/x.safetensors"}, CorruptFile, "outside its folder"),
    "a file of Windows": ({"layer0.weight": "..\\x.safetensors"}, CorruptFile, "outside its folder"),
    "the folder itself": ({"layer0.weight": ".."}, CorruptFile, "outside its folder"),
    "no text": ({"layer0.weight": 7}, CorruptFile, "no 'weight_map'"),
    "nothing": ({}, CorruptFile, "no 'weight_map'"),
    "a missing file": ({"layer0.weight": "gone.safetensors"}, MissingFile, "gone.safetensors does not exist"),
}


@pytest.mark.parametrize("what", FAULTS)
def test_a_listing_that_is_wrong_is_refused(what, tmp_path):
    """The error names the listing, the file and the parameter, and no file stays open."""
    homes, kind, message = FAULTS[what]
    path = safetensors_set(tmp_path, homes=homes)

    with pytest.raises(kind, match=rf"{re.escape(path)}.*{message}"):
        opened(path)


def test_a_set_of_links_is_opened_beside_its_links(tmp_path):
    """Names may link to files of other names in other folders, as in the cache of the Hugging Face Hub."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "main"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    safetensors_set(snapshot)
    for number, path in enumerate(sorted(snapshot.iterdir())):
        path.rename(blobs / str(number))
        path.symlink_to(os.path.relpath(blobs / str(number), snapshot))

    with opened(str(snapshot / "model.safetensors.index.json")) as ckpt:
        assert {name: value.tolist() for name, value in ckpt.load().items()} == {
            name: array.tolist() for name, array in TENSORS.items()
        }


def test_a_link_to_a_listing_opens_the_set_beside_it(tmp_path):
    """If only the listing is a link, the parts are beside its target."""
    (tmp_path / "set").mkdir()
    (tmp_path / "link.safetensors.index.json").symlink_to(safetensors_set(tmp_path / "set"))

    with opened(str(tmp_path / "link.safetensors.index.json")) as ckpt:
        assert list(ckpt) == sorted(TENSORS)


def test_an_index_is_not_built_of_a_listing(tmp_path):
    """The error says that each file has its own index."""
    with pytest.raises(WrongFormat, match="listing of a checkpoint in several files: index or open these"):
        lazyckpt.build_index(safetensors_set(tmp_path))


def test_a_tensor_in_two_files_is_refused(tmp_path):
    """A tensor in two files is ambiguous."""
    path = set_of(tmp_path, (file_of(FIRST), FIRST), (file_of(TENSORS), SECOND))

    with pytest.raises(CorruptFile, match=r"in two parts.*layer0\.weight"):
        opened(path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"weight_map": []}', "[" * 100_000, '"text"'])
def test_a_listing_that_is_none_is_refused(text, tmp_path):
    """An invalid listing is refused, whatever else the file contains."""
    path = tmp_path / "x.safetensors.index.json"
    path.write_text(text)

    with pytest.raises(CorruptFile, match="listing"):
        opened(str(path))


def test_a_listing_that_cannot_be_read_is_reported(tmp_path):
    """A folder with the listing's name is refused."""
    path = tmp_path / "x.safetensors.index.json"
    path.mkdir()

    with pytest.raises(UnreadableFile):
        opened(str(path))


def test_a_set_has_no_single_index(tmp_path):
    """A path for the index is refused, with the alternatives."""
    with pytest.raises(ArgumentValueError, match="'auto' or 'memory'"):
        opened(safetensors_set(tmp_path), index=str(tmp_path / "index.lmdb"))


def test_a_part_that_is_damaged_is_named(tmp_path):
    """The error names the damaged file."""
    path = safetensors_set(tmp_path)
    part = tmp_path / "model-2-of-2.safetensors"
    part.write_bytes(part.read_bytes()[:-1])

    with pytest.raises(LazyCkptError, match=r"model-2-of-2\.safetensors"):
        opened(path)


@pytest.mark.parametrize("ending", ["ckpt", "safetensors"])
def test_a_set_is_written_and_read_again(ending, tmp_path):
    """`max_shard_size` limits a part's bytes, except for a single larger value; names follow the convention."""
    source = tmp_path / "whole.ckpt"
    source.write_bytes(checkpoint(TENSORS))
    with lazyckpt.load_checkpoint(source) as ckpt:
        written = ckpt.save(tmp_path / f"net.{ending}", max_shard_size=160)
    with opened(written[-1]) as parts:
        read = parts.load()

    assert [os.path.basename(path) for path in written] == [
        *(f"net-0000{number}-of-00003.{ending}" for number in (1, 2, 3)),
        f"net.{ending}.index.json",
    ]
    assert sorted(read) == sorted(TENSORS)
    assert all((read[name] == array).all() for name, array in TENSORS.items())
    assert json.loads((tmp_path / f"net.{ending}.index.json").read_text())["metadata"] == {"total_size": 336}


def test_a_set_that_fits_one_file_is_one_file(tmp_path):
    """A set that fits in one file gets no listing."""
    source = tmp_path / "whole.ckpt"
    source.write_bytes(checkpoint(TENSORS))
    with lazyckpt.load_checkpoint(source) as ckpt:
        assert ckpt.save(tmp_path / "net.ckpt", max_shard_size=10**6) == [str(tmp_path / "net.ckpt")]


def test_a_set_is_never_overwritten(tmp_path):
    """Several files cannot be replaced atomically, so an old set is kept."""
    shutil.copy(safetensors_set(tmp_path), tmp_path / "copy.json")
    with opened(safetensors_set(tmp_path)) as ckpt:
        with pytest.raises(ArgumentValueError, match=r"set already.*model\.safetensors\.index\.json"):
            ckpt.save(tmp_path / "model.safetensors", max_shard_size=160)
        assert len(ckpt.load()) == 6


def test_a_set_that_fails_leaves_nothing(tmp_path):
    """If a part cannot be written, the parts before it are removed."""
    source = tmp_path / "whole.ckpt"
    source.write_bytes(checkpoint(TENSORS))
    (tmp_path / "net-00003-of-00003.ckpt").mkdir()
    with lazyckpt.load_checkpoint(source, index="memory") as ckpt, pytest.raises(LazyCkptError, match="is a folder"):
        ckpt.save(tmp_path / "net.ckpt", max_shard_size=160)

    assert sorted(os.listdir(tmp_path)) == ["net-00003-of-00003.ckpt", "whole.ckpt"]


DISAGREEMENTS = {
    "a name in no file": ({"ghost": "model-1-of-2.safetensors"}, {"ghost": "in no part"}),
    "names in the other file": (
        {"layer0.weight": "model-2-of-2.safetensors", "layer5.weight": "model-1-of-2.safetensors"},
        {"layer0.weight": "it is in model-1-of-2", "layer5.weight": "it is in model-2-of-2"},
    ),
}


@pytest.mark.parametrize("given", ["folder", "listing"])
@pytest.mark.parametrize("what", DISAGREEMENTS)
def test_the_values_of_a_wrong_listing_that_are_whole_can_be_read(what, given, tmp_path):
    """`open_sharded` refuses only the names about which listing and files disagree; loading refuses the set."""
    wrong, refused = DISAGREEMENTS[what]
    homes = dict.fromkeys(FIRST, "model-1-of-2.safetensors") | dict.fromkeys(SECOND, "model-2-of-2.safetensors")
    path = safetensors_set(tmp_path, homes=homes | wrong)
    with lazyckpt.open_sharded(tmp_path if given == "folder" else path, index="memory") as ckpt:
        assert sorted(ckpt) == sorted({*TENSORS, *refused})
        for name in ckpt:
            if name not in refused:
                assert (ckpt[name].asnumpy() == TENSORS[name]).all()
                continue
            assert ckpt.entry(name).kind == "refused"
            with pytest.raises(CorruptFile, match=f"{refused[name]}.*{name}"):
                ckpt[name]
        received = pickle.loads(pickle.dumps(ckpt))
        assert (received["layer1.weight"].asnumpy() == TENSORS["layer1.weight"]).all()
    with pytest.raises(CorruptFile, match=next(iter(refused))):
        opened(path)


def test_a_name_in_two_parts_is_refused_alone(tmp_path):
    """Which of the two is meant cannot be known."""
    both = {**SECOND, "layer0.weight": TENSORS["layer0.weight"] + 1}
    set_of(tmp_path, (file_of(FIRST), FIRST), (file_of(both), both))
    with lazyckpt.open_sharded(tmp_path, index="memory") as ckpt:
        assert sorted(ckpt) == sorted(TENSORS)
        with pytest.raises(CorruptFile, match="it is in two parts"):
            ckpt["layer0.weight"]
        assert (ckpt["layer5.weight"].asnumpy() == TENSORS["layer5.weight"]).all()


def test_a_name_map_is_a_listing_of_safetensors():
    """Its name says nothing of the format."""
    names = ["m.ckpt.index.json", "m.safetensors.index.json", "f/param_name_map.json"]

    assert [format_of_name(name) for name in names] == ["ckpt", "safetensors", "safetensors"]
