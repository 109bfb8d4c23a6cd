"""On a phone, iOS zooms the page when an input smaller than 16 px gets the focus, and does not zoom back."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page

from apikeys.models import ApiKey
from core.admin import change_url, changelist_url
from oauth.models import Application
from tests.admin.pages import FIND, INDEX, action_url, add_url
from tests.helpers import Visit, commits, make_token
from tests.system.browser.helpers import PHONE
from workspaces.models import AuditEvent, Tier, User, Workspace

pytestmark = [commits, pytest.mark.one_database("how Chromium shows a page")]

# The text inputs of a page that are smaller than 16 px, and how many there are.
TEXT_INPUTS = """() => {
  const buttons = ["hidden", "submit", "button", "checkbox", "radio"];
  const inputs = [...document.querySelectorAll("input, select, textarea")].filter((i) => !buttons.includes(i.type));
  const sizes = inputs.map((i) => [i.id || i.name || i.className, parseFloat(getComputedStyle(i).fontSize)]);
  return { count: inputs.length, small: sizes.filter(([, size]) => size < 16) };
}"""


def small_inputs(page: Page, *urls: str) -> list[str]:
    """Return the text inputs of these pages that are smaller than 16 px. Fail for a page without any."""
    small = []
    for url in urls:
        page.goto(url)
        found: dict[str, Any] = page.evaluate(TEXT_INPUTS)
        assert found["count"], url
        small += [f"{url}: {item}" for item in found["small"]]
    return small


def test_inputs_have_at_least_sixteen_pixels_on_a_phone(
    visit: Visit, owner: User, operator: User, workspace: Workspace, api_key: ApiKey, keys_url: str
) -> None:
    make_token(owner)
    key_url = f"{keys_url}{api_key.pk}/"
    signed_in = [keys_url, f"{keys_url}add/", key_url, f"{key_url}revoke/", "/settings/password/", "/app/auth/device"]
    shown = [workspace, owner, Application.objects.get(client_id="tests"), api_key]
    lists = [changelist_url(model) for model in (Workspace, User, ApiKey, AuditEvent)]
    admin = [
        INDEX,
        FIND,
        *lists,
        *(change_url(item) for item in shown),
        *(add_url(model) for model in (Workspace, User, Tier, Application)),
        action_url(workspace, "suspend"),
        action_url(owner, "password").replace("_5F", "_"),
    ]

    assert small_inputs(visit(**PHONE), "/sign-in/") == []
    assert small_inputs(visit(owner, **PHONE), *signed_in) == []
    page = visit(operator, **PHONE)
    assert small_inputs(page, *admin) == []
    page.goto(add_url(Workspace))
    page.locator(".select2-selection").first.click()
    page.locator(".select2-search__field").wait_for()
    assert page.evaluate(TEXT_INPUTS)["small"] == []


def test_inputs_of_the_api_reference_have_at_least_sixteen_pixels_on_a_phone(visit: Visit) -> None:
    page = visit(**PHONE)
    page.goto("/api/docs")
    page.wait_for_load_state()

    for operation in ("List tasks", "Create a task"):
        page.get_by_role("button", name=f"Try it: {operation}").click()
        assert page.evaluate(TEXT_INPUTS)["count"] >= 3
        assert page.evaluate(TEXT_INPUTS)["small"] == []
        page.get_by_role("button", name="Close").click()
