"""References give a zarr reader, which knows no checkpoints, every value or the reason for its absence."""

from __future__ import annotations

import re

import numpy as np
import pytest
from checkpoints import checkpoint, counting
from followed_references import TENSORS, expected, outcome, written
from opening import opened_and_traced
from safetensors_files import item, raw
from tracing import TracingSource, places
from zarr_reading import arrays

import lazyckpt
from lazyckpt.errors import (
    ArgumentTypeError,
    ArgumentValueError,
    ClosedCheckpoint,
    FolderInTheWay,
    MissingFolder,
)


def test_a_checkpoint_is_read_by_its_references(path):
    """Tensors, scalars, strings and maps equal lazyckpt's."""
    with lazyckpt.load_checkpoint(path) as ckpt:
        assert outcome(arrays(ckpt.references().to_dict())) == expected(ckpt)


def test_a_safetensors_file_is_read_by_its_references(tmp_path):
    """zarr has the types of safetensors, complex numbers included."""
    contents = np.array([1 + 2j, 3 - 4j], "complex64").tobytes() + counting((2, 3)).tobytes()
    header = {"c": item("C64", (2,), 0, 16), "w": item("F32", (2, 3), 16, 40)}
    with written(tmp_path, raw(header, contents), "net.safetensors") as ckpt:
        assert outcome(arrays(ckpt.references().to_dict())) == expected(ckpt)


def test_some_values_only(path):
    """Values come in the requested order; an absent name is an error at once."""
    with lazyckpt.load_checkpoint(path) as ckpt:
        assert list(arrays(ckpt.references(["step", "conv1.bias"]).to_dict())) == ["step", "conv1.bias"]
        with pytest.raises(KeyError, match="nothing"):
            ckpt.references(["step", "nothing"])


def test_no_value_is_read():
    """Only headers are read, to verify the index."""
    data = checkpoint(TENSORS)
    source = TracingSource(data)
    ckpt = opened_and_traced(source)
    ckpt.references(url="s3://bucket/net.ckpt", chunk_size=100).to_dict()
    payload = places(extent for name in ckpt for extent in ckpt.entry(name).extents)

    assert source.looked_at() & payload == set()


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"chunk_size": 0}, ArgumentValueError, "chunk_size must be at least 1, not 0"),
        ({"chunk_size": "1MB"}, ArgumentTypeError, "chunk_size must be a number of bytes, not str"),
        ({"inline": -1}, ArgumentValueError, "inline must be at least 0, not -1"),
        ({"inline": None}, ArgumentTypeError, "inline must be a number of bytes, not NoneType"),
        ({"url": 7}, ArgumentTypeError, "url must be a string, not int"),
        ({"url": "bucket/net.ckpt"}, ArgumentValueError, "'bucket/net.ckpt' is not a URL: it must begin with"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, error, said, path):
    """Invalid options are refused before anything is read."""
    with lazyckpt.load_checkpoint(path) as ckpt, pytest.raises(error, match=re.escape(said)):
        ckpt.references(**options)


def test_nested_names_are_no_folders(path, tmp_path):
    """Readers of Parquet do not support groups."""
    with lazyckpt.load_checkpoint(path) as ckpt, pytest.raises(ArgumentValueError, match="know no groups"):
        ckpt.references(nested=True).save(tmp_path / "refs.parquet")


def test_a_closed_checkpoint_has_none(path):
    """A closed checkpoint has no references."""
    ckpt = lazyckpt.load_checkpoint(path)
    ckpt.close()

    with pytest.raises(ClosedCheckpoint):
        ckpt.references()


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("refs.txt", ArgumentValueError, "must end with .json, .parquet, .parq"),
        ("no/refs.json", MissingFolder, "there is no folder"),
        ("folder.json", FolderInTheWay, "is a folder"),
        ("folder.parquet", FolderInTheWay, "exists and is not a folder of references"),
    ],
)
def test_paths_that_cannot_be_written_are_refused(name, error, said, path, tmp_path):
    """Existing files stay."""
    for folder in ("folder.json", "folder.parquet"):
        (tmp_path / folder).mkdir()
    with lazyckpt.load_checkpoint(path) as ckpt, pytest.raises(error, match=said):
        ckpt.references().save(tmp_path / name)

    assert not list(tmp_path.glob(".*"))
    assert not list((tmp_path / "folder.parquet").iterdir())
