"""Secrets: no key is shown anywhere, and no file reveals names or shapes of an encrypted model."""

from __future__ import annotations

import gc
import logging
import os
import pickle
import pty
import select
import struct
import subprocess
import sys
import termios
import traceback
import types

import numpy as np
import pytest
from checkpoints import checkpoint, counting
from encryption import KEY_SIZES, MODES, encrypted, flipped, frame, shows
from typer.testing import CliRunner

import lazyckpt
from lazyckpt import cli
from lazyckpt.errors import LazyCkptError
from lazyckpt.index import locations
from lazyckpt.sources.encryption.keys import KeyReference
from lazyckpt.writing.files import WriteOptions
from lazyckpt.writing.items import Item

KEYS = {size: bytes(range(0xA1, 0xA1 + size)) for size in (16, 24, 32)}
TEXT_KEY = b"Pa55-W0rd-0f-16B"
LAYERS = {
    "quintessence.embedding.weight": counting((7919, 1)),
    "quintessence.zymurgy.bias": np.empty((0, 982_451_653), "float16"),  # a number that stands nowhere by chance
    "obstreperous.gamma": counting((2, 3, 4111), "int8"),
}
STRINGS = {"perspicacious": "flabbergasted"}
PLAIN = checkpoint({**LAYERS, **STRINGS})
MODEL = [word.encode() for word in ("quintessence", "zymurgy", "obstreperous", "perspicacious", "embedding", "gamma")]
MODEL.append(struct.pack("<q", 982_451_653))
EVERY_KEY = [(mode, size) for mode in MODES for size in KEY_SIZES[mode]]


def written(folder, data, name="net.ckpt"):
    """The path of a new file."""
    path = folder / name
    path.write_bytes(data)
    return str(path)


def used(path, mode, key, index="auto"):
    """Use a checkpoint in every usual way: index, load, select, edit, print; returns the objects."""
    lazyckpt.build_index(path, key, mode, index_path=None if index == "auto" else index).close()
    ckpt = lazyckpt.load_checkpoint(path, dec_key=key, dec_mode=mode, index=index)
    ckpt.load()
    param = ckpt["obstreperous.gamma"]
    view = ckpt.select("quintessence")
    kept = [ckpt, param, view, ckpt.index, ckpt["perspicacious"], param[0, 1], param.asnumpy(), ckpt.entry(param.name)]
    ckpt["obstreperous.gamma"] = param.asnumpy()
    return kept


# Files


@pytest.fixture
def files(monkeypatch, tmp_path):
    """Every file that ever existed, also renamed or removed ones: path -> its last bytes."""
    seen = {}

    def remember(path):
        path = os.fspath(path)
        if os.path.isfile(path):
            with open(path, "rb") as file:
                seen.setdefault(path, []).append(file.read())

    def remembering(real):
        def act(path, *rest, **options):
            held = options.get("dir_fd", options.get("src_dir_fd"))
            remember(path if held is None else os.path.join(os.readlink(f"/proc/self/fd/{held}"), path))
            return real(path, *rest, **options)

        return act

    for name in ("replace", "rename", "unlink", "remove"):
        monkeypatch.setattr(os, name, remembering(getattr(os, name)))

    def files():
        for folder, _, names in os.walk(tmp_path):
            for name in names:
                remember(os.path.join(folder, name))
        return [(os.path.relpath(path, tmp_path), data) for path, versions in seen.items() for data in versions]

    return files


def revealing(files, checkpoints, words):
    """Files, other than checkpoints, with one of these words in their name or bytes."""
    return [
        (path, word)
        for path, data in files
        for word in words
        if path not in checkpoints and (word in data or word in path.encode())
    ]


@pytest.mark.parametrize("where", ["beside", "cache", "path"])
@pytest.mark.parametrize(("mode", "size"), EVERY_KEY)
def test_no_file_shows_the_model_or_the_key(mode, size, where, files, tmp_path):
    """Beside the file, in the cache folder or at a path, during or after the build, the index is sealed."""
    key = KEYS[size]
    folder = tmp_path / "models"
    folder.mkdir()
    path = written(folder, encrypted(PLAIN, mode, key, block=5000))
    if where == "cache":  # something that cannot be replaced stands beside the file
        (folder / "net.ckpt.lmdb").mkdir()
        written(folder / "net.ckpt.lmdb", b"", "in the way")
    used(path, mode, key, str(tmp_path / "my.lmdb") if where == "path" else "auto")
    found = files()
    sidecars = {path for path, data in found if b"lazyckpt" in data}

    assert len(sidecars) >= 2  # the finished one, and the one under its private name
    assert any(path.startswith("cache folder") for path in sidecars) == (where == "cache")
    assert revealing(found, {"models/net.ckpt"}, MODEL) == []
    assert [path for path, data in found if shows(data + path.encode(), key)] == []


def test_the_search_finds_what_is_in_clear(files, tmp_path):
    """The same search in an unsealed index finds every word, and not the key."""
    path = written(tmp_path, encrypted(PLAIN, key=KEYS[16], block=5000))
    lazyckpt.build_index(path, KEYS[16], sealed=False).close()
    found = files()

    assert {word for name, word in revealing(found, {"net.ckpt"}, MODEL) if name == "net.ckpt.lmdb"} == {*MODEL}
    assert [name for name, data in found if shows(data, KEYS[16])] == []


@pytest.mark.parametrize("mode", MODES)
def test_no_file_is_left_or_shows_anything_where_indexing_fails(mode, files, tmp_path):
    """If damage is found after many parameters, the index written so far is sealed and removed."""
    key = KEYS[16]
    damaged = PLAIN + checkpoint({f"quintessence.{number}": counting((3,)) for number in range(9000)}) + b"\x0a\x7f\x0a"
    path = written(tmp_path, encrypted(damaged, mode, key, block=5000))
    with pytest.raises(LazyCkptError):
        lazyckpt.load_checkpoint(path, dec_key=key, dec_mode=mode)
    found = files()

    assert os.listdir(tmp_path) == ["net.ckpt"]
    assert max((len(data) for name, data in found if name != "net.ckpt"), default=0) > 100_000
    assert revealing(found, {"net.ckpt"}, MODEL) == []


def test_an_index_in_memory_writes_no_file(files, tmp_path):
    """Not even a temporary file is written."""
    path = written(tmp_path, encrypted(PLAIN, key=KEYS[16], block=5000))
    used(path, "AES-GCM", KEYS[16], "memory")

    assert [name for name, _ in files()] == ["net.ckpt"]


# Objects


def reachable(roots):
    """Everything reachable from some objects, except modules, classes and functions of others."""
    found, waiting = {}, list(roots)
    while waiting:
        thing = waiting.pop()
        if id(thing) in found or isinstance(thing, (types.ModuleType, type, types.FrameType)):
            continue
        if isinstance(thing, types.FunctionType) and not thing.__module__.startswith("lazyckpt"):
            continue
        if isinstance(thing, types.FunctionType):
            waiting += [cell.cell_contents for cell in thing.__closure__ or ()]
            continue
        found[id(thing)] = thing
        waiting += gc.get_referents(thing)
    return list(found.values())


def pickled(thing):
    """An object's pickles in every protocol, and those of a copy; nothing if it cannot be pickled."""
    pickles = b""
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        try:
            pickles += pickle.dumps(thing, protocol)
        except Exception:  # noqa: BLE001 (anything may be wrong with pickling a thing; then it is not pickled)
            continue
    return pickles


@pytest.mark.parametrize(("mode", "size"), EVERY_KEY)
def test_no_object_shows_the_key(mode, size, tmp_path):
    """Neither users' objects nor those behind them print a key or pickle one."""
    key = KEYS[size]
    kept = used(written(tmp_path, encrypted(PLAIN, mode, key, block=5000)), mode, key)
    things = reachable(kept)
    ours = [thing for thing in things if type(thing).__module__.startswith("lazyckpt")]
    names = {type(thing).__name__ for thing in ours}
    shown = [*ours, *(thing for thing in things if isinstance(thing, (dict, list, tuple, set, types.MethodType)))]
    printing = [type(thing) for thing in shown if shows(f"{thing!r} {thing}".encode(), key)]
    pickling = [type(thing) for thing in ours if shows(pickled(thing), key)]
    kept[0].close()

    assert names >= {
        "Checkpoint",
        "Parameter",
        "StoredIndex",
        "Sidecar",
        "SealedCodec",
        "CipherKey",
        "Secret",
        "CorrectingReader",
    }
    assert (printing, pickling) == ([], [])


@pytest.mark.parametrize("number", range(4))
def test_what_holds_a_key_is_not_pickled(number, tmp_path):
    """A checkpoint, a parameter, a view and an index of an encrypted file cannot be pickled."""
    kept = used(written(tmp_path, encrypted(PLAIN, key=KEYS[16])), "AES-GCM", KEYS[16])
    try:
        with pytest.raises(TypeError, match="pickle"):
            pickle.dumps(kept[number])
    finally:
        kept[0].close()


@pytest.mark.parametrize(("mode", "size"), EVERY_KEY)
def test_what_has_a_reference_to_a_key_is_pickled_without_it(mode, size, tmp_path, monkeypatch):
    """The pickle of a checkpoint, a parameter or a view has the key's location, and not the key."""
    path = written(tmp_path, encrypted(PLAIN, mode, KEYS[size], block=5000))
    monkeypatch.setenv("RIGHT_KEY", f"hex:{KEYS[size].hex()}")
    (tmp_path / "right.key").write_bytes(KEYS[size])
    for reference in (KeyReference(variable="RIGHT_KEY"), KeyReference(file=str(tmp_path / "right.key"))):
        with lazyckpt.load_checkpoint(path, dec_key=reference, dec_mode=mode) as ckpt:
            sent = [pickle.dumps(thing) for thing in (ckpt, ckpt["obstreperous.gamma"], ckpt.select("quintessence"))]

        assert not any(shows(data, KEYS[size]) for data in sent)
        assert np.array_equal(pickle.loads(sent[1]), LAYERS["obstreperous.gamma"])


# Errors and logs


def texts(error, variables=True):
    """All text of an exception: itself, its causes, attributes, and tracebacks with variables.

    Variables of the test, and of functions that play the user, are left out: they are the caller's own.
    """
    parts, waiting, seen = [], [error], set()
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        parts += [str(one), repr(one), repr(one.args), repr(vars(one)), pickled(one).decode("latin-1")]
        waiting += [one.__cause__, one.__context__]
        rest = one.__traceback__
        while rest and rest.tb_frame.f_code.co_name.startswith(("test_", "load_and_look", "use_to_save")):
            rest = rest.tb_next
        shown = traceback.TracebackException(type(one), one, rest, capture_locals=variables, compact=True)
        parts += list(shown.format(chain=False))
    return "\n".join(parts).encode("utf-8", "surrogateescape")


def failures(folder, mode, key, wrong):
    """Failing calls: a description, and the keyword arguments of `load_checkpoint`."""
    good = written(folder, encrypted(PLAIN, mode, key, block=5000))
    other_mode = MODES[(MODES.index(mode) + 1) % 3]
    broken = written(folder, flipped(encrypted(PLAIN, mode, key, block=5000), 2000), "broken.ckpt")
    cut = written(folder, encrypted(PLAIN, mode, key, block=5000)[:-3], "cut.ckpt")
    nonsense = written(folder, frame(b"\x0a\x05nothing", mode, key), "nonsense.ckpt")
    plain = written(folder, PLAIN, "plain.ckpt")
    of = {"dec_mode": mode}
    return {
        "a wrong key": {"ckpt_file_name": good, "dec_key": wrong, **of},
        "a wrong mode": {"ckpt_file_name": good, "dec_key": key, "dec_mode": other_mode},
        "no mode": {"ckpt_file_name": good, "dec_key": key, "dec_mode": "none"},
        "mode's type": {"ckpt_file_name": good, "dec_key": key, "dec_mode": None},
        "a short key": {"ckpt_file_name": good, "dec_key": key[:15], **of},
        "a key as text": {"ckpt_file_name": good, "dec_key": key.decode("latin-1"), **of},
        "a key as a list": {"ckpt_file_name": good, "dec_key": [*key], **of},
        "a key as a bytearray": {"ckpt_file_name": good, "dec_key": bytearray(key), **of},
        "a bad prefix": {"ckpt_file_name": good, "dec_key": key, **of, "specify_prefix": 5},
        "a bad flag": {"ckpt_file_name": good, "dec_key": key, **of, "crc_check": 1},
        "a bad cache": {"ckpt_file_name": good, "dec_key": key, **of, "block_cache": -1},
        "a bad index": {"ckpt_file_name": good, "dec_key": key, **of, "index": 5},
        "safetensors": {"ckpt_file_name": good, "dec_key": key, **of, "format": "safetensors"},
        "a bad name": {"ckpt_file_name": 5, "dec_key": key, **of},
        "no file": {"ckpt_file_name": str(folder / "none.ckpt"), "dec_key": key, **of},
        "a folder": {"ckpt_file_name": str(folder), "dec_key": key, **of},
        "a plain file": {"ckpt_file_name": plain, "dec_key": key, **of},
        "a cut file": {"ckpt_file_name": cut, "dec_key": key, **of},
        "nonsense": {"ckpt_file_name": nonsense, "dec_key": key, **of},
        "a choice that fails": {"ckpt_file_name": good, "dec_key": key, **of, "choice_func": lambda name: 1 / 0},
        "nothing chosen": {"ckpt_file_name": good, "dec_key": key, **of, "choice_func": lambda name: False},
        "a bad net": {"ckpt_file_name": good, "dec_key": key, **of, "net": object()},
        "an index nowhere": {"ckpt_file_name": good, "dec_key": key, **of, "index": f"{plain}/x"},
        "damage": {"ckpt_file_name": broken, "dec_key": key, **of},
    }


def load_and_look(options):
    """Load, and read every value."""
    with lazyckpt.load_checkpoint(**options) as ckpt:
        ckpt.load()
    if options["ckpt_file_name"].endswith("broken.ckpt"):
        raise LazyCkptError("CBC does not notice damage")


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
@pytest.mark.parametrize(("mode", "size"), EVERY_KEY)
def test_no_error_and_no_log_shows_a_key(mode, size, warm, tmp_path, caplog):
    """For any fault no message, attribute, pickle, cause or variable in a traceback has the key."""
    caplog.set_level(logging.DEBUG)
    key, wrong = KEYS[size], KEYS[size][::-1]
    calls = failures(tmp_path, mode, key, wrong)
    if warm:
        lazyckpt.build_index(str(tmp_path / "net.ckpt"), key, mode).close()
    showing, silent = [], []
    for what, options in calls.items():
        try:
            load_and_look(options)
            silent.append(what)
        except Exception as error:  # noqa: BLE001 (any error may show a key)
            message = texts(error)
            showing += [what for each in (key, wrong, key[:15]) if shows(message, each)]
    logged = "\n".join(f"{vars(record)} {record.getMessage()}" for record in caplog.records).encode()

    assert showing == []
    assert silent == []
    assert [each for each in (key, wrong) if shows(logged, each)] == []


@pytest.mark.parametrize(
    "options", [{"index_path": 5}, {"digest": "md5"}, {"dec_key": "text"}, {"dec_key": bytearray(16)}], ids=str
)
def test_build_index_hides_a_key_from_the_first_line(options, tmp_path):
    """Also a fault in another argument, or in the key's own type, does not show the key."""
    key = options.get("dec_key", KEYS[16])
    with pytest.raises(LazyCkptError) as caught:
        lazyckpt.build_index(**{"path": tmp_path / "none.ckpt", "dec_key": key, **options})
    shown = texts(caught.value)

    assert repr(key).encode() not in shown
    assert not shows(shown, KEYS[16])


def test_the_search_finds_a_key_that_is_shown():
    """The same search finds a key that an error repeats, in its message and in a traceback's variables."""

    def careless(key):
        raise ValueError("no")

    found = []
    for error in (ValueError(KEYS[16]), ValueError(KEYS[16].hex()), ValueError(str([*KEYS[16]]))):
        try:
            raise error
        except ValueError as caught:
            found.append(bool(shows(texts(caught), KEYS[16])))
    try:
        careless(KEYS[16])
    except ValueError as caught:
        found.append(bool(shows(texts(caught), KEYS[16])))

    assert found == [True] * 4


# Saving


SAVED = {name: value for name, value in LAYERS.items() if value.size} | STRINGS


def use_to_save(options):
    """Save in every way that takes a key, and wait for background saves."""
    name = options.pop("path")
    if options.pop("copies", False):
        with lazyckpt.load_checkpoint(options.pop("source"), index="memory") as ckpt:
            ckpt.save(name, **options)
        return
    values = options.pop("save_obj", SAVED)
    future = lazyckpt.save_checkpoint(values, name, **options)
    if future is not None:
        future.result(60)


@pytest.mark.parametrize("background", [False, True], ids=["here", "background"])
@pytest.mark.parametrize(("mode", "size"), EVERY_KEY)
def test_no_file_shows_what_is_saved_or_the_key(mode, size, background, files, tmp_path):
    """During and after the save neither the file, nor its index, nor their private files show a name or the key."""
    path = tmp_path / "net.ckpt"
    use_to_save({"path": path, "enc_key": KEYS[size], "enc_mode": mode, "async_save": background})
    use_to_save({"path": path, "enc_key": KEYS[size], "enc_mode": mode, "append_dict": {"zymurgy": 3}})
    found = files()

    assert {name for name, _ in found} == {"net.ckpt", "net.ckpt.lmdb", ".net.ckpt.tmp", ".net.ckpt.lmdb.tmp"}
    assert revealing(found, set(), MODEL) == []
    assert [name for name, data in found if shows(data + name.encode(), KEYS[size])] == []


@pytest.mark.parametrize("mode", MODES)
def test_no_file_is_left_or_shows_anything_where_saving_fails(mode, files, tmp_path):
    """Bytes written before the failure are encrypted and removed."""

    def fail(done, total):
        if done == total:
            raise ZeroDivisionError

    plain = written(tmp_path, PLAIN, "plain.ckpt")
    with lazyckpt.load_checkpoint(plain, index="memory") as ckpt, pytest.raises(ZeroDivisionError):
        ckpt.save(tmp_path / "net.ckpt", enc_key=KEYS[16], enc_mode=mode, progress=fail)
    found = files()

    assert os.listdir(tmp_path) == ["plain.ckpt"]
    assert ".net.ckpt.tmp" in {name for name, _ in found}
    assert revealing(found, {"plain.ckpt"}, MODEL) == []


def failing_saves(folder, mode, key):
    """Failing saves: a description, and their arguments."""
    plain = written(folder, PLAIN, "plain.ckpt")
    (folder / "folder.ckpt").mkdir()
    to = {"path": str(folder / "net.ckpt"), "enc_key": key, "enc_mode": mode}
    table = [counting((2,), "int32")] * 3
    calls = {
        "no folder": {**to, "path": str(folder / "none" / "net.ckpt")},
        "a folder": {**to, "path": str(folder / "folder.ckpt")},
        "no mode": {**to, "enc_mode": "none"},
        "a short key": {**to, "enc_key": key[:15]},
        "a key as text": {**to, "enc_key": key.decode("latin-1")},
        "a key as a list": {**to, "enc_key": [*key]},
        "a key as a bytearray": {**to, "enc_key": bytearray(key)},
        "a checksum": {**to, "crc_check": True},
        "an alignment": {**to, "align": 3},
        "a bad format": {**to, "format": "onnx"},
        "safetensors": {**to, "format": "safetensors"},
        "a permission": {**to, "mode": "rw"},
    }
    copies = {f"{what}, copied": {**call, "copies": True, "source": plain} for what, call in calls.items()}
    in_the_background = {f"{what}, in the background": {**call, "async_save": True} for what, call in calls.items()}
    return {
        **calls,
        **copies,
        **in_the_background,
        "a map": {**to, "save_obj": {"table": table}},
        "a bad value": {**to, "save_obj": {"w": object()}},
        "a bad object": {**to, "save_obj": None},
        "a bad name": {**to, "path": 5},
        "a bad append": {**to, "append_dict": {"w": [1]}},
        "a choice that fails": {**to, "choice_func": lambda name: 1 / 0},
        "a mode's type": {**to, "enc_mode": None},
        "a bad rename, copied": {**to, "copies": True, "source": plain, "rename": lambda name: 5},
        "a bad dtype, copied": {**to, "copies": True, "source": plain, "dtype": "int3"},
        "no such name, copied": {**to, "copies": True, "source": plain, "names": ["none"]},
        "progress that fails, copied": {**to, "copies": True, "source": plain, "progress": lambda *_: 1 / 0},
    }


@pytest.mark.parametrize(("mode", "size"), EVERY_KEY)
def test_no_error_and_no_log_of_saving_shows_a_key(mode, size, tmp_path, caplog):
    """A fault at once, half way or in the background shows no key, also not in the log's tracebacks."""
    caplog.set_level(logging.DEBUG)
    key = KEYS[size]
    showing, silent = [], []
    for what, options in failing_saves(tmp_path, mode, key).items():
        try:
            use_to_save(dict(options))
            silent.append(what)
        except Exception as error:  # noqa: BLE001 (any error may show a key)
            showing += [what for each in (key, key[:15]) if shows(texts(error), each)]
    errors = [record.exc_info[1] for record in caplog.records if record.exc_info]
    logged = "\n".join(f"{vars(record)} {record.getMessage()}" for record in caplog.records).encode()

    assert (showing, silent) == ([], [])
    assert len(errors) >= 1
    assert not any(shows(texts(error), key) for error in errors)
    assert not shows(logged, key)


@pytest.mark.parametrize(("mode", "size"), EVERY_KEY)
def test_no_object_of_saving_shows_the_key(mode, size, held, tmp_path):
    """The Future of a waiting save, and all objects behind it, neither print nor pickle a key."""
    key = KEYS[size]
    future = lazyckpt.save_checkpoint(SAVED, tmp_path / "net.ckpt", enc_key=key, enc_mode=mode, async_save=True)
    waiting = [thing for thing in gc.get_objects() if type(thing) in (WriteOptions, Item)]
    things = reachable([*waiting, future])
    ours = [thing for thing in things if type(thing).__module__.startswith("lazyckpt")]
    shown = [*ours, *(thing for thing in things if isinstance(thing, (dict, list, tuple)))]
    printing = [type(thing) for thing in shown if shows(f"{thing!r} {thing}".encode(), key)]
    pickling = [type(thing) for thing in ours if shows(pickled(thing), key)]
    held.set()
    future.result(60)

    assert {type(thing).__name__ for thing in ours} >= {"WriteOptions", "CipherKey", "Secret", "Item", "Content"}
    assert (printing, pickling) == ([], [])


# The command line


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a command in a folder with an encrypted file; returns the exit code and all output."""
    monkeypatch.chdir(tmp_path)
    written(tmp_path, encrypted(PLAIN, key=TEXT_KEY, block=5000))
    (tmp_path / "right.key").write_bytes(TEXT_KEY + b"\n")
    (tmp_path / "wrong.key").write_bytes(TEXT_KEY[::-1])
    (tmp_path / "long.key").write_bytes(TEXT_KEY * 5)
    (tmp_path / "bad.key").write_bytes(b"hex:" + TEXT_KEY)
    monkeypatch.setenv("RIGHT_KEY", TEXT_KEY.decode())
    monkeypatch.setenv("WRONG_KEY", TEXT_KEY[::-1].decode())

    def run(*arguments):
        result = CliRunner().invoke(cli.app, arguments)
        error = b"" if result.exception is None else texts(result.exception, variables=False)
        return result.exit_code, result.output.encode() + error

    return run


@pytest.mark.parametrize("command", [["index"], ["index", "--force"], ["ls"], ["ls", "--json"], ["show", "--json"]])
@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("--key-file", f"{name}.key") for name in ("right", "wrong", "long", "bad", "none")),
        *(("--key-env", f"{name}_KEY") for name in ("RIGHT", "WRONG", "NO")),
    ],
)
def test_no_command_prints_a_key(command, option, value, run):
    """A right or wrong key, from a file or a variable, is in no output and in no error behind it."""
    names = ["obstreperous.gamma"] if command[0] == "show" else []
    code, printed = run(command[0], "net.ckpt", *names, *command[1:], option, value)

    assert code == (0 if value.upper().startswith("RIGHT") else 1)
    assert [key for key in (TEXT_KEY, TEXT_KEY[::-1]) if shows(printed, key)] == []


def at_a_terminal(arguments, typed):
    """Run a command at a terminal and type at its prompt; returns the exit code and all output."""
    ours, its = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "lazyckpt", *arguments], stdin=its, stdout=its, stderr=its, start_new_session=True
    ) as process:
        shown = b""
        while process.poll() is None and (b": " not in shown or termios.tcgetattr(its)[3] & termios.ECHO):
            shown += output(ours)
        os.write(ours, typed + b"\n")
        while process.poll() is None or select.select([ours], [], [], 0)[0]:
            shown += output(ours)
    os.close(ours)
    os.close(its)
    return process.returncode, shown


def output(terminal):
    """The terminal's output since the last call; waits for a moment if there is none."""
    return os.read(terminal, 4096) if select.select([terminal], [], [], 0.01)[0] else b""


@pytest.mark.parametrize(("typed", "code"), [(TEXT_KEY, 0), (b"hex:" + TEXT_KEY.hex().encode(), 0), (b"0" * 16, 1)])
@pytest.mark.usefixtures("run")
def test_a_key_that_is_typed_is_not_echoed(typed, code):
    """At a real terminal the key is asked for, and neither the terminal nor the program shows it."""
    ended, shown = at_a_terminal(["ls", "net.ckpt"], typed)

    assert ended == code
    assert b"Key of net.ckpt (AES-GCM)" in shown
    assert (b"obstreperous.gamma" in shown) == (code == 0)
    assert [key for key in (TEXT_KEY, typed) if shows(shown, key)] == []


def test_workers_receive_where_a_key_is_and_not_what_it_is(tmp_path, monkeypatch):
    """The task for another process holds a path or the name of a variable."""
    (tmp_path / "right.key").write_bytes(TEXT_KEY)
    monkeypatch.setenv("RIGHT_KEY", TEXT_KEY.decode())
    references = [KeyReference(file=str(tmp_path / "right.key")), KeyReference(variable="RIGHT_KEY")]

    assert [reference.read().reveal() for reference in references] == [TEXT_KEY] * 2
    assert not shows(pickled(references) + repr(references).encode(), TEXT_KEY)


def test_the_key_is_not_in_a_core_of_the_usual_kind(tmp_path):
    """Python's fault handler, which prints every thread's frames, prints no key."""
    path = written(tmp_path, encrypted(PLAIN, key=TEXT_KEY))
    code = (
        "import faulthandler, os, sys, lazyckpt\n"
        "key = open(sys.argv[2], 'rb').read()\n"
        "ckpt = lazyckpt.load_checkpoint(sys.argv[1], dec_key=key)\n"
        "faulthandler.dump_traceback(all_threads=True)\n"
        "print(ckpt, ckpt.index, vars(ckpt), file=sys.stderr)"
    )
    (tmp_path / "right.key").write_bytes(TEXT_KEY)
    result = subprocess.run(
        [sys.executable, "-c", code, path, str(tmp_path / "right.key")], capture_output=True, check=True
    )

    assert b"obstreperous.gamma" in result.stderr
    assert not shows(result.stdout + result.stderr, TEXT_KEY)


def test_private_files_are_private_while_they_are_made(tmp_path, monkeypatch):
    """Until it is whole, only its owner may read a sidecar, whatever the checkpoint's permissions."""
    path = written(tmp_path, encrypted(PLAIN, key=KEYS[16]))
    os.chmod(path, 0o644)
    modes = []
    real = locations.os.chmod

    def chmod(name, mode):
        modes.append(os.stat(name).st_mode & 0o777)
        real(name, mode)

    monkeypatch.setattr(locations.os, "chmod", chmod)
    lazyckpt.build_index(path, KEYS[16]).close()

    assert modes == [0o600]
