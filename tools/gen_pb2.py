"""Generate the classes in lazyckpt/formats/proto, or check that they are up to date.

    python -m venv gen && gen/bin/pip install "grpcio-tools==1.62.3" "setuptools<81"
    gen/bin/python tools/gen_pb2.py [--check]

Generated code runs with the protobuf version it was generated for and with newer ones, so the compiler must belong to
the oldest protobuf version that the package supports.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
# protoc registers these paths in protobuf's pool, together with the names of the messages.
PROTOS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "lazyckpt/formats/proto").glob("*.proto"))
GENERATED = [path.removesuffix(".proto") + ending for path in PROTOS for ending in ("_pb2.py", "_pb2.pyi")]
COMPILER = "libprotoc 25."  # of protobuf 4.25


def main() -> None:
    """Write the modules, or with `--check` compare them and exit with 1 if they differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 if something would change")
    check = parser.parse_args().check
    version = _protoc("--version")
    if not version.startswith(COMPILER):
        sys.exit(f"the compiler must be {COMPILER}x, this is {version}: install grpcio-tools 1.62")
    with tempfile.TemporaryDirectory() as folder:
        _protoc(f"--proto_path={ROOT}", f"--python_out={folder}", f"--pyi_out={folder}", *PROTOS)
        fresh = {name: Path(folder, name).read_bytes() for name in GENERATED}
    stale = [name for name, data in fresh.items() if not _is(ROOT / name, data)]
    if check:
        sys.exit(f"out of date: {', '.join(stale)}" if stale else 0)
    for name in stale:
        (ROOT / name).write_bytes(fresh[name])
    print(f"written: {', '.join(stale) or 'nothing, everything is up to date'}")


def _protoc(*arguments: str) -> str:
    command = [sys.executable, "-m", "grpc_tools.protoc", *arguments]
    return subprocess.run(command, check=True, capture_output=True, encoding="utf-8").stdout.strip()


def _is(path: Path, data: bytes) -> bool:
    return path.exists() and path.read_bytes() == data


if __name__ == "__main__":
    main()
