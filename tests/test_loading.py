"""`load_checkpoint` has MindSpore's arguments, order of checks and exception types, and clearer messages."""

from __future__ import annotations

import gc
import io
import itertools
import logging
import multiprocessing
import os
import pickle
import shutil
import traceback
import zipfile
from pathlib import Path

import numpy as np
import pytest
from checkpoints import LAYERS, MIXED, array_value, checkpoint, counting, sliced_value, tensor_value, with_crc
from mindspore_results import FILES

import lazyckpt
from lazyckpt.errors import (
    ArgumentTypeError,
    ArgumentValueError,
    ChoiceFunctionFailed,
    CorruptFile,
    EncryptedFile,
    LazyCkptError,
    MissingFile,
    NothingLoaded,
    TruncatedFile,
    UnreadableFile,
    WrongFormat,
    WrongKey,
)

SECRET = b"SECRET-OF-16-BYT"
KEY = bytes(range(1, 17))  # the key of the golden files


@pytest.fixture
def file(tmp_path):
    """A checkpoint with values of all kinds."""
    return write(tmp_path, checkpoint(MIXED))


def write(folder, data, name="net.ckpt"):
    """A file with these bytes."""
    path = folder / name
    path.write_bytes(data)
    return str(path)


def names(*arguments, **options):
    """The names of a checkpoint, which is closed again."""
    with lazyckpt.load_checkpoint(*arguments, **options) as ckpt:
        return list(ckpt)


def refusal(*arguments, **options):
    """The error raised by a load."""
    with pytest.raises(LazyCkptError) as caught:
        lazyckpt.load_checkpoint(*arguments, **options)
    return caught.value


def test_arguments_may_be_given_by_position(file):
    """Positional arguments have MindSpore's order."""
    assert names(file, None, False, None, None, "AES-GCM", "conv1", None, False, False, "ckpt") == [
        "conv1.weight",
        "conv1.bias",
    ]


# Each fault, in the order in which they are looked for: what is wrong, its type, and words of the message.
FAULTS = {
    "specify_prefix's type": ({"specify_prefix": 5}, ArgumentTypeError, "'specify_prefix' or 'filter_prefix' must be"),
    "filter_prefix's type": ({"filter_prefix": [""]}, ArgumentValueError, "can't include ''"),
    "dec_key's type": ({"dec_key": "text"}, ArgumentValueError, "'dec_key' must be bytes or None, but got str"),
    "dec_mode's type": ({"dec_mode": None}, ArgumentValueError, "'dec_mode' must be str, but got NoneType"),
    "crc_check's type": ({"crc_check": 1}, ArgumentValueError, "'crc_check' must be bool, but got 1"),
    "remove_redundancy's type": ({"remove_redundancy": None}, ArgumentValueError, "'remove_redundancy' must be bool"),
    "format": ({"format": "onnx"}, ArgumentValueError, "'ckpt' or 'safetensors', but got 'onnx'"),
    "the name's type": ({"ckpt_file_name": 3}, ArgumentTypeError, "'ckpt_file_name' must be a string"),
    "the name's end": ({"ckpt_file_name": "net.txt"}, ArgumentValueError, "must end as 'format' says"),
    "the file": ({"ckpt_file_name": "none.ckpt"}, MissingFile, "none.ckpt does not exist"),
    "its bytes": ({"ckpt_file_name": "text.ckpt"}, WrongFormat, "text.ckpt: this is a text file"),
    "choice_func": ({"choice_func": lambda name: 1 / 0}, ChoiceFunctionFailed, "division by zero"),
    "net": ({"net": object()}, ArgumentTypeError, "'net' should be a Cell"),
}
PAIRS = [
    pytest.param(*(FAULTS[name] for name in pair), id=" before ".join(pair))
    for pair in itertools.combinations(FAULTS, 2)
    if not set(FAULTS[pair[0]][0]) & set(FAULTS[pair[1]][0])
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with a checkpoint and a text file of the same extension."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path, checkpoint(MIXED))
    write(tmp_path, b"this is no checkpoint at all\n" * 3, "text.ckpt")
    return tmp_path


@pytest.mark.parametrize(("options", "kind", "words"), FAULTS.values(), ids=FAULTS)
def test_each_fault_has_its_type_and_its_words(options, kind, words, folder):
    """An error has the type that MindSpore documents, and names the faulty argument or file."""
    error = refusal(**{"ckpt_file_name": "net.ckpt", **options})

    assert type(error) is kind
    assert words in str(error)


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_the_first_fault_wins(first, second, folder):
    """With two faults, the one that MindSpore checks first is reported."""
    error = refusal(**{"ckpt_file_name": "net.ckpt", **first[0], **second[0]})

    assert (type(error), first[2] in str(error)) == (first[1], True)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("net.pth", "this is a zip archive, as torch.save writes it: load it with torch.load"),
        ("runs", "it is a folder: lazyckpt.open_sharded opens net-1_10.ckpt, the newest of 2 steps that is whole"),
        ("empty", "it is a folder: there is no checkpoint (.ckpt or .safetensors) in"),
        ("ranks", "it is a folder: it has the files of one rank: open them with lazyckpt.open_sharded"),
        ("net.bin", "rename it to end in .ckpt"),
        ("none.bin", "rename it to end in .ckpt"),
        ("net.safetensors", "give format='safetensors'"),
    ],
)
def test_a_name_that_ends_otherwise_is_answered_by_what_the_file_is(name, words, folder):
    """A wrong ending is the fault only if the file would load under another name; otherwise its content is."""
    for path in ("runs/net-1_2.ckpt", "runs/net-1_10.ckpt", "ranks/rank_0/net.ckpt", "empty/x"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        write(folder, checkpoint(MIXED), path)
    (folder / "net.pth").write_bytes(b"PK\x03\x04" + bytes(100))
    write(folder, checkpoint(MIXED), "net.bin")

    assert words in str(refusal(name))


def test_an_empty_result_is_reported_before_the_net_is_looked_at(folder):
    """`net` is checked last."""
    assert isinstance(refusal("net.ckpt", object(), choice_func=lambda name: False), NothingLoaded)


@pytest.mark.parametrize(
    "key", [SECRET.decode(), bytearray(SECRET), memoryview(SECRET), 42, [SECRET]], ids=lambda key: type(key).__name__
)
def test_a_key_is_bytes(key, file):
    """Another type is refused by name, and the value is not repeated, because it may be a key."""
    error = refusal(file, dec_key=key)

    assert type(error) is ArgumentValueError
    assert type(key).__name__ in str(error)
    assert not {"SECRET", "42"} & {word for word in ("SECRET", "42") if word in printed(error)}


def printed(error):
    """Everything that an error may show: its message, its repr, its causes."""
    return "".join(traceback.format_exception(error)) + repr(error) + repr(error.args) + str(error.__dict__)


KEY_TROUBLE = {
    "a plain file": ("base.ckpt", {"dec_key": SECRET}),
    "a wrong key": ("enc_aesgcm_16.ckpt", {"dec_key": SECRET}),
    "a wrong key of CBC": ("enc_aescbc_16.ckpt", {"dec_key": SECRET, "dec_mode": "AES-CBC"}),
    "a wrong mode": ("enc_aesgcm_16.ckpt", {"dec_key": SECRET, "dec_mode": "AES-CBC"}),
    "no mode at all": ("enc_aesgcm_16.ckpt", {"dec_key": SECRET, "dec_mode": SECRET.decode()[:6].lower()}),
    "a short key": ("enc_aesgcm_16.ckpt", {"dec_key": SECRET[:15]}),
    "safetensors": ("base.ckpt", {"dec_key": SECRET, "format": "safetensors"}),
    "a damaged file": ("bad_aesgcm_flipct.ckpt", {"dec_key": SECRET}),
    "a missing file": ("none.ckpt", {"dec_key": SECRET}),
}


@pytest.mark.parametrize(("name", "options"), KEY_TROUBLE.values(), ids=KEY_TROUBLE)
def test_no_message_repeats_a_key(name, options, tmp_path, caplog):
    """For any fault of a key, neither the message nor its causes nor the log show it in any form."""
    caplog.set_level(logging.DEBUG)
    if (FILES / name).exists():
        shutil.copy(FILES / name, tmp_path)
    shown = printed(refusal(str(tmp_path / name), **options)) + caplog.text

    assert [form for form in ("SECRET-OF", SECRET.hex(), str([*SECRET])[1:20]) if form in shown] == []


@pytest.mark.parametrize(
    "make", [str, Path, lambda path: Path(path).relative_to(Path.cwd())], ids=["str", "Path", "relative"]
)
def test_a_file_is_named_by_a_string_or_a_path(make, folder):
    """A string and a path object name the same file."""
    assert names(make(str(folder / "net.ckpt"))) == list(MIXED)


@pytest.mark.parametrize(
    "name", [b"net.ckpt", None, 5, io.StringIO("net.ckpt"), ["net.ckpt"]], ids=lambda name: type(name).__name__
)
def test_nothing_else_names_a_file(name, folder):
    """Any other type raises a TypeError with the type's name."""
    error = refusal(name)

    assert type(error) is ArgumentTypeError
    assert type(name).__name__ in str(error)


def test_bytes_in_memory_are_no_checkpoint_file():
    """As in MindSpore, bytes in memory are accepted only as safetensors, and the error says so."""
    assert "BytesIO" in str(refusal(io.BytesIO(checkpoint(LAYERS))))


@pytest.mark.parametrize("name", ["ckpt", "myckpt", ".ckpt", "x.ckpt.ckpt", "späte Schicht.ckpt"])
def test_a_name_that_ends_in_ckpt_will_do(name, tmp_path):
    """As in MindSpore, the name must end in `ckpt`, with or without a dot."""
    assert names(write(tmp_path, checkpoint(LAYERS), name)) == list(LAYERS)


@pytest.mark.parametrize("name", ["", "net.CKPT", "net.ckpt/", "net.ckpt.gz", "net"])
def test_a_name_that_ends_otherwise_is_refused(name, folder):
    """The name is refused before anything is opened."""
    assert type(refusal(name)) is ArgumentValueError


def test_a_name_with_a_nul_is_refused():
    """No file name can contain a NUL."""
    assert "null byte" in str(refusal("net\0.ckpt"))


@pytest.mark.parametrize(
    "make", [lambda path: None, lambda path: path.symlink_to(path.parent / "gone")], ids=["no file", "a dangling link"]
)
def test_a_missing_file_is_a_value_error_and_a_file_not_found_error(make, tmp_path):
    """The error has MindSpore's type and Python's, and the resolved path is in the message."""
    make(tmp_path / "none.ckpt")
    error = refusal(str(tmp_path / "none.ckpt"))

    assert isinstance(error, ValueError)
    assert isinstance(error, FileNotFoundError)
    assert str(Path(tmp_path / "none.ckpt").resolve()) in str(error)


def test_a_home_folder_is_not_expanded(folder):
    """`~` is an ordinary character, as in MindSpore."""
    assert type(refusal("~/net.ckpt")) is MissingFile


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["a folder", "a pipe"])
def test_what_is_no_file_is_unreadable(make, tmp_path):
    """The error names the kind of file at once, without waiting for a writer."""
    make(tmp_path / "net.ckpt")
    error = refusal(str(tmp_path / "net.ckpt"))

    assert type(error) is UnreadableFile
    assert isinstance(error.__cause__, OSError)
    assert "net.ckpt cannot be read" in str(error)


def zipped():
    """A file in the form of torch.save."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("archive/data.pkl", b"")
    return archive.getvalue()


STRANGERS = {
    "a Git LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n", "git lfs pull"),
    "a zip archive": (zipped(), "torch.load"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(100), "h5py"),
    "a pickle": (pickle.dumps({"weight": [1.0] * 50}, protocol=4), "pickle"),
    "safetensors": ((FILES / "st_base.safetensors").read_bytes(), "format='safetensors'"),
    "a web page": (b"<!DOCTYPE html><html><body>404</body></html>", "download"),
    "text": (b"epoch: 3\nloss: 0.25\n" * 4, "text file"),
}


@pytest.mark.parametrize(("data", "advice"), STRANGERS.values(), ids=STRANGERS)
def test_a_file_of_another_kind_is_recognized(data, advice, tmp_path):
    """The message names the file, its kind, and what to do with it."""
    error = refusal(write(tmp_path, data))

    assert type(error) is WrongFormat
    assert str(error).startswith(f"{tmp_path}/net.ckpt: this is a")
    assert advice in str(error)


def test_an_empty_file_is_reported(tmp_path):
    """An empty file is a valid checkpoint without parameters, but it is refused."""
    error = refusal(write(tmp_path, b""))

    assert type(error) is NothingLoaded
    assert "net.ckpt: the file is empty (0 bytes)" in str(error)


def test_a_file_cut_between_parameters_has_those_before(tmp_path):
    """The format has no count of parameters, so the missing ones cannot be noticed."""
    whole = [array_value(name, array) for name, array in LAYERS.items()]

    assert names(write(tmp_path, b"".join(whole[:3]))) == list(LAYERS)[:3]


@pytest.mark.parametrize("kept", [1, 2, 4])
def test_a_file_cut_inside_a_parameter_says_after_which(kept, tmp_path):
    """The message has the count of whole parameters before the cut, the last one's name, and the offset."""
    whole = [array_value(name, array) for name, array in LAYERS.items()]
    cut = b"".join(whole[:kept]) + whole[kept][:-1]
    error = refusal(write(tmp_path, cut))
    start = len(cut) - len(whole[kept]) + 1

    assert type(error) is TruncatedFile
    assert f"after {kept} whole parameters, the last {list(LAYERS)[kept - 1]!r}" in str(error)
    assert (error.file, error.offset) == (f"{tmp_path}/net.ckpt", start)


@pytest.mark.parametrize(
    ("name", "mode"),
    [("enc_aesgcm_16.ckpt", "AES-GCM"), ("enc_aescbc_24.ckpt", "AES-CBC"), ("enc_sm4cbc_16.ckpt", "SM4-CBC")],
)
def test_an_encrypted_file_without_a_key_says_which_mode_it_has(name, mode, tmp_path):
    """The message names the mode, so that the right key can be found."""
    error = refusal(str(shutil.copy(FILES / name, tmp_path)))

    assert type(error) is EncryptedFile
    assert f"{name}: the file is encrypted" in str(error)
    assert f"dec_mode={mode!r}" in str(error)


def test_a_key_for_a_plain_file_is_reported(file):
    """The file is not reported as damaged."""
    error = refusal(file, dec_key=KEY)

    assert type(error) is WrongKey
    assert "leave dec_key out" in str(error)


def test_a_mode_without_a_key_does_not_matter(file):
    """A mode without a key is ignored, as in MindSpore."""
    assert names(file, dec_mode="FOO") == list(MIXED)


def test_a_refused_parameter_stops_the_load_by_name(tmp_path):
    """A parameter with impossible claims is reported with its name, its offset, and the reason."""
    path = write(tmp_path, array_value("a", counting((3,))) + tensor_value("q", [2], "Float8E4M3FN", b"ab"))
    error = refusal(path)

    assert type(error) is CorruptFile
    assert (error.parameter, error.offset, error.file) == ("q", 32, path)
    assert "the dtype 'Float8E4M3FN' is unknown" in str(error)


@pytest.mark.parametrize(
    "options", [{"filter_prefix": "q"}, {"specify_prefix": "a"}, {"choice_func": lambda name: name == "a"}]
)
def test_a_refused_parameter_does_no_harm_when_it_is_left_out(options, tmp_path):
    """The other parameters load."""
    path = write(tmp_path, array_value("a", counting((3,))) + tensor_value("q", [2], "Float8E4M3FN", b"ab"))

    assert names(path, **options) == ["a"]


def test_nothing_left_is_an_error_that_shows_some_names(file):
    """As in MindSpore an empty load fails; the error shows some of the available names."""
    error = refusal(file, specify_prefix="backbone.")

    assert type(error) is NothingLoaded
    assert "please check 'filter_prefix' or 'specify_prefix'" in str(error)
    assert "none of its 8 parameters is left (the first are 'conv1.weight', 'conv1.bias'" in str(error)
    assert "please check choice_func" in str(refusal(file, choice_func=lambda name: None))


def test_choice_func_is_asked_once_a_name_in_file_order(tmp_path):
    """`choice_func` is called once, also for a sliced value or a repeated name, and only during the load."""
    big = counting((100,))
    data = array_value("a", big) + sliced_value("b", big, [100, 100]) + array_value("c", big) + array_value("a", big)
    asked = []
    with lazyckpt.load_checkpoint(write(tmp_path, data), choice_func=lambda name: asked.append(name) or True) as ckpt:
        ckpt.load()

        assert asked == list(ckpt) == ["a", "b", "c"]


def test_a_name_that_comes_twice_keeps_its_first_place_and_last_value(tmp_path):
    """A repeated name keeps its first position and its last value, as in MindSpore's dict."""
    data = b"".join(array_value(name, counting((2,)) + number) for number, name in enumerate(["a", "b", "a"]))
    with lazyckpt.load_checkpoint(write(tmp_path, data)) as ckpt:
        found = {name: param.asnumpy().tolist() for name, param in ckpt.items()}

    assert list(found.items()) == [("a", [2, 3]), ("b", [1, 2])]


def test_a_marked_name_moves_to_the_end_without_its_mark(tmp_path):
    """As in MindSpore, `x.__param_key__…` is renamed; the filters see the name in the file."""
    data = b"".join(array_value(name, counting((2,))) for name in ("a", "emb.__param_key__3", "b"))
    path = write(tmp_path, data)

    assert names(path) == ["a", "b", "emb"]
    assert names(path, choice_func=lambda name: "__param_key__" in name) == ["emb"]
    with lazyckpt.load_checkpoint(path) as ckpt:
        assert ckpt["emb"].asnumpy().tolist() == ckpt.load(["emb"])["emb"].tolist() == [0, 1]
        assert "emb.__param_key__3" not in ckpt


def test_a_name_longer_than_a_parameters_is_refused_unless_left_out(tmp_path):
    """MindSpore's Parameter has 1,024 characters for its name."""
    path = write(tmp_path, array_value("a", counting((2,))) + array_value("n" * 1025, counting((2,))))

    assert "1,025 characters" in str(refusal(path))
    assert names(path, choice_func=lambda name: len(name) < 10) == ["a"]


def test_a_checksum_is_compared_when_asked_for(tmp_path):
    """A file with the right checksum loads; another is refused with both numbers."""
    good = write(tmp_path, with_crc(checkpoint(LAYERS)), "good.ckpt")
    bad = write(tmp_path, with_crc(checkpoint(LAYERS), 0xBAD), "bad.ckpt")

    assert names(good, crc_check=True) == names(bad) == list(LAYERS)
    assert "bad.ckpt: the crc check failed: the file says 0xbad" in str(refusal(bad, crc_check=True))


def test_a_checksum_that_is_not_there_is_a_warning(file, caplog):
    """Without a checksum the load only warns that there is nothing to check."""
    assert names(file, crc_check=True) == list(MIXED)
    assert "saved without a crc" in caplog.text


def test_prefixes_are_reported_as_deprecated(file, caplog):
    """MindSpore deprecates prefixes; the log says so at the level INFO."""
    caplog.set_level(logging.INFO, "lazyckpt")
    names(file, specify_prefix="conv1")

    assert "deprecated" in caplog.text


def test_the_usual_load_is_silent(file, caplog):
    """Nothing is logged at the default level."""
    names(file)
    names(file)

    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize("size", [-1, 1.5, None, "1"], ids=repr)
def test_a_cache_has_a_size(size, file):
    """The size is a number of bytes; 0 turns the cache off."""
    assert "block_cache must be a number of bytes" in str(refusal(file, block_cache=size))
    assert names(file, block_cache=0) == list(MIXED)


def test_a_file_without_parameters_is_refused(tmp_path):
    """A valid protobuf message without parameters, such as a lone checksum, is refused."""
    error = refusal(write(tmp_path, with_crc(b"")))

    assert type(error) is NothingLoaded
    assert "there is no parameter in its 17 bytes" in str(error)


@pytest.mark.parametrize("index", ["auto", "memory"])
def test_the_index_is_kept_where_it_is_wanted(index, file, tmp_path):
    """The index is beside the file, in memory, or at a given path."""
    names(file, index=index)
    names(file, index=tmp_path / "elsewhere")

    assert sorted(os.listdir(tmp_path)) == sorted(
        ["net.ckpt", "elsewhere", *(["net.ckpt.lmdb"] if index == "auto" else [])]
    )


@pytest.mark.parametrize("index", [None, 5, b"path", True])
def test_an_index_is_kept_at_a_path(index, file):
    """An index path of another type raises an error before the file is opened."""
    assert type(refusal(file, index=index)) is ArgumentTypeError


def descriptors():
    """The number of open descriptors, after errors and their tracebacks were collected."""
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize(
    "options", [{}, {"choice_func": lambda name: False}, {"net": object()}], ids=["damaged", "nothing left", "no net"]
)
def test_a_failed_load_lets_go_of_the_file(options, tmp_path):
    """After any failure no descriptor stays open."""
    path = write(tmp_path, checkpoint(LAYERS) if options else checkpoint(LAYERS)[:-1])
    before = descriptors()
    for _ in range(20):
        refusal(path, **options)

    assert descriptors() == before


def sums(path, answers):
    """The sum of every tensor, read in a spawned process."""
    with lazyckpt.load_checkpoint(path) as ckpt:
        answers.put(
            {name: float(np.sum(param)) for name, param in ckpt.items() if isinstance(param, lazyckpt.Parameter)}
        )


def test_a_spawned_process_opens_the_same_file(file):
    """Processes share the index on disk; each opens it while others have it open."""
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    with lazyckpt.load_checkpoint(file):
        process = context.Process(target=sums, args=(file, answers))
        process.start()
        found = answers.get(timeout=60)
        process.join()

    assert found == {name: float(np.sum(array)) for name, array in LAYERS.items()}
