"""Exporting values of a checkpoint: chosen, renamed, converted, and in either format."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from checkpoints import MIXED, checkpoint, counting
from encryption import KEY, KEY_SIZES, MODES, encrypted, key_of
from opening import opened_over

import lazyckpt
from lazyckpt.errors import ArgumentTypeError, ArgumentValueError, ClosedCheckpoint
from lazyckpt.sources.base import BytesSource
from lazyckpt.sources.local import open_local

TENSORS = {name: value for name, value in MIXED.items() if not isinstance(value, (str, list))}
PLAIN = {"align": 1, "mode": 0o600}  # how MindSpore's own bytes are written


@pytest.fixture
def opened():
    """A checkpoint of one value of each kind."""
    with opened_over(BytesSource(checkpoint(MIXED))) as made:
        yield made


def sources(folder):
    """The same checkpoint over every kind of source: name -> a function that opens it."""
    path = folder / "net.ckpt"
    path.write_bytes(checkpoint(MIXED))
    found = {
        access: lambda access=access: opened_over(open_local(str(path), access).source) for access in ("mmap", "pread")
    }
    for mode in MODES:
        for size in KEY_SIZES[mode]:
            secret = folder / f"{mode}-{size}.ckpt"
            secret.write_bytes(encrypted(checkpoint(MIXED), mode, key_of(size), block=1000))
            found[secret.stem] = lambda secret=secret, mode=mode, size=size: lazyckpt.load_checkpoint(
                secret, dec_key=key_of(size), dec_mode=mode
            )
    return found


def test_what_is_copied_from_any_source_is_the_same(tmp_path):
    """Mapped, read or decrypted, aligned or not: the bytes equal MindSpore's."""
    found = {}
    for name, open_ in sources(tmp_path).items():
        with open_() as ckpt:
            ckpt.save(tmp_path / "new.ckpt", **PLAIN)
        found[name] = (tmp_path / "new.ckpt").read_bytes() == checkpoint(MIXED)

    assert found == dict.fromkeys(found, True)
    assert len(found) == 9


def test_the_written_files_are_returned(opened, tmp_path):
    """The returned path is the given one."""
    assert opened.save(str(tmp_path / "new.ckpt")) == [str(tmp_path / "new.ckpt")]
    assert opened.save(tmp_path / "other.ckpt") == [str(tmp_path / "other.ckpt")]


def test_names_are_chosen_and_ordered(opened, tmp_path):
    """Only the requested names are saved, in the requested order."""
    names = ["step", "note", "conv1.bias"]
    opened.save(tmp_path / "new.ckpt", names, **PLAIN)

    assert (tmp_path / "new.ckpt").read_bytes() == checkpoint({name: MIXED[name] for name in names})


def test_a_view_saves_what_it_shows(opened, tmp_path):
    """`save` after `select` saves the selection."""
    opened.select("conv").save(tmp_path / "new.ckpt", **PLAIN)

    assert (tmp_path / "new.ckpt").read_bytes() == checkpoint(
        {name: value for name, value in MIXED.items() if name.startswith("conv")}
    )


def test_a_name_that_is_not_there_is_reported_before_anything_is_written(opened, tmp_path):
    """A missing name raises KeyError, as with a dict."""
    with pytest.raises(KeyError, match="none"):
        opened.save(tmp_path / "new.ckpt", ["step", "none"])

    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "rename", [lambda name: f"net.{name}", {name: f"net.{name}" for name in MIXED}], ids=["function", "mapping"]
)
def test_values_are_renamed(rename, opened, tmp_path):
    """Values are renamed by a function or by a mapping."""
    opened.save(tmp_path / "new.ckpt", rename=rename, **PLAIN)

    assert (tmp_path / "new.ckpt").read_bytes() == checkpoint({f"net.{name}": value for name, value in MIXED.items()})


def test_names_that_a_mapping_lacks_stay(opened, tmp_path):
    """A mapping lists only the names to change."""
    opened.save(tmp_path / "new.ckpt", ["step", "mask"], rename={"step": "epoch"}, **PLAIN)

    assert (tmp_path / "new.ckpt").read_bytes() == checkpoint({"epoch": MIXED["step"], "mask": MIXED["mask"]})


def test_names_may_be_exchanged(opened, tmp_path):
    """Two names may be swapped, because new names are checked together."""
    opened.save(tmp_path / "new.ckpt", ["step", "mask"], rename={"step": "mask", "mask": "step"}, **PLAIN)

    assert (tmp_path / "new.ckpt").read_bytes() == checkpoint({"mask": MIXED["step"], "step": MIXED["mask"]})


@pytest.mark.parametrize(
    ("rename", "error"), [(lambda name: "same", ArgumentValueError), (lambda name: 5, ArgumentTypeError)]
)
def test_names_that_cannot_be_are_refused(rename, error, opened, tmp_path):
    """Duplicate names and values that are not names are refused."""
    with pytest.raises(error, match="name"):
        opened.save(tmp_path / "new.ckpt", rename=rename)

    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["Float16", "float16", "FLOAT64", "bfloat16"])
def test_floats_are_converted(name, tmp_path):
    """All floating-point tensors of 16 bits and more become the type; everything else stays."""
    values = {**MIXED, "brain": counting((5,)).astype(ml_dtypes.bfloat16)}
    kind = np.dtype(ml_dtypes.bfloat16) if name == "bfloat16" else np.dtype(name.lower())
    with opened_over(BytesSource(checkpoint(values))) as opened:
        opened.save(tmp_path / "new.ckpt", dtype=name, **PLAIN)
    floats = {
        key: value.astype(kind)
        for key, value in values.items()
        if not isinstance(value, (str, list)) and value.dtype.name in ("float16", "float32", "float64", "bfloat16")
    }

    assert len(floats) == 4
    assert (tmp_path / "new.ckpt").read_bytes() == checkpoint({**values, **floats})


@pytest.mark.parametrize("options", [{}, {"max_shard_size": 8}, {"format": "safetensors", "crc_check": True}], ids=str)
def test_what_a_cast_loses_is_reported(options, tmp_path, caplog):
    """The log and the result have the counts, also of values that are read twice; numpy does not warn."""
    values = {
        "w": np.array([1e5, -1e5, 1, np.inf], "float32"),
        "b": counting((3,)),
        "e": np.array([1e-9, 0], "float32"),
    }
    target = tmp_path / "new"
    options = {"format": "ckpt", **options}
    with opened_over(BytesSource(checkpoint(values))) as opened, caplog.at_level(logging.WARNING, "lazyckpt"):
        saved = opened.save(target, dtype="float16", **options)

    assert caplog.messages == [
        f"{target}: 2 values are too large for the new type and became infinite ('w')",
        f"{target}: 1 value is too small for the new type and became zero ('e')",
    ]
    assert (saved.casts.cast, saved.casts.overflowed, saved.casts.underflowed) == (3, {"w": 2}, {"e": 1})


TRAINING = {
    "fc.weight": counting((2, 2)),
    "moment1.fc.weight": counting((2, 2)),
    "moment2.fc.weight": np.full((2, 2), 1e-12, "float32"),
    "beta1_power": np.array(0.9, "float32"),
    "learning_rate": np.array(1e-3, "float32"),
    "global_step": np.array([7], "int32"),
}


def test_the_state_of_an_optimizer_is_not_converted(tmp_path, caplog):
    """Unless a pattern names it; both is said."""
    target = tmp_path / "new.ckpt"
    with opened_over(BytesSource(checkpoint(TRAINING))) as opened, caplog.at_level(logging.WARNING, "lazyckpt"):
        saved = opened.save(target, dtype="Float16")
        with lazyckpt.load_checkpoint(target) as new:
            types = {name: str(new[name].dtype) for name in new}
        everything = opened.save(tmp_path / "all.ckpt", dtype={"*": "Float16"})

    assert types == dict.fromkeys(TRAINING, "Float32") | {"fc.weight": "Float16", "global_step": "Int32"}
    assert (saved.casts.cast, saved.casts.spared, saved.casts.underflowed) == (1, 4, {})
    assert (everything.casts.cast, everything.casts.underflowed) == (5, {"moment2.fc.weight": 4})
    assert [message.partition(": ")[2].split(";")[0] for message in caplog.messages] == [
        "4 values of optimizer state not cast ('moment1.fc.weight', 'moment2.fc.weight', 'beta1_power' and 1 more)",
        "4 values are too small for the new type and became zero ('moment2.fc.weight')",
    ]


def test_patterns_of_types_are_looked_up_by_old_names(tmp_path):
    """And in all names of the checkpoint, not only in those that are saved."""
    with opened_over(BytesSource(checkpoint(TRAINING))) as opened:
        opened.save(
            tmp_path / "new.ckpt", "fc", rename={"fc.weight": "w"}, dtype={"fc*": "Float16", "beta*": "Float64"}
        )
    with lazyckpt.load_checkpoint(tmp_path / "new.ckpt") as new:
        assert {name: str(new[name].dtype) for name in new} == {"w": "Float16"}


def test_a_pattern_that_casts_nothing_is_refused(opened, tmp_path):
    """An integer is not converted without a word, and nothing is written."""
    with pytest.raises(ArgumentValueError, match="'step' matches no floating-point tensor"):
        opened.save(tmp_path / "new.ckpt", dtype={"step": "Float16"})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("dtype", ["int8", "Float8E4M3FN", "", "f4", 5])
def test_a_type_that_is_no_float_is_refused(dtype, opened, tmp_path):
    """With those that are possible."""
    with pytest.raises(ArgumentValueError, match="is not a floating-point type; known are float16"):
        opened.save(tmp_path / "new.ckpt", dtype=dtype)


@pytest.mark.parametrize("where", ["set_data", "assigned", "appended", "removed"])
def test_edits_are_saved(where, opened, tmp_path):
    """Values edited in memory are written, and the old file stays."""
    expected = dict(MIXED)
    if where == "set_data":
        opened["fc.weight"].set_data(-counting((2, 2)))
        expected["fc.weight"] = -counting((2, 2))
    elif where == "assigned":
        opened["note"] = expected["note"] = counting((3,), "int16")
    elif where == "appended":
        opened["new"] = expected["new"] = "a text"
    else:
        del opened["table"], expected["table"]
    opened.save(tmp_path / "new.ckpt", **PLAIN)

    assert (tmp_path / "new.ckpt").read_bytes() == checkpoint(expected)


def test_a_value_may_be_assigned_from_another_checkpoint(opened, tmp_path):
    """A Parameter assigned from another file is copied from there."""
    with opened_over(BytesSource(checkpoint({"w": counting((7,), "int8")}))) as other:
        opened["step"] = other["w"]
        opened.save(tmp_path / "new.ckpt", ["step"], **PLAIN)

    assert (tmp_path / "new.ckpt").read_bytes() == checkpoint({"step": counting((7,), "int8")})


@pytest.mark.parametrize("align", [1, 64, 4096])
def test_a_file_is_saved_over_itself(align, tmp_path):
    """The new file takes the old one's name when it is whole; the open checkpoint still reads the old one."""
    path = tmp_path / "net.ckpt"
    path.write_bytes(checkpoint(MIXED))
    with lazyckpt.load_checkpoint(path) as ckpt:
        ckpt["step"] = np.array(18)
        ckpt.save(path, align=align)
        assert ckpt["fc.weight"].tobytes() == MIXED["fc.weight"].tobytes()
    with lazyckpt.load_checkpoint(path) as again:
        assert list(again) == list(MIXED)
        assert (again["step"].item(), again["fc.weight"].tobytes()) == (18, MIXED["fc.weight"].tobytes())


def test_contents_of_an_aligned_file_begin_where_asked(opened, tmp_path):
    """Aligned contents become aligned arrays in memory."""
    opened.save(tmp_path / "new.ckpt", align=4096)
    with lazyckpt.load_checkpoint(tmp_path / "new.ckpt") as again:
        offsets = [extent.offset % 4096 for name in TENSORS for extent in again.entry(name).extents]
        addresses = [again[name].asnumpy().ctypes.data % 4096 for name in TENSORS]

    assert offsets == addresses == [0] * len(TENSORS)


def test_a_file_with_another_key(opened, tmp_path):
    """An encrypted copy opens only with its own key."""
    opened.save(tmp_path / "new.ckpt", [*TENSORS, "note"], enc_key=KEY, enc_mode="AES-CBC")
    with lazyckpt.load_checkpoint(tmp_path / "new.ckpt", dec_key=KEY, dec_mode="AES-CBC") as again:
        assert again["note"] == MIXED["note"]
        assert again["fc.weight"].tobytes() == MIXED["fc.weight"].tobytes()
    with pytest.raises(lazyckpt.errors.EncryptedFile):
        lazyckpt.load_checkpoint(tmp_path / "new.ckpt")


@pytest.mark.parametrize(
    ("options", "error", "reason"),
    [
        ({"enc_key": "text"}, ArgumentValueError, "'enc_key' must be bytes or None, but got str"),
        ({"enc_key": b"short"}, ArgumentValueError, "16 or 24 or 32 bytes, the one given has 5"),
        ({"enc_key": KEY, "enc_mode": "AES"}, ArgumentValueError, "enc_mode must be one of"),
        ({"enc_key": KEY, "enc_mode": "SM4-CBC", "crc_check": True}, ArgumentValueError, "exclude each other"),
        ({"format": "onnx"}, ArgumentValueError, "'onnx' is unknown"),
        ({"format": "safetensors"}, ArgumentValueError, "safetensors files hold tensors only"),
        ({"max_shard_size": 0}, ArgumentValueError, "max_shard_size must be"),
        ({"max_shard_size": "5GB"}, ArgumentValueError, "max_shard_size must be"),
        ({"align": 3}, ArgumentValueError, "align must be"),
        ({"align": None}, ArgumentTypeError, "align must be"),
        ({"mode": "rw"}, ArgumentTypeError, "mode must be"),
    ],
    ids=str,
)
def test_options_that_make_no_sense_are_refused(options, error, reason, opened, tmp_path):
    """Invalid options are refused before a byte is written, with the valid ones."""
    with pytest.raises(error, match=reason):
        opened.save(tmp_path / "new.ckpt", **options)

    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("path", ["new.bin", "new", "ckpt", b"new.ckpt"], ids=repr)
def test_a_format_must_be_given(path, opened):
    """The format comes from the name's extension or from an argument."""
    with pytest.raises((ArgumentValueError, ArgumentTypeError), match=r"format of|a path is a string"):
        opened.save(path)


def test_the_format_may_differ_from_the_name(opened, tmp_path):
    """With an explicit format any name is allowed."""
    opened.save(tmp_path / "weights.bin", TENSORS, format="safetensors", mode=0o600)

    assert sorted(safetensors.numpy.load_file(tmp_path / "weights.bin")) == sorted(TENSORS)


def test_metadata_go_from_file_to_file(opened, tmp_path):
    """Metadata are kept unless new ones are given, and keys that described the old bytes are dropped."""
    first, second, third, fourth = (tmp_path / f"{number}.safetensors" for number in range(4))
    opened.save(first, TENSORS, metadata={"format": "pt", "author": "me", "remove_redundancy": "True"}, crc_check=True)
    found = {}
    with lazyckpt.load_checkpoint(first, format="safetensors", crc_check=True) as ckpt:
        found["given"] = {name for name in ckpt.metadata if name != "author"}
        ckpt.save(second)
        ckpt.save(third, metadata={"step": "3"})
        ckpt.save(fourth, metadata={})
    for name, path in (("kept", second), ("new", third), ("none", fourth)):
        with lazyckpt.load_checkpoint(path, format="safetensors") as ckpt:
            found[name] = dict(ckpt.metadata)

    assert found == {
        "given": {"format", "remove_redundancy", "crc_num"},
        "kept": {"format": "pt", "author": "me"},
        "new": {"step": "3"},
        "none": {},
    }


def test_a_ckpt_says_that_it_is_mindspores(opened, tmp_path):
    """A safetensors file made of a `.ckpt` has MindSpore's metadata."""
    opened.save(tmp_path / "new.safetensors", TENSORS)
    with lazyckpt.load_checkpoint(tmp_path / "new.safetensors", format="safetensors") as ckpt:
        assert dict(ckpt.metadata) == {"format": "ms"}


def test_progress_goes_from_nothing_to_all(opened, tmp_path):
    """Progress counts bytes, from zero to the total."""
    calls = []
    opened.save(tmp_path / "new.ckpt", progress=lambda done, total: calls.append((done, total)))

    assert calls == sorted(calls)
    assert calls[-1][0] == calls[-1][1] == sum(opened._access.item(name, name).nbytes for name in opened)


def test_a_fault_of_progress_ends_the_save(opened, tmp_path):
    """An exception in the callback stops the save, and the old file stays."""
    path = tmp_path / "new.ckpt"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        opened.save(path, progress=_interrupt)

    assert (os.listdir(tmp_path), path.read_bytes()) == (["new.ckpt"], b"old")


def _interrupt(done, total):
    raise KeyboardInterrupt


def test_a_closed_checkpoint_is_refused(opened, tmp_path):
    """A closed checkpoint is refused, and nothing is written."""
    opened.close()
    with pytest.raises(ClosedCheckpoint):
        opened.save(tmp_path / "new.ckpt")

    assert os.listdir(tmp_path) == []


def test_every_published_value_survives_a_round(tmp_path):
    """A published checkpoint, copied to an aligned file and back, has its own bytes."""
    old = Path(lazyckpt.__file__).parent / "demo_data" / "LeNet5-1_32.ckpt"
    with lazyckpt.load_checkpoint(old, index="memory") as ckpt:
        ckpt.save(tmp_path / "aligned.ckpt")
    with lazyckpt.load_checkpoint(tmp_path / "aligned.ckpt") as ckpt:
        ckpt.save(tmp_path / "again.ckpt", align=1)

    assert (tmp_path / "again.ckpt").read_bytes() == old.read_bytes()
    assert (tmp_path / "aligned.ckpt").read_bytes() != old.read_bytes()
