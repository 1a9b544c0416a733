"""The parts of `tools/bench.py`: files, peers, rows, measurement, and output.

The tests' builders of checkpoints and encrypted files are used, so their folder is put on the path here.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "tests" / "support"))
