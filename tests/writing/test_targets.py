"""An output that is its own input is never destroyed."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
from checkpoints import counting

import lazyckpt
from lazyckpt.errors import FileInTheWay, LazyCkptError, UnwritableFile
from lazyckpt.loading import open_checkpoint

KEY = bytes(range(16))
VALUES = {"a.w": counting((50, 4)), "a.b": counting((7,)), "b.w": counting((30,)), "text": "x"}
INDEX = ".lmdb"


@pytest.fixture
def path(tmp_path):
    """A checkpoint of four values."""
    lazyckpt.save_checkpoint(VALUES, tmp_path / "net.ckpt", mode=0o644)
    return tmp_path / "net.ckpt"


@pytest.fixture
def listing(tmp_path):
    """The listing of a checkpoint in several safetensors files."""
    lazyckpt.save_checkpoint(VALUES, tmp_path / "whole.ckpt")
    with lazyckpt.load_checkpoint(tmp_path / "whole.ckpt") as ckpt:
        ckpt.save(tmp_path / "set.safetensors", ["a.w", "a.b", "b.w"], max_shard_size=500)
    return tmp_path / "set.safetensors.index.json"


def contents(folder):
    """The contents of every file in a folder."""
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


def by_its_name(path):
    """The path as it was opened."""
    return path


def by_another_spelling(path):
    """The same path, spelled differently."""
    return path.parent / "." / ".." / path.parent.name / path.name


def by_a_relative_path(path):
    """The path from the current folder."""
    return os.path.relpath(path)


def by_a_url(path):
    """The path with its protocol."""
    return f"file://{path}"


def by_a_symbolic_link(path):
    """A link to the file."""
    link = path.parent / "link.ckpt"
    link.symlink_to(path)
    return link


def by_a_hard_link(path):
    """Another name of the file."""
    os.link(path, path.parent / "other.ckpt")
    return path.parent / "other.ckpt"


def by_a_linked_folder(path):
    """Through a link to the folder."""
    (path.parent / "folder").symlink_to(path.parent)
    return path.parent / "folder" / path.name


WAYS = [
    by_its_name, by_another_spelling, by_a_relative_path, by_a_url, by_a_symbolic_link, by_a_hard_link,
    by_a_linked_folder,
]  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_a_part_does_not_replace_the_whole(path, way):
    """Under any name of the file, fewer values than it holds are refused, and nothing is written."""
    with lazyckpt.load_checkpoint(path) as ckpt:
        target = way(path)
        before = contents(path.parent)
        with pytest.raises(FileInTheWay, match=r"is the input.*in_place=True.*nothing was written"):
            ckpt.save(target, ["a.b"])

    assert contents(path.parent) == before


@pytest.mark.parametrize("renamed", [False, True])
def test_the_file_that_was_opened_counts_wherever_it_is_now(path, renamed):
    """The opened file is known by its inode after a rename, and by its name after a replacement."""
    with lazyckpt.load_checkpoint(path) as ckpt:
        target = path.with_name("moved.ckpt") if renamed else path
        if renamed:
            path.rename(target)
        else:
            ckpt.save(path)

        with pytest.raises(FileInTheWay):
            ckpt.save(target, ["a.b"])


@pytest.mark.parametrize(
    "narrower",
    [
        lambda path: lazyckpt.load_checkpoint(path).select("a."),
        lambda path: lazyckpt.load_checkpoint(path).select(lambda name: name != "a.b"),
        lambda path: lazyckpt.load_checkpoint(path, choice_func=lambda name: name != "a.b"),
        lambda path: lazyckpt.load_checkpoint(path, specify_prefix="a."),
        lambda path: lazyckpt.load_checkpoint(path).select("a.").copy(),
    ],
    ids=["prefix", "function", "choice_func", "specify_prefix", "copy"],
)
def test_a_narrower_view_does_not_replace_its_source(path, narrower):
    """All values of a view may be fewer than those of its file."""
    before = path.read_bytes()
    with narrower(path) as view, pytest.raises(FileInTheWay):
        view.save(path)

    assert path.read_bytes() == before


def test_all_of_it_replaces_it(path):
    """A file that is loaded, edited and saved whole replaces itself; `del` counts as an edit."""
    with lazyckpt.load_checkpoint(path) as ckpt:
        ckpt["new"] = np.ones(3, "float32")
        ckpt["a.b"] = np.zeros(2, "float32")
        del ckpt["b.w"]
        ckpt.save(path)

    with lazyckpt.load_checkpoint(path) as ckpt:
        assert {name: value if isinstance(value, str) else value.shape for name, value in ckpt.items()} == {
            "a.w": (50, 4), "a.b": (2,), "text": "x", "new": (3,),
        }  # fmt: skip


def test_all_names_in_another_order_are_all(path):
    """A selection of all names in another order is complete."""
    with lazyckpt.load_checkpoint(path) as ckpt:
        names = list(reversed(list(ckpt)))
        ckpt.save(path, names, rename=lambda name: f"net.{name}")

    with lazyckpt.load_checkpoint(path) as ckpt:
        assert list(ckpt) == [f"net.{name}" for name in names]


def test_on_request_a_part_replaces_the_whole(path):
    """With `in_place=True` the remaining values may be lost."""
    with lazyckpt.load_checkpoint(path) as ckpt:
        ckpt.save(path, ["a.b"], in_place=True)

    with lazyckpt.load_checkpoint(path) as ckpt:
        assert {name: value.asnumpy().tolist() for name, value in ckpt.items()} == {"a.b": VALUES["a.b"].tolist()}


def test_in_place_is_whole_or_not_at_all(path):
    """A failed save leaves the file and its folder unchanged."""
    before = contents(path.parent)

    def fail(done, total):
        raise RuntimeError

    with lazyckpt.load_checkpoint(path) as ckpt, pytest.raises(RuntimeError):
        ckpt.save(path, ["a.b"], in_place=True, progress=fail)

    assert contents(path.parent) == before


@pytest.mark.parametrize(
    ("dtype", "fits"), [("Float16", False), ("BFloat16", False), ("Float32", True), ("Float64", True)]
)
def test_values_that_would_lose_bits_are_not_kept(path, dtype, fits):
    """A narrowing cast in place must be requested; a type that holds every value need not be."""
    with lazyckpt.load_checkpoint(path) as ckpt:
        if not fits:
            with pytest.raises(FileInTheWay):
                ckpt.save(path, dtype=dtype)
        ckpt.save(path, dtype=dtype, in_place=not fits)

    with lazyckpt.load_checkpoint(path) as ckpt:
        assert str(ckpt["a.w"].dtype) == dtype


@pytest.mark.parametrize("mode", ["AES-GCM", "AES-CBC"])
def test_an_encrypted_file_is_kept_as_well(path, mode):
    """Decrypted bytes come from a file, too, so that file is not replaced."""
    with lazyckpt.load_checkpoint(path) as ckpt:
        ckpt.save(secret := path.with_name("secret.ckpt"), enc_key=KEY, enc_mode=mode)
    before = secret.read_bytes()
    with lazyckpt.load_checkpoint(secret, dec_key=KEY, dec_mode=mode) as ckpt, pytest.raises(FileInTheWay):
        ckpt.save(secret, ["a.b"])

    assert secret.read_bytes() == before


@pytest.mark.parametrize("names", [None, ["a.b"]])
@pytest.mark.parametrize("target", ["set-00001-of-00002.safetensors", "set-00002-of-00002.safetensors", "listing"])
def test_no_part_of_a_set_is_replaced(listing, target, names):
    """Neither a part nor the listing of a set is replaced, even with all values: the others would contradict it."""
    before = contents(listing.parent)
    path = listing if target == "listing" else listing.parent / target
    with lazyckpt.load_checkpoint(listing, format="safetensors") as ckpt, pytest.raises(FileInTheWay):
        ckpt.save(path, names, format="safetensors")

    assert len([name for name in before if name.startswith("set-") and not name.endswith(INDEX)]) == 2
    assert contents(listing.parent) == before


def test_several_files_replace_no_source(tmp_path):
    """Parts that would overwrite their own source are refused, also with `in_place=True`."""
    path = tmp_path / "net-00001-of-00002.ckpt"
    lazyckpt.save_checkpoint({"a": counting((100,)), "b": counting((100,))}, path)
    before = contents(tmp_path)
    with lazyckpt.load_checkpoint(path) as ckpt:
        for in_place in (False, True):
            with pytest.raises(FileInTheWay, match="several files cannot replace it"):
                ckpt.save(tmp_path / "net.ckpt", max_shard_size=400, in_place=in_place)

    assert contents(tmp_path) == before


def test_a_file_that_a_value_was_taken_from_is_an_input(path):
    """A value assigned from another checkpoint is read from it, so that file is not replaced."""
    other = path.with_name("other.ckpt")
    shutil.copy(path, other)
    before = other.read_bytes()
    with lazyckpt.load_checkpoint(path) as ckpt, lazyckpt.load_checkpoint(other) as second:
        ckpt["b.w"] = second["b.w"]
        with pytest.raises(FileInTheWay):
            ckpt.save(other)

    assert other.read_bytes() == before


def test_an_array_over_another_file_is_kept_when_that_is_replaced(path):
    """A numpy view of another checkpoint is a value of its own: it outlives its file, also while that is replaced."""
    other = path.with_name("other.ckpt")
    lazyckpt.save_checkpoint({"w": np.full((300, 300), 7, "float32"), "lost": counting((3,))}, other)
    with lazyckpt.load_checkpoint(path) as ckpt, lazyckpt.load_checkpoint(other) as theirs:
        ckpt["w"] = view = theirs["w"].asnumpy()
        ckpt.save(other)

        assert (view == 7).all()
    with lazyckpt.load_checkpoint(other) as now:
        assert (list(now), bool((now["w"].asnumpy() == 7).all())) == ([*VALUES, "w"], True)


def test_a_file_that_is_no_input_is_replaced_unless_that_is_refused(path):
    """Other files are replaced, but with `overwrite=False` existing files are kept."""
    other = path.with_name("other.ckpt")
    other.write_bytes(b"something")
    with lazyckpt.load_checkpoint(path) as ckpt:
        with pytest.raises(FileInTheWay, match="exists already"):
            ckpt.save(other, ["a.b"], overwrite=False)
        kept = other.read_bytes()
        ckpt.save(other, ["a.b"])

    assert kept == b"something"
    assert list(lazyckpt.load_checkpoint(other)) == ["a.b"]


def test_a_checkpoint_that_is_called_as_an_index_is_an_input(path):
    """The index of a written file does not replace a checkpoint that is being read."""
    odd = path.rename(path.with_name("x.ckpt.lmdb"))
    before = odd.read_bytes()
    with open_checkpoint(str(odd)) as ckpt, pytest.raises(FileInTheWay, match="has the same name"):
        ckpt.save(path.with_name("x.ckpt"))

    assert odd.read_bytes() == before


def test_save_checkpoint_replaces_as_mindspores_does(path):
    """`save_checkpoint` follows MindSpore's rule."""
    with lazyckpt.load_checkpoint(path) as ckpt:
        lazyckpt.save_checkpoint(ckpt, path, choice_func=lambda name: name == "a.b")

    assert list(lazyckpt.load_checkpoint(path)) == ["a.b"]


def test_references_replace_no_listing(listing):
    """References to a set may not have its listing's name."""
    before = contents(listing.parent)
    with lazyckpt.load_checkpoint(listing, format="safetensors") as ckpt, pytest.raises(FileInTheWay):
        ckpt.references().save(listing)

    assert contents(listing.parent) == before


@pytest.mark.parametrize("name", ["net.ckpt", "link.ckpt", "other.ckpt"])
def test_an_index_replaces_no_checkpoint(path, name):
    """A path for the index that is a checkpoint's own is refused."""
    (path.parent / "link.ckpt").symlink_to(path)
    shutil.copy(path, path.with_name("other.ckpt"))
    before = contents(path.parent)

    with pytest.raises(FileInTheWay):
        lazyckpt.load_checkpoint(path, index=path.parent / name)
    assert contents(path.parent) == before


@pytest.mark.parametrize("damaged", [slice(0, 4096), slice(-4096, None)])
def test_an_index_replaces_a_damaged_one(path, damaged):
    """A damaged index at an explicit path is replaced, whichever end is missing."""
    place = path.with_name("index")
    lazyckpt.load_checkpoint(path, index=place).close()
    data = bytearray(place.read_bytes())
    data[damaged] = bytes(len(data[damaged]))
    place.chmod(0o600)
    place.write_bytes(data)

    assert list(lazyckpt.load_checkpoint(path, index=place)) == list(VALUES)


def test_the_error_is_what_python_calls_it():
    """Both `except FileExistsError` and `except UnwritableFile` catch the error."""
    assert issubclass(FileInTheWay, (FileExistsError,))
    assert issubclass(FileInTheWay, UnwritableFile)
    assert issubclass(FileInTheWay, LazyCkptError)
