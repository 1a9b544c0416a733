"""What lazyckpt is measured beside, and whether it is there."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from dataclasses import dataclass
from functools import cache

from benchmarks.processes import Side


@dataclass(frozen=True)
class Peer:
    """A peer.

    Attributes:
        label: what the table calls it.
        modules: what must be there, and is imported before anything is measured.
        install: the command that would bring it.
        form: its file, a name in `forms.WRITERS`.
    """

    label: str
    modules: tuple[str, ...]
    install: str
    form: str


PEERS = {
    "mindspore": Peer("MindSpore", ("mindspore",), "pip install mindspore==2.10.0 'numpy<2'", ""),
    "safetensors": Peer(
        "safetensors", ("safetensors", "safetensors.numpy", "numpy"), "pip install safetensors", "safetensors"
    ),
    "safetensors-torch": Peer(
        "safetensors, torch",
        ("safetensors", "safetensors.torch", "torch"),
        "pip install safetensors torch",
        "safetensors",
    ),
    "torch": Peer("torch.load(mmap)", ("torch",), "pip install torch", "torch"),
    "numpy": Peer("numpy.load", ("numpy",), "pip install numpy", "numpy"),
    "h5py": Peer("h5py", ("h5py",), "pip install h5py", "h5py"),
    "zarr": Peer("zarr", ("zarr",), "pip install 'zarr>=3'", "zarr"),
    "tensorizer": Peer("tensorizer", ("tensorizer",), "pip install tensorizer", "tensorizer"),
}
OPENING = tuple(name for name in PEERS if name != "mindspore")  # those in `opened.OPENERS`


class Beside:
    """The peers of one run.

    Attributes:
        names: those that were asked for, there or not.
    """

    def __init__(self, names: tuple[str, ...], mindspore: str | None) -> None:
        self.names = names
        self._pythons = dict.fromkeys(PEERS, sys.executable)
        if mindspore:
            self._pythons["mindspore"] = mindspore

    def python(self, name: str) -> str | None:
        """An interpreter that has the peer, if there is one."""
        python = self._pythons[name]
        return python if _has(python, PEERS[name].modules) else None

    def why_absent(self, name: str) -> str:
        """What the table says of a peer that is not there."""
        where = " and --mindspore PYTHON" if name == "mindspore" else ""
        return f"not here: {PEERS[name].install}{where}"

    def absent(self) -> dict[str, str]:
        """The command for each peer that was asked for and is not there."""
        return {name: PEERS[name].install for name in self.names if not self.python(name)}

    def versions(self) -> dict[str, str]:
        """Of those that are there."""
        packages = {name.partition("-")[0]: name for name in self.names if self.python(name)}
        return {package: _version(str(self.python(name)), package) for package, name in packages.items()}

    def side(self, name: str, task: str, arguments: dict[str, object]) -> Side:
        """A peer's side of a row."""
        peer, python = PEERS[name], self.python(name)
        return Side(peer.label, task, arguments, peer.modules, python, absent=self.why_absent(name))


@cache
def _has(python: str, modules: tuple[str, ...]) -> bool:
    roots = sorted({module.partition(".")[0] for module in modules})
    if python == sys.executable:
        return all(importlib.util.find_spec(root) for root in roots)
    code = f"import importlib.util as u; raise SystemExit(not all(u.find_spec(root) for root in {roots}))"
    return subprocess.run([python, "-c", code], check=False, capture_output=True).returncode == 0


@cache
def _version(python: str, package: str) -> str:
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    return subprocess.run([python, "-c", code], check=False, capture_output=True, text=True).stdout.strip()
