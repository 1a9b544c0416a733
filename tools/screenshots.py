"""Take the screenshots in docs/images: a checkpoint in a notebook, light and dark.

    python tools/screenshots.py

Needs playwright and Chromium (see tests/support/page.py).
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support"), str(ROOT / "examples")]

from page import browser, shown  # noqa: E402
from transformer import weights  # noqa: E402

import lazyckpt  # noqa: E402

IMAGES = ROOT / "docs" / "images"
WIDTH, HEIGHT, SCALE = 780, 400, 1.5
STYLE = "body{margin:0}@media(prefers-color-scheme:dark){body{background:#0d1117}}"


def main() -> None:
    """Write the screenshots."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoint, page_file = Path(folder) / "model.ckpt", Path(folder) / "tree.html"
        lazyckpt.save_checkpoint(weights(), str(checkpoint))
        with lazyckpt.load_checkpoint(str(checkpoint)) as ckpt:
            page_file.write_text(
                f"<!doctype html><meta charset=utf-8><style>{STYLE}</style>{ckpt._repr_html_()}", encoding="utf-8"
            )
        with browser() as running:
            for scheme in ("light", "dark"):
                with shown(running, page_file, scheme=scheme, width=WIDTH, height=HEIGHT, scale=SCALE) as page:
                    page.locator(".lzc").screenshot(path=IMAGES / f"tree-{scheme}.png")
                    print(IMAGES / f"tree-{scheme}.png")


if __name__ == "__main__":
    main()
