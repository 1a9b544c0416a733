"""Handles: an opened object is reopened elsewhere from a pickle that holds no value and no key."""

from __future__ import annotations

import copy
import gc
import importlib
import io
import multiprocessing
import operator
import os
import pickle
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest
from checkpoints import LAYERS, MIXED, checkpoint, counting
from encryption import KEY, MODES, encrypted, shows
from forking import ended, forked
from safetensors_files import file_of

import lazyckpt
from lazyckpt import KeyReference
from lazyckpt.checkpoint.mapping import StoredValues
from lazyckpt.errors import ArgumentValueError, ChangedFile, ClosedCheckpoint, MissingFile, NotPicklable
from lazyckpt.loading import open_all, open_checkpoint

BIG = {"big": counting((1000, 1000)), "small": counting((3,))}


def written(folder, data, name="net.ckpt"):
    """The path of a new file."""
    path = folder / name
    path.write_bytes(data)
    return str(path)


@pytest.fixture
def path(tmp_path):
    """A checkpoint with one of each kind of value."""
    return written(tmp_path, checkpoint(MIXED))


def again(thing):
    """The object after a round trip through pickle."""
    return pickle.loads(pickle.dumps(thing))


def plain(ckpt):
    """All values of a mapping, as plain data."""
    return [(name, facts(value)) for name, value in ckpt.items()]


def use(thing):
    """Read something that needs the file."""
    return len(thing) if isinstance(thing, lazyckpt.Checkpoint) else thing.asnumpy()


def facts(value):
    """A value as plain data."""
    if isinstance(value, list):
        return [facts(part) for part in value]
    array = np.asarray(value)
    return value if isinstance(value, str) else (array.shape, str(array.dtype), array.tobytes())


def sharded_folder(folder):
    """A folder of two parts."""
    (folder / "parts").mkdir()
    for number, (name, array) in enumerate(LAYERS.items()):
        written(folder / "parts", checkpoint({name: array}), f"{number}.ckpt")
    return folder / "parts"


def listing_of(folder):
    """A set of safetensors files, written by lazyckpt."""
    with lazyckpt.load_checkpoint(written(folder, checkpoint(LAYERS)), index="memory") as ckpt:
        return next(name for name in ckpt.save(folder / "net.safetensors", max_shard_size=64) if name.endswith("json"))


WAYS = {
    "plain": lambda folder: lazyckpt.load_checkpoint(written(folder, checkpoint(MIXED))),
    "an index in memory": lambda folder: lazyckpt.load_checkpoint(written(folder, checkpoint(MIXED)), index="memory"),
    "an index at a path": lambda folder: lazyckpt.load_checkpoint(
        written(folder, checkpoint(MIXED)), index=folder / "my.lmdb"
    ),
    "chosen names": lambda folder: lazyckpt.load_checkpoint(
        written(folder, checkpoint(MIXED)), choice_func=lambda name: "e" in name
    ),
    "a view": lambda folder: lazyckpt.load_checkpoint(written(folder, checkpoint(MIXED))).select("conv"),
    "safetensors": lambda folder: lazyckpt.load_checkpoint(
        written(folder, file_of(LAYERS), "net.safetensors"), format="safetensors"
    ),
    "a set": lambda folder: lazyckpt.load_checkpoint(listing_of(folder), format="safetensors"),
    "a set with all entries": lambda folder: open_all(listing_of(folder)),
    "any name": lambda folder: open_checkpoint(written(folder, checkpoint(MIXED), "net.bin")),
    "all entries": lambda folder: open_all(written(folder, checkpoint(MIXED), "net.bin")),
    "parts": lambda folder: lazyckpt.open_sharded(sharded_folder(folder)),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_what_was_opened_is_opened_again(way, tmp_path, monkeypatch):
    """However and wherever a file was opened, the pickle gives the same names, order and values."""
    monkeypatch.chdir(tmp_path)
    with WAYS[way](tmp_path) as ckpt:
        expected, sent = plain(ckpt), pickle.dumps(ckpt)
    monkeypatch.chdir("/")
    received = pickle.loads(sent)

    assert expected
    assert plain(received) == expected


def test_relative_paths_are_those_of_the_folder_where_it_was_opened(path, tmp_path, monkeypatch):
    """Relative paths of file, index and key are resolved in the opener's folder, not in the reader's."""
    written(tmp_path, encrypted(checkpoint(LAYERS)), "secret.ckpt")
    (tmp_path / "right.key").write_bytes(KEY)
    monkeypatch.chdir(tmp_path)
    with lazyckpt.load_checkpoint("secret.ckpt", dec_key=KeyReference(file="right.key"), index="my.lmdb") as ckpt:
        sent = pickle.dumps(ckpt)
    os.makedirs("elsewhere")
    monkeypatch.chdir("elsewhere")

    assert plain(pickle.loads(sent)) == [(name, facts(array)) for name, array in LAYERS.items()]
    assert os.listdir() == []


def test_values_are_sent_one_by_one(path):
    """A pickled parameter has name, shape and dtype, and reads its value after unpickling."""
    with lazyckpt.load_checkpoint(path) as ckpt:
        expected = {name: facts(value) for name, value in ckpt.items() if isinstance(value, lazyckpt.Parameter)}
        sent = {name: pickle.dumps(ckpt[name]) for name in expected}
    received = {name: pickle.loads(data) for name, data in sent.items()}

    assert {name: facts(param) for name, param in received.items()} == expected
    assert {repr(param) for param in received.values()} == {repr(pickle.loads(data)) for data in sent.values()}


def test_a_pickle_holds_no_value(tmp_path):
    """For four million bytes in the file, a pickle has less than a thousand, also of a value that was read."""
    with lazyckpt.load_checkpoint(written(tmp_path, checkpoint(BIG))) as ckpt:
        ckpt["big"].asnumpy()
        sizes = [len(pickle.dumps(thing)) for thing in (ckpt, ckpt["big"])]

    assert max(sizes) < 1000


def test_edits_in_memory_are_carried(path):
    """Values assigned, added, removed or set in a parameter are the same after unpickling; the file is unchanged."""
    with lazyckpt.load_checkpoint(path) as ckpt:
        first, second, third = [name for name in ckpt if isinstance(ckpt[name], lazyckpt.Parameter)][:3]
        ckpt[first].set_data(np.arange(5))
        ckpt[second] = np.ones((2, 2))
        del ckpt[third]
        ckpt["new"] = "text"
        ckpt["other"] = ckpt[first]
        received = again(ckpt)

        assert plain(received) == plain(ckpt)
        assert received["other"] is received[first]


def test_a_set_parameter_keeps_its_value_name_and_flag(path):
    """A pickled parameter keeps its value from `set_data` and its attributes set by users."""
    with lazyckpt.load_checkpoint(path) as ckpt:
        param = next(value for value in ckpt.values() if isinstance(value, lazyckpt.Parameter))
        param.set_data(np.arange(7, dtype="int8"))
        param.name, param.requires_grad = "renamed", False

        assert repr(again(param)) == "Parameter (name=renamed, shape=(7,), dtype=Int8, requires_grad=False)"
        assert facts(again(param)) == facts(param)


def test_all_that_comes_from_one_checkpoint_shares_one_open_file(path):
    """A mapping and its values, from one pickle or several, read through the same map."""
    with lazyckpt.load_checkpoint(path) as ckpt:
        name = next(name for name in ckpt if isinstance(ckpt[name], lazyckpt.Parameter) and ckpt[name].size)
        one, two, param = again(ckpt), again(ckpt), again(ckpt[name])
    views = [one[name].asnumpy(), two[name].asnumpy(), param.asnumpy()]

    assert np.shares_memory(views[0], views[1])
    assert np.shares_memory(views[0], views[2])
    assert one[name] is not two[name]


def test_closing_one_leaves_the_others_open(path):
    """The file is closed with the last object, not with the first."""
    with lazyckpt.load_checkpoint(path) as ckpt:
        expected = plain(ckpt)
        one, two = again(ckpt), again(ckpt)
    view = one.select(lambda name: True)
    with one:
        pass
    with pytest.raises(ClosedCheckpoint):
        one[expected[0][0]]

    assert plain(view) == plain(two) == expected


def test_the_file_is_closed_with_the_last_of_them(path):
    """An unpickled object keeps the file open only as long as it lives itself."""
    with lazyckpt.load_checkpoint(path) as ckpt:
        sent = pickle.dumps(ckpt)
    received = pickle.loads(sent)
    len(received)
    held = list(importlib.import_module("lazyckpt.reading.handles")._shared)
    del received
    gc.collect()

    assert len(held) == 1
    assert list(importlib.import_module("lazyckpt.reading.handles")._shared) == []


def test_many_threads_open_a_file_once(path, monkeypatch):
    """Threads that unpickle at the same time share one open file."""
    opened = []
    handles = importlib.import_module("lazyckpt.reading.handles")
    real = handles._opened
    monkeypatch.setattr(handles, "_opened", lambda *how: opened.append(how) or real(*how))
    with lazyckpt.load_checkpoint(path) as ckpt:
        sent, expected = pickle.dumps(ckpt), plain(ckpt)
    with ThreadPoolExecutor(8) as pool:
        received = list(pool.map(pickle.loads, [sent] * 64))
        found = list(pool.map(plain, received))

    assert len(opened) == 1
    assert found == [expected] * 64


@pytest.mark.parametrize("way", ["rewritten", "replaced", "shorter"])
def test_a_file_that_changed_is_an_error(way, tmp_path):
    """After a write, a replacement or a truncation, no values of the other file are returned."""
    path = written(tmp_path, checkpoint(LAYERS))
    with lazyckpt.load_checkpoint(path) as ckpt:
        sent = [pickle.dumps(ckpt), pickle.dumps(next(iter(ckpt.values())))]
    if way == "replaced":
        os.replace(written(tmp_path, checkpoint({**LAYERS, "more": counting((2,))}), "other.ckpt"), path)
    else:
        written(tmp_path, checkpoint(dict(list(LAYERS.items())[: None if way == "rewritten" else 1])))
        os.utime(path, (5, 5))
    for data in sent:
        with pytest.raises(ChangedFile, match=r"net\.ckpt.*open it again"):
            use(pickle.loads(data))


def test_a_file_that_is_gone_is_an_error(path):
    """A missing file raises an error that names it."""
    with lazyckpt.load_checkpoint(path) as ckpt:
        sent = pickle.dumps(ckpt)
    os.remove(path)
    with pytest.raises(MissingFile, match=path):
        use(pickle.loads(sent))


def test_a_rank_that_changed_is_noticed(tmp_path):
    """With several files, a change of any of them is detected, not only of the newest."""
    folder = sharded_folder(tmp_path)
    os.utime(folder / "1.ckpt", ns=(2**62, 2**62))
    with lazyckpt.open_sharded(folder) as ckpt:
        sent = pickle.dumps(ckpt)
    os.utime(folder / "0.ckpt", ns=(2**60, 2**60))
    with pytest.raises(ChangedFile):
        use(pickle.loads(sent))


def test_who_passes_a_pickle_on_needs_no_file(path):
    """A scheduler may unpickle and pickle again without the file: it is opened when a value is used."""
    with lazyckpt.load_checkpoint(path) as ckpt:
        ckpt["new"] = "text"
        sent = [pickle.dumps(thing) for thing in (ckpt, ckpt.select("conv"), ckpt["fc.weight"])]
    os.rename(path, f"{path}.away")
    passed_on = [pickle.dumps(pickle.loads(data)) for data in sent]
    os.rename(f"{path}.away", path)

    assert [list(pickle.loads(data)) for data in passed_on[:2]] == [[*MIXED, "new"], ["conv1.weight", "conv1.bias"]]
    assert np.array_equal(pickle.loads(passed_on[2]), MIXED["fc.weight"])


def test_what_it_does_not_have_is_an_attribute_error(path):
    """An unpickled or a partly constructed object also raises AttributeError."""
    with lazyckpt.load_checkpoint(path) as ckpt:
        for thing in (ckpt, again(ckpt), again(ckpt["fc.weight"])._reader):
            with pytest.raises(AttributeError, match="nothing"):
                getattr(thing, "nothing")  # noqa: B009 (a name that is not there)
    with pytest.raises(AttributeError, match="source"):
        getattr(StoredValues.__new__(StoredValues), "source")  # noqa: B009 (half made)


def test_a_closed_checkpoint_is_not_pickled(path):
    """The error comes from pickling, not from unpickling."""
    ckpt = lazyckpt.load_checkpoint(path)
    ckpt.close()
    with pytest.raises(ClosedCheckpoint):
        pickle.dumps(ckpt)


# Keys


@pytest.mark.parametrize("mode", MODES)
def test_a_key_is_never_pickled_and_the_error_says_how(mode, tmp_path):
    """A checkpoint, a view and a value opened with a literal key cannot be pickled."""
    path = written(tmp_path, encrypted(checkpoint(LAYERS), mode))
    with lazyckpt.load_checkpoint(path, dec_key=KEY, dec_mode=mode) as ckpt:
        for thing in (ckpt, ckpt.select(""), next(iter(ckpt.values()))):
            with pytest.raises(NotPicklable, match=r"KeyReference\(file=…\)") as caught:
                pickle.dumps(thing)
            assert not shows(str(caught.value).encode(), KEY)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("place", ["file", "variable"])
def test_the_place_of_a_key_is_pickled(place, mode, tmp_path, monkeypatch):
    """The other process reads the key from its location; values' names are sealed in the pickle."""
    monkeypatch.setenv("CKPT_KEY", f"hex:{KEY.hex()}")
    (tmp_path / "right.key").write_bytes(KEY)
    reference = KeyReference(**{place: "CKPT_KEY" if place == "variable" else str(tmp_path / "right.key")})
    path = written(tmp_path, encrypted(checkpoint(LAYERS), mode))
    with lazyckpt.load_checkpoint(path, dec_key=reference, dec_mode=mode) as ckpt:
        sent = pickle.dumps(ckpt)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        received = pool.apply(plain, (pickle.loads(sent),))

    assert received == [(name, facts(array)) for name, array in LAYERS.items()]
    assert not shows(sent, KEY)


def test_a_key_that_is_gone_is_an_error(tmp_path, monkeypatch):
    """The error says where the key was looked for."""
    monkeypatch.setenv("CKPT_KEY", f"hex:{KEY.hex()}")
    path = written(tmp_path, encrypted(checkpoint(LAYERS)))
    with lazyckpt.load_checkpoint(path, dec_key=KeyReference(variable="CKPT_KEY")) as ckpt:
        sent = pickle.dumps(ckpt)
    monkeypatch.delenv("CKPT_KEY")
    with pytest.raises(ArgumentValueError, match="CKPT_KEY"):
        use(pickle.loads(sent))


@pytest.mark.parametrize("mode", MODES)
def test_every_reader_takes_a_reference(mode, tmp_path):
    """Every function that takes a key also takes a reference to one."""
    (tmp_path / "right.key").write_bytes(KEY)
    reference = KeyReference(file=str(tmp_path / "right.key"))
    path = written(tmp_path, encrypted(checkpoint(LAYERS), mode))
    lazyckpt.build_index(path, reference, mode).close()
    verify, diagnose = (
        getattr(importlib.import_module(f"lazyckpt.explore.{room}"), name)
        for room, name in (("verify", "verify"), ("doctor", "diagnose"))
    )

    assert verify(path, reference).intact
    assert diagnose(path, reference).healthy
    with lazyckpt.open_sharded([path], dec_key=reference, dec_mode=mode) as ckpt:
        assert plain(again(ckpt)) == plain(ckpt)


def test_a_reference_to_nothing_is_no_key(path):
    """An empty reference opens plain files, as None does."""
    with lazyckpt.load_checkpoint(path, dec_key=KeyReference()) as ckpt:
        assert plain(again(ckpt)) == plain(ckpt)


def test_bytes_in_memory_are_not_pickled():
    """Bytes in memory are in no file that another process could open."""
    with (
        lazyckpt.load_checkpoint(io.BytesIO(file_of(LAYERS)), format="safetensors") as ckpt,
        pytest.raises(NotPicklable, match="not opened from a file"),
    ):
        pickle.dumps(ckpt)


# Copies


def test_a_deep_copy_has_values_and_edits_of_its_own(path):
    """Changes in one copy do not show in the other; both read the same file."""
    with lazyckpt.load_checkpoint(path) as ckpt:
        name = next(name for name in ckpt if isinstance(ckpt[name], lazyckpt.Parameter) and ckpt[name].size)
        ckpt["new"] = [1]
        other, param = copy.deepcopy(ckpt), copy.deepcopy(ckpt[name])
        other["new"].append(2)
        other[name].set_data(np.zeros(1))

        assert (ckpt["new"], ckpt[name].is_edited, param.is_edited) == ([1], False, False)
        assert np.shares_memory(param.asnumpy(), ckpt[name].asnumpy())


def test_a_shallow_copy_is_a_copy_of_a_dict(path):
    """`copy.copy` gives a mapping with its own edits and the same values."""
    with lazyckpt.load_checkpoint(path) as ckpt:
        name = next(iter(ckpt))
        other = copy.copy(ckpt)
        del other[name]

        assert name in ckpt
        assert [other[name] is ckpt[name] for name in other] == [True] * len(other)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_what_cannot_be_pickled_can_be_copied(duplicate, tmp_path):
    """A checkpoint with a literal key can be copied: the copy reads the same open file."""
    path = written(tmp_path, encrypted(checkpoint(LAYERS)))
    with lazyckpt.load_checkpoint(path, dec_key=KEY) as ckpt:
        assert plain(duplicate(ckpt)) == plain(ckpt)


# Other processes


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_workers_read_what_they_are_sent(method, tmp_path):
    """Spawned processes, forked ones and those of a fork server give the file's values."""
    with lazyckpt.load_checkpoint(written(tmp_path, checkpoint(BIG))) as ckpt:
        params = [*ckpt.values()] * 8
        context = multiprocessing.get_context(method)
        with ProcessPoolExecutor(2, mp_context=context) as pool:
            rows = list(pool.map(operator.itemgetter(-1), params))
            names = list(pool.map(list, [ckpt] * 2))

        assert [facts(row) for row in rows] == [facts(param[-1]) for param in params]
        assert names == [list(ckpt)] * 2


def test_a_fork_reads_what_came_out_of_a_pickle(path):
    """In a forked child open objects can be used, and more can be opened."""
    with lazyckpt.load_checkpoint(path) as ckpt:
        expected, sent = plain(ckpt), pickle.dumps(ckpt)
    received = pickle.loads(sent)

    def read():
        assert (plain(received), plain(pickle.loads(sent))) == (expected, expected)

    assert ended(forked(read)) == 0


@pytest.mark.parametrize("name", ["cloudpickle", "joblib"])
def test_other_picklers_will_do(name, path, tmp_path):
    """The picklers of dask and of scikit-learn work too, where they are installed."""
    library = pytest.importorskip(name)
    with lazyckpt.load_checkpoint(path) as ckpt:
        expected = plain(ckpt)
        if name == "cloudpickle":
            received = pickle.loads(library.dumps(ckpt))
        else:
            library.dump(ckpt, tmp_path / "sent")
            received = library.load(tmp_path / "sent")

    assert plain(received) == expected
