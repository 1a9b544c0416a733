"""Differences between two checkpoints, and how much must be read to find them."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from checkpoints import LAYERS, MIXED, array_value, checkpoint, counting, pattern, tensor_value
from encryption import KEY, MODES, encrypted
from opening import opened_and_traced
from tracing import TracingSource, places

import lazyckpt
from lazyckpt.errors import ArgumentTypeError, CorruptFile, EncryptedFile, MissingFile, StaleIndex
from lazyckpt.explore import diff as module
from lazyckpt.index.batch import processes
from lazyckpt.loading import open_all
from lazyckpt.reading.reader import FileReader


@pytest.fixture
def write(tmp_path):
    """Writes a checkpoint of values, or of bytes; returns its path."""

    def write(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else checkpoint(content))
        return path

    return write


@pytest.fixture
def compared(write):
    """Compares two checkpoints of these contents."""
    return lambda a, b, **how: lazyckpt.diff(write("a.ckpt", a), write("b.ckpt", b), **how)


def outcomes(report):
    """The names of each outcome."""
    found = {}
    for row in report.rows:
        found.setdefault(row.outcome, []).append((row.name, row.new_name) if row.new_name else row.name)
    return found


def pattern_of(size):
    """Bytes as an array."""
    return np.frombuffer(pattern(size), "u1")


def traced(values):
    """A checkpoint over a source that records what is read."""
    source = TracingSource(checkpoint(values))
    return source, opened_and_traced(source)


@pytest.mark.parametrize("workers", [lambda: ThreadPoolExecutor(2), lambda: processes(2)], ids=["threads", "processes"])
def test_workers_find_what_one_process_finds(workers, write, monkeypatch):
    """For values that differ, are equal, renamed, on one side, or edited, the report has the same figures."""
    monkeypatch.setattr(module, "_TASK_BYTES", 5000)
    noise = np.random.default_rng(1).standard_normal((9, 1000))
    one = {**MIXED, **{f"w{number}": row for number, row in enumerate(noise)}}
    two = {**one, "w3": one["w3"] * 1.001, "step": np.array(5), "note": "other", "more": counting((3,))}
    two["renamed"] = two.pop("w7")
    path, other = write("a.ckpt", one), write("b.ckpt", two)
    with open_all(other) as edited, workers() as executor:
        edited["w5"].set_data(np.zeros(1000))
        edited["conv1.bias"] = np.zeros(2)
        reports = [
            (lazyckpt.diff(path, side), lazyckpt.diff(path, side, scheduler=executor)) for side in (other, edited)
        ]

    assert [spread.to_dict() for _, spread in reports] == [here.to_dict() for here, _ in reports]
    assert outcomes(reports[0][1])["value"] == ["step", "note", "w3"]


def test_copies_are_the_same(compared):
    """Two files with equal values of every kind do not differ."""
    report = compared(MIXED, MIXED)

    assert (report.same, report.equal, report.rows, report.counts()) == (True, 8, (), {"equal": 8})


def test_every_kind_of_change_is_reported(compared):
    """Changes come in order: removed, added, renamed, kind, shape, dtype, value; equal values are counted."""
    changed = {
        **{name: value for name, value in MIXED.items() if name not in ("conv1.weight", "fc.weight")},
        "head.weight": MIXED["fc.weight"],
        "conv1.bias": MIXED["conv1.bias"].astype("float32"),
        "mask": np.array([True, False]),
        "step": np.array(18),
        "empty": np.zeros(1, "int8"),
        "note": "anders",
        "extra": counting((7,)),
    }
    report = compared(MIXED, changed)

    assert outcomes(report) == {
        "removed": ["conv1.weight"],
        "added": ["extra"],
        "renamed": [("fc.weight", "head.weight")],
        "kind": ["empty"],
        "shape": ["mask"],
        "dtype": ["conv1.bias"],
        "value": ["step", "note"],
    }
    assert list(outcomes(report)) == ["removed", "added", "renamed", "kind", "shape", "dtype", "value"]
    assert (report.same, report.equal) == (False, 1)


def test_how_far_values_are_apart(compared):
    """A changed value's figures stand beside its name."""
    (row,) = compared({"w": np.array([3.0, 4.0])}, {"w": np.array([3.0, 4.5])}).rows

    assert row.difference == pytest.approx((1, 2, 0.5, 0.1, row.difference.cosine, 0))
    assert row.difference.cosine == pytest.approx(27 / (5 * 29.25**0.5))


def test_a_map_reports_its_values(compared):
    """A changed map names the arrays that differ."""
    keys, values, status = MIXED["table"]
    (row,) = compared({"table": [keys, values, status]}, {"table": [keys + 1, values + 2, status]}).rows

    assert (row.outcome, row.note, row.difference.max_abs) == ("value", "in its keys, values", 2.0)


def test_another_order_is_no_difference(compared):
    """Values are compared by name, not by position."""
    assert compared(LAYERS, dict(reversed(LAYERS.items()))).same


def test_a_file_beside_itself_is_not_read(write, monkeypatch):
    """A file compared with itself, or with another link to it, is not read."""
    path = write("a.ckpt", MIXED)
    os.link(path, path.with_name("link.ckpt"))
    monkeypatch.setattr(module, "_Comparison", None)
    reports = [lazyckpt.diff(path, path), lazyckpt.diff(path, path.with_name("link.ckpt"))]

    assert [(report.same, report.same_file, report.equal) for report in reports] == [(True, True, 8)] * 2
    assert lazyckpt.diff(path, path, names=["conv1.*"]).equal == 2


def test_an_edited_view_of_the_same_file_is_compared(write):
    """Edits in memory count, in a view as in the checkpoint, and so do removals."""
    path = write("a.ckpt", LAYERS)
    with lazyckpt.load_checkpoint(path) as one, lazyckpt.load_checkpoint(path) as two, one.copy() as three:
        two["step"].set_data(np.array(18))
        two["new"] = counting((3,))
        del two["mask"]
        three["fc.weight"] = LAYERS["fc.weight"].copy()
        report = lazyckpt.diff(one, two)

        assert outcomes(report) == {"removed": ["mask"], "added": ["new"], "value": ["step"]}
        assert outcomes(lazyckpt.diff(path, two)) == outcomes(report)
        assert lazyckpt.diff(one, three).same
        assert not lazyckpt.diff(one, three).same_file


def test_narrowed_views_are_compared_as_they_are(write):
    """A view is compared without the names it excludes."""
    path = write("a.ckpt", LAYERS)
    with lazyckpt.load_checkpoint(path) as whole, whole.select("conv1") as part:
        assert outcomes(lazyckpt.diff(whole, part)) == {"removed": ["fc.weight", "step", "mask"]}


def test_names_narrow_what_is_compared(compared):
    """Names or patterns select what is compared, on both sides."""
    changed = {**LAYERS, "conv1.bias": LAYERS["conv1.bias"] + 1, "step": np.array(3), "conv1.new": np.ones(4)}

    assert outcomes(compared(LAYERS, changed, names=["conv1.*"])) == {"added": ["conv1.new"], "value": ["conv1.bias"]}
    assert outcomes(compared(LAYERS, changed, names="step")) == {"value": ["step"]}


def test_only_headers_are_read_without_values():
    """Without values no payload byte is read; what was not compared is counted and is not a difference."""
    (one, a), (two, b) = traced(MIXED), traced({**MIXED, "step": np.array(3), "mask": np.ones(2, bool)})
    report = lazyckpt.diff(a, b, values=False)

    assert (one.looked_at(), two.looked_at()) == (set(), set())
    assert (outcomes(report), report.uncompared, report.same) == ({"shape": ["mask"]}, 7, False)


def test_digests_spare_reading(write):
    """Values with equal digests are not read; others are read, or reported without figures."""
    paths = [write("a.ckpt", LAYERS), write("b.ckpt", {**LAYERS, "step": np.array(3), "more": LAYERS["mask"]})]
    for path in paths:
        lazyckpt.build_index(path, digest="blake2b").close()
    with open_all(paths[0]) as one, open_all(paths[1]) as two:
        seen = []
        for side in (one, two):
            read = side._access.reader.stored
            side._access.reader.stored = lambda entry, *how, read=read: seen.append(entry.name) or read(entry, *how)
        report, names_only = lazyckpt.diff(one, two), lazyckpt.diff(one, two, values=False)

    assert set(seen) == {"step"}
    assert outcomes(report) == outcomes(names_only) == {"added": ["more"], "value": ["step"]}
    assert (names_only.uncompared, names_only.rows[-1].note) == (0, "their digests differ")


def test_renames_are_found_by_digest_without_reading(write):
    """If both indexes have digests, renames are found without a read."""
    paths = [write("a.ckpt", LAYERS), write("b.ckpt", {f"net.{name}": value for name, value in LAYERS.items()})]
    for path in paths:
        lazyckpt.build_index(path, digest="blake2b").close()

    assert outcomes(lazyckpt.diff(*paths, values=False)) == {"renamed": [(name, f"net.{name}") for name in LAYERS]}


def test_renames_are_found_by_content(compared):
    """Each new name is matched with one old name; among equal values, the first comes first."""
    old = {"a": np.zeros(4), "b": np.zeros(4), "c": np.ones(4), "d": np.zeros(4, "float32"), "e": np.zeros(0)}
    new = {"x": np.ones(4), "y": np.zeros(4), "z": np.zeros((2, 2)), "f": np.zeros(0)}

    assert outcomes(compared(old, new)) == {
        "removed": ["b", "d", "e"],
        "added": ["z", "f"],
        "renamed": [("a", "y"), ("c", "x")],
    }


def test_a_rename_is_held_against_all_of_the_content(compared, monkeypatch):
    """Values with equal beginnings may differ later."""
    from lazyckpt.reading import reader

    monkeypatch.setattr(reader.FileReader.stored, "__defaults__", (1024,))
    old, new = pattern(8000), bytearray(pattern(8000))
    new[-1] ^= 1

    assert outcomes(
        compared({"a": np.frombuffer(old, "u1")}, {"b": np.frombuffer(bytes(new), "u1")})
    ) == {"removed": ["a"], "added": ["b"]}  # fmt: skip


def test_too_many_renames_are_not_looked_for(compared, monkeypatch):
    """Too many possible renames are not compared, which bounds the reads."""
    monkeypatch.setattr(module, "MOST_RENAMES", 1)

    assert outcomes(compared({"a": np.ones(4)}, {"b": np.ones(4)})) == {"removed": ["a"], "added": ["b"]}


def test_what_is_refused_cannot_be_compared(compared):
    """A refused value is reported with the reason, and the rest is compared."""
    odd = tensor_value("q", [2], "Float8E4M3FN", b"ab") + array_value("w", counting((3,)))
    report = compared(odd, odd)

    assert (outcomes(report), report.equal) == ({"refused": ["q"]}, 1)
    assert report.rows[0].note.startswith("the dtype 'Float8E4M3FN' is unknown")


@pytest.mark.parametrize("mode", MODES)
def test_an_encrypted_file_is_compared_with_a_plain_one(write, mode):
    """An encrypted file is opened with its key; its blocks are smaller than values."""
    plain = write("plain.ckpt", MIXED)
    secret = write("secret.ckpt", encrypted(checkpoint({**MIXED, "step": np.array(3)}), mode, block=700))
    with open_all(secret, KEY, mode) as opened:
        assert outcomes(lazyckpt.diff(plain, opened)) == {"value": ["step"]}
    with pytest.raises(EncryptedFile):
        lazyckpt.diff(plain, secret)


def test_large_values_are_read_a_piece_at_a_time(tmp_path):
    """Values are read in pieces and in order, from both sides at once, with threads or without."""
    value = np.arange(3 * 2**20, dtype="<f4")
    one, two = (TracingSource(checkpoint({"w": array})) for array in (value, value.copy()))
    one.window = two.window = 4096
    a, b = opened_and_traced(one), opened_and_traced(two)
    report = lazyckpt.diff(a, b, workers=2)
    payload = places(a.entry("w").extents[:0])

    assert report.same
    assert payload == set()
    assert max(length for source in (one, two) for _, length in source.reads) == 2**23


def test_threads_give_the_same_report(write):
    """Threads give the same report in the same order."""
    values = {f"w{number}": counting((100,)) for number in range(50)}
    changed = {name: value + int(name[1:]) % 3 for name, value in values.items()}
    paths = write("a.ckpt", values), write("b.ckpt", changed)
    reports = [lazyckpt.diff(*paths, workers=workers).to_dict() for workers in (1, 4)]

    assert reports[0] == reports[1]
    assert reports[0]["counts"] == {"value": 33, "equal": 17}


def test_progress_ends_at_the_file_s_size(write):
    """Progress never goes back and ends at the file's size."""
    paths = write("a.ckpt", MIXED), write("b.ckpt", MIXED)
    heard = []
    lazyckpt.diff(*paths, progress=lambda done, total: heard.append((done, total)))
    size = paths[0].stat().st_size

    assert heard == sorted(heard)
    assert heard[-1] == (size, size)


def test_safetensors_are_compared_with_checkpoints(tmp_path, write):
    """A safetensors file and a checkpoint with equal values do not differ."""
    path = write("a.ckpt", LAYERS)
    with lazyckpt.load_checkpoint(path) as opened:
        opened.save(tmp_path / "a.safetensors")
        opened.save(tmp_path / "set.safetensors", max_shard_size=1000)

    assert lazyckpt.diff(path, tmp_path / "a.safetensors").same
    assert lazyckpt.diff(tmp_path / "set.safetensors.index.json", path).same


def test_faults_are_raised(write):
    """A missing file, a damaged value, and an object of another type raise."""
    path = write("a.ckpt", LAYERS)
    other = write("b.ckpt", {**LAYERS, "step": np.array(3)})
    with pytest.raises(MissingFile, match="none"):
        lazyckpt.diff(path, path.with_name("none.ckpt"))
    with lazyckpt.load_checkpoint(path) as one:
        one["step"] = object()
        with pytest.raises(ArgumentTypeError):
            lazyckpt.diff(one, other)


def test_damage_is_not_taken_for_a_difference(write):
    """With digests in the index, damage is an error and not a difference."""
    values = {"first": pattern_of(8192), "w": pattern_of(8192), "last": pattern_of(8192)}
    path, other = write("a.ckpt", values), write("b.ckpt", values)
    index = lazyckpt.build_index(path, digest="blake2b")
    offset = index["w"].extents[0].offset
    index.close()
    status = os.stat(path)
    with path.open("r+b") as file:
        file.seek(offset + 1000)
        file.write(b"\xff")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(CorruptFile, match=r"digest.*'w'"):
        lazyckpt.diff(path, other, workers=1)


# A change in the first or last 4 KiB of the file would be noticed by its fingerprint.
LARGE = {"first": pattern_of(5000), "a": pattern_of(300), "w": pattern_of(100_000), "z": pattern_of(5000)}
LARGE["last"] = pattern_of(5000)


def digested(path):
    """The path, with an index that has digests."""
    lazyckpt.build_index(path, digest="blake2b").close()
    return path


def changed_in_place(path, name, place):
    """Change one byte of a value, and put the file's time back."""
    with open_all(path) as opened:
        offset = opened.entry(name).extents[0].offset
    status = os.stat(path)
    with path.open("r+b") as file:
        file.seek(offset + place)
        old = file.read(1)
        file.seek(offset + place)
        file.write(bytes([old[0] ^ 1]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.fixture
def twins(write):
    """Two files with the same values, both with digests in their indexes."""
    return [digested(write(name, LARGE)) for name in ("a.ckpt", "b.ckpt")]


@pytest.mark.parametrize(("name", "place"), [("a", 299), ("w", 0), ("w", 50_000), ("w", 99_999), ("z", 2500)])
def test_digests_are_not_believed_of_a_file_that_changed_in_place(twins, name, place):
    """A value that is not the one that was indexed is an error, or other values where none is read; never equal."""
    changed_in_place(twins[1], name, place)
    with pytest.raises(CorruptFile, match=f"digest differs.*'{name}'"):
        lazyckpt.diff(*twins)

    report = lazyckpt.diff(*twins, values=False)
    assert (outcomes(report), report.equal, report.same) == ({"value": [name]}, 4, False)
    assert "a file changed after it was indexed" in str(report)


def test_a_name_or_dtype_that_changed_in_place_is_noticed(twins):
    """The header of a value that digests call equal is read from the file as well."""
    with open_all(twins[1]) as opened:
        offset = opened.entry("w").extents[0].offset
    place = twins[1].read_bytes().rindex(b"UInt8", 0, offset) - offset
    changed_in_place(twins[1], "w", place)
    with pytest.raises(StaleIndex):
        lazyckpt.diff(*twins, values=False)


def test_renames_by_digest_are_proven_too(write):
    """A value that changed in place is not called renamed."""
    paths = [digested(write("a.ckpt", LARGE)), digested(write("b.ckpt", {f"n.{name}": v for name, v in LARGE.items()}))]
    changed_in_place(paths[1], "n.w", 50_000)

    assert outcomes(lazyckpt.diff(*paths, values=False)) == {
        "renamed": [(name, f"n.{name}") for name in LARGE if name != "w"],
        "removed": ["w"],
        "added": ["n.w"],
    }


def test_a_comparison_by_digest_reads_a_few_kilobytes_of_each_value(twins, monkeypatch):
    """At most 17 samples of 256 bytes and a header are read of each value on each side."""
    read = []
    real = FileReader.samples
    monkeypatch.setattr(FileReader, "samples", lambda self, entries: read.append(real(self, entries)) or read[-1])
    monkeypatch.setattr(FileReader, "stored", None)
    with open_all(twins[0]) as one, open_all(twins[1]) as two:
        report = lazyckpt.diff(one, two)

    assert (report.equal, report.by_digest, report.by_bytes) == (5, 5, 0)
    assert [[len(sample) for sample in side] for side in read] == [[4352, 300, 4352, 4352, 4352]] * 2


@pytest.mark.parametrize("mode", MODES)
def test_samples_of_encrypted_files_are_decrypted(write, mode):
    """Two encryptions of the same values are equal by digest, and said to be."""
    paths = [write(name, encrypted(checkpoint(LARGE), mode)) for name in ("a.ckpt", "b.ckpt")]
    for path in paths:
        lazyckpt.build_index(path, KEY, mode, digest="blake2b").close()
    with open_all(paths[0], KEY, mode) as one, open_all(paths[1], KEY, mode) as two:
        report = lazyckpt.diff(one, two)

    assert (report.same, report.equal, report.by_digest) == (True, 5, 5)


def test_the_report_says_what_was_compared_by_digest(twins, write):
    """Text, HTML and data name the number of values that were compared by digest, and by all of their bytes."""
    report = lazyckpt.diff(twins[0], digested(write("c.ckpt", {**LARGE, "w": pattern_of(100_000)[::-1]})))
    sentence = "4 compared by digest and samples of their bytes, 1 by all bytes"

    assert [sentence in shown for shown in (str(report), report.summary(), report._repr_html_())] == [True] * 3
    assert report.to_dict()["compared"] == {"by_digest": 4, "by_bytes": 1}


def test_a_folder_is_compared_as_it_opens(tmp_path):
    """Of a run its newest step; a path may be of any kind."""
    for step in (1, 2):
        (tmp_path / f"net-1_{step}.ckpt").write_bytes(checkpoint({"w": np.full(3, step, np.float32)}))

    assert lazyckpt.diff(tmp_path, tmp_path / "net-1_2.ckpt").same
    assert not lazyckpt.diff(tmp_path, tmp_path / "net-1_1.ckpt").same
