"""Release metadata is consistent: version, date, types, and oldest dependencies."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from example_runs import ROOT, module

import lazyckpt

CONSUMER = Path(__file__).parents[1] / "typing_consumer" / "consumer.py"
LENET = Path(lazyckpt.__file__).parent / "demo_data" / "LeNet5-1_32.ckpt"
DATE = r"\d{4}-\d{2}-\d{2}"
floors = module("floors", ROOT / "tools").floors


def field(name):
    """A field of CITATION.cff."""
    return re.search(rf"^{name}: *\"?([^\"\n]*)", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)[1]


def test_the_version_is_one(run):
    """The command, the citation and the changelog have the version of the package."""
    code, printed, _ = run("--version")
    newest = re.search(
        rf"^## \[?([\d.]+)\]? - {DATE}$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE
    )

    assert code == 0
    assert [printed.split()[-1], field("version"), newest[1]] == [lazyckpt.__version__] * 3


def test_the_metadata_has_the_same_version():
    """The installed metadata has the version of the source, unless lazyckpt is not installed."""
    try:
        installed = importlib.metadata.version("lazyckpt")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("lazyckpt is imported from its source, and not installed")

    assert installed == lazyckpt.__version__


def test_the_citation_has_the_day_of_the_newest_release():
    """The date in the citation is that of the newest release in the changelog."""
    newest = re.search(rf"^## .* - ({DATE})$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)

    assert field("date-released") == newest[1]


def test_numpy_1_is_enough_where_mindspore_is():
    """lazyckpt does not require numpy 2 for Pythons with MindSpore wheels, which need numpy 1."""
    needed = {
        package: [text for text in importlib.metadata.requires(package) or [] if re.match(r"numpy\b.*>=\s*2", text)]
        for package in ("lazyckpt", "ml_dtypes")  # no other dependency needs numpy
    }
    always = {name: found for name, texts in needed.items() if (found := [text for text in texts if ";" not in text])}

    assert sys.version_info >= (3, 13) or always == {}


def test_types_are_shipped():
    """The package includes the marker for type checkers."""
    assert (Path(lazyckpt.__file__).parent / "py.typed").is_file()


def test_the_consumer_uses_every_public_name():
    """The consumer uses every public name, so that type checkers check them all."""
    names = {
        node.id for node in ast.walk(ast.parse(CONSUMER.read_text(encoding="utf-8"))) if isinstance(node, ast.Name)
    }

    assert set(lazyckpt.__all__) - names == set()


def test_the_consumer_runs(tmp_path):
    """The code that type checkers check also runs."""
    shutil.copy(LENET, tmp_path / "net.ckpt")
    ended = subprocess.run(
        [sys.executable, CONSUMER, "net.ckpt"],
        cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, encoding="utf-8", check=False,
    )  # fmt: skip

    assert ended.stderr == ""
    assert ended.stdout.splitlines()[-1] == "the copies are the same: True"


def test_floors_are_the_oldest_versions_that_are_allowed():
    """The floors cover the package, the named extras, and the extras that they include."""
    project = {
        "name": "lazyckpt",
        "dependencies": ["numpy>=1.26"],
        "optional-dependencies": {
            "s3": ["lazyckpt[remote]", "s3fs>=2024.6"],
            "remote": ["fsspec[http]>=2024.6,<2030"],
            "torch": ["torch>=2.1; python_version < '3.13'"],
        },
    }

    assert list(floors(project, ["s3"])) == ["numpy==1.26", "fsspec==2024.6", "s3fs==2024.6"]
    assert list(floors(project, ["torch"]))[1:] == ["torch==2.1; python_version < '3.13'"]


def test_a_requirement_without_a_lower_bound_is_refused():
    """Without a lower bound, the oldest version is unknown, which is an error."""
    with pytest.raises(ValueError, match="'numpy' has no lower bound"):
        list(floors({"name": "x", "dependencies": ["numpy"], "optional-dependencies": {}}, []))
