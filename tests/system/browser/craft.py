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
# `preload` would violate the Content-Security-Policy of some pages.
RUN_AXE = "([exclude, runOnly]) => axe.run({ exclude }, { runOnly, preload: false })"

WIDTHS = (320, 390, 640, 1280)  # pixels; 640 are 1280 at 200 % zoom
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
    results: dict[str, Any] = page.evaluate(RUN_AXE, [list(exclude), rules])
    return [
        f"{item['id']}: {node['target']} {node['failureSummary']}"
        for item in results["violations"]
        for node in item["nodes"]
    ]


def layout_problems(page: Page) -> list[str]:
    """Return what is wrong at each width: a page or dialog that is wider than the window, and small targets."""
    problems = []
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 844})
        problems += [f"{width}: {problem}" for problem in [*too_wide(page), *page.evaluate(SMALL_TARGETS)]]
    page.set_viewport_size({"width": 390, "height": 844})
    page.evaluate("document.documentElement.style.fontSize = '32px'")
    problems += [f"large text: {problem}" for problem in too_wide(page)]
    page.evaluate("document.documentElement.style.fontSize = ''")
    page.set_viewport_size({"width": 1280, "height": 844})
    return problems


def too_wide(page: Page) -> list[str]:
    """Return by how many pixels the page and an open dialog are wider than the window."""
    elements = page.locator("html, dialog[open]").all()
    excesses = [element.evaluate("e => Math.max(0, e.scrollWidth - e.clientWidth)") for element in elements]
    return [f"{excess} pixels too wide" for excess in excesses if excess]


def save_screenshots(page: Page, name: str) -> None:
    """Save the page at 390 and 1280 pixels, light and dark, in the directory `SCREENSHOTS`."""
    for width in (390, 1280):
        page.set_viewport_size({"width": width, "height": 844})
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            path = Path(str(SCREENSHOTS), f"{name.replace('/', '-')}-{width}-{scheme}.png")
            page.screenshot(path=path, full_page=not page.locator("dialog[open]").count())
