"""Print the oldest versions that pyproject.toml allows, as pip constraints for testing.

python tools/floors.py test > floors.txt    # for the package and its extra `test`
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
# The name, its extras, the oldest version, further bounds, and a marker.
REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)(?P<extras>\[[^]]*\])?>=(?P<floor>[\w.]+)(,[^;]*)?(?P<marker>;.*)?")


def floors(project: dict, extras: list[str]) -> Iterator[str]:
    """The constraints for the dependencies of the package and of some extras.

    Args:
        project: the table `project` of a pyproject.toml.
        extras: names of optional dependencies; the extras that they include are followed.

    Raises:
        ValueError: a requirement has no lower bound, so the oldest version is unknown.
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
