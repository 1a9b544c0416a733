"""`save_checkpoint` follows MindSpore's rules; tests/interop/mindspore compares it with the real one."""

from __future__ import annotations

import errno
import io
import os
import stat
import subprocess
import sys
import tempfile
import textwrap
from concurrent.futures import Future

import numpy as np
import pytest
import safetensors.numpy
from checkpoints import MIXED, checkpoint, counting, with_crc
from encryption import KEY, KEY_SIZES, MODES, key_of
from forking import ended, forked
from hypothesis import given, settings
from hypothesis import strategies as st
from opening import opened_over

import lazyckpt
from lazyckpt import save_checkpoint
from lazyckpt.errors import (
    ArgumentTypeError,
    ArgumentValueError,
    ClosedCheckpoint,
    FolderInTheWay,
    LazyCkptError,
    MissingFolder,
    UnwritableFile,
)
from lazyckpt.sources.base import BytesSource

NO_MAP = {name: value for name, value in MIXED.items() if not isinstance(value, list)}
TENSORS = {name: value for name, value in NO_MAP.items() if not isinstance(value, str)}
EVERY = [(mode, size) for mode in MODES for size in KEY_SIZES[mode]]


@pytest.fixture
def path(tmp_path):
    """The path to save to."""
    return tmp_path / "net.ckpt"


@pytest.fixture
def opened():
    """A checkpoint of one value of each kind."""
    with opened_over(BytesSource(checkpoint(MIXED))) as made:
        yield made


def ours(opened):
    """Every form of the same tensors, without MindSpore."""
    parameters = [opened[name] for name in TENSORS]
    return {
        "a list of Parameters": parameters,
        "a list of dicts": [{"name": one.name, "data": one} for one in parameters],
        "a dict of Parameters": {one.name: one for one in parameters},
        "a dict of arrays": dict(TENSORS),
        "a Checkpoint": opened.select(lambda name: name in TENSORS),
        "a dict of a Checkpoint": dict(opened.select(lambda name: name in TENSORS)),
    }


@pytest.mark.parametrize("what", ours(opened_over(BytesSource(checkpoint(MIXED)))))
def test_whatever_stands_for_values_is_saved(what, opened, path):
    """Lists, dicts and Checkpoints of the same values give MindSpore's file, byte by byte."""
    assert save_checkpoint(ours(opened)[what], str(path), align=1) is None

    assert path.read_bytes() == checkpoint(TENSORS)


def test_strings_and_maps_of_a_dict_are_saved(path):
    """A dict may hold anything that `load_checkpoint` returns."""
    save_checkpoint(dict(MIXED), path, align=1)

    assert path.read_bytes() == checkpoint(MIXED)


def test_a_checkpoint_is_saved_as_it_is_now(opened, path):
    """Strings, maps and edits are saved in the checkpoint's order."""
    opened["step"] = np.array(18)
    del opened["mask"]
    save_checkpoint(opened, path, align=1)
    expected = {name: value for name, value in MIXED.items() if name != "mask"}

    assert path.read_bytes() == checkpoint({**expected, "step": np.array(18)})


def test_contents_are_aligned_by_default(path):
    """Contents are aligned to 64 bytes."""
    save_checkpoint(dict(MIXED), path)
    with lazyckpt.load_checkpoint(path) as ckpt:
        assert {extent.offset % 64 for name in TENSORS for extent in ckpt.entry(name).extents} == {0}


def test_appended_values_come_last(path):
    """Numbers, flags and strings become what MindSpore makes of them; an existing name gets the new value."""
    more = {"epoch": 3, "lr": 0.5, "on": True, "text": "späte", "step": 18}
    save_checkpoint(dict(TENSORS), path, append_dict=more, align=1)
    expected = {**TENSORS, "step": np.array(18), "epoch": np.array(3), "lr": np.float32(0.5), "on": np.bool_(True)}

    assert path.read_bytes() == checkpoint({**expected, "text": "späte"})


def test_of_two_values_of_one_name_the_last_is_saved(opened, path):
    """The last value is saved in the first one's position, as in MindSpore."""
    data = [
        {"name": "a", "data": opened["step"]},
        {"name": "b", "data": opened["mask"]},
        {"name": "a", "data": opened["conv1.bias"]},
    ]
    save_checkpoint(data, path, align=1)

    assert path.read_bytes() == checkpoint({"a": MIXED["conv1.bias"], "b": MIXED["mask"]})


def test_names_are_chosen_by_a_function(opened, path):
    """The function is called for each saved name, in order, but not for appended values."""
    asked = []

    def choice(name):
        asked.append(name)
        return name.startswith("conv")

    save_checkpoint(opened, path, choice_func=choice, append_dict={"epoch": 3}, align=1)

    assert asked == list(MIXED)
    assert path.read_bytes() == checkpoint(
        {"conv1.weight": MIXED["conv1.weight"], "conv1.bias": MIXED["conv1.bias"], "epoch": np.array(3)}
    )


@pytest.mark.parametrize(("form", "other"), [("ckpt", "safetensors"), ("safetensors", "ckpt")])
def test_a_name_that_does_not_end_in_the_format_gets_its_ending(form, other, tmp_path):
    """`net` and `net.ckpt.bak` get the extension; a name that ends in it, with or without a dot, stays."""
    for name in ("net", f"net.{other}", f"a{form}", f"b.{form}"):
        save_checkpoint({"w": counting((1,))}, str(tmp_path / name), format=form)
    found = sorted(name for name in os.listdir(tmp_path) if not name.endswith(".lmdb"))

    assert found == sorted([f"net.{form}", f"net.{other}.{form}", f"a{form}", f"b.{form}"])


def test_a_checksum_is_stored(path):
    """The checksum is stored as by MindSpore."""
    save_checkpoint(dict(NO_MAP), path, crc_check=True, align=1)

    assert path.read_bytes() == with_crc(checkpoint(NO_MAP))


@pytest.mark.parametrize(("mode", "size"), EVERY)
def test_a_file_is_encrypted(mode, size, path):
    """With any mode and length of key, the file contains no plaintext and opens with the key."""
    save_checkpoint(dict(NO_MAP), path, enc_key=key_of(size), enc_mode=mode)
    with lazyckpt.load_checkpoint(path, dec_key=key_of(size), dec_mode=mode) as ckpt:
        assert {name: ckpt[name].tobytes() for name in TENSORS} == {
            name: value.tobytes() for name, value in TENSORS.items()
        }
        assert ckpt["note"] == MIXED["note"]
    assert b"conv1" not in path.read_bytes()


@pytest.mark.parametrize("redundancy", [None, True, False])
def test_a_safetensors_file_says_how_it_was_saved(redundancy, tmp_path):
    """The metadata equal MindSpore's."""
    path = tmp_path / "net.safetensors"
    save_checkpoint(dict(TENSORS), path, format="safetensors", remove_redundancy=redundancy)
    expected = {} if redundancy is None else {"remove_redundancy": str(redundancy)}

    assert safetensors.safe_open(path, "numpy").metadata() == {"format": "ms", **expected}


@pytest.mark.parametrize("form", ["ckpt", "safetensors"])
def test_nothing_is_saved_as_mindspore_saves_nothing(form, tmp_path):
    """Without values a `.ckpt` is empty, and a safetensors file is a header without metadata."""
    save_checkpoint([], tmp_path / "a", format=form, align=1)
    save_checkpoint({"w": counting((1,))}, tmp_path / "b", format=form, align=1, choice_func=lambda name: False)
    expected = b"" if form == "ckpt" else safetensors.numpy.save({})

    assert [(tmp_path / f"{name}.{form}").read_bytes() for name in "ab"] == [expected] * 2


def test_nothing_is_encrypted_to_nothing(path):
    """Without values even the key's length does not matter, as in MindSpore."""
    save_checkpoint([], path, enc_key=b"odd")

    assert path.read_bytes() == b""


@pytest.mark.parametrize("mode", [None, 0o644])
def test_files_are_read_only_by_default(mode, path):
    """Only their owner may read them, as with MindSpore, and they can still be replaced."""
    options = {} if mode is None else {"mode": mode}
    for _ in range(2):
        save_checkpoint(dict(TENSORS), path, **options)

    assert stat.S_IMODE(os.stat(path).st_mode) == (mode or 0o400)


def test_a_file_is_replaced_and_nothing_else_is_touched(tmp_path):
    """Other files in the folder, `.tmp` files included, are not touched."""
    for name in ("net.ckpt", "net.tmp", "net.ckpt.tmp", "other.ckpt"):
        (tmp_path / name).write_bytes(b"old")
    save_checkpoint(dict(MIXED), tmp_path / "net.ckpt", align=1)
    found = {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path) if not name.endswith(".lmdb")}

    assert found == {
        "net.ckpt": checkpoint(MIXED),
        "net.tmp": b"old",
        "net.ckpt.tmp": b"old",
        "other.ckpt": b"old",
    }


def test_a_checkpoint_is_saved_over_its_own_file(path):
    """The checkpoint keeps reading the old file; the new one is whole."""
    save_checkpoint(dict(MIXED), path)
    with lazyckpt.load_checkpoint(path) as ckpt:
        save_checkpoint(ckpt, path, append_dict={"step": 18}, align=1)
        assert ckpt["step"].item() == 17
    assert path.read_bytes() == checkpoint({**MIXED, "step": np.array(18)})


BAD = {
    "no object": ({"save_obj": None}, ArgumentTypeError, "'save_obj' must be nn.Cell, list or dict"),
    "a tuple": ({"save_obj": ()}, ArgumentTypeError, "'save_obj' must be"),
    "a list of numbers": ({"save_obj": [1]}, ArgumentTypeError, "the param should be parameter"),
    "a list of arrays": ({"save_obj": [counting((1,))]}, ArgumentTypeError, "the param should be parameter"),
    "no data": ({"save_obj": [{"name": "w"}]}, ArgumentTypeError, "'name' and 'data'"),
    "data that is none": ({"save_obj": [{"name": "w", "data": 5}]}, ArgumentTypeError, "data in dict"),
    "a name that is none": ({"save_obj": {5: counting((1,))}}, ArgumentTypeError, "the key should be str"),
    "a value that is none": ({"save_obj": {"w": object()}}, ArgumentTypeError, "'w' cannot be saved"),
    "a set": ({"save_obj": {"w": {1}}}, ArgumentTypeError, "'w' cannot be saved"),
    "a complex": ({"save_obj": {"w": np.zeros(2, "complex64")}}, ArgumentValueError, "MindSpore loads from no .ckpt"),
    "a file object": ({"ckpt_file_name": io.BytesIO()}, ArgumentTypeError, "must be a string or a path"),
    "a format": ({"format": "onnx"}, ArgumentValueError, "'safetensors' or 'ckpt'"),
    "a flag": ({"integrated_save": 1}, ArgumentTypeError, "must be a bool"),
    "an async": ({"async_save": 1}, ArgumentTypeError, "'async_save' must be bool or str"),
    "an async of another kind": ({"async_save": "fiber"}, ArgumentValueError, "'process' or 'thread'"),
    "an appended list": ({"append_dict": [1]}, ArgumentTypeError, "'append_dict' must be dict"),
    "an appended value": ({"append_dict": {"w": [1]}}, ArgumentTypeError, "append_info"),
    "an appended numpy number": ({"append_dict": {"w": np.float32(1)}}, ArgumentTypeError, "append_info"),
    "an appended name": ({"append_dict": {5: 1}}, ArgumentTypeError, "append_info"),
    "a large number": ({"append_dict": {"w": 2**70}}, ArgumentValueError, "64 bits"),
    "a key as text": ({"enc_key": "text"}, ArgumentValueError, "'enc_key' must be bytes or None, but got str"),
    "a short key": ({"enc_key": KEY[:15]}, ArgumentValueError, "16 or 24 or 32 bytes"),
    "a mode": ({"enc_mode": None}, ArgumentValueError, "'enc_mode' must be str"),
    "another mode": ({"enc_key": KEY, "enc_mode": "AES-ECB"}, ArgumentValueError, "Encrypt failed: enc_mode"),
    "a checksum": ({"crc_check": 1}, ArgumentValueError, "'crc_check' must be bool"),
    "redundancy": ({"remove_redundancy": 1}, ArgumentValueError, "'remove_redundancy' must be bool"),
    "an encrypted safetensors": ({"format": "safetensors", "enc_key": KEY}, ArgumentValueError, "not encrypted"),
    "a string in safetensors": ({"save_obj": {"s": "a"}, "format": "safetensors"}, ArgumentValueError, "tensors only"),
    "a key and a checksum": ({"enc_key": KEY, "crc_check": True}, ArgumentValueError, "exclude each other"),
    "a map and a key": ({"save_obj": MIXED, "enc_key": KEY}, ArgumentValueError, "'table' is a map"),
    "a map and a checksum": ({"save_obj": MIXED, "crc_check": True}, ArgumentValueError, "'table' is a map"),
    "an alignment": ({"align": 65}, ArgumentValueError, "power of two"),
    "an alignment's type": ({"align": "64"}, ArgumentTypeError, "align must be a number"),
}


@pytest.mark.parametrize("background", [False, True], ids=["here", "background"])
@pytest.mark.parametrize("what", BAD)
def test_what_cannot_be_saved_is_refused(what, background, path):
    """The error comes at once, also for a background save; the old file stays, and nothing else is there."""
    options, error, reason = BAD[what]
    path.write_bytes(b"old")
    given = {"save_obj": dict(TENSORS), "ckpt_file_name": path, "async_save": background, **options}
    with pytest.raises(error, match=reason) as caught:
        save_checkpoint(**given)

    assert isinstance(caught.value, LazyCkptError)
    assert (os.listdir(path.parent), path.read_bytes()) == ([path.name], b"old")


IMPOSSIBLE = {
    "33 dimensions": (lambda: {"w": np.zeros((1,) * 33, "float32")}, "'w' .*more than 32 dimensions", True),
    "33 dimensions, none of them filled": (
        lambda: {"w": np.zeros((0,) * 33, "float32")},
        "more than 32 dimensions",
        True,
    ),
    "33 dimensions of a map": (
        lambda: {"m": [np.zeros((1,) * 33, "int64")] * 3},
        "'m' .*more than 32 dimensions",
        False,
    ),
    "a name of 1,025 letters": (
        lambda: {"n" * 1025: counting((3,))},
        "name has 1,025 characters.* at most 1,024",
        False,
    ),
    "a name of 1,025 signs": (
        lambda: {"数" * 1025: counting((3,))},
        "name has 1,025 characters.* at most 1,024",
        False,
    ),
}


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("what", IMPOSSIBLE)
def test_what_cannot_be_loaded_is_not_saved(what, background, tmp_path):
    """What `load_checkpoint` refuses is refused at the call, in each format that refuses it, and nothing is written."""
    made, message, also_safetensors = IMPOSSIBLE[what]
    if "33" in what and np.lib.NumpyVersion(np.__version__) < "2.0.0":
        pytest.skip("this numpy has no array of 33 dimensions")
    values = made()
    for form in ("ckpt", "safetensors")[: 1 + also_safetensors]:
        with pytest.raises(ArgumentValueError, match=message):
            save_checkpoint(values, tmp_path / "net", format=form, async_save=background)

    assert os.listdir(tmp_path) == []


def test_a_conversion_that_cannot_be_loaded_writes_nothing(tmp_path):
    """`Checkpoint.save` refuses a name that only a safetensors file can have, also one that `rename` made."""
    save_checkpoint({"n" * 1025: counting((3,)), "m": counting((3,))}, tmp_path / "net", format="safetensors")
    before = sorted(os.listdir(tmp_path))
    with lazyckpt.load_checkpoint(tmp_path / "net.safetensors", format="safetensors") as opened:
        for rename in (None, lambda name: name * 1025):
            with pytest.raises(ArgumentValueError, match="1,025 characters"):
                opened.save(tmp_path / "new.ckpt", ["n" * 1025] if rename is None else ["m"], rename=rename)

    assert sorted(os.listdir(tmp_path)) == before


NAMES = st.text(max_size=6) | st.sampled_from(
    ["n" * 1024, "n" * 1025, "数" * 1024, "数" * 1025, "__metadata__", "crc_num"]
)
SHAPES = st.lists(st.integers(0, 2), max_size=5).map(tuple) | st.integers(30, 32).map(lambda count: (1,) * count)
ARRAYS = st.tuples(st.sampled_from(["float32", "int8", "bool", "uint64", "complex64", "float16", ">i4"]), SHAPES).map(
    lambda facts: np.ones(facts[1], facts[0])
)
TEXTS = st.text(st.characters(exclude_characters="\0"), max_size=4)


@given(st.dictionaries(NAMES, ARRAYS | TEXTS, min_size=1, max_size=3), st.sampled_from(["ckpt", "safetensors"]))
@settings(deadline=None, max_examples=40)
def test_whatever_is_saved_is_loaded(values, form):
    """Values are refused with an ArgumentError and nothing is written, or each of them is loaded as it was."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, f"net.{form}")
        try:
            save_checkpoint(values, path, format=form)
        except (ArgumentTypeError, ArgumentValueError):
            assert os.listdir(folder) == []
            return
        with lazyckpt.load_checkpoint(path, format=form) as opened:
            loaded = {
                name: value if isinstance(value, str) else value.asnumpy(copy=True) for name, value in opened.items()
            }

    assert set(loaded) == set(values)
    for name, value in values.items():
        found = loaded[name]
        assert found == value if isinstance(value, str) else (found == value).all() and found.shape == value.shape


def test_a_choice_that_fails_is_raised(opened, path):
    """Any exception of the function is raised unchanged, as in MindSpore."""
    with pytest.raises(ZeroDivisionError):
        save_checkpoint(opened, path, choice_func=lambda name: 1 / 0)

    assert os.listdir(path.parent) == []


def test_a_folder_is_reported(tmp_path):
    """A folder is refused before its name gets an extension."""
    with pytest.raises(FolderInTheWay, match="is a directory, it must be a file name"):
        save_checkpoint(dict(MIXED), tmp_path)


def test_a_missing_folder_is_reported(tmp_path):
    """A missing folder raises FileNotFoundError, as in MindSpore."""
    with pytest.raises(MissingFolder, match="create it first"):
        save_checkpoint(dict(MIXED), tmp_path / "none" / "net.ckpt")


# In the background


@pytest.mark.parametrize("background", [True, "thread", "process"])
def test_saving_in_the_background_returns_at_once(background, held, path):
    """The call returns before the file exists; the Future is done when it does."""
    future = save_checkpoint(dict(MIXED), path, async_save=background, align=1)
    before = os.listdir(path.parent)
    held.set()

    assert isinstance(future, Future)
    assert future.result(20) is None
    assert (before, path.read_bytes()) == ([], checkpoint(MIXED))


def test_what_is_saved_in_the_background_is_what_was_there_at_the_call(held, path, opened):
    """Later changes of arrays, edits and mappings do not change the file."""
    array = counting((3,))
    opened["fc.weight"].set_data(array)
    values = {"array": array, "edited": opened["fc.weight"], "later": opened["conv1.bias"], "note": "text"}
    future = save_checkpoint(values, path, async_save=True, append_dict={"step": 3}, align=1)
    array[:] = -1
    opened["conv1.bias"].set_data(array)
    values.clear()
    held.set()
    future.result(20)

    assert path.read_bytes() == checkpoint(
        {
            "array": counting((3,)),
            "edited": counting((3,)),
            "later": MIXED["conv1.bias"],
            "note": "text",
            "step": np.array(3),
        }
    )


def test_saves_in_the_background_come_in_order(held, path):
    """The second of two saves under one name stays."""
    futures = [save_checkpoint({"w": counting((n,))}, path, async_save=True, align=1) for n in (200_000, 2)]
    held.set()

    assert [future.result(20) for future in futures] == [None, None]
    assert path.read_bytes() == checkpoint({"w": counting((2,))})


def test_background_errors_are_reported(held, tmp_path, caplog):
    """The Future and the log have the error, and the next save works."""
    folder = tmp_path / "gone"
    folder.mkdir()
    future = save_checkpoint(dict(MIXED), folder / "net.ckpt", async_save=True)
    folder.rmdir()
    held.set()
    error = future.exception(20)
    after = save_checkpoint(dict(MIXED), tmp_path / "net.ckpt", async_save=True, align=1)

    assert isinstance(error, MissingFolder)
    assert caplog.messages == [f"saving {folder / 'net.ckpt'} in the background failed"]
    assert after.result(20) is None
    assert (tmp_path / "net.ckpt").read_bytes() == checkpoint(MIXED)


def test_a_checkpoint_must_stay_open_until_it_is_saved(held, path):
    """Values are not copied from the file; if it is closed, the save fails, and the old file stays."""
    path.write_bytes(checkpoint(MIXED))
    with lazyckpt.load_checkpoint(path) as ckpt:
        future = save_checkpoint(ckpt, path, async_save=True)
    held.set()

    assert isinstance(future.exception(20), ClosedCheckpoint)
    assert path.read_bytes() == checkpoint(MIXED)


def test_a_forked_process_saves_in_the_background(path):
    """A child does not inherit the parent's saving thread, and starts its own."""
    save_checkpoint({"w": counting((1,))}, path, async_save=True).result(20)
    child = forked(lambda: save_checkpoint(dict(MIXED), path, async_save=True, align=1).result(20))

    assert ended(child) == 0
    assert path.read_bytes() == checkpoint(MIXED)


def test_python_does_not_end_before_files_are_saved(path):
    """A program that ends during a background save completes the save."""
    code = """
        import sys, numpy, lazyckpt
        lazyckpt.save_checkpoint({"w": numpy.ones(3_000_000, "float32")}, sys.argv[1], async_save=True, align=1)
        """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(path)], check=True)

    assert path.read_bytes() == checkpoint({"w": np.ones(3_000_000, "float32")})


def test_errors_say_what_to_do_in_one_line(tmp_path):
    """An UnwritableFile is an OSError with an errno, and its text is only the sentence."""
    (tmp_path / "net.ckpt").mkdir()
    with pytest.raises(UnwritableFile) as caught:
        save_checkpoint(dict(MIXED), tmp_path / "net.ckpt")

    assert isinstance(caught.value, OSError)
    assert caught.value.errno == errno.EISDIR
    assert "\n" not in str(caught.value)
