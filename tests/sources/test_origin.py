"""Where a local file came from: whether it is still what it was, and still the one under its name."""

from __future__ import annotations

import os

import pytest
from checkpoints import pattern

from lazyckpt.errors import ChangedFile
from lazyckpt.model.entry import Fingerprint
from lazyckpt.sources.origin import LocalOrigin, ReplacedFile

MARK = Fingerprint(100, 5, bytes(16))


@pytest.fixture
def path(tmp_path):
    """A file."""
    path = tmp_path / "net.ckpt"
    path.write_bytes(pattern(100))
    return path


def origin_of(path):
    """The origin of a file as it is now."""
    return LocalOrigin(str(path), os.stat(path), MARK)


def test_a_file_that_was_left_alone_is_what_it_was(path):
    """Reading it and changing its permissions changes nothing of it."""
    origin = origin_of(path)
    path.read_bytes()
    path.chmod(0o400)

    assert origin.check() is None


@pytest.mark.parametrize("change", ["longer", "later"])
def test_a_file_that_was_written_to_has_changed(change, path):
    """Its size tells, or its time alone."""
    origin = origin_of(path)
    if change == "longer":
        with path.open("ab") as file:
            file.write(b"x")
        os.utime(path, ns=(0, origin.status.st_mtime_ns))
    else:
        os.utime(path, ns=(0, origin.status.st_mtime_ns + 1000))

    with pytest.raises(ChangedFile, match=r"net\.ckpt: the file changed while it was being indexed"):
        origin.check()


def test_another_file_of_the_same_bytes_is_another_file(path, tmp_path):
    """Size and time are alike: what was opened is not under its name any more, but it has not changed."""
    origin = origin_of(path)
    other = tmp_path / "other.ckpt"
    other.write_bytes(path.read_bytes())
    os.utime(other, ns=(0, origin.status.st_mtime_ns))
    other.replace(path)

    with pytest.raises(ReplacedFile) as caught:
        origin.check()
    assert not isinstance(caught.value, ChangedFile)


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o4755])
def test_the_permissions_are_those_when_it_was_opened(mode, path):
    """Without the bits that make a program of another user's."""
    path.chmod(mode)
    origin = origin_of(path)
    path.chmod(0o400)

    assert origin.mode == mode & 0o777


def test_only_its_own_mark_is_borne(path):
    """Size, time and sample must all be the same."""
    others = [MARK._replace(size=101), MARK._replace(mtime_ns=6), MARK._replace(sample=b"\1" * 16)]

    assert [origin_of(path).bears(mark) for mark in (MARK, *others)] == [True, False, False, False]


def test_a_local_file_has_no_version(path):
    """So that its index is held against its mark; its reads are checked one by one, also in a walk."""
    origin = origin_of(path)

    assert origin.version == ""
    with origin.walking() as walk:
        assert walk is None
