"""What `tools/bench.py` measures: files, peers, rows, how a row is measured, and how figures are shown.

The tests' builders of checkpoints and of encrypted files are used: their folder is put on the path here.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "tests"))
