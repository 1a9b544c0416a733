#!/usr/bin/env bash
# mindspore 2.10.0, protobuf 7.36.2, numpy 1.26.4, Python 3.11 (2026-12-01)
#
# `import mindspore` sets PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION to "python" for the whole process. Whatever else in
# that process, or in a child that it starts later, parses protobuf (ONNX, TensorBoard, an own schema) then runs on the
# pure-Python runtime, tens of times slower. If protobuf is imported first, it keeps its C runtime, and only the
# children change: the order of two import lines decides.
#
# Output seen:
#   mindspore first: python, child: python
#   protobuf first: upb, child: python
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3.11}" -m venv "$work/env"
"$work/env/bin/pip" install -q "mindspore==2.10.0" "numpy==1.26.4" "protobuf==7.36.2"
cd "$work"
cat > child.py <<'PY'
import subprocess
import sys

ASK = "from google.protobuf.internal import api_implementation; print(api_implementation.Type())"


def answer():
    """The runtime that a child of this process uses."""
    return subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, check=True).stdout.strip()
PY
cat > mindspore_first.py <<'PY'
import mindspore
from google.protobuf.internal import api_implementation

from child import answer

print(f"mindspore first: {api_implementation.Type()}, child: {answer()}")
PY
cat > protobuf_first.py <<'PY'
from google.protobuf.internal import api_implementation
import mindspore

from child import answer

print(f"protobuf first: {api_implementation.Type()}, child: {answer()}")
PY
env -u PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION "$work/env/bin/python" mindspore_first.py > seen
env -u PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION "$work/env/bin/python" protobuf_first.py >> seen
cat seen
grep -qx "mindspore first: python, child: python" seen
grep -qx "protobuf first: upb, child: python" seen
