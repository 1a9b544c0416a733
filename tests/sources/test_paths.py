"""Paths and URLs of files."""

from __future__ import annotations

import os
import tracemalloc

import pytest

from lazyckpt.errors import ArgumentValueError, UnreadableFile
from lazyckpt.sources.paths import (
    absolute,
    folder_of,
    is_listing,
    is_url,
    join,
    matches,
    read,
    redact_url,
    require_local,
    resolved,
)

URLS = ("s3://bucket/x.ckpt", "https://host/x.ckpt?sig=1", "memory://x.ckpt", "zip://x.ckpt::s3://b/y.zip", "hf://a/b")
PATHS = (
    "memory::x.ckpt",
    "simplecache::/a/x.ckpt",
    "/a/x.ckpt",
    "x.ckpt",
    "a:b.ckpt",
    "C:\\x.ckpt",
    "file:///a/x.ckpt",
    "local:///a/x.ckpt",
    "://x",
    "",
)


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


JOINED = {
    ("", "memory::x"): "memory::x",
    ("memory:", "x"): "memory:/x",
    ("/f", "a?b#c%2F"): "/f/a?b#c%2F",
    ("memory://", "x"): "memory://x",
    ("https://h/f", "a b%2F..?c#d::e"): "https://h/f/a%20b%252F..%3Fc%23d%3A%3Ae",
    ("https://h/f?sig=/1", "x"): "https://h/f/x",
    ("filecache::https://h/f", "?x"): "filecache::https://h/f/%3Fx",
    ("zip://::file:///y.zip", "x"): "zip://x::file:///y.zip",
    ("zip://f::https://h/y.zip?sig=1", "x"): "zip://f/x::https://h/y.zip?sig=1",
}


@pytest.mark.parametrize(("folder", "name"), JOINED)
def test_a_name_stays_inside_its_folder(folder, name):
    """The result is a URL only if the folder is one, and nothing in the name has a meaning to a web server."""
    assert (join(folder, name), is_url(join(folder, name))) == (JOINED[folder, name], is_url(folder))


@pytest.mark.parametrize("folder", ["", "/f", "memory://f", "https://h/f"])
@pytest.mark.parametrize("name", ["", ".", "..", "/", "a/b", "../x", "/etc/x", "memory://x", "a\0b"])
def test_a_path_does_not_pass_as_a_name(folder, name):
    """A name that is a path, or names the folder itself, is refused."""
    with pytest.raises(UnreadableFile, match="does not name a file"):
        join(folder, name)


@pytest.mark.parametrize("name", ["x::memory:", "x?versionId=1", "x#1", "%2e%2e", "a\nb", "a\\b"])
def test_a_name_that_a_store_would_interpret_is_refused(name):
    """In a store other than a web server's, chains, queries and escapes cannot be escaped."""
    with pytest.raises(UnreadableFile, match="cannot be part of a URL"):
        join("s3://b/f", name)


FOLDERS = {
    "x": "",
    "/f/x": "/f",
    "memory://x": "memory://",
    "s3://b/x": "s3://b",
    "https://h/f/x?a=/b/c": "https://h/f",
    "simplecache::s3://b/f/x": "simplecache::s3://b/f",
    "zip://f/x::https://h/y.zip": "zip://f::https://h/y.zip",
    "zip://x::file:///y.zip": "zip://::file:///y.zip",
}


@pytest.mark.parametrize("path", FOLDERS)
def test_the_folder_of_a_url_is_a_url(path):
    """The root of a store stays one, a query is no part of the path, and the rest of a chain stays."""
    assert (folder_of(path), is_url(folder_of(path))) == (FOLDERS[path], is_url(path))


def test_a_web_listing_is_known_by_its_path():
    """The query neither hides nor makes the ending of a listing."""
    urls = ("https://h/x.index.json", "https://h/x.index.json?k=1", "https://h/x.ckpt?k=/x.index.json")

    assert [is_listing(url) for url in urls] == [True, True, False]


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
