"""List the Chinese pages that are older than their sources, and mark pages as current.

    python tools/translations.py                           list outdated pages; exit code 1 if there are any
    python tools/translations.py --stamp docs/start.zh.md  mark this page as up to date

A translation `page.zh.md` begins with a comment that holds a digest of the text of `page.md`, ignoring white space.
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
    """The English source of a Chinese page."""
    return page.with_name(page.name.removesuffix(".zh.md") + ".md")


def digest_of(source: Path) -> str:
    """The digest of the current text of a page."""
    words = " ".join(source.read_text(encoding="utf-8").split())
    return hashlib.blake2b(words.encode(), digest_size=16).hexdigest()


def recorded(page: Path) -> str:
    """The digest recorded in a translation, or an empty string."""
    found = STAMP.match(page.read_text(encoding="utf-8"))
    return found[1] if found else ""


def pages_behind() -> list[Path]:
    """The translations whose sources have changed since they were stamped."""
    pages = sorted((ROOT / "docs").rglob("*.zh.md"))
    return [page for page in pages if not source_of(page).is_file() or recorded(page) != digest_of(source_of(page))]


def stamp(page: Path) -> None:
    """Record the current digest of the source in a translation."""
    text = STAMP.sub("", page.read_text(encoding="utf-8"))
    page.write_text(f"<!-- source: {digest_of(source_of(page))} -->\n{text}", encoding="utf-8")


def main() -> int:
    """Stamp pages, list the outdated ones, and return the exit code."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--stamp", nargs="+", type=Path, metavar="PAGE", help="mark these pages as up to date")
    for page in options.parse_args().stamp or ():
        stamp(page)
    behind = pages_behind()
    for page in behind:
        print(f"{page.relative_to(ROOT)} is behind {source_of(page).name}: translate the changes, then run --stamp")
    return 1 if behind else 0


if __name__ == "__main__":
    sys.exit(main())
