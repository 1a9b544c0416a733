"""Keys: never shown, and found in files, variables and functions."""

from __future__ import annotations

import copy
import os
import pickle

import pytest
from checkpoints import LAYERS, checkpoint
from encryption import encrypted

import lazyckpt
from lazyckpt.errors import ArgumentValueError, WrongKey
from lazyckpt.sources.encryption.keys import NO_KEY, OWN_MODE, DeferredKey, KeyReference, Secret, key_from_text

KEY = b"SECRET-OF-16-BYT"
PLAIN = checkpoint(LAYERS)


def test_a_secret_gives_its_key_only_when_asked():
    """Only `reveal` gives the bytes; the length is public."""
    secret = Secret(KEY)

    assert (secret.reveal(), len(secret)) == (KEY, 16)
    assert [text for text in (str(secret), repr(secret), f"{secret}", f"{[secret]}") if "SECRET" in text] == []


@pytest.mark.parametrize(
    "given",
    ["SECRET-OF-16-BYT", 16, bytearray(KEY), memoryview(KEY), None, [1]],
    ids=lambda wrong: type(wrong).__name__,
)
def test_a_key_is_bytes(given):
    """Other types are refused by name (a number would mean that many zeros), and the value is not repeated."""
    with pytest.raises(ArgumentValueError) as caught:
        Secret(given)
    advice = "; use bytes.fromhex(…) for hexadecimal digits" if isinstance(given, str) else ""
    assert (
        str(caught.value) == f"The parameter 'dec_key' must be bytes or None, but got {type(given).__name__}{advice}."
    )


@pytest.mark.parametrize("copy_it", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_secret_does_not_travel(copy_it):
    """A secret cannot be pickled or copied, so it is never sent to a worker by mistake."""
    with pytest.raises(TypeError, match="never pickled"):
        copy_it(Secret(KEY))


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("SECRET-OF-16-BYT", KEY),
        ("hex:00ff10", b"\x00\xff\x10"),
        ("hex:00FF 10", b"\x00\xff\x10"),
        ("späte", "späte".encode()),
        ("", b""),
    ],
)
def test_a_key_as_text_is_utf_8_or_hexadecimal(text, key):
    """Text after `hex:` is decoded from digits; other text is encoded as UTF-8."""
    assert key_from_text(text) == key


@pytest.mark.parametrize("text", ["hex:SECRET", "hex:0"])
def test_a_key_that_is_not_hexadecimal_is_not_repeated(text):
    """The message says what is expected and not what was given."""
    with pytest.raises(ArgumentValueError, match="hexadecimal") as caught:
        key_from_text(text)
    assert text not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("content", "key"),
    [
        (KEY, KEY),
        (KEY + b"\n", KEY),
        (KEY + b"\r\n", KEY),
        (KEY[:15] + b"\n", KEY[:15] + b"\n"),
        (KEY * 2 + b"\n", KEY * 2),
        (b"hex:00ff10\n", b"\x00\xff\x10"),
        (b"short\n", b"short\n"),
    ],
)
def test_a_key_file_is_taken_byte_for_byte(content, key, tmp_path):
    """One line break at the end is removed if the key would have an impossible length with it."""
    (tmp_path / "key").write_bytes(content)

    assert KeyReference(file=str(tmp_path / "key")).read().reveal() == key


def test_a_key_file_that_cannot_be_read_is_reported(tmp_path):
    """The error names the file's path."""
    with pytest.raises(ArgumentValueError, match="none cannot be read"):
        KeyReference(file=str(tmp_path / "none")).read()


def test_a_key_may_stand_in_the_environment(monkeypatch):
    """The error for an unset variable has its name."""
    monkeypatch.setenv("CKPT_KEY", "hex:00ff")

    assert KeyReference(variable="CKPT_KEY").read().reveal() == b"\x00\xff"
    with pytest.raises(ArgumentValueError, match="NO_SUCH_KEY"):
        KeyReference(variable="NO_SUCH_KEY").read()


def test_a_variable_may_hold_any_bytes(monkeypatch):
    """Also bytes that are not UTF-8, which Python shows as escapes, are taken unchanged."""
    monkeypatch.setitem(os.environb, b"CKPT_KEY", bytes(range(128, 144)))

    assert KeyReference(variable="CKPT_KEY").read().reveal() == bytes(range(128, 144))


def test_no_reference_is_no_key():
    """An empty reference reads as None."""
    assert NO_KEY.read() is None


def test_a_reference_travels_without_the_key(tmp_path):
    """A reference names a location, so it may be pickled and printed."""
    (tmp_path / "key").write_bytes(KEY)
    reference = KeyReference(file=str(tmp_path / "key"))

    assert pickle.loads(pickle.dumps(reference)) == reference
    assert b"SECRET" not in pickle.dumps(reference)


def test_a_late_key_is_looked_for_once_and_only_for_what_is_encrypted(tmp_path):
    """A plain file opens without the key; the first of two encrypted files asks once, with its name and mode."""
    asked = []

    def find(file, mode):
        asked.append((os.path.basename(file), mode))
        return Secret(KEY)

    key = DeferredKey(find)
    for name, data in (
        ("plain", PLAIN),
        ("one", encrypted(PLAIN, "AES-CBC", KEY)),
        ("two", encrypted(PLAIN, "AES-CBC", KEY)),
    ):
        (tmp_path / name).write_bytes(data)
        lazyckpt.build_index(tmp_path / name, key, OWN_MODE).close()

    assert asked == [("one", "AES-CBC")]


def test_a_required_deferred_key_is_refused_for_a_plain_file(tmp_path):
    """A key that is required but useless is an error, before the key is looked up."""
    (tmp_path / "net.ckpt").write_bytes(PLAIN)

    with pytest.raises(WrongKey, match="not encrypted"):
        lazyckpt.build_index(tmp_path / "net.ckpt", DeferredKey(lambda file, mode: 1 / 0, insists=True), OWN_MODE)
