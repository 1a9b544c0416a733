#!/usr/bin/env bash
# mindspore 2.10.0, numpy 1.26.4, Python 3.11 (2026-12-01)
#
# `mindspore.save_checkpoint` leaves empty tensors out of a `.ckpt`, without an error or a log line: a net with an
# unused, empty buffer comes back with fewer parameters than were saved. The same call with format="safetensors" keeps
# them, shapes included. So a round trip through both formats of one release gives two different sets of names.
#
# Output seen:
#   ckpt: ['weight']
#   safetensors: ['matrix', 'vector', 'weight']
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3.11}" -m venv "$work/env"
"$work/env/bin/pip" install -q "mindspore==2.10.0" "numpy==1.26.4"
cd "$work"
"$work/env/bin/python" - <<'PY' > seen
import mindspore
import numpy as np

shapes = {"vector": (0,), "matrix": (0, 3), "weight": (2,)}
values = [{"name": name, "data": mindspore.Tensor(np.ones(shape, np.float32))} for name, shape in shapes.items()]
for form in ("ckpt", "safetensors"):
    mindspore.save_checkpoint(values, f"net.{form}", format=form)
    print(f"{form}: {sorted(mindspore.load_checkpoint(f'net.{form}', format=form))}")
PY
cat seen
grep -qx "ckpt: \['weight'\]" seen
grep -qx "safetensors: \['matrix', 'vector', 'weight'\]" seen
