"""Print the oldest versions that pyproject.toml allows, as constraints for pip, so that it can be tested.

python tools/floors.py test > floors.txt    # of the package, and of its extra `test`
pip install -c floors.txt -e '.[test]'
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"
# A name, extras of it that are wanted, the oldest version, further bounds, a marker.
REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)(?P<extras>\[[^]]*\])?>=(?P<floor>[\w.]+)(,[^;]*)?(?P<marker>;.*)?")


def floors(project: dict, extras: list[str]) -> Iterator[str]:
    """A constraint for each thing that the package and these extras of it need.

    Args:
        project: the table `project` of a pyproject.toml.
        extras: names of its optional dependencies; those that one includes are followed.

    Raises:
        ValueError: a requirement has no lower bound, so nothing says what it was tested with.
    """
    for requirement in [*project["dependencies"], *_wanted(project, extras)]:
        parts = REQUIREMENT.fullmatch(requirement)
        if parts is None:
            raise ValueError(f"{requirement!r} has no lower bound of the form name>=version")
        yield f"{parts['name']}=={parts['floor']}{parts['marker'] or ''}"


def _wanted(project: dict, extras: list[str]) -> Iterator[str]:
    for extra in extras:
        for requirement in project["optional-dependencies"][extra]:
            included = re.fullmatch(rf"{project['name']}\[(.*)\]", requirement)
            yield from _wanted(project, included[1].split(",")) if included else [requirement]


if __name__ == "__main__":
    print(*floors(tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"], sys.argv[1:]), sep="\n")
