"""What `tools/fuzz.py` reads: targets by the family, how mutants are made, and how what comes of them is judged.

The tests' builders of files, and what is recorded beside them, are used: their folder is put on the path here.
"""

import sys
from pathlib import Path

TESTS = Path(__file__).parents[2] / "tests"
sys.path.insert(0, str(TESTS / "support"))
