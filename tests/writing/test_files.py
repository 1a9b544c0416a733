"""Files are written whole or not at all, each with its index."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile

import numpy as np
import pytest
from checkpoints import MIXED, checkpoint, counting
from encryption import CBC_MODES, KEY, KEY_SIZES, MODES, key_of
from forking import ended, forked
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from items import values

import lazyckpt
from lazyckpt.errors import (
    ArgumentTypeError,
    ArgumentValueError,
    CorruptFile,
    FolderInTheWay,
    MissingFolder,
    UnwritableFile,
)
from lazyckpt.index import locations
from lazyckpt.index.sidecar import Sidecar
from lazyckpt.sources.encryption.cipher import MODES as CIPHER_MODES
from lazyckpt.sources.encryption.cipher import CipherKey
from lazyckpt.sources.encryption.keys import Secret
from lazyckpt.writing import files
from lazyckpt.writing.adapters import item_of
from lazyckpt.writing.files import WriteOptions, check, save

TENSORS = {name: value for name, value in MIXED.items() if not isinstance(value, (str, list))}
NO_MAP = {name: value for name, value in MIXED.items() if not isinstance(value, list)}
EVERY = [(mode, size) for mode in MODES for size in KEY_SIZES[mode]]


def items_of(values):
    """Items of these values."""
    return [item_of(name, value) for name, value in values.items()]


def lock_of(mode="AES-GCM", size=16):
    """The cipher key with this number of bytes."""
    return CipherKey(CIPHER_MODES[mode], Secret(key_of(size)))


def facts(path):
    """The facts of an index that a replacement or a write would change."""
    status = os.stat(path)
    return status.st_ino, status.st_mtime_ns, status.st_size


def loaded(path, **options):
    """Every value of a file."""
    with lazyckpt.load_checkpoint(path, **options) as ckpt:
        return {
            name: value if isinstance(value, (str, list)) else value.asnumpy(copy=True) for name, value in ckpt.items()
        }


def same(found, expected):
    """Whether two mappings have the same names in order, and the same values to the bit."""

    def plain(value):
        if isinstance(value, list):
            return [plain(part) for part in value]
        return value if isinstance(value, str) else (value.dtype, value.shape, value.tobytes())

    return [(name, plain(value)) for name, value in found.items()] == [
        (name, plain(np.asarray(value)) if np.isscalar(value) and not isinstance(value, str) else plain(value))
        for name, value in expected.items()
    ]


KINDS = {
    "plain": (WriteOptions(align=1), MIXED, {}),
    "aligned": (WriteOptions(), MIXED, {}),
    "summed": (WriteOptions(crc=True), NO_MAP, {"crc_check": True}),
    **{
        f"{mode}-{size}": (WriteOptions(lock=lock_of(mode, size)), NO_MAP, {"dec_key": key_of(size), "dec_mode": mode})
        for mode, size in EVERY
    },
    "safetensors": (WriteOptions("safetensors"), dict(sorted(TENSORS.items())), {"format": "safetensors"}),
    "safetensors-summed": (
        WriteOptions("safetensors", crc=True, metadata={"format": "ms"}),
        dict(sorted(TENSORS.items())),
        {"format": "safetensors", "crc_check": True},
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_is_found_indexed(kind, tmp_path, walks):
    """The index written along is used without a scan and without a change."""
    how, contents, options = KINDS[kind]
    path = str(tmp_path / f"net.{how.format}")
    save(path, items_of(contents), how)
    before = facts(locations.beside(path))
    found = loaded(path, **options)

    assert same(found, contents)
    assert walks == []
    assert facts(locations.beside(path)) == before
    assert sorted(os.listdir(tmp_path)) == [os.path.basename(path), os.path.basename(path) + ".lmdb"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_index_written_along_is_the_one_that_a_walk_builds(kind, tmp_path):
    """The index written along equals a scanned one in every entry and fact but the salt."""
    how, contents, options = KINDS[kind]
    path = str(tmp_path / f"net.{how.format}")
    save(path, items_of(contents), how)
    options = {name: value for name, value in options.items() if name != "crc_check"}
    with lazyckpt.load_checkpoint(path, **options) as along:
        ours, mark = dict(along.index), along.index.fingerprint
    os.unlink(locations.beside(path))
    with lazyckpt.load_checkpoint(path, **options) as built:
        assert (list(built.index.items()), built.index.fingerprint) == (list(ours.items()), mark)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(values, st.sampled_from(["plain", "aligned", "AES-GCM-16", "SM4-CBC-16"]))
def test_any_values_are_saved_and_found(tmp_path, contents, kind):
    """Any saved values can be loaded through the index that was written along."""
    how, _, options = KINDS[kind]
    contents = {
        name: value
        for name, value in contents.items()
        # no encrypted file holds a map
        if not (isinstance(value, list) and how.lock is not None)
    }
    contents["one"] = counting((1,))
    path = str(tmp_path / "any.ckpt")
    save(path, items_of(contents), how)
    texts = {name: value.rstrip("\0") for name, value in contents.items() if isinstance(value, str)}

    assert same(loaded(path, **options), contents | texts)


def test_the_index_of_an_encrypted_file_is_sealed(tmp_path):
    """The index contains no parameter name, and another key does not open it."""
    path = str(tmp_path / "net.ckpt")
    save(path, items_of(NO_MAP), WriteOptions(lock=lock_of()))
    with open(locations.beside(path), "rb") as file:
        data = file.read()

    assert [name for name in NO_MAP if len(name) > 4 and name.encode() in data] == []
    with pytest.raises(lazyckpt.errors.WrongKey):
        lazyckpt.load_checkpoint(path, dec_key=KEY[::-1])


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o644, 0o640])
def test_a_file_has_the_mode_that_is_asked_for_and_its_index_too(mode, tmp_path):
    """The index has the permissions of its file."""
    path = str(tmp_path / "net.ckpt")
    save(path, items_of(MIXED), WriteOptions(mode=mode))

    assert [stat.S_IMODE(os.stat(name).st_mode) for name in (path, locations.beside(path))] == [mode, mode]


def test_a_file_is_private_while_it_is_written(tmp_path):
    """Until it is whole, only its owner may read the file, and only private files exist."""
    seen = []

    def progress(done, total):
        seen.append({name: stat.S_IMODE(os.stat(tmp_path / name).st_mode) for name in os.listdir(tmp_path)})

    save(str(tmp_path / "net.ckpt"), items_of(MIXED), WriteOptions(mode=0o644), progress)

    assert all(set(found.values()) == {0o600} for found in seen)
    assert set().union(*seen) == {".net.ckpt.tmp", ".net.ckpt.lmdb.tmp"}


def test_progress_is_reported_in_bytes_of_contents(tmp_path):
    """Progress grows and ends at the total; a safetensors checksum reads everything twice."""
    progress = {"ckpt": [], "safetensors": []}
    for form, calls in progress.items():
        how = WriteOptions(form, crc=True)
        save(str(tmp_path / f"a.{form}"), items_of(TENSORS), how, lambda *call, to=calls: to.append(call))
    total = sum(np.asarray(value).nbytes for value in TENSORS.values())

    assert {form: calls[-1] for form, calls in progress.items()} == {
        "ckpt": (total, total),
        "safetensors": (2 * total, 2 * total),
    }
    assert all(calls == sorted(calls) for calls in progress.values())


def test_links_are_followed(tmp_path):
    """The target of a link is replaced; the link stays."""
    target, link = tmp_path / "real.ckpt", tmp_path / "link.ckpt"
    target.write_bytes(b"old")
    link.symlink_to(target)
    save(str(link), items_of(MIXED), WriteOptions(align=1))

    assert link.is_symlink()
    assert target.read_bytes() == checkpoint(MIXED)


class Fault(Exception):
    """An artificial failure."""


def failing(after):
    """Items that end in a failure."""

    def pieces():
        yield memoryview(bytes(after))
        raise Fault

    item = item_of("w", counting((100,), "int8"))
    return [*items_of(TENSORS), item._replace(contents=(item.contents[0]._replace(pieces=pieces),))]


@pytest.mark.parametrize("kind", KINDS)
def test_a_failure_leaves_the_old_file_and_its_index(kind, tmp_path):
    """After any failure half way, the folder holds exactly the old bytes."""
    how, contents, _ = KINDS[kind]
    path = str(tmp_path / f"net.{how.format}")
    save(path, items_of(contents), how)
    before = {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)}
    with pytest.raises(Fault):
        save(path, failing(50), how)

    assert {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)} == before


@pytest.mark.parametrize("form", ["ckpt", "safetensors"])
def test_a_map_of_the_old_file_stays_valid(form, tmp_path):
    """A reader of the old file still reads it after the new one has taken its name."""
    path = str(tmp_path / f"net.{form}")
    save(path, items_of(TENSORS), WriteOptions(form))
    with lazyckpt.load_checkpoint(path, format=form) as old:
        view = old["fc.weight"].asnumpy()
        save(path, items_of({"fc.weight": -counting((10, 84))}), WriteOptions(form))

        assert np.array_equal(view, counting((10, 84)))
        assert np.array_equal(old["fc.weight"].asnumpy(), counting((10, 84)))
    assert np.array_equal(loaded(path, format=form)["fc.weight"], -counting((10, 84)))


def test_a_missing_folder_is_reported(tmp_path):
    """The error is a FileNotFoundError that names the folder, and no folder is made."""
    with pytest.raises(MissingFolder, match=r"there is no folder .*none; create it first") as caught:
        save(str(tmp_path / "none" / "net.ckpt"), items_of(MIXED), WriteOptions())

    assert isinstance(caught.value, FileNotFoundError)
    assert os.listdir(tmp_path) == []


def test_a_folder_in_the_way_is_reported(tmp_path):
    """The error is an IsADirectoryError; the folder stays."""
    (tmp_path / "net.ckpt").mkdir()
    with pytest.raises(FolderInTheWay, match="is a folder") as caught:
        save(str(tmp_path / "net.ckpt"), items_of(MIXED), WriteOptions())

    assert isinstance(caught.value, IsADirectoryError)
    assert os.listdir(tmp_path) == ["net.ckpt"]


def test_a_pipe_is_not_replaced(tmp_path):
    """Only regular files are replaced: replacing a device would remove it for everyone."""
    os.mkfifo(tmp_path / "net.ckpt")
    with pytest.raises(UnwritableFile, match="a device or a pipe"):
        save(str(tmp_path / "net.ckpt"), items_of(MIXED), WriteOptions())

    assert stat.S_ISFIFO(os.stat(tmp_path / "net.ckpt").st_mode)


def test_a_name_that_is_too_long_is_reported(tmp_path):
    """A name that is too long raises the system's error with the path."""
    path = str(tmp_path / ("n" * 252 + ".ckpt"))
    with pytest.raises(UnwritableFile, match="too long; choose a shorter name; any existing file is kept"):
        save(path, items_of(MIXED), WriteOptions())


FULL = """
import resource, signal, sys
import numpy as np
from lazyckpt.errors import UnwritableFile
from lazyckpt.writing.files import WriteOptions, save
from lazyckpt.writing.adapters import item_of
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
items = [item_of("w", np.ones(1_000_000, "float32")), item_of("b", np.ones(3, "float32"))]
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    save(sys.argv[1], items, WriteOptions(sys.argv[2]))
except UnwritableFile as error:
    print(type(error.__cause__).__name__, error)
"""


@pytest.mark.parametrize("form", ["ckpt", "safetensors"])
def test_a_full_disk_is_reported_and_the_old_file_stays(form, tmp_path):
    """A full disk ends the save with the path and the reason, and leaves no part of the new file."""
    path = tmp_path / f"net.{form}"
    path.write_bytes(b"old")
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(path), form], capture_output=True, encoding="utf-8", check=True
    )

    assert done.stdout == f"OSError {path} cannot be written: File too large; any existing file is kept\n"
    assert (os.listdir(tmp_path), path.read_bytes()) == ([path.name], b"old")


FORBIDDEN = """
import os, sys
import numpy as np
from lazyckpt.errors import UnwritableFile
from lazyckpt.writing.files import WriteOptions, save
from lazyckpt.writing.adapters import item_of
items = [item_of("w", np.ones(3, "float32"))]
save("old.ckpt", items, WriteOptions())  # so that all is imported
os.chmod(".", 0o555)
if os.geteuid() == 0:
    os.setegid(65534)
    os.seteuid(65534)
try:
    save("net.ckpt", items, WriteOptions())
except UnwritableFile as error:
    print(type(error.__cause__).__name__, error)
"""


def test_a_folder_that_may_not_be_written_is_reported():
    """A user without permission gets an error, and nothing is left in the folder."""
    root = os.path.dirname(os.path.dirname(lazyckpt.__file__))
    with tempfile.TemporaryDirectory() as folder:  # not below tmp_path, which is its owner's alone
        done = subprocess.run(
            [sys.executable, "-c", FORBIDDEN],
            capture_output=True,
            encoding="utf-8",
            cwd=folder,
            env={**os.environ, "PYTHONPATH": root},
            check=True,
        )
        os.chmod(folder, 0o755)

        assert done.stdout == (
            f"PermissionError {folder}/net.ckpt cannot be written: Permission denied; check the permissions of its"
            " folder; any existing file is kept\n"
        )
        assert sorted(os.listdir(folder)) == ["old.ckpt", "old.ckpt.lmdb"]


@pytest.mark.parametrize(
    ("how", "contents", "reason"),
    [
        (WriteOptions(crc=True, lock=lock_of()), TENSORS, "a checksum and a key exclude each other"),
        (WriteOptions(crc=True), MIXED, "'table' is a map: .* a file with a checksum"),
        (WriteOptions(lock=lock_of()), MIXED, "'table' is a map: .* an encrypted file"),
        (WriteOptions("safetensors", lock_of()), TENSORS, "are not encrypted"),
        (WriteOptions("safetensors"), MIXED, "'note' is a string"),
        (WriteOptions(align=0), TENSORS, "align must be a power of two"),
        (WriteOptions(align=24), TENSORS, "align must be a power of two"),
        (WriteOptions(align=8192), TENSORS, "align must be a power of two up to 4096"),
    ],
    ids=["crc+key", "map+crc", "map+key", "safetensors+key", "string", "0", "24", "8192"],
)
def test_what_cannot_be_read_again_is_refused(how, contents, reason, tmp_path):
    """Options and contents whose file could not be read back are refused before a byte is written."""
    with pytest.raises(ArgumentValueError, match=reason):
        save(str(tmp_path / "net.ckpt"), items_of(contents), how)

    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "how", [WriteOptions(align="64"), WriteOptions(align=64.0), WriteOptions(mode="0o400")], ids=repr
)
def test_numbers_must_be_numbers(how):
    """Numbers of another type raise a TypeError."""
    with pytest.raises(ArgumentTypeError, match="must be a number"):
        check([], how)


def test_two_values_of_one_name_are_refused():
    """Two values with one name are ambiguous."""
    with pytest.raises(ArgumentValueError, match="two values would have the name 'w'"):
        check([item_of("w", 1), item_of("w", 2)], WriteOptions())


@pytest.mark.parametrize("mode", ["AES-GCM", *CBC_MODES])
def test_blocks_are_as_large_as_mindspores(mode, tmp_path, monkeypatch):
    """A stream of many blocks is read back through the index, also values across blocks."""
    monkeypatch.setattr("lazyckpt.writing.sink.FRAME_PLAINTEXT", 1000)
    path = str(tmp_path / "net.ckpt")
    save(path, items_of(NO_MAP), WriteOptions(lock=lock_of(mode)))

    assert same(loaded(path, dec_key=KEY, dec_mode=mode), NO_MAP)
    assert os.path.getsize(path) > len(checkpoint(NO_MAP)) + 3 * 32


def test_a_value_that_fails_its_digest_is_not_saved(tmp_path):
    """If the source's index has digests, damage ends the save, and the old file stays."""
    path, new = tmp_path / "net.ckpt", tmp_path / "new.ckpt"
    data = bytearray(
        checkpoint({"a": counting((3000,)), "damaged": counting((3000,), "int32"), "z": counting((3000,))})
    )
    path.write_bytes(data)
    new.write_bytes(b"old")
    lazyckpt.build_index(path, digest="blake2b").close()
    status = os.stat(path)
    data[len(data) // 2] ^= 1  # where no fingerprint looks
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with lazyckpt.load_checkpoint(path) as ckpt, pytest.raises(CorruptFile, match="damaged"):
        ckpt.save(new)

    assert new.read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == ["net.ckpt", "net.ckpt.lmdb", "new.ckpt"]


def test_only_a_piece_is_in_memory(tmp_path):
    """At most 8 MiB of a large value are in memory."""
    sizes = []
    array = np.zeros(5 * 2**20, "float32")
    done = 0

    def progress(now, total):
        nonlocal done
        sizes.append(now - done)
        done = now

    save(str(tmp_path / "net.ckpt"), items_of({"w": array}), WriteOptions(), progress)

    assert sizes == [2**23, 2**23, 2**22]


def test_an_index_knows_the_file_it_belongs_to(tmp_path):
    """The index's fingerprint is that of the file after its rename."""
    path = str(tmp_path / "net.ckpt")
    save(path, items_of(MIXED), WriteOptions())
    store = Sidecar(locations.beside(path))
    mark = store.meta.fingerprint
    store.close()
    status = os.stat(path)

    assert (mark.size, mark.mtime_ns) == (status.st_size, status.st_mtime_ns)


def test_a_listing_that_cannot_be_written_takes_its_parts_away(tmp_path, monkeypatch):
    """If the listing cannot be written, the parts are removed."""

    def refuse(path, fill, *, mode):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(files, "atomic_write", refuse)
    with pytest.raises(UnwritableFile, match=r"index\.json cannot be written"):
        files.save_set(str(tmp_path / "net.ckpt"), items_of(TENSORS), WriteOptions(), 500)

    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "how",
    [WriteOptions(), WriteOptions(lock=lock_of()), WriteOptions("safetensors")],
    ids=["plain", "encrypted", "safetensors"],
)
def test_writers_and_readers_at_once(how, tmp_path):
    """While two processes save a file again and again, every load sees one version or the other, whole."""
    path = str(tmp_path / f"net.{how.format}")
    options = {"format": how.format, **({"dec_key": KEY} if how.lock is not None else {})}
    names = [f"layer.{number}" for number in range(50)]
    sizes = {1: 100, 2: 1100}  # the file has another size for each

    def write(number):
        items = items_of(dict.fromkeys(names, np.full(sizes[number], number, "float32")))
        for _ in range(25):
            save(path, items, how)

    save(path, items_of(dict.fromkeys(names, np.full(100, 1, "float32"))), how)
    children = [forked(lambda number=number: write(number)) for number in sizes]
    seen = []
    for _ in range(40):
        found = loaded(path, **options)
        seen.append((list(found) == sorted(names, key=names.index if how.format == "ckpt" else None), _numbers(found)))
    codes = [ended(child) for child in children]

    assert codes == [0, 0]
    assert {whole for whole, _ in seen} == {True}
    assert {number for _, number in seen} <= {(1, 100), (2, 1100)}
    assert _numbers(loaded(path, **options)) in {(1, 100), (2, 1100)}
    assert sorted(os.listdir(tmp_path)) == [os.path.basename(path), os.path.basename(path) + ".lmdb"]


def _numbers(found):
    """The one number that all values hold, and their size; or the values that differ."""
    ((number, size),) = {(float(one), value.size) for value in found.values() for one in (value.min(), value.max())}
    return number, size
