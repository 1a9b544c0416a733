"""The store in an LMDB file meets the contract of stores, and checks the file."""

from __future__ import annotations

import contextlib
import os
import threading

import pytest
from entries import MARK, tensor_entry
from forging import forged
from store_contract import MIXED, SidecarContract, dump

from lazyckpt.errors import ClosedCheckpoint, LazyCkptError, StaleIndex
from lazyckpt.index import write
from lazyckpt.index.footer import Meta
from lazyckpt.index.records import BadRecord
from lazyckpt.index.schema import PLAIN_CODEC
from lazyckpt.index.sidecar import Sidecar
from lazyckpt.index.stored import StoredIndex

MANY = [tensor_entry(f"layer{place}.weight", place) for place in range(2000)]


def written(folder, entries, name="index.lmdb"):
    """The path of a new sidecar with these entries."""
    path = str(folder / name)
    write.write(path, entries, Meta(MARK))
    return path


class TestSidecar(SidecarContract):
    """An index as one LMDB file."""


def test_a_finished_sidecar_is_one_file_and_is_never_written_again(tmp_path):
    """Writing and reading leave no lock file, and reading does not change the file's bytes or times."""
    path = written(tmp_path, MANY)
    with open(path, "rb") as file:
        before = (file.read(), os.stat(path).st_mtime_ns)
    dump(Sidecar(path))
    with open(path, "rb") as file:
        after = (file.read(), os.stat(path).st_mtime_ns)

    assert after == before
    assert os.listdir(tmp_path) == ["index.lmdb"]


def test_a_sidecar_may_be_read_only(tmp_path):
    """A file without write permission can be read."""
    path = written(tmp_path, MIXED)
    os.chmod(path, 0o400)

    assert dump(Sidecar(path)) == MIXED


def test_an_absent_sidecar_is_an_os_error(tmp_path):
    """An absent sidecar raises the system's error, and none is created."""
    with pytest.raises(FileNotFoundError):
        Sidecar(str(tmp_path / "none.lmdb"))
    assert os.listdir(tmp_path) == []


def test_two_stores_of_one_file_do_not_know_of_each_other(tmp_path):
    """Each store opens the file itself, under any name; the second still works after the first is closed."""
    path = written(tmp_path, MIXED)
    os.link(path, tmp_path / "other.lmdb")
    first, second, third = Sidecar(path), Sidecar(path), Sidecar(str(tmp_path / "other.lmdb"))
    first.close()

    assert [dump(second), dump(third)] == [MIXED, MIXED]


def test_a_replaced_file_does_not_disturb_who_reads_the_old_one(tmp_path):
    """An open store keeps reading its file; a new store reads the replacement."""
    path = written(tmp_path, MIXED)
    old = Sidecar(path)
    os.replace(written(tmp_path, MANY, "new.lmdb"), path)
    new = Sidecar(path)

    assert (dump(old), dump(new)) == (MIXED, MANY)


def test_descriptors_do_not_pile_up(tmp_path):
    """Two hundred stores, opened and closed, leave as many descriptors open as before."""
    path = written(tmp_path, MIXED)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(200):
        Sidecar(path).close()

    assert len(os.listdir("/proc/self/fd")) == before


def test_many_threads_read_one_store(tmp_path):
    """Sixteen threads that look up every name at once all find it."""
    store = Sidecar(written(tmp_path, MANY))
    wrong = []

    def read():
        index = StoredIndex(store)
        wrong.extend(entry.name for entry in MANY if index[entry.name] != entry)

    threads = [threading.Thread(target=read) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []


def test_a_closed_store_is_refused(tmp_path):
    """Nothing can be looked up after closing, and closing twice is allowed."""
    store = Sidecar(written(tmp_path, MIXED))
    store.close()
    store.close()
    for look in (lambda: store.position("note"), lambda: store.record(0), lambda: store.records(0, 1)):
        with pytest.raises(ClosedCheckpoint, match=r"index\.lmdb was closed"):
            look()


def in_child(task):
    """The exit code of a forked child that runs `task`: 0 if that is true, 1 if not, 2 if it raises."""
    child = os.fork()
    if child == 0:
        code = 2
        with contextlib.suppress(BaseException):
            code = 0 if task() else 1
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_forked_child_reads_on(tmp_path):
    """A child reopens the file; parent and child both continue to read."""
    store = Sidecar(written(tmp_path, MANY))

    assert in_child(lambda: dump(store) == MANY) == 0
    assert dump(store) == MANY


def test_a_forked_child_reads_the_file_that_was_open(tmp_path):
    """A forked child reads the same file as its parent, even if another took its name before the fork."""
    path = written(tmp_path, MANY)
    store = Sidecar(path)
    os.replace(written(tmp_path, MIXED, "new.lmdb"), path)
    after_replacement = in_child(lambda: dump(store) == MANY)
    os.unlink(path)

    assert (after_replacement, in_child(lambda: dump(store) == MANY)) == (0, 0)
    assert dump(store) == MANY


def changed(path, data):
    """Replace a sidecar's bytes."""
    os.unlink(path)
    with open(path, "wb") as file:
        file.write(data)


def answer(path):
    """Everything that a sidecar returns, or the type of its error."""
    try:
        index = StoredIndex(Sidecar(path))
        return [*index.entries()], [index.position(entry.name) for entry in MANY], index.with_prefix("layer1")
    except (BadRecord, StaleIndex) as error:
        return type(error)


def test_a_sidecar_cut_anywhere_is_refused(tmp_path):
    """A file truncated anywhere is refused at open."""
    path = written(tmp_path, MANY)
    with open(path, "rb") as file:
        whole = file.read()
    lengths = [*range(200), *range(200, len(whole) - 1, 2048), len(whole) - 1]
    taken = []
    for length in lengths:
        changed(path, whole[:length])
        if answer(path) is not BadRecord:
            taken.append(length)

    assert taken == []


@pytest.mark.parametrize(
    "data",
    [b"", bytes(8192), bytes(1_000_000), b"\xff" * 8192, b"no index at all " * 1024, os.urandom(16_384)],
    ids=["nothing", "two zero pages", "zeros", "ones", "text", "noise"],
)
def test_garbage_is_refused(data, tmp_path):
    """A file of another format is refused."""
    path = str(tmp_path / "index.lmdb")
    with open(path, "wb") as file:
        file.write(data)

    with pytest.raises(BadRecord):
        Sidecar(path)


def test_another_programs_lmdb_file_is_refused(tmp_path):
    """An LMDB file without lazyckpt's metadata is refused."""
    path = str(tmp_path / "index.lmdb")
    with forged(path) as transaction:
        transaction.put(b"key", b"value")

    with pytest.raises(BadRecord, match="no lazyckpt index"):
        Sidecar(path)


def test_a_flipped_bit_in_the_header_is_refused_or_harmless(tmp_path):
    """A flipped bit in LMDB's meta pages gives an expected error or the true answer."""
    path = written(tmp_path, MANY[:30])
    with open(path, "rb") as file:
        whole = file.read()
    truth = answer(path)
    wrong = []
    for page in (0, 4096):
        for bit in range(0, 152 * 8, 3):
            damaged = bytearray(whole)
            damaged[page + bit // 8] ^= 1 << bit % 8
            changed(path, damaged)
            if answer(path) not in (truth, BadRecord, StaleIndex):
                wrong.append((page, bit))

    assert wrong == []


def test_damage_found_while_reading_is_reported_as_such(tmp_path):
    """A page that changed is reported as a damaged index, with the file's name and what to do."""
    path = written(tmp_path, MANY)
    with open(path, "rb") as file:
        whole = bytearray(file.read())
    whole[2 * 4096 + 10] ^= 0x06  # the first leaf no longer has the flag of a leaf
    changed(path, whole)

    with pytest.raises(LazyCkptError, match=r"damaged.*lazyckpt index --force") as caught:
        dump(Sidecar(path))
    assert caught.value.file == path


def with_record(path, key, value):
    """Change one record in a finished sidecar, as an attacker would."""
    with forged(path) as transaction:
        transaction.put(key, value)


def test_a_name_that_leads_to_anothers_record_is_found_out(tmp_path):
    """The index compares the record's name with the requested one."""
    path = written(tmp_path, MIXED)
    with_record(path, PLAIN_CODEC.name_key(b"conv.weight"), b"\0\0\0\4")

    with pytest.raises(StaleIndex, match="another"):
        StoredIndex(Sidecar(path))["conv.weight"]


@pytest.mark.parametrize("place", [b"\0\0\0\x07", b"\xff\xff\xff\xff", b"\0\0", b""])
def test_a_place_outside_the_index_is_found_out(place, tmp_path):
    """A name that leads outside the index is reported as damage."""
    path = written(tmp_path, MIXED)
    with_record(path, PLAIN_CODEC.name_key(b"conv.weight"), place)

    with pytest.raises(StaleIndex, match="damaged"):
        Sidecar(path).position("conv.weight")


def test_a_record_that_is_not_there_is_damage(tmp_path):
    """A place without a record is reported as damage."""
    store = Sidecar(written(tmp_path, MIXED))

    with pytest.raises(StaleIndex, match="damaged"):
        store.record(len(MIXED))


def test_a_damaged_page_is_reported_by_every_look_up(tmp_path):
    """Reading a name, a record, a run or a prefix reports a damaged index."""
    path = written(tmp_path, MANY)
    with open(path, "rb") as file:
        whole = bytearray(file.read())
    facts_page = next(page for page in range(2 * 4096, len(whole), 4096) if b"lazyckpt" in whole[page : page + 4096])
    for page in range(2 * 4096, len(whole), 4096):
        if whole[page + 10] == 0x02 and page != facts_page:
            whole[page + 10] ^= 0x06  # a leaf that says that it is none
    changed(path, whole)
    store = Sidecar(path)
    for look in (
        lambda: store.record(0),
        lambda: store.position("layer0.weight"),
        lambda: store.records(0, 10),
        lambda: store.with_prefix("layer0"),
    ):
        with pytest.raises(StaleIndex, match="damaged"):
            look()
