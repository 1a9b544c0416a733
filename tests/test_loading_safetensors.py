"""Loading safetensors files: MindSpore's rules, files of the real packages, bytes in memory."""

from __future__ import annotations

import io
import logging
import shutil

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from checkpoints import LAYERS, checkpoint, counting
from mindspore_results import FILES
from safetensors_files import file_of, item, raw

import lazyckpt
from lazyckpt.errors import ArgumentTypeError, ArgumentValueError, CorruptFile, NothingLoaded, WrongFormat
from lazyckpt.model.dtypes import BY_SAFETENSORS_NAME, DTYPES

TENSORS = {
    "z.weight": counting((3, 4)),
    "a.bias": counting((5,), "float16"),
    "scalar": np.array(7, "int64"),
    "none": np.zeros((0, 3), "float32"),
    "模型.ß": counting((2, 2), "uint8"),
}
NUMPYS = ["bool", *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)),
          "float16", "float32", "float64"]  # fmt: skip


def opened(data, **options):
    """A safetensors file at a path, or bytes in memory."""
    return lazyckpt.load_checkpoint(data, format="safetensors", **options)


@pytest.fixture
def file(tmp_path):
    """A file written by the safetensors package."""
    path = tmp_path / "model.safetensors"
    safetensors.numpy.save_file(TENSORS, path, metadata={"format": "np", "made by": "the package"})
    return path


def test_a_file_of_the_package_is_a_checkpoint(file):
    """Names come sorted; values, shapes and dtypes equal the saved ones, scalars and empty tensors included."""
    with opened(file) as ckpt:
        values = ckpt.load()

    assert list(values) == sorted(TENSORS)
    assert {name: (value.dtype, value.shape, value.tobytes()) for name, value in values.items()} == {
        name: (array.dtype, array.shape, array.tobytes()) for name, array in TENSORS.items()
    }


@pytest.mark.parametrize("name", NUMPYS)
def test_every_dtype_of_numpy_comes_back_from_the_package(name, tmp_path):
    """Files of `safetensors.numpy` give the same dtype, shape and bytes, whole and in part."""
    array = counting((4, 6), name)
    safetensors.numpy.save_file({"w": array}, tmp_path / "w.safetensors")
    with opened(tmp_path / "w.safetensors") as ckpt:
        whole, part = ckpt["w"].asnumpy(), ckpt["w"][1:3, ::2]

    assert (whole.dtype, whole.tobytes()) == (array.dtype, array.tobytes())
    assert part.tobytes() == array[1:3, ::2].tobytes()


@pytest.mark.parametrize("dtype", [one for one in DTYPES.values() if one.is_packed or not one.in_ckpt], ids=str)
def test_types_that_only_safetensors_has_can_be_sliced(dtype, tmp_path):
    """A part equals the same part of the whole, and sizes are those in memory."""
    if not dtype.is_known_here:
        pytest.skip(f"the ml_dtypes installed here has no {dtype}")
    data = bytes(range(dtype.stored_size(24)))
    (tmp_path / "w.safetensors").write_bytes(raw({"w": item(dtype.safetensors, [4, 6], 0, len(data))}, data))
    with opened(tmp_path / "w.safetensors") as ckpt:
        whole, part = ckpt["w"].asnumpy(), ckpt["w"][1:3, ::2]
        sizes = (ckpt["w"].itemsize, ckpt["w"].nbytes)

    assert part.tobytes() == whole[1:3, ::2].tobytes()
    assert sizes == (whole.itemsize, whole.nbytes)


@pytest.mark.parametrize("dtype", [one for one in DTYPES.values() if "." in one._numpy and not one.in_ckpt], ids=str)
def test_a_type_that_ml_dtypes_lacks_is_refused_with_what_to_do(dtype, tmp_path, monkeypatch):
    """With an older ml_dtypes than the file needs, the rest of the file is read."""
    attribute = dtype._numpy.rpartition(".")[2]
    monkeypatch.delattr(ml_dtypes, attribute, raising=False)
    vars(dtype).pop("numpy", None)  # drop the cached dtype
    size = dtype.stored_size(2)
    facts = {"new": item(dtype.safetensors, [2], 0, size), "old": item("U8", [1], size, size + 1)}
    (tmp_path / "w.safetensors").write_bytes(raw(facts, bytes(size) + b"\x07"))

    with opened(tmp_path / "w.safetensors", choice_func=lambda name: name == "old") as ckpt:
        assert ckpt["old"].asnumpy().tolist() == [7]
    with pytest.raises(CorruptFile, match=rf"ml_dtypes.*no {attribute}: upgrade it.*'new'"):
        opened(tmp_path / "w.safetensors")


def test_metadata_are_a_mapping(file, tmp_path):
    """A safetensors file has its own metadata, a `.ckpt` has none."""
    (tmp_path / "net.ckpt").write_bytes(checkpoint(LAYERS))
    with opened(file) as ckpt, lazyckpt.load_checkpoint(tmp_path / "net.ckpt") as other:
        assert dict(ckpt.metadata) == {"format": "np", "made by": "the package"}
        assert dict(other.metadata) == {}


def test_the_sidecar_knows_the_format(file, walks):
    """A second open scans nothing, and an index of the other format is refused."""
    for _ in range(2):
        opened(file).close()
    assert len(walks) == 1

    link = file.with_name("model.ckpt")
    link.symlink_to(file)
    with pytest.raises(WrongFormat, match="load it with format='safetensors'"):
        lazyckpt.load_checkpoint(link)


def test_prefixes_are_ignored_and_the_log_says_so(file, caplog):
    """Prefixes are ignored as in MindSpore, which does not log it."""
    with caplog.at_level(logging.WARNING), opened(file, specify_prefix="z", filter_prefix="a") as ckpt:
        names = list(ckpt)

    assert names == sorted(TENSORS)
    assert "prefixes are ignored" in caplog.text


def test_choice_func_chooses(file):
    """Names are kept if the function is true; if none is, nothing is loaded."""
    with opened(file, choice_func=lambda name: name.endswith("s")) as ckpt:
        assert list(ckpt) == ["a.bias"]
    with pytest.raises(NothingLoaded, match="choice_func"):
        opened(file, choice_func=lambda name: False)


def test_faults_of_choice_func_come_through(file):
    """Exceptions are not wrapped, as in MindSpore for this format."""
    fault = ZeroDivisionError("mine")

    def choice(name):
        raise fault

    with pytest.raises(ZeroDivisionError) as caught:
        opened(file, choice_func=choice)
    assert caught.value is fault


def test_a_checksum_is_compared_when_asked_for(tmp_path):
    """MindSpore's own file passes; with one bit of a content changed it fails, and without the check it loads."""
    path = tmp_path / "model.safetensors"
    shutil.copy(FILES / "st_crc.safetensors", path)
    path.chmod(0o600)
    opened(path, crc_check=True).close()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)

    opened(path).close()
    with pytest.raises(CorruptFile, match="crc check failed"):
        opened(path, crc_check=True)


def test_a_file_without_a_checksum_passes_with_a_warning(file, caplog):
    """Without a checksum there is nothing to compare."""
    with caplog.at_level(logging.WARNING):
        opened(file, crc_check=True).close()

    assert "saved without a crc" in caplog.text


@pytest.mark.parametrize("given", [{}, {"index": "memory"}])
def test_bytes_in_memory_are_read(given, tmp_path):
    """A BytesIO is read from its first byte, whatever its position; nothing is written."""
    data = io.BytesIO(file_of({"b": counting((2, 3)), "a": counting((4,))}, {"format": "pt"}))
    data.read(20)
    with opened(data, **given) as ckpt:
        data.close()
        values = ckpt.load()

    assert {name: value.tolist() for name, value in values.items()} == {
        "a": counting((4,)).tolist(), "b": counting((2, 3)).tolist(),
    }  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def test_bytes_in_memory_have_no_place_for_an_index(tmp_path):
    """A path for the index is refused."""
    with pytest.raises(ArgumentValueError, match="bytes in memory"):
        opened(io.BytesIO(file_of(LAYERS)), index=str(tmp_path / "index.lmdb"))


def test_bytes_in_memory_may_be_damaged(tmp_path):
    """Damaged bytes are refused as a file would be."""
    with pytest.raises(CorruptFile):
        opened(io.BytesIO(file_of(LAYERS)[:-1]))
    with pytest.raises(WrongFormat, match=r"MindSpore checkpoint.*format='ckpt'"):
        opened(io.BytesIO(checkpoint(LAYERS)))
    with pytest.raises(ArgumentTypeError, match="BytesIO"):
        lazyckpt.load_checkpoint(io.BytesIO(file_of(LAYERS)))


@pytest.mark.parametrize(
    ("name", "form", "advice"),
    [
        ("model.safetensors", "ckpt", "give format='safetensors'"),
        ("model.safetensors.index.json", "ckpt", "give format='safetensors'"),
        ("net.ckpt", "safetensors", "give format='ckpt'"),
        ("model.bin", "safetensors", r"rename it to end in \.safetensors"),
        ("model.index.json", "ckpt", r"rename it to end in \.ckpt"),
    ],
)
def test_a_name_that_ends_otherwise_is_refused_with_what_to_do(name, form, advice):
    """The error has MindSpore's rule and the alternative."""
    with pytest.raises(ArgumentValueError, match=advice):
        lazyckpt.load_checkpoint(name, format=form)


def test_build_index_takes_files_of_either_format_whatever_they_are_called(file, tmp_path):
    """The format is detected from the bytes; a name decides only if they are ambiguous."""
    shutil.copy(file, tmp_path / "odd.bin")
    (tmp_path / "strange.safetensors").write_bytes(checkpoint(LAYERS))
    (tmp_path / "short.safetensors").write_bytes(b"\x05")
    found = {name: list(lazyckpt.build_index(tmp_path / name)) for name in ("odd.bin", "strange.safetensors")}

    assert found == {"odd.bin": sorted(TENSORS), "strange.safetensors": list(LAYERS)}
    with pytest.raises(CorruptFile, match="a safetensors file has at least 8 bytes"):
        lazyckpt.build_index(tmp_path / "short.safetensors")


def test_every_name_in_safetensors_headers_is_known():
    """Each name has a dtype, and integers of a byte are Int8, not Int4."""
    assert {str(BY_SAFETENSORS_NAME[name]) for name in ("I8", "F8_E4M3", "F4")} == {
        "Int8", "Float8E4M3FN", "Float4E2M1FN",
    }  # fmt: skip
