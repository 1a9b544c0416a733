"""Local files: mapped where that is safe, otherwise read with pread, and errors when they shrink."""

from __future__ import annotations

import errno
import logging
import mmap
import os
import socket
from pathlib import Path

import pytest
from checkpoints import pattern
from source_contract import SIZE, SourceContract

from lazyckpt.errors import ChangedFile, ClosedCheckpoint, MissingFile, TooManyOpenFiles, UnreadableFile
from lazyckpt.sources import local
from lazyckpt.sources.base import BytesSource
from lazyckpt.sources.local import NETWORK_FILE_SYSTEMS, MmapSource, PreadSource, file_system, hash_of_ends, open_local

KINDS = {"mmap": MmapSource, "pread": PreadSource}


def write(folder, data=None, name="model.ckpt"):
    """A file of these bytes (or of a pattern); returns its path."""
    path = folder / name
    path.write_bytes(pattern(SIZE) if data is None else data)
    return str(path)


class TestMmapSource(SourceContract):
    """A memory map."""

    def make(self, data, folder):
        """A file in the folder."""
        return open_local(write(folder, data), "mmap").source


class TestPreadSource(SourceContract):
    """Positional reads."""

    def make(self, data, folder):
        """A file in the folder."""
        return open_local(write(folder, data), "pread").source


@pytest.fixture(params=KINDS)
def opened(request, tmp_path):
    """A file opened in each way, and its path."""
    path = write(tmp_path)
    source = open_local(path, request.param).source
    yield source, path
    source.close()


@pytest.mark.parametrize("access", KINDS)
def test_the_asked_access_is_taken(access, tmp_path):
    """`mmap` maps and `pread` reads."""
    source, origin, _ = open_local(write(tmp_path), access)
    source.close()

    assert (type(source), origin.status.st_size) == (KINDS[access], SIZE)


def test_a_map_is_taken_by_itself(tmp_path):
    """On a local file system `auto` maps the file."""
    source = open_local(write(tmp_path)).source
    source.close()

    assert type(source) is MmapSource


def test_a_file_that_grew_is_read_as_it_was(opened):
    """Bytes appended after opening are not seen; the earlier ones still are."""
    source, path = opened
    with open(path, "ab") as file:
        file.write(b"more")

    assert (source.size, source.read(0, SIZE)) == (SIZE, pattern(SIZE))


def test_a_file_that_shrank_is_an_error(opened):
    """Bytes beyond the new end raise ChangedFile, with the file's name, instead of ending the process."""
    source, path = opened
    os.truncate(path, SIZE // 2)

    with pytest.raises(ChangedFile, match=rf"model\.ckpt.*{SIZE:,}"):
        source.read(SIZE - 10, 10)
    with pytest.raises(ChangedFile):
        source.read_into(SIZE - 10, memoryview(bytearray(10)))


def test_a_file_emptied_is_an_error(opened):
    """A file truncated to nothing raises ChangedFile for every byte."""
    source, path = opened
    os.truncate(path, 0)

    with pytest.raises(ChangedFile):
        source.read(0, 1)


def test_a_map_of_a_shrunken_file_is_not_touched(tmp_path):
    """The size is compared before any read: a map refuses even the bytes that are still there."""
    path = write(tmp_path)
    source = open_local(path, "mmap").source
    os.truncate(path, SIZE // 2)

    with pytest.raises(ChangedFile, match=f"shrank from {SIZE:,} to {SIZE // 2:,} bytes"):
        source.read(0, 1)


def test_a_file_replaced_by_rename_is_read_on(opened):
    """A rename over the path does not disturb readers of the old file."""
    source, path = opened
    os.replace(write(Path(path).parent, b"new", "other.ckpt"), path)

    assert source.read(0, SIZE) == pattern(SIZE)


@pytest.mark.parametrize("access", KINDS)
def test_nothing_is_read_after_close(access, tmp_path):
    """Reading a closed source raises ClosedCheckpoint with the file's name."""
    source = open_local(write(tmp_path), access).source
    source.close()

    with pytest.raises(ClosedCheckpoint, match=r"model\.ckpt was closed"):
        source.read(0, 1)
    with pytest.raises(ClosedCheckpoint):
        source.read_into(0, memoryview(bytearray(1)))


@pytest.mark.parametrize("access", ["auto", *KINDS])
def test_an_empty_file_is_an_empty_source(access, tmp_path):
    """An empty file opens, though a map of it would not."""
    source, origin, _ = open_local(write(tmp_path, b""), access)

    assert (source.size, bytes(source.read(0, 0)), origin.status.st_size) == (0, b"", 0)


@pytest.mark.parametrize("access", KINDS)
def test_links_are_followed(access, tmp_path):
    """A symbolic link opens its target."""
    write(tmp_path)
    link = tmp_path / "link.ckpt"
    link.symlink_to("model.ckpt")
    source = open_local(str(link), access).source

    assert source.read(0, 9) == pattern(9)


@pytest.mark.parametrize("name", ["missing.ckpt", "dangling.ckpt", "no folder/model.ckpt"])
def test_a_missing_file_is_reported(name, tmp_path):
    """A missing file, a dangling link and a missing folder raise MissingFile with the path."""
    (tmp_path / "dangling.ckpt").symlink_to(tmp_path / "nowhere")

    with pytest.raises(MissingFile, match=f"{name} does not exist"):
        open_local(str(tmp_path / name))


def make_folder(path):
    """A folder."""
    path.mkdir()


def make_socket(path):
    """A socket without a peer."""
    with socket.socket(socket.AF_UNIX) as unix, pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(path.parent)  # a socket's path must be short
        unix.bind(path.name)


@pytest.mark.parametrize(
    ("make", "what"), [(make_folder, "it is a folder"), (os.mkfifo, "it is a pipe"), (make_socket, "cannot be read")]
)
def test_what_is_no_file_is_not_opened(make, what, tmp_path):
    """A folder, a pipe (without waiting for its writer) and a socket raise UnreadableFile with their kind."""
    path = tmp_path / "model.ckpt"
    make(path)

    with pytest.raises(UnreadableFile, match=what):
        open_local(str(path))


def test_a_device_is_not_opened():
    """A device has no bytes at offsets."""
    with pytest.raises(UnreadableFile, match="it is a device"):
        open_local("/dev/null")


def test_a_file_below_a_file_is_unreadable(tmp_path):
    """A path that leads through a file raises UnreadableFile with the system's reason."""
    with pytest.raises(UnreadableFile, match="Not a directory"):
        open_local(os.path.join(write(tmp_path), "inner.ckpt"))


def test_a_forbidden_file_is_unreadable(tmp_path, monkeypatch):
    """The system's error is the cause of UnreadableFile."""
    refused = PermissionError(errno.EACCES, "Permission denied")

    def refuse(*arguments):
        raise refused

    path = write(tmp_path)
    monkeypatch.setattr(local.os, "open", refuse)

    with pytest.raises(UnreadableFile, match="Permission denied") as caught:
        open_local(path)
    assert caught.value.__cause__ is refused


def test_a_failing_read_is_reported(tmp_path, monkeypatch):
    """An I/O error while reading raises UnreadableFile with the offset."""
    source = open_local(write(tmp_path), "pread").source

    def fail(*arguments):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(local.os, "preadv", fail)

    with pytest.raises(UnreadableFile, match=r"^byte 4,096 of .* cannot be read: Input/output error"):
        source.read(4096, 10)
    source.close()


def test_short_reads_are_continued(tmp_path, monkeypatch):
    """If the system returns fewer bytes than requested, reading continues after them."""
    source = open_local(write(tmp_path), "pread").source
    whole = os.preadv
    monkeypatch.setattr(local.os, "preadv", lambda fd, rooms, at: whole(fd, [rooms[0][:1000]], at))
    found = source.read(3, 60_000)
    source.close()

    assert found == pattern(SIZE)[3:60_003]


@pytest.mark.parametrize("kind", ["nfs4", "ceph", "fuse.sshfs", "9p"])
def test_network_file_systems_are_read_with_pread(kind, tmp_path, monkeypatch, caplog):
    """Mapping a network file is unsafe; one line of the log names its file system."""
    path = write(tmp_path)
    monkeypatch.setattr(local, "file_system_of", lambda device: kind)
    with caplog.at_level(logging.INFO, "lazyckpt"):
        source = open_local(path).source
        source.close()

    assert type(source) is PreadSource
    assert [record.getMessage() for record in caplog.records] == [
        f"{path} is on {kind}: reading with pread, not through a memory map"
    ]


def test_a_map_can_be_forced(tmp_path, monkeypatch):
    """`mmap` maps files on any file system."""
    monkeypatch.setattr(local, "file_system_of", lambda device: "nfs4")
    source = open_local(write(tmp_path), "mmap").source
    source.close()

    assert type(source) is MmapSource


def refuse_maps(monkeypatch, code):
    """Make every map fail."""

    def refuse(*arguments, **options):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(local, "MemoryMap", refuse)


def test_where_a_map_is_refused_pread_reads(tmp_path, monkeypatch, caplog):
    """If the file system cannot map, or the address space is full, reads go through `pread`; the log says so."""
    refuse_maps(monkeypatch, errno.ENODEV)
    with caplog.at_level(logging.INFO, "lazyckpt"):
        source = open_local(write(tmp_path)).source
        found = source.read(0, SIZE)
        source.close()

    assert (type(source), found == pattern(SIZE), len(caplog.records)) == (PreadSource, True, 1)


def test_a_forced_map_that_is_refused_is_an_error(tmp_path, monkeypatch):
    """`mmap` does not fall back to pread."""
    refuse_maps(monkeypatch, errno.ENODEV)

    with pytest.raises(UnreadableFile, match="No such device"):
        open_local(write(tmp_path), "mmap")


def test_reading_a_map_goes_easy_on_memory(tmp_path):
    """`drop_pages` releases the whole pages inside the range, and keeps their neighbours."""
    source = open_local(write(tmp_path), "mmap").source
    asked = []

    class Map:
        """A map that records its advice."""

        def madvise(self, *arguments):
            """See `mmap.madvise`."""
            asked.append(arguments)

    source._map = Map()
    source.drop_pages(100, 2 * mmap.PAGESIZE)
    source.drop_pages(0, 3 * mmap.PAGESIZE)
    source.drop_pages(1, mmap.PAGESIZE)

    assert asked == [
        (mmap.MADV_DONTNEED, mmap.PAGESIZE, mmap.PAGESIZE),
        (mmap.MADV_DONTNEED, 0, 3 * mmap.PAGESIZE),
    ]


def test_reads_that_are_far_apart_are_announced(tmp_path, monkeypatch):
    """The system is told of random reads, and when they end; a closed source says nothing."""
    if not hasattr(os, "posix_fadvise"):
        pytest.skip("this system takes no advice")
    asked = []
    monkeypatch.setattr(os, "posix_fadvise", lambda descriptor, *advice: asked.append(advice))
    source = open_local(write(tmp_path), "mmap").source
    source.advise_random(True)
    source.advise_random(False)
    source.close()
    source.advise_random(True)

    assert asked == [(0, 0, os.POSIX_FADV_RANDOM), (0, 0, os.POSIX_FADV_NORMAL)]


@pytest.mark.parametrize("read", [MmapSource.read_into, MmapSource.snapshot, MmapSource.read_many])
@pytest.mark.parametrize("size", [4096, 2**22])
def test_a_file_cut_while_it_is_copied_is_an_error(read, size, tmp_path, monkeypatch):
    """Copies of any size use `pread`, which reports the end of the file; a map would end the process."""
    path = write(tmp_path, bytes(size))
    source = open_local(path, "mmap").source
    whole, short = os.preadv, os.pread
    monkeypatch.setattr(os, "preadv", lambda *arguments: [os.truncate(path, size // 2), whole(*arguments)][1])
    room = memoryview(bytearray(size))
    asked = {"read_into": (0, room), "snapshot": (0, size), "read_many": ([(0, room)],)}[read.__name__]

    monkeypatch.setattr(os, "pread", lambda *arguments: [os.truncate(path, size // 2), short(*arguments)][1])
    with pytest.raises(ChangedFile, match=f"ends at byte {size // 2:,}; it had {size:,}"):
        read(source, *asked)
    source.close()


def test_neighbouring_ranges_are_read_by_one_call(tmp_path, monkeypatch):
    """Ranges that touch are one system call, in whatever order they are asked for, and however the call is cut."""
    source = open_local(write(tmp_path), "mmap").source
    data, calls = pattern(SIZE), []
    whole = os.preadv

    def preadv(descriptor, buffers, offset):
        calls.append((offset, len(buffers)))
        return whole(descriptor, [buffers[0]] if len(calls) == 1 else buffers, offset)

    monkeypatch.setattr(os, "preadv", preadv)
    asked = [(30, 10), (10, 20), (100, 5), (5, 5), (40, 0)]
    rooms = [memoryview(bytearray(length)) for _, length in asked]
    source.read_many([(offset, room) for (offset, _), room in zip(asked, rooms, strict=True)])
    source.close()

    assert [bytes(room) for room in rooms] == [data[offset : offset + length] for offset, length in asked]
    assert calls == [(5, 3), (10, 2), (100, 1)]


def test_a_released_source_may_be_closed(tmp_path):
    """`release` after `close` does nothing."""
    source = open_local(write(tmp_path), "mmap").source
    source.close()

    assert source.drop_pages(0, SIZE) is None


@pytest.mark.parametrize("offset", [0, 1, 4095, 4096, 5000])
@pytest.mark.parametrize("length", [1, 4096, 5001])
def test_private_memory_is_a_range_that_may_be_written_to(offset, length, tmp_path):
    """The private view has the range's bytes at any offset; its writes reach neither file, map nor other views."""
    data = pattern(3 * 4096)
    path = write(tmp_path, data)
    source = open_local(path, "mmap").source
    one, other = source.map_private(offset, length), source.map_private(offset, length)
    one[:] = bytes(length)
    source.close()

    assert (bytes(other), bytes(one)) == (data[offset : offset + length], bytes(length))
    assert Path(path).read_bytes() == data


def test_there_is_private_memory_only_of_the_file_that_was_opened(tmp_path):
    """It is of the opened file, also if the path leads to another or no file; a shorter or a closed one has none."""
    path = write(tmp_path)
    source = open_local(path, "mmap").source
    os.replace(write(tmp_path, bytes(SIZE), name="other"), path)
    replaced = source.map_private(0, 10)
    os.unlink(path)
    removed = source.map_private(0, 10)
    source.close()
    shrunk = open_local(write(tmp_path), "mmap").source
    os.truncate(path, SIZE - 1)

    assert (bytes(replaced), bytes(removed)) == (pattern(10),) * 2
    assert (shrunk.map_private(0, 10), source.map_private(0, 10)) == (None, None)
    shrunk.close()


def test_private_memory_holds_no_descriptor(tmp_path):
    """Any number of private views needs the descriptor of the file alone."""
    source = open_local(write(tmp_path), "mmap").source
    before = len(os.listdir("/proc/self/fd"))
    views = [source.map_private(number, 10) for number in range(200)]

    assert None not in views
    assert len(os.listdir("/proc/self/fd")) == before
    source.close()


def test_sources_that_are_not_mapped_have_no_private_memory(tmp_path):
    """Without a map the memory must be copied."""
    source = open_local(write(tmp_path), "pread").source

    assert source.map_private(0, 10) is None
    assert BytesSource(bytes(20)).map_private(0, 10) is None
    source.close()


def test_no_descriptor_is_left_when_opening_fails(tmp_path):
    """After a failed open every descriptor is closed."""
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        with pytest.raises(UnreadableFile):
            open_local(str(tmp_path))

    assert len(os.listdir("/proc/self/fd")) == before


def test_the_kind_of_file_system_is_known(tmp_path):
    """The folder's file system has a name and is local; a missing path has none."""
    assert file_system(str(tmp_path)) not in NETWORK_FILE_SYSTEMS
    assert file_system(str(tmp_path / "missing")) == "unknown"


MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
36 22 0:41 / /mnt/a\\040b rw,relatime shared:20 master:1 - nfs4 server:/export rw,vers=4.2
37 22 0:52 / /mnt/ssh rw,nosuid - fuse.sshfs user@host: rw
"""


@pytest.mark.parametrize(
    ("device", "kind"), [("8:1", "ext4"), ("0:41", "nfs4"), ("0:52", "fuse.sshfs"), ("0:5", "unknown")]
)
def test_file_systems_are_found_by_device(device, kind, tmp_path, monkeypatch):
    """Each device's file system is found in the table of mounts, with optional fields and escaped names."""
    (tmp_path / "mountinfo").write_text(MOUNTS, encoding="utf-8")
    real = open
    monkeypatch.setitem(local.__dict__, "open", lambda path, **how: real(tmp_path / "mountinfo", **how))

    assert local._mounted(device) == kind


def test_without_a_table_of_mounts_nothing_is_known(monkeypatch):
    """Other systems than Linux have no table of mounts: files are mapped."""

    def missing(*arguments, **options):
        raise FileNotFoundError

    monkeypatch.setitem(local.__dict__, "open", missing)

    assert local._mounted("8:1") == "unknown"


def test_a_table_of_mounts_that_cannot_be_opened_is_no_answer(tmp_path, monkeypatch):
    """Without a descriptor for the table the file is not opened, and not mapped as if it were local."""

    def refuse(path, flags=0):
        raise TooManyOpenFiles("no descriptor is left")

    path = write(tmp_path)
    monkeypatch.setattr(local, "_file_systems", {})
    with monkeypatch.context() as without:
        without.setattr(local, "open_descriptor", refuse)
        with pytest.raises(TooManyOpenFiles):
            local.file_system(path)

    assert local._file_systems == {}


def sample_of(data):
    """The sample of these bytes."""
    return hash_of_ends(data[:4096], data[-4096:])


def test_a_file_is_opened_with_its_sample_and_its_head(tmp_path):
    """Sample and head are read before the file is mapped, so that they touch no page of the map."""
    local = open_local(write(tmp_path))
    local.source.close()

    assert (local.origin.fingerprint.sample, local.head) == (sample_of(pattern(SIZE)), pattern(SIZE)[:4096])


@pytest.mark.parametrize("place", [0, 4095, SIZE - 4096, SIZE - 1])
def test_a_sample_sees_both_ends(place):
    """A change in the first or the last 4 KiB changes the sample."""
    changed = bytearray(pattern(SIZE))
    changed[place] ^= 1

    assert sample_of(changed) != sample_of(pattern(SIZE))


def test_a_sample_reads_both_ends_only():
    """For a file of any size 8 KiB are read, at both ends."""
    changed = bytearray(pattern(SIZE))
    changed[4096 : SIZE - 4096] = bytes(SIZE - 8192)

    assert sample_of(changed) == sample_of(pattern(SIZE))


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 8192])
def test_a_small_file_has_a_sample(size):
    """A file shorter than two samples has one of 16 bytes that depends on all of its bytes."""
    data = pattern(size)
    changes = {sample_of(data[:place] + b"\xaa" + data[place + 1 :]) for place in range(0, size, 512)}

    assert len(sample_of(data)) == 16
    assert sample_of(data) not in changes


def test_a_map_that_is_closed_while_it_is_read_is_read_to_the_end(tmp_path, monkeypatch):
    """Two threads may read and close at once: a read in progress ends, and the next one raises an error."""
    path = tmp_path / "file"
    path.write_bytes(pattern(5000))
    source = open_local(str(path), "mmap").source
    real = os.lseek
    monkeypatch.setattr(os, "lseek", lambda *arguments: [source.close(), real(*arguments)][1])

    assert bytes(source.read(0, 5000)) == pattern(5000)
    with pytest.raises(ClosedCheckpoint):
        source.read(0, 1)


def test_a_descriptor_that_is_closed_while_it_is_read_never_gives_another_files_bytes(tmp_path, monkeypatch):
    """The descriptor's number stays reserved until the read ends, so that no other file can get it."""
    path = tmp_path / "file"
    path.write_bytes(pattern(5000))
    (tmp_path / "other").write_bytes(b"\xff" * 5000)
    source = open_local(str(path), "pread").source
    others = []

    def close_first(descriptor, buffers, offset, real=os.preadv):
        source.close()
        others.append(os.open(tmp_path / "other", os.O_RDONLY))
        return real(descriptor, buffers, offset)

    monkeypatch.setattr(os, "preadv", close_first)
    found = bytes(source.read(0, 5000))
    for other in others:
        os.close(other)

    assert found == pattern(5000)
