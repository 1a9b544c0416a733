"""The README and the handbook: pages, code blocks, and the files that they use."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from encryption import KEY, encrypted
from mindspore_results import GOLDEN

import lazyckpt

ROOT = Path(__file__).parents[2]
LENET = Path(lazyckpt.__file__).parent / "demo_data" / "LeNet5-1_32.ckpt"
ENCRYPTED = encrypted(LENET.read_bytes())  # the content of files whose names contain "secret"
FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)
PAGES = {
    str(file.relative_to(ROOT)): file.read_text(encoding="utf-8")
    for file in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
}
ENGLISH = {name: text for name, text in PAGES.items() if not name.endswith(".zh.md")}
CHINESE = {name: text for name, text in PAGES.items() if name.endswith(".zh.md")}


def blocks(text, *languages):
    """The fenced code blocks of a page in these languages (or in any), in order."""
    return [block for language, block in FENCE.findall(text) if language in languages or not languages]


def commands(text):
    """The commands of a page that belong to this project."""
    lines = [line for block in blocks(text, "sh") for line in block.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line.startswith(("lazyckpt ", "python tools/build_index.py "))]


def furnish(name, folder, monkeypatch):
    """Create the files that a page uses: checkpoints, and the keys of encrypted ones."""
    for text in [*blocks(PAGES[name], "python", "pycon"), *commands(PAGES[name])]:
        for named in re.findall(r"""[\w./*-]+\.ckpt\b|[\w.-]+/(?=[\s'"])""", text):
            path = folder / (f"{named}net.ckpt" if named.endswith("/") else named.replace("**", "a").replace("*", "b"))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(ENCRYPTED if "secret" in named else LENET.read_bytes())
        for bare, prefixed in re.findall(
            r"""environ\[['"](\w+)|(?:-key-env[ =]|variable=")(\w+)""", text
        ):  # as raw hex, or with a prefix
            monkeypatch.setenv(bare or prefixed, KEY.hex() if bare else f"hex:{KEY.hex()}")
        for file in re.findall(r"""(?:-key-file[ =]|KeyReference\(file=")([\w.]+)""", text):
            (folder / file).write_bytes(KEY)
    if name == "docs/guides/sharded.md":
        _shards(folder)


def _shards(folder):
    """Copy a set of ranks with its strategy, and write a run of three steps and two checkpoints with disjoint names."""
    (folder / "run").mkdir()
    for step in ("1_100", "2_100", "10_100"):
        shutil.copy(LENET, folder / "run" / f"net-{step}.ckpt")
    shutil.copytree(GOLDEN / "sharded" / "damaged" / "good", folder / "checkpoint")
    shutil.copy(GOLDEN / "sharded" / "damaged" / "good" / "strategy.ckpt", folder)
    shutil.copy(GOLDEN / "sharded" / "group_info" / "group_info_5.pb", folder)
    with lazyckpt.load_checkpoint(LENET, index="memory") as ckpt:
        ckpt.save(folder / "conv.ckpt", list(ckpt.select("conv")))
        ckpt.save(folder / "dense.ckpt", list(ckpt.select("fc")))
