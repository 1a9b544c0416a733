"""One table from the system's errors to the package's own."""

from __future__ import annotations

import errno
import os

import pytest

from lazyckpt.errors import (
    ArgumentValueError,
    FolderInTheWay,
    LazyCkptError,
    MissingFile,
    MissingFolder,
    UnreadableFile,
    UnwritableFile,
)
from lazyckpt.runtime.os_errors import READ, WRITE, os_errors, translated

# The builtin type that callers may catch: a file's fault is a ValueError for readers (as in MindSpore), an OSError for
# writers.
BUILTIN = {READ.verb: ValueError, WRITE.verb: OSError}
KNOWN = [
    (action, number)
    for action in (READ, WRITE)
    for number in sorted({*action.errors, *action.advice, errno.EINVAL, errno.EFBIG})
]


def name_of(value):
    """A test's name for an action or a number."""
    return errno.errorcode[value] if isinstance(value, int) else value.verb


def system_error(number):
    """The system's error of this number."""
    return OSError(number, os.strerror(number), "net.ckpt")


@pytest.mark.parametrize(("action", "number"), KNOWN, ids=name_of)
def test_every_number_gives_a_typed_error_with_the_right_builtin_base(action, number):
    """Whatever the number, the error is the package's own, and what MindSpore's and Python's callers catch."""
    error = translated(system_error(number), "net.ckpt", action)

    assert isinstance(error, LazyCkptError)
    assert isinstance(error, BUILTIN[action.verb])
    assert isinstance(error, FileNotFoundError) == (number == errno.ENOENT)
    assert isinstance(error, IsADirectoryError) == (number == errno.EISDIR and action is WRITE)


@pytest.mark.parametrize(("action", "number"), KNOWN, ids=name_of)
def test_every_message_names_the_file_the_reason_and_the_advice(action, number):
    """What is wrong, where, and what to do."""
    message = str(translated(system_error(number), "net.ckpt", action, "the file"))

    assert message.startswith("the file net.ckpt ")
    assert os.strerror(number) in message or "does not exist" in message
    assert action.advice.get(number, "") in message
    assert action.remark in message


@pytest.mark.parametrize("number", sorted({number for action, number in KNOWN if action is WRITE}), ids=name_of)
def test_a_failed_write_keeps_the_number(number):
    """Programs that look at `errno` find the system's."""
    assert translated(system_error(number), "net.ckpt", WRITE).errno == number


@pytest.mark.parametrize(
    ("action", "number", "kind"),
    [
        (READ, errno.ENOENT, MissingFile),
        (READ, errno.EISDIR, UnreadableFile),
        (READ, errno.EIO, UnreadableFile),
        (WRITE, errno.ENOENT, MissingFolder),
        (WRITE, errno.EISDIR, FolderInTheWay),
        (WRITE, errno.ENOSPC, UnwritableFile),
    ],
)
def test_what_a_caller_may_want_to_tell_apart_has_a_class(action, number, kind):
    """A missing file, a missing folder and a folder in the way have classes of their own."""
    assert type(translated(system_error(number), "net.ckpt", action)) is kind


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (FileNotFoundError("gone"), MissingFile),
        (PermissionError("no"), UnreadableFile),
        (TimeoutError("late"), UnreadableFile),
        (OSError("odd"), UnreadableFile),
    ],
)
def test_an_error_without_a_number_is_known_by_its_type(error, kind):
    """Other libraries raise such."""
    assert type(translated(error, "net.ckpt", READ)) is kind


def test_the_systems_error_is_the_cause():
    """Nothing of what the system said is lost."""
    error = system_error(errno.EIO)
    with pytest.raises(UnreadableFile) as caught, os_errors("net.ckpt", READ):
        raise error

    assert caught.value.__cause__ is error


@pytest.mark.parametrize(
    "error",
    [ArgumentValueError("ours"), MissingFolder(errno.ENOENT, "ours"), MissingFile("ours"), KeyError("theirs")],
    ids=repr,
)
def test_other_errors_pass_unchanged(error):
    """An error of the package is not translated again, not even one that is an OSError; nor is a programming error."""
    with pytest.raises(type(error)) as caught, os_errors("net.ckpt", WRITE):
        raise error

    assert caught.value is error
