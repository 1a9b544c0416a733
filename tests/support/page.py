"""Pages in a real browser: headless Chromium without network access."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from playwright.sync_api import sync_playwright

TOUR = Path(__file__).parents[2] / "examples" / "tour.ipynb"
NAMES = ("chromium", "chromium-browser", "google-chrome")
# The visible texts, each with the WCAG 2 contrast to its background.
CONTRASTS = """(selector) => {
  const parse = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = (rgb) => {
    const [r, g, b] = rgb.slice(0, 3).map((v) => v / 255)
      .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const told = [];
  for (const box of document.querySelectorAll(selector)) {
    for (const element of box.querySelectorAll("*")) {
      const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
      if (!own || element.tagName === "STYLE" || !element.checkVisibility()) continue;
      const [back, ink] = [behind(element), parse(getComputedStyle(element).color)];
      const solid = ink.length === 4 ? ink.slice(0, 3).map((v, i) => v * ink[3] + back[i] * (1 - ink[3])) : ink;
      const [one, two] = [light(solid), light(back)];
      told.push([element.textContent.trim(), (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05)]);
    }
  }
  return told;
}"""


def chromium():
    """The path of the browser: `CHROMIUM`, or the first one found on PATH.

    Raises:
        RuntimeError: Chromium is not installed. The tests fail instead of being skipped.
    """
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        raise RuntimeError("no Chromium is installed (Debian: apt-get install chromium), or name one in CHROMIUM")
    return found


@contextlib.contextmanager
def browser():
    """A running browser."""
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        try:
            yield running
        finally:
            running.close()


@contextlib.contextmanager
def shown(running, file, *, scheme="light", width=900, height=700, scale=1.0):
    """A page loaded from a file; its network requests are blocked and recorded in `page.asked`."""
    size = {"width": width, "height": height}
    context = running.new_context(viewport=size, color_scheme=scheme, device_scale_factor=scale)
    asked = []

    def answer(route):
        if route.request.url.startswith(("file:", "data:")):
            route.continue_()
        else:
            asked.append(route.request.url)
            route.abort()

    context.route("**/*", answer)
    page = context.new_page()
    page.asked = asked
    page.goto(file.as_uri(), wait_until="domcontentloaded")
    try:
        yield page
    finally:
        context.close()
