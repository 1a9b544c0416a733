"""Paths and URLs of files."""

from __future__ import annotations

import os
import tracemalloc

import pytest

from lazyckpt.errors import ArgumentValueError
from lazyckpt.sources.paths import absolute, is_url, join, matches, read, redact_url, require_local, resolved

URLS = ("s3://bucket/x.ckpt", "https://host/x.ckpt?sig=1", "memory://x.ckpt", "zip://x.ckpt::s3://b/y.zip", "hf://a/b")
PATHS = ("/a/x.ckpt", "x.ckpt", "a:b.ckpt", "C:\\x.ckpt", "file:///a/x.ckpt", "local:///a/x.ckpt", "://x", "")


def test_urls_are_distinguished_from_paths():
    """A protocol makes a URL; `file://` and lookalikes do not."""
    assert [is_url(name) for name in URLS + PATHS] == [True] * len(URLS) + [False] * len(PATHS)


def test_links_of_paths_are_resolved_and_urls_stay(tmp_path):
    """`file://` is removed, links are resolved, and other URLs stay."""
    (tmp_path / "x.ckpt").write_bytes(b"")
    (tmp_path / "link.ckpt").symlink_to(tmp_path / "x.ckpt")
    real = os.path.realpath(tmp_path / "x.ckpt")

    assert resolved(f"file://{tmp_path}/link.ckpt") == resolved(str(tmp_path / "link.ckpt")) == real
    assert absolute(f"file://{tmp_path}/link.ckpt") == str(tmp_path / "link.ckpt")
    assert [resolved(url) for url in URLS] == [absolute(url) for url in URLS] == list(URLS)


def test_what_signs_an_address_is_not_shown():
    """In any text the query of a web address is removed, and other question marks stay."""
    text = "GET 'https://h/x.ckpt?X-Sig=5ecret&y=1' failed; why? see http://h/z?k=5ecret."

    assert redact_url(text) == "GET 'https://h/x.ckpt' failed; why? see http://h/z"


def test_names_are_joined_with_one_slash():
    """A folder's URL may end in a slash or not."""
    assert [join(folder, "x") for folder in ("s3://b/f", "s3://b/f/", "/f")] == ["s3://b/f/x", "s3://b/f/x", "/f/x"]


def test_a_url_where_only_a_path_can_be_is_refused():
    """The error gives the reason without the signature in the URL."""
    with pytest.raises(ArgumentValueError, match=r"^https://h/x\.ckpt is a URL: because$"):
        require_local("https://h/x.ckpt?sig=1", "because")


def test_an_unknown_protocol_is_an_argument_that_is_wrong():
    """With or without fsspec, the error is typed and names the URL."""
    with pytest.raises(ArgumentValueError, match="nosuch://x"):
        matches("nosuch://x/y.ckpt", (".ckpt",))


def test_reading_the_first_bytes_of_a_file_takes_no_more_memory_than_it_has(tmp_path):
    """A large limit takes no more memory than the file's size."""
    (tmp_path / "x.ckpt").write_bytes(bytes(1000))
    tracemalloc.start()
    try:
        data = read(str(tmp_path / "x.ckpt"), 2**28)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert (len(data), peak < 2**20) == (1000, True)
