"""Files that change while open, have unusual times or are not regular; hostile names."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from checkpoints import checkpoint, counting
from encryption import KEY, encrypted
from forking import ended, forked

import lazyckpt
from lazyckpt.errors import ChangedFile, LazyCkptError, UnreadableFile
from lazyckpt.sharding.strategy import read_strategy

ROOT = os.path.dirname(os.path.dirname(lazyckpt.__file__))
VALUES = {f"w{place}": counting((64, 32)) + place for place in range(6)}
FORMS = {
    "plain": {},
    "AES-GCM": {"dec_key": KEY, "dec_mode": "AES-GCM"},
    "AES-CBC": {"dec_key": KEY, "dec_mode": "AES-CBC"},
}


@pytest.fixture(params=FORMS)
def form(request):
    """A plain file, or an encrypted one."""
    return request.param


@pytest.fixture
def file(tmp_path, form):
    """A checkpoint."""
    return written(tmp_path / "net.ckpt", form)


def written(path, form, by=0):
    """Write a checkpoint of `VALUES`, with `by` added to every value."""
    data = checkpoint({name: value + by for name, value in VALUES.items()})
    path.write_bytes(data if form == "plain" else encrypted(data, form, block=9000))
    return path


def loaded(file, form):
    """The difference of the loaded values from `VALUES`, which is the same for all of them."""
    with lazyckpt.load_checkpoint(str(file), **FORMS[form]) as ckpt:
        (by,) = {float(number) for name, value in ckpt.load().items() for number in np.unique(value - VALUES[name])}
        return by


# Changes to an open file.


def test_a_file_that_is_appended_to_is_read_as_it_was(file, form):
    """Appended bytes do not affect an open checkpoint."""
    with lazyckpt.load_checkpoint(str(file), **FORMS[form]) as ckpt:
        with open(file, "ab") as more:
            more.write(b"\0" * 100_000)

        assert all(np.array_equal(ckpt[name].asnumpy(), value) for name, value in VALUES.items())


WAYS = {
    "view": lambda ckpt: ckpt["w5"].asnumpy(),
    "copy": lambda ckpt: ckpt["w5"].asnumpy(copy=True),
    "slice": lambda ckpt: ckpt["w5"][:],
    "many": lambda ckpt: ckpt.load(["w4", "w5"])["w5"],
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", [0, 1, 5000, 20_000])
def test_a_file_that_is_cut_is_an_error_by_every_way_of_reading(way, size, file, form):
    """Missing bytes are an error in every way of reading, never a signal or a wrong value.

    The value of an encrypted file may still be right, because decrypted blocks may be in memory.
    """

    def read():
        with lazyckpt.load_checkpoint(str(file), **FORMS[form]) as ckpt:
            os.truncate(file, size)
            try:
                right = np.array_equal(WAYS[way](ckpt), VALUES["w5"]) and form != "plain"
            except ChangedFile:
                right = True
            assert right

    assert ended(forked(read)) == 0


def test_a_file_that_is_replaced_is_read_on_and_the_new_one_opened(file, form, tmp_path):
    """After a rename, an open checkpoint keeps the old values, and a new one has the new ones."""
    with lazyckpt.load_checkpoint(str(file), **FORMS[form]) as ckpt:
        os.replace(written(tmp_path / "new", form, by=100), file)

        assert np.array_equal(ckpt["w5"].asnumpy(), VALUES["w5"])
        assert loaded(file, form) == 100


def test_a_file_that_is_removed_is_read_on(file, form):
    """An open checkpoint keeps a removed file readable."""
    with lazyckpt.load_checkpoint(str(file), **FORMS[form]) as ckpt:
        os.unlink(file)
        os.unlink(f"{file}.lmdb")

        assert all(np.array_equal(ckpt[name].asnumpy(), value) for name, value in VALUES.items())


# Clocks.


@pytest.mark.parametrize("time", [-(10**18), -1, 0, 1, 4 * 10**18, 2**63 - 1])
def test_a_file_of_any_time_has_an_index(time, file, form):
    """An index is kept and found for files from before 1970 and from the far future."""
    os.utime(file, ns=(time, time))
    cold = loaded(file, form)
    before = os.stat(f"{file}.lmdb").st_mtime_ns
    warm = loaded(file, form)

    assert (cold, warm) == (0, 0)
    assert os.stat(f"{file}.lmdb").st_mtime_ns == before


@pytest.mark.parametrize("by", [-1, 1, -(10**15), 10**15])
def test_a_clock_that_jumps_makes_no_old_index_new(by, file, form, tmp_path):
    """A replacement file is indexed again if only its time differs, earlier or later."""
    assert loaded(file, form) == 0
    time = os.stat(file).st_mtime_ns
    new = written(tmp_path / "new", form, by=100)
    os.utime(new, ns=(time + by, time + by))
    os.replace(new, file)

    assert loaded(file, form) == 100


def test_an_index_older_than_its_file_is_as_good_as_any(file, form):
    """Only the fingerprint in the index counts, not the time of the index."""
    assert loaded(file, form) == 0
    os.utime(f"{file}.lmdb", ns=(1, 1))

    assert loaded(file, form) == 0
    assert os.stat(f"{file}.lmdb").st_mtime_ns == 1


# Links.


def test_hard_links_have_indexes_of_their_own(file, form, tmp_path):
    """When one of two hard links is replaced, the other keeps its index and values."""
    other = tmp_path / "other.ckpt"
    os.link(file, other)
    assert (loaded(file, form), loaded(other, form)) == (0, 0)
    os.replace(written(tmp_path / "new", form, by=100), file)

    assert (loaded(file, form), loaded(other, form)) == (100, 0)


def test_a_symbolic_link_may_be_led_elsewhere(file, form, tmp_path):
    """A symbolic link opens its current target, with the index of the target."""
    other, link = written(tmp_path / "other.ckpt", form, by=100), tmp_path / "latest.ckpt"
    link.symlink_to(file)
    found = [loaded(link, form)]
    link.unlink()
    link.symlink_to(other)
    found.append(loaded(link, form))

    assert found == [0, 100]
    assert sorted(path.name for path in tmp_path.glob("*.lmdb")) == ["net.ckpt.lmdb", "other.ckpt.lmdb"]


def test_the_name_of_a_file_need_not_be_utf8(form, tmp_path):
    """A file and a folder whose names are not valid UTF-8 can be indexed, loaded and saved."""
    place = tmp_path / os.fsdecode(b"caf\xe9")
    place.mkdir()
    file = written(place / os.fsdecode(b"mod\xe8le.ckpt"), form)
    with lazyckpt.load_checkpoint(str(file), **FORMS[form]) as ckpt:
        ckpt.save(place / os.fsdecode(b"copi\xe9.ckpt"))

    assert (loaded(file, form), loaded(place / os.fsdecode(b"copi\xe9.ckpt"), "plain")) == (0, 0)
    assert sorted(os.listdir(os.fsencode(place))) == [
        *(b"copi\xe9.ckpt", b"copi\xe9.ckpt.lmdb", b"mod\xe8le.ckpt", b"mod\xe8le.ckpt.lmdb"),
    ]


@pytest.mark.parametrize("ending", ["ckpt", "safetensors"])
def test_the_names_of_a_sets_parts_need_not_be_utf8(ending, file, form, tmp_path):
    """A listing holds file names that are not valid UTF-8."""
    base = os.fsdecode(b"mod\xe8le.") + ending
    with lazyckpt.load_checkpoint(str(file), **FORMS[form]) as ckpt:
        written = ckpt.save(tmp_path / base, max_shard_size=20_000)
    with lazyckpt.load_checkpoint(str(tmp_path / f"{base}.index.json"), format=ending) as ckpt:
        assert len(written) > 2
        assert {name: value.tolist() for name, value in ckpt.load().items()} == {
            name: value.tolist() for name, value in VALUES.items()
        }


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("net.ckpt.index.json", lazyckpt.load_checkpoint),
        ("strategy.ckpt", lambda path: read_strategy([path])),
        ("strategy.json", lambda path: read_strategy([path])),
    ],
)
def test_no_listing_and_no_strategy_is_waited_for(name, read, tmp_path):
    """A pipe in place of a listing or strategy is an error, instead of blocking."""
    os.mkfifo(tmp_path / name)

    with pytest.raises(UnreadableFile, match="not a regular file"):
        read(str(tmp_path / name))


# Names.

NAMES = [
    *("a\nb", "a\r\nb", "a\0b", "a\tb", "\x1b[2J\x1b[31mred", "\u202eabc", "\u2028", "", " ", ".", "..", "a/../../b"),
    *("%s{0}", "<script>alert(1)</script>", "é" * 500, "\U0001f642", "'\"`$(true)"),
]


@pytest.fixture
def named(tmp_path):
    """A checkpoint of odd names."""
    path = tmp_path / "net.ckpt"
    path.write_bytes(checkpoint({name: counting((2,)) + place for place, name in enumerate(NAMES)}))
    return path


def test_any_name_leads_to_its_value(named):
    """Values with unusual names load with a new index, with a stored one, and after saving."""
    for _ in ("cold", "warm"):
        with lazyckpt.load_checkpoint(str(named)) as ckpt:
            assert {name: float(ckpt[name].asnumpy()[0]) for name in ckpt} == {
                name: float(place) for place, name in enumerate(NAMES)
            }
            ckpt.save(named.with_name("copy.ckpt"))
    with lazyckpt.load_checkpoint(str(named.with_name("copy.ckpt"))) as copy:
        assert list(copy) == NAMES


def test_no_name_reaches_the_terminal_as_it_is(named):
    """`repr`, the tree and the statistics escape control characters."""
    with lazyckpt.load_checkpoint(str(named)) as ckpt:
        shown = [*(repr(ckpt[name]) for name in NAMES), repr(ckpt), str(ckpt.tree()), str(ckpt.stats())]

    assert [text for text in shown if "\x1b" in text or "\0" in text or "\u202e" in text] == []


@pytest.mark.parametrize(
    "command", [["ls"], ["tree"], ["stats"], ["doctor"], ["verify"], ["show", "\x1b[2J\x1b[31mred"]]
)
def test_no_command_prints_a_name_as_it_is(command, named):
    """No command prints the escape sequences of a file to a terminal."""
    program = f"import sys; sys.path.insert(0, {ROOT!r}); from lazyckpt.cli import main; main()"
    arguments = [sys.executable, "-c", program, command[0], str(named), *command[1:]]
    run = subprocess.run(arguments, capture_output=True, check=False)

    assert run.returncode == 0
    assert b"\x1b" not in run.stdout + run.stderr


@pytest.mark.parametrize("name", ["n" * 10_000, "é" * 5000])
def test_a_name_of_ten_thousand_bytes_is_an_error_or_left_out(name, tmp_path):
    """As in MindSpore, no Parameter can have such a name. The index keeps it, and the rest loads."""
    path = tmp_path / "net.ckpt"
    path.write_bytes(checkpoint({name: counting((2,)), "sound": counting((3,))}))
    with pytest.raises(LazyCkptError, match="characters"):
        lazyckpt.load_checkpoint(str(path))
    with lazyckpt.load_checkpoint(str(path), choice_func=lambda each: len(each) < 100) as ckpt:
        assert list(ckpt) == ["sound"]
    assert list(lazyckpt.build_index(path)) == [name, "sound"]


@pytest.mark.parametrize("name", ["\ud800", "a\udfff", "n" * 10**6, "\0", 7, None, b"w0", ("w0",)])
def test_a_name_that_no_file_can_have_is_not_there(name, file, form):
    """Names that are impossible or not strings are absent, and raise KeyError."""
    with lazyckpt.load_checkpoint(str(file), **FORMS[form]) as ckpt:
        assert name not in ckpt
        with pytest.raises(KeyError):
            ckpt[name]
