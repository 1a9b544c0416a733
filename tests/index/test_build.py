"""An index is found fresh or built, at the first writable location, and always checked against its file."""

from __future__ import annotations

import errno
import hashlib
import itertools
import logging
import mmap
import multiprocessing
import os
import shutil
import stat
from pathlib import Path

import pytest
from checkpoints import LAYERS, MIXED, checkpoint, counting, string_value
from forging import forged
from mindspore_results import FILES
from safetensors_files import file_of

import lazyckpt
from lazyckpt.errors import ArgumentTypeError, ArgumentValueError, ChangedFile, CorruptFile, MissingFile
from lazyckpt.index import build, locations
from lazyckpt.index.schema import FACTS
from lazyckpt.sources.local import MmapSource


@pytest.fixture
def file(tmp_path):
    """A checkpoint in its own folder."""
    path = tmp_path / "models" / "net.ckpt"
    path.parent.mkdir()
    path.write_bytes(checkpoint(MIXED))
    return path


@pytest.fixture
def sidecar(file):
    """The path of the checkpoint's sidecar."""
    return file.with_name("net.ckpt.lmdb")


def built(file, **options):
    """The entries and the path of an index, which is closed again."""
    index = lazyckpt.build_index(file, **options)
    answer = (list(index.items()), index.path)
    index.close()
    return answer


def whole_pages(offset, length):
    """The whole memory pages in a range."""
    return range(-(-offset // mmap.PAGESIZE), (offset + length) // mmap.PAGESIZE)


def identity(path):
    """The identity of a file, which changes when it is written again."""
    status = os.stat(path)
    return status.st_ino, status.st_mtime_ns, status.st_size


def test_an_index_is_built_beside_its_checkpoint(file, sidecar):
    """The folder then holds the checkpoint, the sidecar, and nothing else."""
    entries, path = built(file)

    assert ([name for name, _ in entries], path) == (list(MIXED), str(sidecar))
    assert sorted(os.listdir(file.parent)) == ["net.ckpt", "net.ckpt.lmdb"]


def test_a_fresh_index_is_used_as_it_is(file, sidecar, walks):
    """The second open neither scans the file nor changes the sidecar."""
    first = built(file)
    before = identity(sidecar)
    second = built(file)

    assert (second, identity(sidecar), len(walks)) == (first, before, 1)


def test_force_builds_what_is_fresh(file, sidecar, walks):
    """With `force` the file is scanned again, and the sidecar is a new one."""
    first = built(file)
    before = identity(sidecar)

    assert built(file, force=True) == first
    assert identity(sidecar) != before
    assert len(walks) == 2


def append(file):
    """Make the file longer."""
    with file.open("ab") as end:
        end.write(string_value("more", "text"))


def touch(file):
    """Change the file's modification time, with the same bytes."""
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))


def edit(place):
    """Change a byte of a value in place, and restore the file's modification time."""

    def edit_there(file):
        before = file.stat()
        data = bytearray(file.read_bytes())
        data[place] ^= 1
        file.write_bytes(data)
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))

    return edit_there


@pytest.mark.parametrize("change", [append, touch, edit(60), edit(-30)], ids=["size", "time", "start", "end"])
def test_an_index_of_an_older_file_is_built_again(change, file, walks):
    """A change of size, of time, or of a byte in the first or last 4 KiB is detected."""
    built(file)
    change(file)
    rebuilt = built(file)
    walked = len(walks)

    assert walked == 2
    assert rebuilt == built(file)
    assert len(walks) == walked


def test_an_index_of_another_file_is_built_again(file, sidecar, tmp_path):
    """A sidecar that was copied or moved to another file is rebuilt."""
    other = tmp_path / "other.ckpt"
    other.write_bytes(checkpoint(LAYERS))
    shutil.copy(built(other)[1], sidecar)

    assert [name for name, _ in built(file)[0]] == list(MIXED)


def of_older_schema(path):
    """Give a sidecar another schema version."""
    with forged(path) as transaction:
        facts = bytearray(transaction.get(FACTS))
        facts[8:10] = bytes(2)
        transaction.put(FACTS, bytes(facts))


def without_facts(path):
    """Make a sidecar an LMDB file without lazyckpt's facts."""
    with forged(path) as transaction:
        transaction.delete(FACTS)


def cut_to(part):
    """Truncate a sidecar."""
    return lambda path: os.truncate(path, int(path.stat().st_size * part))


def filled_with(data):
    """Replace a sidecar's bytes."""
    return lambda path: path.write_bytes(data)


def with_flipped_bit(place):
    """Flip a bit of a sidecar."""

    def flip(path):
        data = bytearray(path.read_bytes())
        data[place] ^= 0x10
        path.write_bytes(data)

    return flip


DAMAGE = {
    "older schema": of_older_schema,
    "no facts": without_facts,
    "empty": filled_with(b""),
    "text": filled_with(b"no index at all " * 1000),
    "zeros": filled_with(bytes(40_000)),
    "one byte short": lambda path: os.truncate(path, path.stat().st_size - 1),
    "half": cut_to(0.5),
    "a third": cut_to(0.33),
    "magic": with_flipped_bit(-5),
    "page size": with_flipped_bit(-28),
    "facts": with_flipped_bit(-40),
    "root": with_flipped_bit(-140),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_sidecar_is_built_again(damage, file, sidecar, walks):
    """Anything but a whole index of this version is replaced, without an error."""
    first = built(file)
    os.chmod(sidecar, 0o600)
    damage(sidecar)

    assert built(file) == first
    assert len(walks) == 2
    assert built(file) == first
    assert len(walks) == 2


@pytest.mark.parametrize("place", [16, 41, 4096 + 16], ids=["magic", "page size", "second magic"])
def test_damage_to_what_only_lmdb_reads_does_no_harm(place, file, sidecar, walks):
    """The footer has the tree's root, so LMDB's meta pages are not read."""
    first = built(file)
    os.chmod(sidecar, 0o600)
    with_flipped_bit(place)(sidecar)

    assert (built(file), len(walks)) == (first, 1)


def test_a_folder_at_the_sidecars_place_is_not_fatal(file, sidecar, cache_folder):
    """If a folder has the sidecar's name, the index goes to the cache."""
    sidecar.mkdir()
    entries, path = built(file)

    assert [name for name, _ in entries] == list(MIXED)
    assert path == locations.cached(str(file))


@pytest.fixture
def forbid(monkeypatch):
    """Makes folders that cannot be written, for any user."""
    forbidden = []
    real = os.open

    def guarded(path, flags, *rest, dir_fd=None):
        place = "" if dir_fd is None else os.readlink(f"/proc/self/fd/{dir_fd}")
        whole = os.path.join(place, path)
        if flags & os.O_CREAT and any(whole.startswith(f"{folder}{os.sep}") for folder in forbidden):
            raise OSError(errno.EROFS, "Read-only file system", whole)
        return real(path, flags, *rest, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", guarded)
    return forbidden.append


def test_a_folder_that_cannot_be_written_sends_the_index_to_the_cache(file, forbid, walks):
    """The second open finds the index in the cache, and the checkpoint's folder is unchanged."""
    forbid(file.parent)
    paths = [built(file)[1] for _ in range(2)]

    assert (paths, len(walks)) == ([locations.cached(str(file))] * 2, 1)
    assert os.listdir(file.parent) == ["net.ckpt"]


def test_a_folder_at_the_private_name_is_passed_over(file, sidecar):
    """If something else has the builder's private name, the builder takes its next one."""
    (file.parent / ".net.ckpt.lmdb.tmp").mkdir()

    assert built(file)[1] == str(sidecar)
    assert sorted(os.listdir(file.parent)) == [".net.ckpt.lmdb.tmp", "net.ckpt", "net.ckpt.lmdb"]


@pytest.mark.parametrize("umask", [0, 0o022, 0o077], ids=oct)
def test_an_index_in_the_cache_folder_is_private(umask, file, forbid, cache_folder):
    """It has mode 0600 and its folder 0700: built, forced, repaired, and built for a new version of the file."""
    forbid(file.parent)
    file.chmod(0o666)
    cached = Path(locations.cached(str(file)))
    modes = []

    def note():
        modes.append((cached.stat().st_mode & 0o777, cache_folder.stat().st_mode & 0o777))

    before = os.umask(umask)
    try:
        built(file)
        note()
        built(file, force=True)
        note()
        cached.write_bytes(b"damaged")
        built(file)
        note()
        file.write_bytes(file.read_bytes() + file.read_bytes())
        built(file)
        note()
    finally:
        os.umask(before)

    assert modes == [(0o600, 0o700)] * 4


def test_without_any_place_the_index_is_in_memory(file, forbid, cache_folder, caplog):
    """One warning says that the index will be rebuilt each time; nothing is written."""
    forbid(file.parent)
    forbid(cache_folder)
    entries, path = built(file)

    assert ([name for name, _ in entries], path) == (list(MIXED), None)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "built in memory" in caplog.text
    assert (os.listdir(file.parent), os.listdir(cache_folder)) == (["net.ckpt"], [])


def test_an_index_that_cannot_be_read_back_is_not_used(file, monkeypatch, caplog):
    """If the index cannot be read back (a failing disk, a file system that cannot map), the next location is tried."""
    monkeypatch.setattr("lazyckpt.index.build.atomic_write", lambda path, fill, mode: Path(path).write_bytes(b"lost"))
    entries, path = built(file)

    assert ([name for name, _ in entries], path) == (list(MIXED), None)
    assert "built in memory" in caplog.text


def test_an_index_in_memory_writes_nothing(file, cache_folder, caplog):
    """`index_path="memory"` changes no folder, makes no cache folder, and causes no warning."""
    entries, path = built(file, index_path="memory")

    assert ([name for name, _ in entries], path) == (list(MIXED), None)
    assert (os.listdir(file.parent), cache_folder.exists(), caplog.text) == (["net.ckpt"], False, "")


@pytest.mark.parametrize("form", [str, Path])
def test_an_index_may_be_given_a_place(form, file, tmp_path, walks):
    """A path is used as given, its folder is created, and the index is found there again."""
    where = tmp_path / "elsewhere" / "net.index"
    paths = [built(file, index_path=form(where))[1] for _ in range(2)]

    assert (paths, len(walks)) == ([str(where)] * 2, 1)
    assert os.listdir(file.parent) == ["net.ckpt"]


def test_a_place_that_was_asked_for_and_cannot_be_written_is_an_error(file, tmp_path, forbid, cache_folder):
    """An explicit location has no silent fallback."""
    forbid(tmp_path / "elsewhere")

    with pytest.raises(ArgumentValueError, match=r"elsewhere.net\.index: .*Read-only"):
        built(file, index_path=tmp_path / "elsewhere" / "net.index")
    assert not cache_folder.exists()


@pytest.mark.parametrize("where", [3, b"index", ["index"], True])
def test_a_place_is_a_path(where, file):
    """A location of another type raises an error that names the type."""
    with pytest.raises(ArgumentTypeError, match=type(where).__name__):
        built(file, index_path=where)


def test_a_link_to_a_checkpoint_shares_its_index(file, sidecar, tmp_path):
    """The sidecar stands beside the file itself, also when it is opened through a link."""
    link = tmp_path / "link.ckpt"
    link.symlink_to(file)

    assert built(link)[1] == str(sidecar)


@pytest.mark.parametrize(("mode", "expected"), [(0o644, 0o644), (0o640, 0o640), (0o600, 0o600), (0o400, 0o400)])
def test_who_may_read_the_checkpoint_may_read_its_index(mode, expected, file, sidecar):
    """The sidecar has the checkpoint's permissions, and its owner can always read it."""
    file.chmod(mode)
    built(file)

    assert stat.S_IMODE(sidecar.stat().st_mode) == expected


def test_a_file_that_is_no_checkpoint_leaves_no_litter(file):
    """An index that cannot be built leaves no partial file."""
    file.write_bytes(checkpoint(MIXED)[:-3])

    with pytest.raises(CorruptFile, match=r"net\.ckpt"):
        built(file)
    assert os.listdir(file.parent) == ["net.ckpt"]


def test_an_old_sidecar_survives_a_rebuild_that_fails(file, sidecar):
    """The last good index stays until a new one is whole."""
    built(file)
    before = identity(sidecar)
    file.write_bytes(checkpoint(MIXED)[:-3])

    with pytest.raises(CorruptFile):
        built(file)
    assert identity(sidecar) == before
    assert sorted(os.listdir(file.parent)) == ["net.ckpt", "net.ckpt.lmdb"]


def test_a_file_that_changes_while_it_is_indexed_gets_no_index(file, monkeypatch):
    """An index built during changes would match no state of the file."""
    with pytest.raises(ChangedFile, match="changed while"):
        built(file, progress=lambda done, total: touch(file))
    assert os.listdir(file.parent) == ["net.ckpt"]


def test_a_missing_file_is_reported(tmp_path):
    """Without a file no index is made."""
    with pytest.raises(MissingFile, match=r"none\.ckpt"):
        built(tmp_path / "none.ckpt")
    assert os.listdir(tmp_path) == []


def test_progress_rises_to_the_end(file, monkeypatch):
    """`progress` never decreases and ends at the total."""
    monkeypatch.setattr(build, "_RUN", 2)
    heard = []
    built(file, progress=lambda done, total: heard.append((done, total)))
    size = file.stat().st_size

    assert {total for _, total in heard} == {size}
    assert sorted(heard) == heard
    assert len(heard) > len(MIXED) // 2
    assert heard[-1] == (size, size)


def test_progress_rises_also_where_names_come_in_another_order(tmp_path, monkeypatch):
    """Progress rises also if the first name of a safetensors file has the last bytes."""
    monkeypatch.setattr(build, "_RUN", 2)
    path = tmp_path / "net.safetensors"
    path.write_bytes(file_of({f"layer{9 - number}": counting((50,)) for number in range(10)}))
    heard = []
    built(path, progress=lambda done, total: heard.append(done))

    assert sorted(heard) == heard
    assert (len(heard), heard[-1]) == (6, path.stat().st_size)


@pytest.mark.parametrize("names", [range(8), range(7, -1, -1)], ids=["in file order", "backwards"])
def test_what_was_digested_is_let_go_of(names, tmp_path, monkeypatch):
    """Pages are released once their digest is computed, for any order of names."""
    let_go = set()
    real = MmapSource.drop_pages

    def drop_pages(source, offset, length):
        let_go.update(whole_pages(offset, length))
        real(source, offset, length)

    monkeypatch.setattr(MmapSource, "drop_pages", drop_pages)
    path = tmp_path / "net.safetensors"
    path.write_bytes(file_of({f"layer{name}": counting((2**16,)) for name in names}))
    entries, _ = built(path, digest="blake2b")
    pages = {page for _, entry in entries for extent in entry.extents for page in whole_pages(*extent)}

    assert len(pages) >= 8
    assert pages <= let_go


def test_pages_that_were_walked_past_are_let_go(file, monkeypatch):
    """A scan of a large file releases the pages behind it, once and in order."""
    monkeypatch.setattr(build, "_RUN", 1)
    monkeypatch.setattr(build, "_RELEASE_EVERY", 1)
    released = []
    monkeypatch.setattr(
        lazyckpt.sources.local.MmapSource, "drop_pages", lambda self, offset, length: released.append((offset, length))
    )
    entries = [entry for _, entry in built(file, index_path="memory")[0]]
    stops = [0, *(entry.stop for entry in entries)]

    assert released == [(start, stop - start) for start, stop in itertools.pairwise(stops)]


def test_digests_are_of_the_contents(file):
    """With `digest` each entry carries the blake2b digest of its content."""
    data = file.read_bytes()
    entries = [entry for _, entry in built(file, digest="blake2b")[0]]
    contents = [b"".join(data[start : start + length] for start, length in entry.all_extents) for entry in entries]

    assert [entry.digest for entry in entries] == [
        hashlib.blake2b(content, digest_size=32).digest() for content in contents
    ]


def test_an_index_without_digests_is_built_again_when_they_are_wanted(file, walks):
    """An index without digests is rebuilt when they are requested; one with digests serves every request."""
    plain = built(file)
    with_digests = built(file, digest="blake2b")

    assert all(entry.digest for _, entry in with_digests[0])
    assert built(file) == with_digests
    assert [(name, entry._replace(digest=b"")) for name, entry in with_digests[0]] == plain[0]
    assert len(walks) == 2


def test_a_digest_has_a_known_name(file):
    """An unknown digest is refused before anything is opened."""
    with pytest.raises(ArgumentValueError, match="'md5'"):
        built(file, digest="md5")


@pytest.fixture
def network(monkeypatch):
    """Makes all files appear on a network file system."""
    monkeypatch.setattr(locations, "on_network", lambda path: True)


def test_on_a_network_the_index_stands_in_the_cache(file, network, walks):
    """LMDB does not write over a network, so the index is built and found in the cache folder."""
    paths = [built(file)[1] for _ in range(2)]

    assert (paths, len(walks)) == ([locations.cached(str(file))] * 2, 1)
    assert os.listdir(file.parent) == ["net.ckpt"]


def test_on_a_network_a_sidecar_beside_its_file_is_read_where_it_is(file, request, walks, cache_folder):
    """A sidecar built on another machine is read there, and nothing is copied."""
    first = built(file)
    request.getfixturevalue("network")

    assert (built(file), len(walks)) == (first, 1)
    assert not cache_folder.exists()


@pytest.mark.parametrize("what", ["a folder", "of an older file"])
def test_on_a_network_a_sidecar_that_is_of_no_use_does_not_matter(what, file, sidecar, network, walks):
    """The index is built in the cache folder, once, and the useless sidecar is left alone."""
    if what == "a folder":
        sidecar.mkdir()
    else:
        lazyckpt.build_index(file, index_path=sidecar).close()
        file.write_bytes(checkpoint(LAYERS))
        walks.clear()
    paths = [built(file)[1] for _ in range(2)]

    assert (paths, len(walks)) == ([locations.cached(str(file))] * 2, 1)
    assert sidecar.exists()


ROUNDS = 40


def rebuild(path, faults):
    """Build an index again and again, and report errors."""
    try:
        for _ in range(ROUNDS):
            names = [name for name, _ in built(path, force=True)[0]]
            if names != list(MIXED):
                faults.put(f"wrong names: {names}")
    except BaseException as error:
        faults.put(repr(error))
        raise


def test_builders_at_once_all_end_with_a_whole_index(file):
    """Three processes that build the same index repeatedly never see a partial one, and leave no private files."""
    context = multiprocessing.get_context("fork")
    faults = context.SimpleQueue()
    builders = [context.Process(target=rebuild, args=(str(file), faults)) for _ in range(3)]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join()

    assert [builder.exitcode for builder in builders] == [0, 0, 0], faults.get()
    assert faults.empty()
    assert sorted(os.listdir(file.parent)) == ["net.ckpt", "net.ckpt.lmdb"]


def test_a_reader_keeps_the_index_that_it_opened(file):
    """A reader keeps reading its index after the file was replaced."""
    index = lazyckpt.build_index(file)
    append(file)
    newer = built(file)

    assert (list(index), [name for name, _ in newer[0]]) == (list(MIXED), [*MIXED, "more"])
    index.close()


def test_recorded_files_have_the_same_index_from_a_sidecar_and_from_memory(tmp_path):
    """For recorded files of all kinds, entries from the sidecar equal those of the scan."""
    different = []
    for name in (
        "base",
        "all_dtypes",
        "strings",
        "map_sliced",
        "sliced_bytes",
        "unicode_names",
        "param_key",
        "longname",
    ):
        path = shutil.copy(FILES / f"{name}.ckpt", tmp_path)
        if built(path)[0] != built(path, index_path="memory")[0]:
            different.append(name)

    assert different == []


def test_a_file_that_is_replaced_while_it_is_indexed_is_indexed_in_memory(file, sidecar, caplog):
    """If a file is replaced during indexing, the index stays in memory: the path beside it belongs to the new file."""
    caplog.set_level(logging.INFO, "lazyckpt")

    new = [{"new": counting((3,))}]

    def replace(done, total):
        if new:
            lazyckpt.save_checkpoint(new.pop(), file)

    entries, where = built(file, progress=replace)

    assert ([name for name, _ in entries], where) == (list(MIXED), None)
    assert f"{file} was replaced during indexing: the opened file is indexed in memory" in caplog.messages
    with lazyckpt.load_checkpoint(file) as after:
        assert (list(after), after.index.path) == (["new"], str(sidecar))


def test_an_index_that_is_replaced_at_once_is_not_taken_for_ones_own(file, monkeypatch):
    """Another writer may replace an index between its rename and its being opened."""
    real = build.atomic_write

    def write(path, fill, *, mode):
        real(path, fill, mode=mode)
        lazyckpt.save_checkpoint({"new": counting((3,))}, file)

    monkeypatch.setattr(build, "atomic_write", write)
    with lazyckpt.load_checkpoint(file) as opened:
        assert list(opened) == list(MIXED)
        assert opened["fc.weight"].tobytes() == MIXED["fc.weight"].tobytes()
