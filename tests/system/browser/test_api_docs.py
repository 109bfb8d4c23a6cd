"""The interactive reference at /api/docs: served from here, and requests made there are real."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.helpers import Visit, commits
from workspaces.models import Task, Workspace

pytestmark = commits


def opened(page: Page, operation: str) -> Page:
    page.goto("/api/docs")
    page.locator(f"{operation} button.opblock-summary-control").click()
    page.locator(operation).get_by_role("button", name="Try it out").click()
    return page


def execute(page: Page, operation: str) -> None:
    page.locator(operation).get_by_role("button", name="Execute").click()


def test_a_key_can_be_tried_out(visit: Visit, workspace: Workspace, secret: str) -> None:
    Task.objects.create_task(workspace, title="Ship the billing page")
    page, listing = visit(), "#operations-Tasks-listTasks"
    opened(page, listing)
    answer = page.locator(f"{listing} .live-responses-table")

    execute(page, listing)
    expect(answer).to_contain_text("No API key was sent.")

    page.get_by_role("button", name="Authorize").first.click()
    asking = page.locator(".modal-ux")
    asking.locator("input").fill(secret)
    asking.locator("button.authorize").click()
    asking.locator("button.btn-done").click()
    execute(page, listing)
    expect(answer).to_contain_text("Ship the billing page")
    expect(answer).to_contain_text('ratelimit: "standard";r=199')

    page.reload()
    assert secret not in page.content()
    assert page.evaluate("JSON.stringify([localStorage, sessionStorage])") == "[{},{}]"


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
def test_nothing_overflows(visit: Visit, width: int, scheme: str) -> None:
    page = visit(viewport={"width": width, "height": 844}, color_scheme=scheme)

    opened(page, "#operations-Tasks-createTask")

    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_other_paths_below_docs_are_still_the_api(visit: Visit) -> None:
    page = visit()

    for address in ("/api/docs/", "/api/docs/x", "/api/docsx"):
        answer = page.goto(address)
        assert answer is not None
        assert answer.status == 404
        assert answer.json()["code"] == 404
