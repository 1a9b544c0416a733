"""The files behind references: their URLs, and a check that they have not changed."""

from __future__ import annotations

import pytest
from checkpoints import checkpoint, counting
from encryption import KEY, encrypted
from followed_references import TENSORS, expected, outcome, written
from hypothesis import given
from hypothesis import strategies as st
from opening import opened_over
from zarr_reading import arrays, chunks

import lazyckpt
from lazyckpt.errors import (
    ArgumentValueError,
    ChangedFile,
    EncryptedFile,
)
from lazyckpt.model.entry import Fingerprint
from lazyckpt.references.files import File, Files
from lazyckpt.sources import BytesSource
from lazyckpt.sources.concatenated import ConcatenatedSource


def test_a_set_is_read_by_its_references(tmp_path):
    """Each value of a set is read from its own file."""
    with lazyckpt.load_checkpoint(written(tmp_path, checkpoint(TENSORS)).path) as ckpt:
        ckpt.save(tmp_path / "net.safetensors", max_shard_size=2000)
    with lazyckpt.load_checkpoint(tmp_path / "net.safetensors.index.json", format="safetensors") as ckpt:
        references = ckpt.references().to_dict()

        assert outcome(arrays(references)) == expected(ckpt)
        assert len({one[0] for name in ckpt for one in chunks(references, name).values()}) > 1


@pytest.mark.parametrize("after", [None, b"short"])
def test_a_file_that_is_not_the_one_that_was_opened_is_noticed(after, path, tmp_path):
    """After a replacement or removal only this process can still read the opened file."""
    with lazyckpt.load_checkpoint(path) as ckpt:
        path.unlink()
        if after is not None:
            path.write_bytes(after)
        with pytest.raises(ChangedFile, match=r"net\.ckpt: it (changed since it|was opened and is gone)"):
            ckpt.references().save(tmp_path / "refs.json")
        assert ckpt["step"].item() == 17
    assert not (tmp_path / "refs.json").exists()


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("s3://bucket/a b.ckpt", "s3://bucket/a b.ckpt"),
        ("s3://bucket/", "s3://bucket/net #1.ckpt"),
        ("https://host/x/", "https://host/x/net%20%231.ckpt"),
    ],
)
def test_the_file_may_be_published_elsewhere(url, found, tmp_path):
    """The file may be at a URL or in a folder; its name is quoted in web addresses."""
    with written(tmp_path, checkpoint(TENSORS), "net #1.ckpt") as ckpt:
        assert chunks(ckpt.references(url=url).to_dict(), "step")["0"][0] == found


def test_files_of_a_folder_keep_their_places_in_it(tmp_path):
    """Their paths are relative to the common folder."""
    for part in "ab":
        (tmp_path / part).mkdir()
        (tmp_path / part / f"{part}.ckpt").write_bytes(checkpoint({part: counting((3,))}))
    with lazyckpt.open_sharded([tmp_path / "a" / "a.ckpt", tmp_path / "b" / "b.ckpt"]) as ckpt:
        references = ckpt.references(url="s3://bucket/run/").to_dict()

        assert [chunks(references, part)["0"][0] for part in "ab"] == [
            "s3://bucket/run/a/a.ckpt",
            "s3://bucket/run/b/b.ckpt",
        ]
        with pytest.raises(ArgumentValueError, match=r"several files: .* must be their folder"):
            ckpt.references(url="s3://bucket/run")


def test_a_url_that_would_be_interpreted_is_refused(tmp_path):
    """A given or derived URL must not become a template."""
    folder = tmp_path / "{{secrets}}"
    folder.mkdir()
    with written(folder, checkpoint(TENSORS)) as ckpt:
        with pytest.raises(ArgumentValueError, match="looks like a template"):
            ckpt.references()
        with pytest.raises(ArgumentValueError, match="looks like a template"):
            ckpt.references(url="s3://{% x %}/net.ckpt")
        assert ckpt.references(url="s3://bucket/net.ckpt").to_dict()["version"] == 1


@pytest.mark.parametrize("mode", ["AES-GCM", "AES-CBC"])
def test_encrypted_files_are_refused(mode, tmp_path):
    """A reference carries no key."""
    (tmp_path / "secret.ckpt").write_bytes(encrypted(checkpoint(TENSORS), mode=mode))
    refused = pytest.raises(EncryptedFile, match=r"secret\.ckpt: the file is encrypted, .* write a plain copy first")
    with lazyckpt.load_checkpoint(tmp_path / "secret.ckpt", dec_key=KEY, dec_mode=mode) as ckpt, refused:
        ckpt.references()


def test_bytes_in_memory_have_no_url():
    """A URL must be given."""
    with pytest.raises(ArgumentValueError, match="is not a file: give the URL"):
        opened_over(BytesSource(checkpoint(TENSORS))).references()


@given(st.lists(st.integers(0, 9), min_size=1, max_size=8).filter(any))
def test_every_byte_has_its_file(sizes):
    """Every byte of concatenated files, some of them empty, belongs to the right file."""
    parts = [BytesSource(bytes(size), f"s3://bucket/{number}.ckpt") for number, size in enumerate(sizes)]
    files = Files(ConcatenatedSource("all", parts), Fingerprint(0, 0, b""))
    starts = [sum(sizes[:number]) for number in range(len(sizes))]
    owners = [number for number, size in enumerate(sizes) for _ in range(size)]

    assert [files.at(offset) for offset in range(sum(sizes))] == [
        File(f"s3://bucket/{number}.ckpt", starts[number], starts[number] + sizes[number]) for number in owners
    ]
