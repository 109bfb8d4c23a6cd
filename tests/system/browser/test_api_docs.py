"""The interactive reference at /api/docs: the site serves all its files, and it sends real requests."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.helpers import Visit, commits
from workspaces.models import Task, Workspace

pytestmark = [commits, pytest.mark.one_database("how Chromium shows a page")]


def open_operation(page: Page, operation: str) -> None:
    page.goto("/api/docs")
    page.locator(f"{operation} button.opblock-summary-control").click()
    page.locator(operation).get_by_role("button", name="Try it out").click()


def execute(page: Page, operation: str) -> None:
    page.locator(operation).get_by_role("button", name="Execute").click()


def test_a_key_can_be_tried_out(visit: Visit, workspace: Workspace, secret: str) -> None:
    Task.objects.create_task(workspace, title="Ship the billing page")
    page, operation = visit(), "#operations-Tasks-listTasks"
    open_operation(page, operation)
    response = page.locator(f"{operation} .live-responses-table")

    execute(page, operation)
    expect(response).to_contain_text("No API key was sent.")

    page.get_by_role("button", name="Authorize").first.click()
    dialog = page.locator(".modal-ux")
    dialog.locator("input").fill(secret)
    dialog.locator("button.authorize").click()
    dialog.locator("button.btn-done").click()
    execute(page, operation)
    expect(response).to_contain_text("Ship the billing page")
    expect(response).to_contain_text('ratelimit: "standard";r=199')

    page.reload()
    assert secret not in page.content()
    assert page.evaluate("JSON.stringify([localStorage, sessionStorage])") == "[{},{}]"


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
def test_the_page_does_not_overflow(visit: Visit, width: int, scheme: str) -> None:
    page = visit(viewport={"width": width, "height": 844}, color_scheme=scheme)

    open_operation(page, "#operations-Tasks-createTask")
    body = page.locator("#operations-Tasks-createTask .opblock-section-request-body")
    body.get_by_text("Schema", exact=True).click()
    body.get_by_text("Expand all").first.click()
    expect(body).to_contain_text("matches ^")
    schema = body.locator(".json-schema-2020-12").first.bounding_box()

    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert schema is not None
    assert schema["x"] + schema["width"] <= width


def test_other_paths_below_docs_are_still_the_api(visit: Visit) -> None:
    page = visit()

    for path in ("/api/docs/", "/api/docs/x", "/api/docsx"):
        response = page.goto(path)
        assert response is not None
        assert response.status == 404
        assert response.json()["code"] == 404
