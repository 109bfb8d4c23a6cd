from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from onehorizon.documents import NAMES
from tests.helpers import Visit, commits
from workspaces.models import User, Workspace

pytestmark = [commits, pytest.mark.one_database("how Chromium shows a page")]


def test_the_list_of_keys_links_to_the_guide(visit: Visit, owner: User, workspace: Workspace, keys_url: str) -> None:
    page = visit(owner)
    page.goto(keys_url)

    page.get_by_role("link", name="Read the guide").click()

    expect(page.get_by_role("heading", name="API keys", level=1)).to_be_visible()
    page.get_by_role("link", name="Your API keys").click()
    expect(page).to_have_url(keys_url)


def test_the_guide_can_be_read_and_its_commands_copied_without_signing_in(visit: Visit, site: str) -> None:
    page = visit(permissions=["clipboard-read", "clipboard-write"])
    page.goto("/docs/api-keys/")

    page.get_by_role("navigation").get_by_role("link", name="Using a key").click()
    expect(page.get_by_role("heading", name="Using a key")).to_be_in_viewport()
    page.locator(".code", has_text="limit=1").get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()

    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.splitlines() == [
        f'curl "{site}/api/v1/workspaces/current/tasks?limit=1" \\',
        '  -H "Authorization: Bearer $ONE_API_KEY"',
    ]


def test_without_javascript_the_guide_is_complete_and_has_no_copy_buttons(visit: Visit) -> None:
    page = visit(java_script_enabled=False)
    page.goto("/docs/api-keys/")

    expect(page.get_by_role("button")).to_have_count(0)
    expect(page.locator("pre").first).to_be_visible()


@pytest.mark.parametrize("width", [390, 1280])
def test_a_heading_is_a_link_to_itself(visit: Visit, width: int) -> None:
    page = visit(viewport={"width": width, "height": 844})
    page.goto("/docs/api-keys/#rate-limits")
    expect(page.get_by_role("heading", name="Rate limits")).to_be_in_viewport()

    page.get_by_role("main").get_by_role("link", name="Permissions", exact=True).click()
    expect(page).to_have_url(re.compile("/docs/api-keys/#permissions$"))
    page.get_by_role("heading", name="curl", level=3).get_by_role("link").click()
    expect(page).to_have_url(re.compile("/docs/api-keys/#curl$"))


def test_the_links_at_the_end_of_the_pages_lead_through_all_of_them(visit: Visit) -> None:
    page = visit()
    page.goto(f"/docs/{NAMES[0]}/")
    expect(page.get_by_role("link", name="Previous")).to_have_count(0)

    for name in NAMES[1:]:
        page.get_by_role("link", name="Next").click()
        expect(page).to_have_url(re.compile(f"/docs/{name}/$"))
    expect(page.get_by_role("link", name="Next")).to_have_count(0)
    for name in reversed(NAMES[:-1]):
        page.get_by_role("link", name="Previous").click()
        expect(page).to_have_url(re.compile(f"/docs/{name}/$"))


def test_the_table_of_contents_stays_visible_on_a_wide_screen(visit: Visit) -> None:
    page = visit()
    page.goto("/docs/api/#headers")
    expect(page.get_by_role("heading", name="Headers")).to_be_in_viewport()

    expect(page.get_by_role("navigation").get_by_role("link", name="Operations")).to_be_in_viewport()


# For each inline code before punctuation: the pixels between them.
GAPS = """() => Array.from(document.querySelectorAll(":not(pre) > code")).flatMap((code) => {
  const text = code.nextSibling;
  if (text?.nodeType !== Node.TEXT_NODE || !/^[.,;:)?!]/.test(text.data)) return [];
  const [before, after] = [new Range(), new Range()];
  before.selectNodeContents(code);
  after.setStart(text, 0);
  after.setEnd(text, 1);
  return after.getBoundingClientRect().left - Array.from(before.getClientRects()).at(-1).right;
})"""


# The options and names in inline code that are broken over two lines.
BROKEN = """() => {
  const texts = document.createTreeWalker(document.querySelector("article"), NodeFilter.SHOW_TEXT);
  const broken = [];
  while (texts.nextNode()) {
    const text = texts.currentNode;
    if (!text.parentElement.closest("code") || text.parentElement.closest("pre")) continue;
    for (const word of text.data.matchAll(/(?<!\\S)-+[\\w-]+|\\w+/g)) {
      const range = new Range();
      range.setStart(text, word.index);
      range.setEnd(text, word.index + word[0].length);
      if (range.getClientRects().length > 1) broken.push(word[0]);
    }
  }
  return broken;
}"""


def test_inline_code_breaks_between_words_on_a_phone(visit: Visit) -> None:
    page = visit(viewport={"width": 390, "height": 844})
    broken = {}
    for name in NAMES:
        page.goto(f"/docs/{name}/")
        broken[name] = page.evaluate(BROKEN)

    assert {name: words for name, words in broken.items() if words} == {}


def test_on_paper_a_page_is_only_its_text_and_long_lines_break(visit: Visit) -> None:
    page = visit(viewport={"width": 1100, "height": 844})
    page.goto("/docs/ci/")
    page.emulate_media(media="print")

    expect(page.get_by_role("heading", name="GitHub Actions")).to_be_visible()
    for role in ("banner", "navigation", "button"):
        expect(page.get_by_role(role)).to_have_count(0)
    code = page.locator("pre code").first
    code.evaluate("code => { code.textContent = 'x'.repeat(400) }")
    assert code.evaluate("code => code.parentElement.scrollWidth <= code.parentElement.clientWidth")
    assert page.evaluate("document.querySelector('article').getBoundingClientRect().width > 700")


def test_punctuation_follows_inline_code_without_a_gap(visit: Visit) -> None:
    page = visit()
    gaps = {}
    for path in (*(f"/docs/{name}/" for name in NAMES), "/api/docs"):
        page.goto(path)
        gaps[path] = page.evaluate(GAPS)

    assert all(gaps.values())
    assert {gap for page_gaps in gaps.values() for gap in page_gaps if abs(gap) > 0.1} == set()


# The elements that reach beyond the right edge of the page, except what scrolls in a box of its own.
TOO_WIDE = """() => Array.from(document.querySelectorAll("article *"))
  .filter((element) => !element.closest("pre, .table")?.contains(element.parentElement))
  .filter((element) => element.getBoundingClientRect().right > document.documentElement.clientWidth)
  .map((element) => element.outerHTML.slice(0, 80))"""


def test_wide_code_and_tables_scroll_in_their_own_box_on_a_phone(visit: Visit) -> None:
    page = visit(viewport={"width": 390, "height": 844})

    for name in NAMES:
        page.goto(f"/docs/{name}/")
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        assert page.evaluate(TOO_WIDE) == []

    page.goto("/docs/api/")
    code = page.get_by_role("group", name="Code").filter(has_text="status=blocked")
    code.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("element => element.scrollLeft > 0", arg=code.element_handle())
    page.locator("td").first.evaluate("cell => { cell.textContent = 'x'.repeat(100) }")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.evaluate(TOO_WIDE) == []
