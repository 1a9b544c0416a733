"""The targets of `tools/fuzz.py`, how their mutants are made, and how the results are judged.

The tests' builders and recorded files are used, so their folder is put on the path here.
"""

import sys
from pathlib import Path

TESTS = Path(__file__).parents[2] / "tests"
sys.path.insert(0, str(TESTS / "support"))
