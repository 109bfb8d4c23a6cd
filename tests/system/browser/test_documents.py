from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

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
def test_a_heading_has_a_link_to_itself(visit: Visit, width: int) -> None:
    page = visit(viewport={"width": width, "height": 844})
    page.goto("/docs/api-keys/#rate-limits")
    expect(page.get_by_role("heading", name="Rate limits")).to_be_in_viewport()

    page.get_by_role("heading", name="Permissions").hover()
    page.get_by_role("link", name="Link to “Permissions”").click()

    expect(page).to_have_url(re.compile("/docs/api-keys/#permissions$"))
