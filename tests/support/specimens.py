"""Specimens: healthy, damaged and foreign files and folders, and what each command must say of them.

`SPECIMENS` is the table: name -> what makes it in a folder, the codes that commands exit with, and words that their
output must have. Each maker returns the path, and perhaps options of the command line.
"""

from __future__ import annotations

import gzip
import json
import os
import socket
from typing import NamedTuple

import numpy as np
from checkpoints import checkpoint, counting, tensor_value, with_crc
from encryption import CBC_MODES, HEADER, KEY, MODES, encrypted, flipped
from other_files import FILES
from safetensors_files import file_of

VALUES = {
    "a.weight": counting((40, 25)) + 1,
    "a.bias": counting((7,), "float16") + 1,
    "step": np.array(17, "int64"),
    "b.weight": counting((60, 80)) + 1,
}
FRESH = {**VALUES, "c.moment": np.zeros((50, 100), "float32")}
CKPT, SAFETENSORS = checkpoint(VALUES), file_of(VALUES)
DATA = {"ckpt": CKPT, "safetensors": SAFETENSORS}
LAST = VALUES["b.weight"].nbytes  # bytes of the last payload, which is at the end of the file


class Codes(NamedTuple):
    """Whether loading gives every value, and the exit codes of the commands."""

    loads: bool
    ls: int
    verify: int
    doctor: int


FINE = Codes(True, 0, 0, 0)
REFUSED = Codes(False, 1, 1, 1)
DOUBTFUL = Codes(True, 0, 1, 1)
PARTLY = Codes(False, 0, 1, 1)  # some values cannot be loaded; `ls` names them, with the reason
UNPROVEN = Codes(True, 0, 1, 0)  # only `verify` compares contents
LOCKED = Codes(False, 1, 1, 0)  # nothing is known to be wrong, and nothing can be loaded without the key
KEY_TOO_MANY = Codes(False, 1, 0, 0)  # one key is given for many files, encrypted or not
NOWHERE = Codes(False, 1, 2, 1)
STRANGERS = Codes(False, 1, 0, 1)  # files that are each intact, and no one checkpoint


class Specimen(NamedTuple):
    """A specimen: a function that makes it, and what must be said of it."""

    make: object
    codes: Codes
    words: str = ""


def file(data, name="net.ckpt", *options):
    """Make a file."""

    def make(folder):
        (folder / name).write_bytes(data)
        (folder / "key").write_bytes(KEY)
        return str(folder / name), *[str(folder / "key") if option == "key" else option for option in options]

    return make


def with_key(data):
    """Make an encrypted file, and give its key."""
    return file(data, "net.ckpt", "--key-file", "key")


def zeroed(data, start, stop=None):
    """Data with zeros from `start` on."""
    stop = len(data) if stop is None else stop
    return data[:start] + bytes(stop - start) + data[stop:]


def sparse(data, start, stop, name):
    """Make a file with a hole."""

    def make(folder):
        with open(folder / name, "wb") as out:
            out.write(data[:start])
            out.seek(stop)
            out.write(data[stop:])
            out.truncate(len(data))
        return (str(folder / name),)

    return make


FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


def parts(change=lambda folder, homes: None, target="model.safetensors.index.json"):
    """Make a set of two parts with a listing, which `change` may spoil; returns the listing, or the folder."""

    def make(folder):
        homes = {name: FIRST if name.startswith("a") else SECOND for name in VALUES}
        for part in (FIRST, SECOND):
            mine = {name: VALUES[name] for name, home in homes.items() if home == part}
            (folder / part).write_bytes(file_of(mine))
        total = sum(value.nbytes for value in VALUES.values())
        listing = {"metadata": {"total_size": total}, "weight_map": homes}
        change(folder, listing)
        (folder / "model.safetensors.index.json").write_text(json.dumps(listing))
        return (str(folder / target),)

    return make


def ghost(folder, listing):
    """Give the listing a name that no part has."""
    listing["weight_map"]["ghost"] = FIRST


def moved(folder, listing):
    """Let the listing say that a value is in another part."""
    listing["weight_map"]["step"] = FIRST


def unlisted(folder, listing):
    """Let the listing lack a name."""
    del listing["weight_map"]["step"]


def outside(folder, listing):
    """Let the listing name a file in another folder."""
    listing["weight_map"]["step"] = f"../{SECOND}"


def wrong_size(folder, listing):
    """Let the listing give another total size."""
    listing["metadata"]["total_size"] = 7


def without_part(folder, listing):
    """Remove a part."""
    (folder / SECOND).unlink()


def cut_part(folder, listing):
    """Cut off the end of a part."""
    (folder / SECOND).write_bytes((folder / SECOND).read_bytes()[:-5])


def zeroed_part(folder, listing):
    """Put zeros in place of the end of a part."""
    data = (folder / SECOND).read_bytes()
    (folder / SECOND).write_bytes(zeroed(data, len(data) - 9001))


def folder_of(**files):
    """Make a folder of files (name -> bytes)."""

    def make(folder):
        for name, data in files.items():
            (folder / f"{name}.ckpt").write_bytes(data)
        return (str(folder),)

    return make


def special(make):
    """Make something that is no file, as `net.ckpt`."""

    def made(folder):
        make(str(folder / "net.ckpt"))
        return (str(folder / "net.ckpt"),)

    return made


def bind(path):
    """Make a socket."""
    here = os.getcwd()
    os.chdir(os.path.dirname(path))  # the path of a socket is limited to 107 bytes
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(os.path.basename(path))
    finally:
        os.chdir(here)


def archive(folder):
    """Make a file of numpy.savez under a name of ours."""
    np.savez(folder / "x.npz", **VALUES)
    os.rename(folder / "x.npz", folder / "net.ckpt")
    return (str(folder / "net.ckpt"),)


TAIL = "zeros from byte "
SPECIMENS = {
    "a name in no part": Specimen(parts(ghost), REFUSED, "it is in no part (in parameter 'ghost')"),
    "a name in another part": Specimen(parts(moved), REFUSED, "the listing says it is in"),
    "a name that is not listed": Specimen(parts(unlisted), FINE),
    "a part outside": Specimen(parts(outside), REFUSED, "outside its folder"),
    "a wrong total size": Specimen(parts(wrong_size), FINE),
    "a part missing": Specimen(parts(without_part), REFUSED, SECOND),
    "a part cut": Specimen(parts(cut_part), REFUSED, "the header announces"),
    "a part with zeros": Specimen(parts(zeroed_part), DOUBTFUL, TAIL),
    "a set": Specimen(parts(), FINE),
    "the folder of a set": Specimen(parts(target="."), FINE),
    "the folder of a set with a name in no part": Specimen(parts(ghost, "."), PARTLY, "'ghost'"),
    "the folder of a set without a part": Specimen(parts(without_part, "."), REFUSED, SECOND),
    "the folder of a set with a cut part": Specimen(parts(cut_part, "."), REFUSED, "the header announces"),
    "a folder of parts": Specimen(folder_of(a=checkpoint({"a": VALUES["step"]}), b=CKPT), FINE),
    "a folder with a cut file": Specimen(folder_of(a=checkpoint({"x": VALUES["step"]}), b=CKPT[:-5]), REFUSED),
    "a folder of strangers": Specimen(folder_of(a=CKPT, b=CKPT), STRANGERS),
    "an empty folder": Specimen(folder_of(), NOWHERE, "there is no checkpoint"),
    "a name that is not there": Specimen(lambda folder: (str(folder / "none.ckpt"),), NOWHERE, "does not exist"),
    "a pipe": Specimen(special(os.mkfifo), REFUSED, "it is a pipe, not a file"),
    "a socket": Specimen(special(bind), REFUSED, "it is a socket, not a file"),
    "a device": Specimen(special(lambda path: os.symlink("/dev/zero", path)), REFUSED, "it is a device, not a file"),
    "a dangling link": Specimen(special(lambda path: os.symlink("nowhere", path)), REFUSED, "does not exist"),
    "a circle of links": Specimen(special(lambda path: os.symlink(path, path)), REFUSED),
    "numpy's archive": Specimen(archive, REFUSED, "zip archive"),
    "a compressed checkpoint": Specimen(file(gzip.compress(CKPT, mtime=0)), REFUSED, "unpack it first"),
    "JSON": Specimen(file(b'{"a": [1, 2, 3], "b": {"c": "d"}}'), REFUSED, "text file"),
    "a cut between values": Specimen(file(CKPT[: len(CKPT) - LAST - 40].rpartition(b"\x0a\x9f")[0] or CKPT), FINE),
    "a refused value": Specimen(file(CKPT + tensor_value("q", [2], "Float9", b"ab")), PARTLY, "Float9"),
    "a right checksum": Specimen(file(with_crc(CKPT)), FINE),
    "a wrong checksum": Specimen(file(with_crc(CKPT, 7)), UNPROVEN, "crc"),
    "zeros over a checksum": Specimen(file(zeroed(with_crc(CKPT), 10_001)), REFUSED, f"{TAIL}10,001 on"),
    "a key for a plain file": Specimen(with_key(CKPT), KEY_TOO_MANY),
    "a safetensors file without tensors": Specimen(file(file_of({}), "net.safetensors"), REFUSED, "no parameter"),
}
for form, data in DATA.items():
    name = f"net.{form}"
    header = 4050 if form == "ckpt" else 100
    more = checkpoint(FRESH) if form == "ckpt" else file_of(FRESH)
    SPECIMENS |= {
        f"healthy {form}": Specimen(file(data, name), FINE),
        f"a moment of zeros at the end of {form}": Specimen(file(more, name), FINE, "zeros (from byte"),
        f"zeros over the header of {form}": Specimen(file(zeroed(data, header), name), REFUSED, f"{TAIL}{header:,} on"),
        f"zeros in the last payload of {form}": Specimen(file(zeroed(data, len(data) - 5001), name), DOUBTFUL, TAIL),
        f"a hole at the end of {form}": Specimen(sparse(data, 8192, len(data), name), DOUBTFUL, TAIL),
        f"a hole in the middle of {form}": Specimen(sparse(data, 8192, 12288, name), DOUBTFUL, TAIL),
        f"nothing but zeros as {form}": Specimen(file(bytes(5000), name), REFUSED, f"{TAIL}0 on"),
        f"{form} cut in a header": Specimen(file(data[:header], name), REFUSED),
        f"{form} cut in a payload": Specimen(file(data[:-5000], name), REFUSED),
        f"{form} cut by a byte": Specimen(file(data[:-1], name), REFUSED),
        f"{form} with something after it": Specimen(file(data + b"\x93abc", name), REFUSED),
        f"{form} with zeros after it": Specimen(file(data + bytes(5000), name), REFUSED),
        f"empty {form}": Specimen(file(b"", name), REFUSED),
    }
for mode in MODES:
    whole = encrypted(CKPT, mode, block=5000)
    second = 5000 + HEADER[mode] + (0 if mode == "AES-GCM" else 8)  # where the second block begins
    SPECIMENS |= {
        f"{mode} with its key": Specimen(with_key(whole), FINE),
        f"{mode} without a key": Specimen(file(whole), LOCKED, "key"),
        f"{mode} with a wrong key": Specimen(file(whole, "net.ckpt", "--key-file", __file__), REFUSED),
        f"{mode} with zeros from a block on": Specimen(
            with_key(zeroed(whole, second)), REFUSED, f"{TAIL}{second:,} on"
        ),
        f"{mode} with zeros in a block": Specimen(with_key(zeroed(whole, second + 999)), REFUSED, TAIL),
        f"cut {mode}": Specimen(with_key(whole[:-100]), REFUSED, "the file is cut in encrypted block 4"),
    }
SPECIMENS["AES-GCM with a wrong bit"] = Specimen(with_key(flipped(encrypted(CKPT, block=5000), 9000)), REFUSED, "block")
for mode in CBC_MODES:  # nothing authenticates these
    SPECIMENS[f"{mode} with a wrong bit"] = Specimen(with_key(flipped(encrypted(CKPT, mode, block=5000), 9000)), FINE)
for number, (kind, data, _) in enumerate(FILES):
    if kind not in ("safetensors file", "listing"):
        for form in DATA:
            SPECIMENS[f"{kind} {number} as {form}"] = Specimen(file(data, f"net.{form}"), REFUSED, kind)
