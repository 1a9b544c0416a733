"""The pool of descriptors: how many are open, which is closed next, and what proves a file that is opened again."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import resource
import sys
import threading

import pytest
from forking import ended, forked

from lazyckpt.errors import ChangedFile, MissingFile, TooManyOpenFiles, UnreadableFile
from lazyckpt.runtime import descriptor_pool
from lazyckpt.runtime.descriptor_pool import Descriptor, DescriptorPool, PooledFile, open_descriptor, share_of_limit


@pytest.fixture
def pool(monkeypatch):
    """A pool of its own, for three files."""
    made = DescriptorPool(lambda: 3)
    monkeypatch.setattr(descriptor_pool, "_pool", made)
    return made


@pytest.fixture
def make(tmp_path, pool):
    """A function that opens a file with a name as its content."""

    def make(name, proof=None):
        path = tmp_path / name
        path.write_bytes(name.encode())
        held = Descriptor(open_descriptor(str(path)))
        return PooledFile(str(path), held, os.fstat(held.number), proof)

    return make


def open_ones(files):
    """The numbers of the files that have a descriptor."""
    return [number for number, file in enumerate(files) if file.is_open]


def test_no_more_files_are_open_than_the_pool_may_have(make):
    """Of ten files the last three are open, and every one is read all the same."""
    files = [make(f"file {number}") for number in range(10)]

    assert open_ones(files) == [7, 8, 9]
    assert [file.pread(99, 5) for file in files] == [str(number).encode() for number in range(10)]
    assert len(open_ones(files)) == 3


def test_the_file_that_was_used_last_stays_open(make):
    """A file in use is passed over when room is needed."""
    files = [make("0"), make("1"), make("2"), make("3")]  # the fourth lowers every flag, and closes the first
    files[1].size()
    files.append(make("4"))

    assert open_ones(files) == [1, 3, 4]


def test_each_way_of_reading_opens_the_file_again(make):
    """The size, bytes, buffers and the descriptor are those of the file after it was closed."""
    file = make("content")
    room = memoryview(bytearray(4))
    found = []
    for read in (
        PooledFile.size,
        lambda file: file.pread(3, 1),
        lambda file: (file.preadv([room[:1], room[1:]], 3), bytes(room)),
        lambda file: os.pread(file.descriptor().number, 2, 0),
    ):
        file.release()
        assert not file.is_open
        found.append(read(file))

    assert found == [7, b"ont", (4, b"tent"), b"co"]


def test_a_file_is_closed_with_the_last_reference_to_it(make):
    """The pool keeps no file alive, and no circle does."""
    gc.disable()
    try:
        number = make("file").descriptor().number
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(number)
    finally:
        gc.enable()


def test_a_descriptor_in_use_is_closed_after_its_last_user(make):
    """Its number is not given to another file while it is read."""
    file = make("file")
    held = file.descriptor()
    file.release()

    assert os.pread(held.number, 4, 0) == b"file"


def replaced(path):
    """Another file of the same content and time."""
    status = os.stat(path)
    with open(path, "rb") as old, open(f"{path}.new", "wb") as new:
        new.write(old.read())
    os.utime(f"{path}.new", ns=(status.st_atime_ns, status.st_mtime_ns))
    os.replace(f"{path}.new", path)


def touched(path):
    """The same file with another time."""
    os.utime(path, ns=(1, 1))


def grown(path):
    """The same file with one byte more."""
    with open(path, "ab") as file:
        file.write(b"x")


@pytest.mark.parametrize("change", [replaced, touched, grown])
def test_another_file_at_the_path_is_refused(change, make):
    """A file that was closed is the same by device, inode, size and time, or it is an error, and no byte is read."""
    file = make("file")
    file.release()
    change(file.path)

    with pytest.raises(ChangedFile, match=r"replaced or changed after it was opened.*ulimit -n"):
        file.pread(1, 0)
    with pytest.raises(ChangedFile):
        file.size()
    assert not file.is_open


@pytest.mark.parametrize(
    ("change", "verdict", "is_read"), [(touched, True, True), (touched, False, False), (replaced, True, False)]
)
def test_a_proof_decides_about_a_file_of_another_size_or_time(change, verdict, is_read, make):
    """It is asked with the descriptor, and never about a file of another inode."""
    asked = []

    def proof(descriptor, status):
        asked.append((os.pread(descriptor, 9, 0), status.st_size))
        return verdict

    file = make("file", proof)
    file.release()
    change(file.path)
    found = None
    with contextlib.suppress(ChangedFile):
        found = file.pread(9, 0)

    assert (found, asked) == (b"file" if is_read else None, [(b"file", 4)] if change is touched else [])


def test_a_file_that_was_removed_while_it_was_closed_is_missing(make):
    """The error says when and why it could not be kept."""
    file = make("file")
    file.release()
    os.unlink(file.path)

    with pytest.raises(MissingFile, match=r"file was removed after it was opened.*ulimit -n"):
        file.pread(1, 0)


@pytest.mark.parametrize("change", [replaced, os.unlink])
def test_a_file_that_stayed_open_is_read_whatever_became_of_its_path(change, make):
    """As long as there is room, a replaced or removed file is read on."""
    file = make("file")
    change(file.path)

    assert (file.size(), file.pread(9, 0)) == (4, b"file")


def test_a_file_knows_whether_a_path_leads_to_it(make):
    """The same file is, another or none is not; whether it is open does not matter."""
    file = make("file")
    file.release()
    same = file.is_at(file.path)
    replaced(file.path)
    other = file.is_at(file.path)

    assert (same, other, file.is_at(f"{file.path} missing")) == (True, False, False)


def refuse(monkeypatch, number, times):
    """Make `os.open` fail for the next calls."""
    real, left = os.open, [number] * times

    def refuse(*arguments, **options):
        if left:
            raise OSError(left.pop(), os.strerror(number))
        return real(*arguments, **options)

    monkeypatch.setattr(os, "open", refuse)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_when_no_more_files_may_be_open_the_pool_makes_room(number, make, monkeypatch):
    """Where the limit is used up by others, the pool gives up its descriptors, and the file is opened."""
    files = [make("0"), make("1")]
    refuse(monkeypatch, number, 1)
    made = make("2")

    assert (open_ones(files), made.pread(1, 0)) == ([], b"2")


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_a_limit_that_others_use_up_has_an_error_of_its_own(number, make, monkeypatch):
    """It names the limit and what to do, for a first and for a second open, and says nothing about the file."""
    file = make("file")
    file.release()
    refuse(monkeypatch, number, 4)

    for open_it in (lambda: make("other"), lambda: file.pread(1, 0)):
        with pytest.raises(TooManyOpenFiles, match=r"ulimit -n|on this machine") as caught:
            open_it()
        assert isinstance(caught.value, UnreadableFile)
        assert "permission" not in str(caught.value)
    assert file.pread(9, 0) == b"file"


@pytest.mark.parametrize("times", [1, 2])
def test_other_errors_are_the_systems(times, make, monkeypatch):
    """A file that cannot be opened for another reason closes none of the others."""
    file = make("file")
    refuse(monkeypatch, errno.EIO, times)

    with pytest.raises(OSError, match="Input/output"):
        open_descriptor(file.path)
    assert file.is_open


def test_a_file_that_cannot_be_opened_again_says_why(make, monkeypatch):
    """The system's reason is in the error, and the file is opened when it is over."""
    file = make("file")
    file.release()
    refuse(monkeypatch, errno.EIO, 1)

    with pytest.raises(UnreadableFile, match="Input/output"):
        file.size()
    assert file.size() == 4


@pytest.mark.parametrize(("soft", "share"), [(1024, 512), (7, 4), (resource.RLIM_INFINITY, sys.maxsize)])
def test_the_pool_takes_half_of_what_the_process_may_have(soft, share, monkeypatch):
    """The limit is asked for when it is needed, because a program may change it."""
    monkeypatch.setattr(resource, "getrlimit", lambda which: (soft, soft))

    assert share_of_limit() == share


def test_without_limits_every_file_stays_open(monkeypatch):
    """Where the system has no such limit the pool closes nothing."""
    monkeypatch.setattr(descriptor_pool, "resource", None)

    assert share_of_limit() == sys.maxsize


def test_files_that_are_gone_leave_the_pool(make, pool):
    """A hundred files that were opened one by one leave no more traces than the pool may have files."""
    for _ in range(100):
        make("file")

    assert len(pool._files) <= 3


def test_threads_read_files_of_a_pool_that_is_too_small(make):
    """Eight threads read ten files with three descriptors: each read gives the bytes of its own file."""
    files = [make(f"{number}") for number in range(10)]
    wrong = []

    def read():
        for turn in range(200):
            number = turn * 7 % 10
            if files[number].pread(1, 0) != str(number).encode():
                wrong.append(number)

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []
    assert len(open_ones(files)) <= 3


def test_a_child_that_was_forked_while_the_pool_was_at_work_opens_files(make, pool):
    """A child has a lock of its own, and its parent's files."""
    files = [make(f"{number}") for number in range(5)]
    is_held, is_forked = threading.Event(), threading.Event()

    def hold():
        with pool._turn:
            is_held.set()
            is_forked.wait(20)

    def read():
        assert [file.pread(1, 0) for file in files] == [b"0", b"1", b"2", b"3", b"4"]

    holder = threading.Thread(target=hold)
    holder.start()
    is_held.wait(20)
    child = forked(read)
    is_forked.set()
    holder.join()

    assert ended(child) == 0
