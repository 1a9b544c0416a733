"""`lazyckpt convert` and `lazyckpt extract`: the files that they write, and their errors."""

from __future__ import annotations

import json
import os
import re
import shutil

import numpy as np
import pytest
from checkpoints import MIXED, checkpoint, counting
from encryption import KEY
from mindspore_results import GOLDEN
from safetensors.numpy import load_file

import lazyckpt
from lazyckpt.sources.encryption.decryption import GcmSource

NO_MAP = ["--exclude", "table"]  # MindSpore loads no map from an encrypted file
TENSORS = {name: value for name, value in MIXED.items() if isinstance(value, np.ndarray)}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The current folder, with `net.ckpt`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.ckpt").write_bytes(checkpoint(MIXED))
    return tmp_path


def loaded(path, **options):
    """Load every value of a file."""
    form = "safetensors" if "safetensors" in path else "ckpt"
    with lazyckpt.load_checkpoint(path, format=form, **options) as ckpt:
        return ckpt.load()


def test_a_checkpoint_is_converted_to_safetensors(run):
    """Excluded strings and maps are left out; all other values are equal."""
    code, told, _ = run("convert", "net.ckpt", "net.safetensors", "--exclude", "note", "--exclude", "[et][ma][pb]*")

    assert (code, re.findall(r"net\.safetensors: .*|\d+ parameters", told)) == (
        0,
        ["net.safetensors: 4.3 KiB", "5 parameters"],
    )
    assert {name: array.tolist() for name, array in load_file("net.safetensors").items()} == {
        name: np.asarray(array).tolist() for name, array in TENSORS.items()
    }


def test_what_a_format_cannot_hold_is_told(run):
    """A value that the format cannot hold is an error, and nothing is written."""
    code, _, complaint = run("convert", "net.ckpt", "net.safetensors")

    assert code == 1
    assert re.search(r"'note' is a string: safetensors files hold tensors only; leave it out", complaint)
    assert sorted(os.listdir()) == ["net.ckpt", "net.ckpt.lmdb"]


def test_a_checkpoint_comes_back_from_safetensors(run):
    """Tensors are unchanged after a conversion to safetensors and back."""
    run("convert", "net.ckpt", "net.safetensors", "--include", "*.*", "--include", "step")
    code, _, _ = run("convert", "net.safetensors", "back.ckpt")

    assert code == 0
    assert {name: array.tolist() for name, array in loaded("back.ckpt").items()} == {
        name: np.asarray(TENSORS[name]).tolist() for name in sorted(TENSORS) if name != "mask"
    }


@pytest.mark.parametrize("mode", ["AES-GCM", "AES-CBC", "SM4-CBC"])
def test_a_checkpoint_is_encrypted_and_decrypted(mode, run, monkeypatch):
    """An encrypted file is decrypted again; with `--align 1`, to MindSpore's bytes."""
    monkeypatch.setenv("THE_KEY", f"hex:{KEY.hex()}")
    run("convert", "net.ckpt", "secret.ckpt", "--new-key-env", "THE_KEY", "--enc-mode", mode, *NO_MAP)
    code, _, _ = run("convert", "secret.ckpt", "plain.ckpt", "--key-env", "THE_KEY", "--align", "1")

    assert code == 0
    with open("plain.ckpt", "rb") as plain:
        assert plain.read() == checkpoint({name: value for name, value in MIXED.items() if name != "table"})


def test_a_checkpoint_is_given_another_key(run, monkeypatch, tmp_path):
    """One command re-encrypts a file; the old key no longer opens the result."""
    monkeypatch.setenv("THE_KEY", f"hex:{KEY.hex()}")
    (tmp_path / "new.key").write_bytes(bytes(32))
    run("convert", "net.ckpt", "secret.ckpt", "--new-key-env", "THE_KEY", *NO_MAP)
    run("convert", "secret.ckpt", "other.ckpt", "--key-env", "THE_KEY", "--new-key-file", "new.key")

    assert loaded("other.ckpt", dec_key=bytes(32))["note"] == MIXED["note"]
    with pytest.raises(lazyckpt.errors.WrongKey):
        loaded("other.ckpt", dec_key=KEY)


def test_names_are_replaced_by_regular_expressions(run):
    """Rename rules apply in order, each to the result of the previous one."""
    run("convert", "net.ckpt", "new.ckpt", "--rename", r"^conv(\d)\.=body.\1.", "--rename", "weight$=w")

    assert list(loaded("new.ckpt"))[:3] == ["body.1.w", "body.1.bias", "fc.w"]


ODD = {"layers[0].w": np.ones(1), "layers0.w": np.ones(2), "a=b": np.ones(3), "fc.w": np.ones(4)}


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (["--exclude", "layers[0].w"], ["layers0.w", "a=b", "fc.w"]),
        (["--exclude", "layers[[]0].w", "--exclude", "fc"], ["layers0.w", "a=b"]),
        (["--include", "layers[0].w"], ["layers[0].w"]),
        (["--include", "fc.w", "--include", "lay"], ["layers[0].w", "layers0.w", "fc.w"]),
        (["--include", "re:[0-9]", "--exclude", "a=b"], ["layers[0].w", "layers0.w"]),
        (["--rename", "layers[0].w=first"], ["first", "layers0.w", "a=b", "fc.w"]),
        (["--rename", "a=b=c=d"], ["layers[0].w", "layers0.w", "c=d", "fc.w"]),
        (["--rename", "re:^layers=l", "--rename", "l0.w=zero"], ["l[0].w", "zero", "a=b", "fc.w"]),
        (["--rename", "fc.w=fc.w"], list(ODD)),
    ],
)
def test_an_exact_name_comes_before_a_pattern(options, names, run, tmp_path):
    """A name with wildcards or an equals sign stands for itself."""
    (tmp_path / "odd.ckpt").write_bytes(checkpoint(ODD))
    code, _, complaint = run("convert", "odd.ckpt", "new.ckpt", *options)

    assert (code, complaint, list(loaded("new.ckpt"))) == (0, "", names)


def test_two_values_of_one_name_are_refused(run):
    """Rules that give two values the same name are an error, before anything is written."""
    code, _, complaint = run("convert", "net.ckpt", "new.ckpt", "--rename", "^.*$=same")

    assert (code, "two values would have the name 'same'" in complaint) == (1, True)
    assert not os.path.exists("new.ckpt")


def test_floats_are_converted(run):
    """`--dtype` converts floating-point tensors, and no others."""
    run("convert", "net.ckpt", "half.ckpt", "--dtype", "bfloat16")

    assert {name: str(value.dtype) for name, value in loaded("half.ckpt").items() if name in TENSORS} == {
        "conv1.weight": "bfloat16",
        "conv1.bias": "bfloat16",
        "fc.weight": "bfloat16",
        "step": "int64",
        "mask": "bool",
    }


TRAINING = {
    "fc.weight": np.array([1, 1e-9, 1e9], "float32"),
    "norm.gamma": np.ones(2, "float32"),
    "adam_m.fc.weight": np.ones(3, "float32"),
    "beta1_power": np.array(0.5, "float32"),
    "global_step": np.array([3], "int32"),
}


@pytest.mark.parametrize(
    ("types", "converted", "said"),
    [
        (["Float16"], ["fc.weight", "norm.gamma"], ["became infinite", "became zero", "2 values of optimizer state"]),
        (["*=Float16"], ["fc.weight", "norm.gamma", "adam_m.fc.weight", "beta1_power"], ["infinite", "became zero"]),
        (["norm.*=Float16"], ["norm.gamma"], []),
        (["Float16", "fc.weight=keep"], ["norm.gamma"], ["2 values of optimizer state"]),
        (["*=Float16", "re:weight$=keep"], ["norm.gamma", "beta1_power"], []),
    ],
)
def test_types_are_converted_by_patterns(types, converted, said, run, tmp_path):
    """State is left alone unless a pattern names it; what is lost, and what is left, is said on stderr."""
    (tmp_path / "run.ckpt").write_bytes(checkpoint(TRAINING))
    options = [part for text in types for part in ("--dtype", text)]
    code, printed, complaints = run("convert", "run.ckpt", "half.ckpt", *options)

    assert (code, f"5 parameters, {len(converted)} converted" in printed) == (0, True)
    assert [name for name, value in loaded("half.ckpt").items() if value.dtype == np.float16] == converted
    assert len(complaints.splitlines()) == len(said)
    assert all(text in line for text, line in zip(said, complaints.splitlines(), strict=True))


def test_a_checkpoint_is_written_in_parts(run):
    """`--max-shard-size` writes shards, and a listing that opens them all."""
    code, told, _ = run("convert", "net.ckpt", "parts.ckpt", "--max-shard-size", "1KB")

    assert code == 0
    assert told.count("parts-0000") == 3
    assert list(loaded("parts.ckpt.index.json")) == list(MIXED)


def test_a_checksum_and_permissions_are_as_asked(run):
    """`--crc` stores a valid checksum, and `--mode` sets the permissions."""
    run("convert", "net.ckpt", "sum.ckpt", "--crc", "--mode", "640", "--exclude", "table")

    assert oct(os.stat("sum.ckpt").st_mode & 0o777) == "0o640"
    assert len(loaded("sum.ckpt", crc_check=True)) == 7


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--rename", "abc"], "expected NAME=NEW"),
        (["--rename", "(=x"], "missing"),
        (["--rename", r"(a)|b=\2"], "invalid group reference"),
        (["--mode", "999"], "octal"),
        (["--max-shard-size", "big"], "number of bytes"),
        (["--max-shard-size", "0"], "max_shard_size"),
        (["--dtype", "int8"], "not a floating-point type"),
        (["--dtype", "=Float16"], "expected TYPE or PATTERN=TYPE"),
        (["--dtype", "Float16", "--dtype", "Float64"], "one type without a pattern"),
        (["--dtype", "nothing*=Float16"], "no parameter matches 'nothing[*]'"),
        (["--dtype", "step=Float16"], "'step' matches no floating-point tensor"),
        (["--align", "3"], "power of two"),
        (["--include", "nothing*"], "no parameter matches 'nothing[*]'"),
        (["--exclude", "nothing*"], "no parameter matches 'nothing[*]'"),
        (["--rename", "nothing=x"], "no parameter matches 're:nothing'"),
        (["--exclude", "*"], "none of the 8 names is left"),
        (["--new-key-env", "NOT_THERE"], "NOT_THERE.*not set"),
    ],
)
def test_options_that_make_no_sense_are_told(options, complaint, run):
    """An invalid option gives an error with exit code 1, and nothing is written."""
    code, _, told = run("convert", "net.ckpt", "out.ckpt", *options)

    assert code == 1
    assert re.search(complaint, told)
    assert not os.path.exists("out.ckpt")


def test_the_format_is_told_by_the_name(run):
    """An unknown extension is an error that lists the valid ones."""
    code, _, complaint = run("convert", "net.ckpt", "net.pth")

    assert (code, "must be 'ckpt' or 'safetensors'" in complaint) == (1, True)


def test_some_parameters_are_extracted(run):
    """`extract` takes names and patterns, and writes each value once, in file order."""
    code, told, _ = run("extract", "net.ckpt", "fc.weight", "conv1.*", "conv1.bias", "-o", "some.ckpt")

    assert (code, "3 parameters" in told) == (0, True)
    assert list(loaded("some.ckpt")) == ["conv1.weight", "conv1.bias", "fc.weight"]
    assert (loaded("some.ckpt")["fc.weight"] == counting((10, 84))).all()


def test_a_name_that_is_not_there_is_told(run):
    """An unknown name is an error with a suggestion, and nothing is written."""
    code, _, complaint = run("extract", "net.ckpt", "conv1.wieght", "-o", "some.ckpt")

    assert (code, "did you mean 'conv1.weight'" in complaint) == (1, True)
    assert not os.path.exists("some.ckpt")


def test_only_what_is_extracted_is_read(run, monkeypatch):
    """From an encrypted file, `extract` decrypts only the blocks that hold the values."""
    monkeypatch.setenv("THE_KEY", f"hex:{KEY.hex()}")
    monkeypatch.setattr("lazyckpt.writing.sink.FRAME_PLAINTEXT", 256)
    run("convert", "net.ckpt", "secret.ckpt", "--new-key-env", "THE_KEY", *NO_MAP)
    decrypted = []
    real = GcmSource.decrypt
    monkeypatch.setattr(
        GcmSource, "decrypt", lambda self, number, pieces: (decrypted.append(number), real(self, number, pieces))[1]
    )
    run("extract", "secret.ckpt", "mask", "-o", "mask.ckpt", "--key-env", "THE_KEY")

    assert len(set(decrypted)) < 6


SHARDED = GOLDEN / "sharded" / "mixed_2x4"


def test_ranks_are_merged_into_one_file(run, tmp_path):
    """A folder of ranks with a strategy is converted and listed with full shapes."""
    shutil.copytree(SHARDED, tmp_path / "ranks")
    code, _, _ = run("convert", "ranks", "whole.ckpt", "--strategy", "ranks/strategy.ckpt")
    _, listed, _ = run("ls", "ranks", "--strategy", "ranks/strategy.json")
    (case, *_) = json.loads((SHARDED / "expected.json").read_text())["cases"]

    assert code == 0
    assert {name: list(array.shape) for name, array in loaded("whole.ckpt").items()} == {
        name: told["shape"] for name, told in case["tensors"].items()
    }
    assert re.search(r"emb\.table +Float32 +\(16, 8\)", listed)


def test_ranks_without_a_strategy_are_told(run, tmp_path):
    """Without a strategy, the error asks for one."""
    shutil.copytree(SHARDED, tmp_path / "ranks")
    code, _, complaint = run("convert", "ranks", "whole.ckpt")

    assert (code, "give the strategy" in complaint) == (1, True)
