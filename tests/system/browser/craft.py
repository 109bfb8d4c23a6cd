"""Checks of an open page: what axe finds, what does not fit at a width, and controls that are too small."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import axe_playwright_python
from playwright.sync_api import Page

AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text()
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
SIZES_AND_COLOURS = ["color-contrast", "link-in-text-block", "scrollable-region-focusable", "target-size"]
# Only violations are returned: sending all results to the test takes longer than finding them. `preload` would violate
# the Content-Security-Policy of some pages.
RUN_AXE = """([exclude, runOnly]) => axe
  .run({ exclude }, { runOnly, resultTypes: ["violations"], preload: false })
  .then(({ violations }) => violations)"""

# Widths in pixels, with the font size of large text or of the style sheet. 640 are 1280 at 200 % zoom.
LAYOUTS = [(320, ""), (390, "32px"), (390, ""), (640, ""), (1280, "")]
# By how many pixels elements are wider than their boxes.
TOO_WIDE = """(selector) => [...document.querySelectorAll(selector)]
  .map((element) => element.scrollWidth - element.clientWidth)
  .filter((excess) => excess > 0)
  .map((excess) => `${excess} pixels too wide`)"""
# The controls that are smaller than 24 by 24 pixels. Links in a sentence are exempt (WCAG 2.2, 2.5.8).
SMALL_TARGETS = """() => {
  const controls = [...document.querySelectorAll("a[href], button, summary, input, select, textarea")];
  return controls.flatMap((control) => {
    if (!control.checkVisibility() || control.closest(".visually-hidden, .skip") || control.inert) return [];
    if (["radio", "checkbox"].includes(control.type) && control.labels.length) return [];
    if (control.matches("a") && getComputedStyle(control).display === "inline") return [];
    const { width, height } = control.getBoundingClientRect();
    return width && (width < 23.9 || height < 23.9) ? [`${control.outerHTML} ${width}x${height}`] : [];
  });
}"""
SCREENSHOTS = os.environ.get("SCREENSHOTS")  # a directory, for `make screenshots`


def problems_of(page: Page) -> list[str]:
    """Return the problems of the layout, and what axe finds in light colours and, on a phone, in dark ones."""
    problems = layout_problems(page)
    page.emulate_media(color_scheme="light")
    problems += axe_violations(page)
    page.set_viewport_size({"width": 390, "height": 844})
    page.emulate_media(color_scheme="dark")
    return problems + axe_violations(page, SIZES_AND_COLOURS)


def axe_violations(page: Page, rules: list[str] = TAGS, exclude: Iterable[str] = ()) -> list[str]:
    """Return the violations of these rules, or of the rules with these tags, except in elements to `exclude`."""
    page.wait_for_load_state()  # after a click, the style sheet may still be loading
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE)
        page.add_init_script(AXE)  # for the next pages, where it takes less time
    violations: list[dict[str, Any]] = page.evaluate(RUN_AXE, [list(exclude), rules])
    return [f"{item['id']}: {node['target']} {node['failureSummary']}" for item in violations for node in item["nodes"]]


def layout_problems(page: Page) -> list[str]:
    """Return what is wrong at each width: a page or dialog that is wider than the window, and small targets."""
    page.wait_for_load_state()  # after a click, the style sheet may still be loading
    problems = []
    for width, font_size in LAYOUTS:
        page.set_viewport_size({"width": width, "height": 844})
        page.evaluate("size => document.documentElement.style.fontSize = size", font_size)
        found = [*too_wide(page), *page.evaluate(SMALL_TARGETS)]
        problems += [f"{width} {font_size}: {problem}" for problem in found]
    return problems


def too_wide(page: Page, selector: str = "html, dialog[open]") -> list[str]:
    """Return by how many pixels these elements, by default the page and an open dialog, are wider than their boxes."""
    problems: list[str] = page.evaluate(TOO_WIDE, selector)
    return problems


def save_screenshots(page: Page, name: str) -> None:
    """Save the page at 390 and 1280 pixels, light and dark, in the directory `SCREENSHOTS`."""
    for width in (390, 1280):
        page.set_viewport_size({"width": width, "height": 844})
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            path = Path(str(SCREENSHOTS), f"{name.replace('/', '-')}-{width}-{scheme}.png")
            page.screenshot(path=path, full_page=not page.locator("dialog[open]").count())
