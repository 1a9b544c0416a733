"""A page is compared with its checksum before it is used."""

from __future__ import annotations

import errno
import os
import random
import socket

import lmdb
import pytest
from entries import MARK, tensor_entry

from lazyckpt.index import write
from lazyckpt.index.footer import Meta
from lazyckpt.index.lmdb_pages import Pages, add_checksums
from lazyckpt.index.records import BadRecord
from lazyckpt.index.sidecar import Sidecar

PAGE = 4096
SUMMARY = b"what a reader wants to know first"
PAGES = [random.Random(number).randbytes(PAGE) for number in range(3000)]  # more than one block of checksums


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The bytes of a file of three thousand pages, with checksums."""
    path = tmp_path_factory.mktemp("pages") / "whole"
    path.write_bytes(b"".join(PAGES))
    add_checksums(str(path), PAGE, len(PAGES), SUMMARY)
    return path.read_bytes()


def read(path):
    """Every readable page of a file, and the numbers of the others; None if it cannot be opened."""
    try:
        pages = Pages(str(path))
    except BadRecord:
        return None
    found, refused = {}, []
    for number in range(pages.count):
        try:
            found[number] = pages.page(number)
        except BadRecord:
            refused.append(number)
    return found, refused


def test_sound_pages_are_what_was_written(whole, tmp_path):
    """All three thousand pages are read back unchanged."""
    (tmp_path / "pages").write_bytes(whole)

    assert read(tmp_path / "pages") == (dict(enumerate(PAGES)), [])


def test_a_summary_is_what_was_written(whole, tmp_path):
    """Any summary is read back unchanged; without one it is empty."""
    path = tmp_path / "pages"
    path.write_bytes(whole)
    summary = Pages(str(path)).summary
    add_checksums(str(path), PAGE, len(PAGES))

    assert (summary, Pages(str(path)).summary) == (SUMMARY, b"")


@pytest.mark.parametrize("count", [1, 200, 256, 257, 700])
def test_few_pages_and_many_are_read_alike(count, tmp_path):
    """Pages are read alike if their checksums are loaded at open, loaded in part, or still to be read."""
    path = tmp_path / "pages"
    path.write_bytes(b"".join(PAGES[:count]))
    add_checksums(str(path), PAGE, count, SUMMARY)

    assert read(path) == (dict(enumerate(PAGES[:count])), [])


def test_pages_that_follow_one_another_are_read_together(whole, tmp_path):
    """Pages of a run equal pages read alone, also where the run crosses a block of checksums."""
    path = tmp_path / "pages"
    path.write_bytes(whole)

    assert Pages(str(path)).run(250, 16) == PAGES[250:266]


def test_a_run_with_a_page_that_was_changed_is_refused(whole, tmp_path):
    """A run with a changed page is refused as a whole."""
    path = tmp_path / "pages"
    path.write_bytes(whole[: 5 * PAGE] + b"changed" + whole[5 * PAGE + 7 :])

    with pytest.raises(BadRecord, match="page 5 was changed"):
        Pages(str(path)).run(0, 8)


def test_checksums_take_a_thousandth_of_the_file(whole):
    """Checksums take four bytes per page, four per block of 256, the summary, and 28 bytes."""
    assert len(whole) - len(PAGES) * PAGE == 4 * len(PAGES) + 4 * 12 + len(SUMMARY) + 28


def test_a_flipped_bit_is_found_wherever_it_is(whole, tmp_path):
    """A flipped bit is detected in a page, in the checksums, and in the tail, and no wrong bytes are returned."""
    chance = random.Random(5)
    end = len(PAGES) * PAGE
    path = tmp_path / "pages"
    for place in [
        *(chance.randrange(end) for _ in range(12)),
        *range(end, len(whole), 997),
        *range(end + 12_000, len(whole)),
    ]:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        found = read(path)
        if place < end:
            assert found[1] == [place // PAGE]
        elif place < end + 4 * len(PAGES):
            block = (place - end) // 1024
            assert found[1] == list(range(256 * block, min(256 * (block + 1), len(PAGES))))
        else:
            assert found is None
        assert found is None or all(page == PAGES[number] for number, page in found[0].items())


def test_pages_that_changed_places_are_refused(whole, tmp_path):
    """Swapped pages are refused, though each is sound."""
    swapped = [*PAGES[:5], PAGES[9], *PAGES[6:9], PAGES[5], *PAGES[10:]]
    (tmp_path / "pages").write_bytes(b"".join(swapped) + whole[len(PAGES) * PAGE :])

    assert read(tmp_path / "pages")[1] == [5, 9]


def test_a_file_that_is_longer_or_shorter_is_refused(whole, tmp_path):
    """A file with one byte or many more or fewer is refused."""
    path = tmp_path / "pages"
    refused = []
    for data in (
        whole[:-1],
        whole[1:],
        whole + b"\0",
        whole[:-PAGE],
        whole[: len(PAGES) * PAGE],
        b"",
        whole[-28:],
        whole * 2,
    ):
        path.write_bytes(data)
        refused.append(read(path))

    assert refused == [None] * 8


def test_a_file_that_is_cut_short_while_it_is_open_is_an_error(whole, tmp_path):
    """Missing pages are refused and the others still read: nothing is mapped, so no signal is raised."""
    path = tmp_path / "pages"
    path.write_bytes(whole)
    pages = Pages(str(path))
    pages.page(7)
    os.truncate(path, 100 * PAGE)

    assert pages.page(99) == PAGES[99]
    with pytest.raises(BadRecord):
        pages.page(100)


def test_a_page_that_is_written_over_while_the_file_is_open_is_an_error(whole, tmp_path):
    """Every read is checked, not only the first."""
    path = tmp_path / "pages"
    path.write_bytes(whole)
    pages = Pages(str(path))
    pages.page(7)
    with open(path, "r+b") as file:
        file.seek(7 * PAGE + 1000)
        file.write(b"over")

    with pytest.raises(BadRecord, match="page 7 was changed"):
        pages.page(7)


def test_checksums_replace_what_stands_behind_the_pages(whole, tmp_path):
    """Recomputed checksums are equal; a last page that was never written counts as zeros."""
    path = tmp_path / "pages"
    path.write_bytes(whole)
    add_checksums(str(path), PAGE, len(PAGES), SUMMARY)
    again = path.read_bytes()
    add_checksums(str(path), PAGE, len(PAGES) + 1000)

    assert again == whole
    assert read(path)[0][len(PAGES) + 999] == bytes(PAGE)


def pipe(path):
    """A pipe without a writer."""
    os.mkfifo(path)


def listening(path):
    """A socket."""
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


@pytest.mark.parametrize("make", [pipe, listening, os.mkdir, lambda path: os.symlink("/dev/zero", path)])
def test_what_is_no_file_is_refused_at_once(make, tmp_path, monkeypatch):
    """A pipe, a socket, a folder and a device raise an expected error at once."""
    monkeypatch.chdir(tmp_path)  # the name of a socket is short
    make("index")

    with pytest.raises((BadRecord, OSError)) as caught:
        Pages("index")
    assert getattr(caught.value, "errno", None) in (None, errno.ENXIO, errno.EISDIR)


def test_lmdb_itself_still_reads_a_sidecar(tmp_path):
    """LMDB ignores checksums after the pages."""
    path = str(tmp_path / "index.lmdb")
    write.write(path, [tensor_entry(f"w{number}", number) for number in range(5000)], Meta(MARK))
    with lmdb.open(path, subdir=False, readonly=True, lock=False) as environment, environment.begin() as transaction:
        amount = sum(1 for _ in transaction.cursor())

    assert amount == 2 * 5000 + 1


def test_a_store_that_is_closed_while_it_is_read_never_gives_another_files_bytes(tmp_path, monkeypatch):
    """The descriptor's number stays reserved until the look-up ends."""
    path = str(tmp_path / "index.lmdb")
    write.write(path, [tensor_entry(f"w{number}", number) for number in range(5000)], Meta(MARK))
    store = Sidecar(path)
    others = []

    def close_first(descriptor, length, offset, real=os.pread):
        store.close()
        others.append(os.open("/dev/zero", os.O_RDONLY))
        return real(descriptor, length, offset)

    monkeypatch.setattr(os, "pread", close_first)
    found = store.position("w4321")
    for other in others:
        os.close(other)

    assert (found, others != []) == (4321, True)
