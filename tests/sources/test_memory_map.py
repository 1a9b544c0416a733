"""Maps without descriptors: their bytes, their lifetime, and their number."""

from __future__ import annotations

import errno
import gc
import mmap
import os
import subprocess
import sys

import numpy as np
import pytest
from checkpoints import pattern

from lazyckpt.sources import memory_map
from lazyckpt.sources.memory_map import MemoryMap, most_maps

SIZE = 3 * mmap.ALLOCATIONGRANULARITY + 5


@pytest.fixture
def path(tmp_path):
    """A file of three pages and a few bytes."""
    path = tmp_path / "file"
    path.write_bytes(pattern(SIZE))
    return path


@pytest.fixture
def descriptor(path):
    """The file, open for reading until the test ends."""
    opened = os.open(path, os.O_RDONLY)
    yield opened
    os.close(opened)


def is_mapped(path):
    """Whether this process has a map of the file."""
    with open("/proc/self/maps", encoding="utf-8") as maps:
        return any(line.rstrip().endswith(str(path)) for line in maps)


def test_a_map_shows_the_file_and_is_read_only(descriptor):
    """The view has all bytes of the file, flat, and cannot be written to."""
    view = MemoryMap(descriptor, SIZE).view

    assert (bytes(view), view.readonly, view.format, view.ndim) == (pattern(SIZE), True, "B", 1)


def test_a_private_map_is_of_a_range_and_its_writes_stay_in_it(path, descriptor):
    """A private map begins at any page, may be written to, and leaves the file as it is."""
    offset = mmap.ALLOCATIONGRANULARITY
    view = MemoryMap(descriptor, 10, offset, private=True).view
    before = bytes(view)
    view[:] = bytes(10)

    assert (before, bytes(view)) == (pattern(SIZE)[offset : offset + 10], bytes(10))
    assert path.read_bytes() == pattern(SIZE)


def test_a_map_needs_no_descriptor(path):
    """The map is read after its descriptor was closed and the file was removed."""
    opened = os.open(path, os.O_RDONLY)
    view = MemoryMap(opened, SIZE).view
    os.close(opened)
    path.unlink()

    assert bytes(view) == pattern(SIZE)


@pytest.mark.parametrize("kept", [lambda view: view, lambda view: view[1:2], lambda view: np.frombuffer(view)[1:2]])
def test_a_map_lives_as_long_as_any_view_of_it(kept, path, descriptor):
    """Memory is unmapped with the last slice or array over it, at once."""
    made = MemoryMap(descriptor, SIZE // 8 * 8)
    view = kept(made.view)
    del made
    before = is_mapped(path)
    del view

    assert (before, is_mapped(path)) == (True, False)


def test_a_map_is_in_no_circle(path, descriptor):
    """Maps are released without the garbage collector."""
    gc.disable()
    try:
        MemoryMap(descriptor, SIZE)
        MemoryMap(descriptor, SIZE, private=True)
        assert not is_mapped(path)
    finally:
        gc.enable()


def test_a_map_that_the_system_refuses_is_an_error(path):
    """The system's number is in the error, and nothing is mapped."""
    opened = os.open(path, os.O_WRONLY)
    with pytest.raises(OSError, match="Permission denied") as caught:
        MemoryMap(opened, SIZE)
    os.close(opened)

    assert (caught.value.errno, is_mapped(path)) == (errno.EACCES, False)


def test_there_are_so_many_maps_and_no_more(descriptor, monkeypatch):
    """Beyond half of the limit a map is refused, until another one is released."""
    maps = [MemoryMap(descriptor, SIZE)]
    most = len(memory_map._mapped) + 2
    monkeypatch.setattr(memory_map, "most_maps", lambda: most)
    maps += [MemoryMap(descriptor, 1) for _ in range(2)]
    with pytest.raises(OSError, match=r"vm\.max_map_count") as caught:
        MemoryMap(descriptor, 1)
    del maps[0]

    assert (caught.value.errno, bytes(MemoryMap(descriptor, 1).view)) == (errno.ENOMEM, pattern(1))


def test_the_bound_is_half_of_the_limit_of_the_system():
    """Linux has the number in a file; where there is none, its default is assumed."""
    try:
        with open("/proc/sys/vm/max_map_count", encoding="ascii") as file:
            limit = int(file.read())
    except OSError:
        limit = 65_530

    assert most_maps() == limit // 2


def test_advice_is_given_to_whole_pages_of_the_map(descriptor):
    """Advice is taken; a range outside of the map is a mistake, and unknown advice the system's error."""
    made = MemoryMap(descriptor, SIZE)
    made.madvise(mmap.MADV_WILLNEED, mmap.PAGESIZE, 5)
    with pytest.raises(ValueError, match="outside the map"):
        made.madvise(mmap.MADV_WILLNEED, 0, SIZE + 1)
    with pytest.raises(OSError, match="Invalid argument"):
        made.madvise(12345, 0, 5)


@pytest.mark.parametrize("missing", ["_mmap", "_POINTER"])
def test_where_the_library_cannot_be_called_there_are_no_maps(missing, descriptor, monkeypatch):
    """On such a system files are read with `pread`."""
    monkeypatch.setattr(memory_map, missing, None)

    with pytest.raises(OSError, match="no memory maps") as caught:
        MemoryMap(descriptor, SIZE)
    assert caught.value.errno == errno.ENOSYS


def test_a_function_that_does_not_exist_is_none():
    """A library without a function is no error before it is called."""
    assert memory_map._function("lazyckpt_has_no_such_function", None) is None


def test_a_map_that_lives_to_the_end_of_the_program_is_silent(path):
    """Maps and views in globals and in circles end with the interpreter without a word."""
    program = (
        "import os, sys\nfrom lazyckpt.sources.memory_map import MemoryMap\n"
        "made = MemoryMap(os.open(sys.argv[1], os.O_RDONLY), 10)\n"
        "view = made.view\ncircle = [view]\ncircle += [circle]\n"
    )
    ended = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, check=False, timeout=60)

    assert (ended.returncode, ended.stderr) == (0, b"")
