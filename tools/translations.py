"""Say which Chinese pages are behind their English sources, and record that one was brought up to date.

    python tools/translations.py                           pages that are behind; exit code 1 if there are any
    python tools/translations.py --stamp docs/start.zh.md  this page says what its source says today

A translation `page.zh.md` begins with a comment that holds a digest of the text of `page.md`, white space apart.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
STAMP = re.compile(r"^<!-- source: ([0-9a-f]{32}) -->\n")


def source_of(page: Path) -> Path:
    """The English page that a Chinese one is a translation of."""
    return page.with_name(page.name.removesuffix(".zh.md") + ".md")


def digest_of(source: Path) -> str:
    """What a translation of a page records of it today."""
    words = " ".join(source.read_text(encoding="utf-8").split())
    return hashlib.blake2b(words.encode(), digest_size=16).hexdigest()


def recorded(page: Path) -> str:
    """The digest that a translation has, or nothing."""
    found = STAMP.match(page.read_text(encoding="utf-8"))
    return found[1] if found else ""


def pages_behind() -> list[Path]:
    """The translations whose sources have changed since."""
    pages = sorted((ROOT / "docs").rglob("*.zh.md"))
    return [page for page in pages if not source_of(page).is_file() or recorded(page) != digest_of(source_of(page))]


def stamp(page: Path) -> None:
    """Record that a translation is up to date."""
    text = STAMP.sub("", page.read_text(encoding="utf-8"))
    page.write_text(f"<!-- source: {digest_of(source_of(page))} -->\n{text}", encoding="utf-8")


def main() -> int:
    """The command."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--stamp", nargs="+", type=Path, metavar="PAGE", help="record that these are up to date")
    for page in options.parse_args().stamp or ():
        stamp(page)
    behind = pages_behind()
    for page in behind:
        print(f"{page.relative_to(ROOT)} is behind {source_of(page).name}: translate what changed, then --stamp it")
    return 1 if behind else 0


if __name__ == "__main__":
    sys.exit(main())
