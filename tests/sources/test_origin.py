"""The origin of a local file: unchanged, changed or replaced."""

from __future__ import annotations

import os

import pytest
from checkpoints import pattern

from lazyckpt.errors import ChangedFile
from lazyckpt.model.entry import Fingerprint
from lazyckpt.sources.local import LocalOrigin
from lazyckpt.sources.origin import ReplacedFile

MARK = Fingerprint(100, 5, bytes(16))


@pytest.fixture
def path(tmp_path):
    """A file."""
    path = tmp_path / "net.ckpt"
    path.write_bytes(pattern(100))
    return path


def origin_of(path):
    """The origin of a file in its present state."""
    return LocalOrigin(str(path), os.stat(path), MARK)


def test_a_file_that_was_left_alone_is_what_it_was(path):
    """Reading a file or changing its permissions is not a change."""
    origin = origin_of(path)
    path.read_bytes()
    path.chmod(0o400)

    assert origin.check() is None


@pytest.mark.parametrize("change", ["longer", "later"])
def test_a_file_that_was_written_to_has_changed(change, path):
    """A change of size or of time raises `ChangedFile`."""
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
    """Another file with equal size, time and bytes raises `ReplacedFile`."""
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
    """`mode` has the permission bits at opening, without set-user-ID."""
    path.chmod(mode)
    origin = origin_of(path)
    path.chmod(0o400)

    assert origin.mode == mode & 0o777


def test_only_its_own_fingerprint_matches(path):
    """A fingerprint matches only if size, time and sample are equal."""
    others = [MARK._replace(size=101), MARK._replace(mtime_ns=6), MARK._replace(sample=b"\1" * 16)]

    assert [origin_of(path).matches(mark) for mark in (MARK, *others)] == [True, False, False, False]


def test_a_local_file_has_no_version(path):
    """A local file has no version, and a walk over it needs no context."""
    origin = origin_of(path)

    assert origin.version == ""
    with origin.walking() as walk:
        assert walk is None
