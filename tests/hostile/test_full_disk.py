"""A disk that is really full: files are complete or absent, and existing files are kept."""

from __future__ import annotations

import os

import numpy as np
import pytest
from checkpoints import checkpoint
from encryption import KEY, encrypted
from small_disk import leave, names_on, on_small_disk

import lazyckpt
from lazyckpt import cli
from lazyckpt.errors import ArgumentValueError, UnwritableFile
from lazyckpt.explore.index_status import sidecars_of
from lazyckpt.index import locations

STEP = 4096  # the increase of free bytes between trials
SHAPES = {**{f"layer{number}.weight": (20, 5) for number in range(60)}, "head": (50, 60), "step": ()}


def values_of(generation):
    """Arrays in which every number is the generation."""
    return {name: np.full(shape, generation, np.float32) for name, shape in SHAPES.items()}


@pytest.fixture
def disk(tmp_path):
    """The mount point of the small disk."""
    folder = tmp_path / "disk"
    folder.mkdir()
    return folder


def generation_of(path, **options):
    """The generation of a file, after checking that all its values have it."""
    with lazyckpt.load_checkpoint(str(path), **options) as ckpt:
        found = ckpt.load()
    assert {name: value.shape for name, value in found.items()} == SHAPES
    (number,) = {float(number) for value in found.values() for number in (value.min(), value.max())}
    return int(number)


# Saving.


def saves(form, **options):
    """A function that saves arrays."""
    return form, lambda path, source: lazyckpt.save_checkpoint(values_of(2), path, format=form, **options)


def copies(form, **options):
    """A function that saves another checkpoint."""

    def write(path, source):
        with lazyckpt.load_checkpoint(str(source)) as ckpt:
            ckpt.save(path, **options)

    return form, write


WRITERS = {
    "saving": saves("ckpt"),
    "saving with a checksum": saves("ckpt", crc_check=True),
    "saving encrypted": saves("ckpt", enc_key=KEY),
    "saving encrypted by CBC": saves("ckpt", enc_key=KEY, enc_mode="AES-CBC"),
    "saving safetensors": saves("safetensors"),
    "converting": copies("ckpt"),
    "converting to safetensors": copies("safetensors"),
    "converting and encrypting": copies("ckpt", enc_key=KEY),
}
OPENING = {
    "saving encrypted": {"dec_key": KEY},
    "saving encrypted by CBC": {"dec_key": KEY, "dec_mode": "AES-CBC"},
    "converting and encrypting": {"dec_key": KEY},
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_takes_a_file_whole_or_leaves_the_old_one(writer, disk, tmp_path):
    """With any free space, saving gives the new file, or a typed error and the old file."""
    form, write = WRITERS[writer]
    lazyckpt.save_checkpoint(values_of(2), tmp_path / "source.ckpt")

    def act(folder):
        outcomes = []
        path = folder / f"net.{form}"
        for free in range(0, 32 * STEP, STEP):
            for name in names_on(folder):
                os.unlink(folder / name)
            (folder / ".filling").unlink(missing_ok=True)
            lazyckpt.save_checkpoint(values_of(1), path, format=form)
            leave(folder, free)
            try:
                write(path, tmp_path / "source.ckpt")
                told = generation_of(path, format=form, **OPENING.get(writer, {}))
            except UnwritableFile as error:
                told = -generation_of(path, format=form) * (path.name in str(error))
            outcomes.append(told)
            assert {path.name} <= set(names_on(folder)) <= {path.name, f"{path.name}.lmdb"}
        return outcomes

    outcomes = on_small_disk(disk, act)

    assert outcomes == sorted(outcomes)
    assert set(outcomes) == {-1, 2}


def test_a_set_is_complete_or_not_there(disk):
    """If the disk fills up, the shards already written are removed, and no listing is written.

    Between too little and enough space, the outcome depends on the space that earlier indexes take.
    """

    def act(folder):
        lazyckpt.save_checkpoint(values_of(1), folder / "source.ckpt")
        outcomes = []
        for free in range(0, 48 * STEP, STEP):
            for name in names_on(folder):
                if name.startswith("net"):
                    os.unlink(folder / name)
            (folder / ".filling").unlink(missing_ok=True)
            leave(folder, free)
            with lazyckpt.load_checkpoint(str(folder / "source.ckpt")) as ckpt:
                try:
                    ckpt.save(folder / "net.ckpt", max_shard_size=10_000)
                    outcomes.append(generation_of(folder / "net.ckpt.index.json"))
                except UnwritableFile:
                    assert [name for name in names_on(folder) if "net" in name] == []
                    outcomes.append(0)
        return outcomes

    outcomes = on_small_disk(disk, act)

    assert (outcomes[0], set(outcomes), outcomes[-1]) == (0, {0, 1}, 1)


@pytest.mark.parametrize("method", ["to_csv", "to_json"])
def test_a_full_disk_takes_a_table_whole_or_leaves_the_old_one(method, disk):
    """With any free space, a table is written, or there is a typed error and the old text."""
    with lazyckpt.load_checkpoint(_saved_at(disk.parent / "net.ckpt")) as ckpt:
        table = ckpt.stats()
    text = getattr(table, method)()

    def act(folder):
        outcomes = []
        path = folder / "table"
        for free in range(0, 8 * STEP, STEP):
            (folder / ".filling").unlink(missing_ok=True)
            path.write_text("old")
            leave(folder, free)
            try:
                getattr(table, method)(path)
                told = 1 if path.read_text() == text else "half"
            except UnwritableFile as error:
                told = 0 if str(path) in str(error) and path.read_text() == "old" else "lost"
            outcomes.append(told)
            assert names_on(folder) == ["table"]
        return outcomes

    outcomes = on_small_disk(disk, act)

    assert (outcomes, set(outcomes)) == (sorted(outcomes), {0, 1})


def _saved_at(path):
    lazyckpt.save_checkpoint(values_of(1), path)
    return path


@pytest.mark.parametrize("command", [["convert"], ["extract"], ["references"]])
def test_a_command_says_that_the_disk_is_full(command, disk, tmp_path, capfd):
    """The command prints one line and exits with 1; the old file is kept."""
    source = tmp_path / "source.ckpt"
    lazyckpt.save_checkpoint(values_of(2), source)
    arguments = {
        "convert": [str(source), "OUT"],
        "extract": [str(source), "layer*", "-o", "OUT"],
        "references": [str(source), "-o", "OUT"],
    }[command[0]]

    def act(folder):
        out = folder / ("out.json" if command[0] == "references" else "out.ckpt")
        out.write_bytes(b"old")
        leave(folder, 0)
        try:
            cli.app([command[0], "--force", *(str(out) if part == "OUT" else part for part in arguments)])
        except SystemExit as ended:
            return ended.code, out.read_bytes(), names_on(folder) == [out.name]

    assert on_small_disk(disk, act) == (1, b"old", True)
    told = capfd.readouterr().err
    assert told.count("\n") == 1
    assert "No space left on device" in told


# Indexes.

PLAIN = checkpoint(values_of(1))
FILES = {"plain": (PLAIN, {}), "sealed": (encrypted(PLAIN, block=8192), {"dec_key": KEY})}


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("digest", [None, "blake2b"], ids=["", "digests"])
def test_an_index_that_does_not_fit_is_kept_in_the_cache(kind, digest, disk, cache_folder):
    """The index is complete, next to its file if there is space, else in the cache."""
    data, options = FILES[kind]

    def act(folder):
        outcomes = []
        path = folder / "net.ckpt"
        path.write_bytes(data)
        for free in range(0, 12 * STEP, STEP):
            for name in {*names_on(folder), ".filling"} - {path.name}:
                (folder / name).unlink(missing_ok=True)
            leave(folder, free)
            index = lazyckpt.build_index(path, digest=digest, **options)
            assert list(index) == list(SHAPES)
            outcomes.append(index.path == f"{path}.lmdb")
            assert outcomes[-1] or index.path == locations.cached(str(path))
            assert [sidecar.state for sidecar in sidecars_of(str(path))].count("damaged") == 0
            index.close()
            assert names_on(folder) == [path.name, *[f"{path.name}.lmdb"] * outcomes[-1]]
            if not outcomes[-1]:
                os.unlink(locations.cached(str(path)))
        return outcomes

    outcomes = on_small_disk(disk, act)

    assert outcomes == sorted(outcomes)
    assert set(outcomes) == {False, True}


@pytest.mark.parametrize("kind", FILES)
def test_with_a_full_cache_too_an_index_is_in_memory(kind, disk, monkeypatch):
    """The values are right, and no partial index is left in either folder."""
    data, options = FILES[kind]

    def act(folder):
        monkeypatch.setenv("LAZYCKPT_CACHE", str(folder / "cache"))
        path = folder / "net.ckpt"
        path.write_bytes(data)
        (folder / "cache").mkdir()
        leave(folder, 0)
        with lazyckpt.load_checkpoint(str(path), **options) as ckpt:
            where = ckpt.index.path
        return where, generation_of(path, **options), names_on(folder), os.listdir(folder / "cache")

    assert on_small_disk(disk, act) == (None, 1, ["cache", "net.ckpt"], [])


@pytest.mark.parametrize("kind", FILES)
def test_an_index_that_cannot_be_replaced_stays(kind, disk, tmp_path):
    """With an explicit index path, a full disk is an error, and the old index is unchanged."""
    data, options = FILES[kind]
    path = tmp_path / "net.ckpt"
    path.write_bytes(data)

    def act(folder):
        where = folder / "index.lmdb"
        lazyckpt.build_index(path, index_path=where, **options).close()
        before = where.read_bytes()
        leave(folder, 0)
        try:
            lazyckpt.build_index(path, index_path=where, force=True, **options).close()
        except ArgumentValueError as error:
            told = "No space left on device" in str(error)
        return told, where.read_bytes() == before, names_on(folder)

    assert on_small_disk(disk, act) == (True, True, ["index.lmdb"])


def test_a_damaged_index_on_a_full_disk_is_built_again_elsewhere(disk):
    """Reads continue after the damage, and the new index is in the cache."""

    def act(folder):
        path = folder / "net.ckpt"
        path.write_bytes(PLAIN)
        index = lazyckpt.build_index(path)
        sidecar = folder / "net.ckpt.lmdb"
        os.chmod(sidecar, 0o600)
        with open(sidecar, "r+b") as file:  # keeps the size, because truncation would free space
            file.write(bytes(os.path.getsize(sidecar)))
        leave(folder, 0)
        names = list(index)
        where = index.path
        index.close()
        return names == list(SHAPES), where == locations.cached(str(path)), generation_of(path)

    assert on_small_disk(disk, act) == (True, True, 1)


def test_many_files_are_told_of_one_by_one(disk):
    """`build_indexes` does not fail on a full disk, because the indexes are in the cache."""

    def act(folder):
        paths = [folder / f"net{number}.ckpt" for number in range(3)]
        for path in paths:
            path.write_bytes(PLAIN)
        leave(folder, 0)
        built = lazyckpt.build_indexes(paths)
        return [(one.error, one.sidecar == locations.cached(str(path))) for one, path in zip(built, paths, strict=True)]

    assert on_small_disk(disk, act, 2**21) == [("", True)] * 3
