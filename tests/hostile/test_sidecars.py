"""Hostile sidecars: a checkpoint gives the values of its file, or an error.

Damage is detected, and leads to a rebuild or an error. A forger who can write to the folder, with matching checksums,
may hide a name or claim one, but can never make a name yield another value than the file has under it.
"""

from __future__ import annotations

import os
import random
import shutil
import socket

import lmdb
import numpy as np
import pytest
from checkpoints import checkpoint, counting
from encryption import KEY, encrypted
from entries import tensor_entry
from forging import forged, resummed

import lazyckpt
from lazyckpt.errors import LazyCkptError
from lazyckpt.explore.index_status import sidecars_of
from lazyckpt.index import write
from lazyckpt.index.footer import Meta, decode_meta, encode_meta
from lazyckpt.index.records import decode, encode
from lazyckpt.index.schema import FACTS, IRREGULAR, ORDINAL, PLAIN_CODEC, record_key
from lazyckpt.model.dtypes import DTYPES
from lazyckpt.model.entry import Extent, Fingerprint

PAGE = 4096
VALUES = {f"layer{place}.weight": counting((4, 3)) + place for place in range(120)}
KINDS = {"plain": {}, "sealed": {"dec_key": KEY}}


@pytest.fixture(params=KINDS)
def kind(request):
    """The kind of sidecar: of a plain checkpoint, or of an encrypted one."""
    return request.param


@pytest.fixture
def file(tmp_path, kind):
    """A checkpoint with a sidecar."""
    path = tmp_path / "net.ckpt"
    data = checkpoint(VALUES)
    path.write_bytes(data if kind == "plain" else encrypted(data, block=4000))
    lazyckpt.build_index(path, **KINDS[kind]).close()
    return path


@pytest.fixture
def sidecar(file):
    """The path of the sidecar, made writable."""
    path = file.with_name("net.ckpt.lmdb")
    path.chmod(0o600)
    return path


def values_of(file, kind):
    """All values of a checkpoint, or None after a lazyckpt error."""
    try:
        with lazyckpt.load_checkpoint(str(file), **KINDS[kind]) as ckpt:
            names, entries = list(ckpt), [ckpt.entry(name).shape for name in ckpt]
            assert entries == [VALUES[name].shape for name in names]
            return {name: value.tobytes() for name, value in ckpt.load().items()}
    except LazyCkptError:
        return None


TRUTH = {name: value.tobytes() for name, value in VALUES.items()}


# Damage


def other_files(path):
    """Use the sidecar of a file with the same names and other values."""
    other = path.with_name("other.ckpt")
    other.write_bytes(checkpoint({name: value + 1 for name, value in VALUES.items()}))
    lazyckpt.build_index(other).close()
    shutil.copy(other.with_name("other.ckpt.lmdb"), path)


def of_an_older_version(path):
    """Use a sidecar of an earlier version: an LMDB file without a footer."""
    path.unlink()
    facts = bytearray(encode_meta(Meta(Fingerprint(0, 0, bytes(16)))))
    facts[8] = 2
    with lmdb.open(str(path), subdir=False, lock=False) as environment, environment.begin(write=True) as transaction:
        transaction.put(FACTS, bytes(facts))


def in_its_place(make):
    """A function that replaces the sidecar with something else."""

    def change(path):
        path.unlink()
        make(path)

    return change


def listening(path):
    """Create a socket."""
    here = os.getcwd()
    os.chdir(path.parent)  # the path of a socket has a length limit
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)
    os.chdir(here)


PLACES = {
    "of another file": other_files,
    "of an older version": of_an_older_version,
    "nothing": lambda path: path.write_bytes(b""),
    "a terabyte of nothing": lambda path: os.truncate(path, 2**40),
    "zeros": lambda path: path.write_bytes(bytes(10 * PAGE)),
    "noise": lambda path: path.write_bytes(random.Random(1).randbytes(10 * PAGE)),
    "a folder": in_its_place(os.mkdir),
    "a pipe": in_its_place(os.mkfifo),
    "a socket": in_its_place(listening),
    "a device": in_its_place(lambda path: path.symlink_to("/dev/zero")),
    "a link to itself": in_its_place(lambda path: path.symlink_to(path.name)),
    "a link to nothing": in_its_place(lambda path: path.symlink_to("none")),
    "a link to the file": in_its_place(lambda path: path.symlink_to("net.ckpt")),
}


@pytest.mark.parametrize("place", PLACES)
def test_what_is_no_index_of_this_file_is_not_used(place, file, sidecar, kind):
    """A sidecar of another file or version, or anything else in its place, is not used."""
    PLACES[place](sidecar)

    assert values_of(file, kind) == TRUTH


@pytest.mark.parametrize("seed", range(40))
def test_a_damaged_sidecar_is_built_again(seed, file, sidecar, kind):
    """After bit flips and exchanged, cleared or torn pages, all names and values are right."""
    chance = random.Random(seed)
    data = bytearray(sidecar.read_bytes())
    pages = len(data) // PAGE
    for _ in range(chance.choice((1, 1, 4))):
        one, other = (PAGE * chance.randrange(pages) for _ in range(2))
        change = chance.randrange(4)
        if change == 0:
            data[one + chance.randrange(PAGE)] ^= 1 << chance.randrange(8)
        elif change == 1:
            data[one : one + PAGE], data[other : other + PAGE] = data[other : other + PAGE], data[one : one + PAGE]
        elif change == 2:
            data[one : one + PAGE] = bytes(PAGE)
        else:
            data[one + PAGE // 2 : one + PAGE] = data[other + PAGE // 2 : other + PAGE]
    sidecar.write_bytes(data)

    assert values_of(file, kind) == TRUTH


def test_a_sidecar_cut_at_any_page_is_built_again(file, sidecar, kind):
    """A truncated sidecar is detected when it is opened."""
    data = sidecar.read_bytes()
    found = []
    for length in [*range(0, len(data), PAGE), len(data) - 1]:
        sidecar.unlink()  # the previous one may still be open
        sidecar.write_bytes(data[:length])
        found.append(values_of(file, kind))

    assert found == [TRUTH] * len(found)


WHILE_OPEN = {
    "cut to nothing": lambda path: os.truncate(path, 0),
    "cut to a byte": lambda path: os.truncate(path, 1),
    "cut to a page": lambda path: os.truncate(path, PAGE),
    "cut within a page": lambda path: os.truncate(path, 3 * PAGE + 7),
    "written over": lambda path: path.write_bytes(random.Random(2).randbytes(path.stat().st_size)),
}


@pytest.mark.parametrize("change", WHILE_OPEN)
def test_a_sidecar_that_is_damaged_while_it_is_open_is_built_again(change, file, sidecar, kind):
    """Damage to an open sidecar leads to a rebuild, without a signal or a wrong value."""
    with lazyckpt.load_checkpoint(str(file), **KINDS[kind]) as ckpt:
        WHILE_OPEN[change](sidecar)
        outcomes = {outcome(ckpt, name) for name in VALUES}

    assert (outcomes, sidecars_of(str(file))[0].state) == ({True}, "fresh")


def outcome(ckpt, name):
    """Whether a value equals that of the file; None after a lazyckpt error."""
    try:
        return bool(np.array_equal(ckpt[name].asnumpy(), VALUES[name]))
    except LazyCkptError:
        return None


# Forgery of a plain sidecar: the checksums match, and the records hold false claims.


@pytest.fixture
def forge(tmp_path):
    """Makes a checkpoint with a forged sidecar: changed by a function, with matching checksums."""

    def forge(change):
        path = tmp_path / "net.ckpt"
        path.write_bytes(checkpoint(VALUES))
        lazyckpt.build_index(path).close()
        with forged(tmp_path / "net.ckpt.lmdb") as transaction:
            change(transaction)
        return path

    return forge


def with_entry(place, **changes):
    """A forger that changes the record at an ordinal."""

    def change(transaction):
        key = record_key(place)
        entry = decode(transaction.get(key))
        changed = {name: made(entry) for name, made in changes.items()}
        transaction.put(key, encode(entry._replace(**changed), entry.name.encode()))

    return change


CLAIMS = {
    "a content a little further on": with_entry(7, extents=lambda entry: (moved(entry.extents[0], 4),)),
    "the content of another": with_entry(7, extents=lambda entry: (moved(entry.extents[0], 90),)),
    "a content outside the file": with_entry(7, extents=lambda entry: (Extent(2**40, 48),)),
    "a content that ends at the end of numbers": with_entry(7, extents=lambda entry: (Extent(2**64 - 48, 48),)),
    "two contents that overlap": with_entry(7, extents=lambda entry: (entry.extents[0], entry.extents[0])),
    "the same in two pieces": with_entry(7, extents=lambda entry: halves(entry.extents[0])),
    "a hundred thousand pieces": with_entry(7, extents=lambda entry: (Extent(entry.start, 0),) * 100_000),
    "no content": with_entry(7, extents=lambda entry: ()),
    "a huge shape": with_entry(7, shape=lambda entry: (2**62, 2**62)),
    "a shape of the same size": with_entry(7, shape=lambda entry: (3, 4)),
    "a shape of no size": with_entry(7, shape=lambda entry: (0, 2**62)),
    "two hundred dimensions": with_entry(7, shape=lambda entry: (1,) * 198 + (4, 3)),
    "another dtype of the same size": with_entry(7, dtype=lambda entry: DTYPES["Int32"]),
    "another place": with_entry(7, start=lambda entry: entry.start - 1),
    "the whole file": with_entry(7, start=lambda entry: 0, stop=lambda entry: 2**20),
    "a header that stands apart": with_entry(7, apart=lambda entry: 60),
}


def moved(extent, by):
    """An extent moved by some bytes."""
    return Extent(extent.offset + by, extent.length)


def halves(extent):
    """An extent in two parts."""
    return Extent(extent.offset, 24), Extent(extent.offset + 24, 24)


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_forged_record_gives_no_other_value(claim, forge):
    """A record that contradicts the header in the file is corrected, or an error. Other values are unaffected."""
    with lazyckpt.load_checkpoint(str(forge(CLAIMS[claim]))) as ckpt:
        outcomes = [outcome(ckpt, name) for name in VALUES]
        ckpt.tree()
        ckpt.summary()

    assert outcomes.pop(7) in (True, None)
    assert outcomes == [True] * len(outcomes)


def swapped(transaction):
    """Exchange two records."""
    one, other = transaction.get(record_key(7)), transaction.get(record_key(8))
    transaction.put(record_key(7), other)
    transaction.put(record_key(8), one)


def with_name(name, place):
    """A forger that makes a name lead to another ordinal."""
    return lambda transaction: transaction.put(PLAIN_CODEC.name_key(name.encode()), ORDINAL.pack(place))


def facts(**changes):
    """A forger that changes the metadata."""

    def change(transaction):
        transaction.put(FACTS, encode_meta(decode_meta(transaction.get(FACTS))._replace(**changes)))

    return change


LIES = {
    "two records in each other's place": swapped,
    "a name that leads to another's record": with_name("layer7.weight", 8),
    "a name that leads nowhere": with_name("layer7.weight", 2**32 - 1),
    "a record that is missing": lambda transaction: transaction.delete(record_key(7)),
    "a record that is empty": lambda transaction: transaction.put(record_key(7), b""),
    "a record of a million bytes": lambda transaction: transaction.put(record_key(7), b"\xff" * 10**6),
    "a record of a kind that there is not": lambda transaction: transaction.put(record_key(7), b"\x09" + bytes(60)),
    "a place to look at that there is not": lambda transaction: transaction.put(IRREGULAR + b"\xff" * 4, b""),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_forged_sidecar_gives_an_error_and_no_wrong_value(lie, forge):
    """Names and records that contradict each other give an error on use."""
    try:
        with lazyckpt.load_checkpoint(str(forge(LIES[lie]))) as ckpt:
            outcomes = {outcome(ckpt, name) for name in VALUES}
    except LazyCkptError:
        return

    assert outcomes <= {True, None}


@pytest.mark.parametrize("number", [0, 1, 119, 121, 2**31, 2**32, 2**63])
def test_facts_that_do_not_fit_the_tree_make_the_index_be_built_again(number, forge):
    """A false number of parameters causes a rebuild, without allocating memory for that many."""
    assert values_of(forge(facts(parameters=number)), "plain") == TRUTH


def test_a_forger_can_hide_a_name_and_change_no_value(forge):
    """A forger can hide a name. Write access to the folder also allows replacing the checkpoint."""

    def hide(transaction):
        transaction.delete(PLAIN_CODEC.name_key(b"layer7.weight"))
        transaction.put(b"\x06", b"")  # keeps the number of items

    with lazyckpt.load_checkpoint(str(forge(hide))) as ckpt:
        outcomes = [outcome(ckpt, name) for name in VALUES if name in ckpt]

    assert outcomes == [True] * (len(VALUES) - 1)


def test_a_forger_cannot_show_a_name_that_the_file_does_not_have(forge):
    """A forged name that is not in the file gives an error instead of a value."""

    def add(transaction):
        record = decode(transaction.get(record_key(7)))
        transaction.put(record_key(7), encode(record, b"planted"))
        transaction.put(PLAIN_CODEC.name_key(b"planted"), ORDINAL.pack(7))
        transaction.delete(PLAIN_CODEC.name_key(b"layer7.weight"))

    with lazyckpt.load_checkpoint(str(forge(add))) as ckpt:
        assert "planted" in ckpt
        with pytest.raises(LazyCkptError):
            ckpt["planted"].asnumpy()


def test_a_forger_cannot_change_what_is_sealed(tmp_path):
    """Pages of an older sealed sidecar can hide names, but change no value.

    Records are bound to their ordinals and to the salt of the sidecar; one that cannot be decrypted causes a rebuild.
    """
    path, sidecar = tmp_path / "net.ckpt", tmp_path / "net.ckpt.lmdb"
    path.write_bytes(encrypted(checkpoint(VALUES), block=4000))
    sidecars = []
    for _ in ("old", "new"):
        lazyckpt.build_index(path, KEY, force=True).close()
        sidecars.append(sidecar.read_bytes())
    old, new = sidecars
    outcomes = set()
    for start in range(2 * PAGE, len(new) - PAGE, PAGE):
        sidecar.unlink()
        sidecar.write_bytes(new[:start] + old[start : start + PAGE] + new[start + PAGE :])
        resummed(sidecar)
        with lazyckpt.load_checkpoint(str(path), dec_key=KEY) as ckpt:
            outcomes |= {outcome(ckpt, name) for name in VALUES if name in ckpt}

    assert outcomes == {True}


def test_a_sidecar_that_is_all_made_up_leads_nowhere(tmp_path):
    """A fabricated sidecar with the right fingerprint opens and has names, but gives no value."""
    path = tmp_path / "net.ckpt"
    path.write_bytes(checkpoint(VALUES))
    index = lazyckpt.build_index(path, index_path="memory")
    write.write(f"{path}.lmdb", [tensor_entry(f"w{place}", place) for place in range(100)], Meta(index.fingerprint))
    with lazyckpt.load_checkpoint(str(path)) as ckpt:
        names = list(ckpt)
        for name in names:
            with pytest.raises(LazyCkptError):
                ckpt[name].asnumpy()

    assert len(names) == 100
