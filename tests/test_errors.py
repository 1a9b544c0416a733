"""The error classes: one base class, MindSpore's builtin types, and messages with a position."""

from __future__ import annotations

import inspect
import pickle

import pytest

from lazyckpt import errors
from lazyckpt.errors import CorruptFile, FileFault, LazyCkptError

ALL = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]
WITH_TEXT = [kind for kind in ALL if not issubclass(kind, (FileFault, errors.MissingName))]
FAULTS = [kind for kind in ALL if issubclass(kind, FileFault)]
# The builtin types that callers may catch.
ALSO = {
    "ArgumentTypeError": TypeError,
    "ArgumentValueError": ValueError,
    "MissingFile": (ValueError, FileNotFoundError),
    "UnreadableFile": ValueError,
    "CorruptFile": ValueError,
    "TruncatedFile": (ValueError, CorruptFile),
    "DamagedBlock": (ValueError, CorruptFile),
    "WrongFormat": ValueError,
    "EncryptedFile": ValueError,
    "WrongKey": ValueError,
    "CipherUnavailable": ValueError,
    "ChangedFile": ValueError,
    "StaleIndex": ValueError,
    "NothingLoaded": ValueError,
    "ChoiceFunctionFailed": ValueError,
    "ClosedCheckpoint": ValueError,
    "MissingName": KeyError,
    "MissingPackage": ImportError,
}


@pytest.mark.parametrize("kind", ALL)
def test_every_error_is_a_lazyckpt_error(kind):
    """One except clause catches every deliberate error, and each class has a one-sentence description."""
    assert issubclass(kind, LazyCkptError)
    assert kind.__doc__.strip().endswith(".") or "Attributes:" in kind.__doc__


@pytest.mark.parametrize(("name", "types"), ALSO.items())
def test_errors_are_what_mindspore_documents(name, types):
    """An except clause written for MindSpore catches them."""
    bases = types if isinstance(types, tuple) else (types,)

    assert all(issubclass(getattr(errors, name), base) for base in bases)


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_of_a_file_is_a_value_error(kind):
    """A problem with the contents of a file is never a TypeError or an OSError."""
    assert issubclass(kind, ValueError)
    assert not issubclass(kind, (TypeError, OSError))


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ({}, "it is damaged"),
        ({"offset": 1234567}, "it is damaged (at byte 1,234,567)"),
        ({"offset": 0}, "it is damaged (at byte 0)"),
        ({"parameter": "fc.w"}, "it is damaged (in parameter 'fc.w')"),
        ({"parameter": ""}, "it is damaged (in parameter '')"),
        ({"file": "/a/b.ckpt"}, "/a/b.ckpt: it is damaged"),
        (
            {"file": "b.ckpt", "offset": 12, "parameter": "w\n"},
            "b.ckpt: it is damaged (at byte 12, in parameter 'w\\n')",
        ),
    ],
)
def test_a_fault_says_where(place, message):
    """The message includes the file, offset and parameter, if they are known."""
    assert str(CorruptFile("it is damaged", **place)) == message


def test_a_fault_may_learn_its_file_later():
    """Parsers do not know the path; a caller adds it later."""
    fault = CorruptFile("it is damaged", offset=3)
    fault.file = "model.ckpt"

    assert str(fault) == "model.ckpt: it is damaged (at byte 3)"


def test_a_hostile_name_does_not_fill_the_screen():
    """Long names are cut, and control characters are escaped."""
    message = str(CorruptFile("it is damaged", parameter="\x1b[31m" + "n" * 10_000))

    assert len(message) < 300
    assert "\\x1b" in message


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_survives_pickling(kind):
    """Errors keep their type, message and attributes when they come from worker processes."""
    fault = kind("it is damaged", offset=7, parameter="w", file="model.ckpt")
    again = pickle.loads(pickle.dumps(fault))

    assert (type(again), str(again), vars(again)) == (kind, str(fault), vars(fault))


@pytest.mark.parametrize("kind", ALL)
def test_any_error_can_be_made_by_its_own_new(kind):
    """`__new__` works alone, as tblib requires, which dask uses to pickle tracebacks."""
    made = kind.__new__(kind, "no such mode")

    assert (type(made), made.args) == (kind, ("no such mode",))


@pytest.mark.parametrize("kind", WITH_TEXT)
def test_other_errors_survive_pickling(kind):
    """Errors with only a message keep their type and message."""
    again = pickle.loads(pickle.dumps(kind("no such mode")))

    assert (type(again), str(again)) == (kind, "no such mode")


def test_a_missing_name_survives_pickling():
    """The names that are similar are found before it is sent; without any, there is no suggestion."""
    error = errors.MissingName("w.bais", similar=lambda: ["w.bias"])
    again = pickle.loads(pickle.dumps(error))

    assert str(again) == str(error) == "there is no parameter 'w.bais'; did you mean 'w.bias'?"
    assert str(errors.MissingName.__new__(errors.MissingName, "w")) == "there is no parameter 'w'"
