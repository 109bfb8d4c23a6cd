"""What the browser tests of several pages need."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Page

from apikeys import keys

# Options of `visit`.
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


def create_key(page: Page, keys_url: str) -> str:
    """Fill in and submit the form, and return the secret that the page shows."""
    page.goto(f"{keys_url}add/")
    page.get_by_label("Description").fill("CI, production")
    page.get_by_role("button", name="Create key").click()
    secret = page.locator("#secret").text_content() or ""
    page.wait_for_load_state()  # by then, the script has replaced the history entry of the submitted form
    assert keys.parse(secret)
    return secret
