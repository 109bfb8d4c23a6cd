"""The API reference at /api/docs: "Try it" sends real requests with a key that the page forgets."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.helpers import Visit, commits, make_token
from workspaces.models import Task, User, Workspace

pytestmark = [commits, pytest.mark.one_database("how Chromium shows a page")]


def try_operation(page: Page, summary: str) -> None:
    page.goto("/api/docs")
    page.wait_for_load_state()
    page.get_by_role("button", name=f"Try it: {summary}").click()
    expect(page.get_by_role("dialog", name=summary)).to_be_visible()


def send(page: Page) -> None:
    page.get_by_role("button", name="Send request").click()


def response(page: Page) -> str:
    """Return the status, the headers and the body of the response, once it is there."""
    expect(page.get_by_role("dialog").get_by_role("status")).to_have_text(re.compile(r"^\d{3} "))
    return page.get_by_role("region", name="Response").inner_text()


def test_a_request_is_sent_with_the_key_and_its_response_is_shown(
    visit: Visit, workspace: Workspace, secret: str
) -> None:
    Task.objects.create_task(workspace, title="Ship the billing page", status="planned")
    Task.objects.create_task(workspace, title="Water the plants")
    page = visit()
    try_operation(page, "List tasks, newest first")

    send(page)
    assert "401 Unauthorized" in response(page)
    assert "No API key was sent." in response(page)

    page.get_by_label("API key or access token").fill(f" {secret} ")
    page.get_by_text("Optional parameters").click()
    page.get_by_role("checkbox", name="planned").check()
    page.get_by_role("textbox", name="limit").fill("1")
    send(page)
    expect(page.get_by_role("dialog").get_by_role("status")).to_have_text("200 OK")
    assert "Ship the billing page" in response(page)
    assert "Water the plants" not in response(page)
    assert 'RateLimit: "standard";r=199' in response(page)
    assert "X-Request-Id: " in response(page)


def test_a_body_and_a_header_are_sent(visit: Visit, owner: User, workspace: Workspace) -> None:
    page = visit()
    try_operation(page, "Create an API key")
    page.get_by_label("API key or access token").fill(make_token(owner, "api-keys:manage"))
    page.get_by_role("textbox", name="workspaceId").fill(workspace.pk)
    page.get_by_role("textbox", name="Body").fill('{"description": "Nightly"}')
    page.get_by_text("Optional parameters").click()
    page.get_by_role("textbox", name="Idempotency-Key").fill("nightly-1")
    send(page)
    assert "201 Created" in response(page)
    assert f"Location: /api/v1/workspaces/{workspace.pk}/api-keys/" in response(page)

    send(page)
    expect(page.get_by_role("dialog").get_by_role("status")).to_have_text("200 OK")
    assert "Idempotent-Replayed: true" in response(page)
    assert workspace.api_keys.get().description == "Nightly"


def test_a_response_without_a_body_is_shown(visit: Visit, workspace: Workspace, secret: str) -> None:
    task = Task.objects.create_task(workspace, title="Ship the billing page")
    page = visit()
    try_operation(page, "Delete a task")
    page.get_by_label("API key or access token").fill(secret)
    send(page)
    expect(page.get_by_role("textbox", name="taskId")).to_be_focused()  # it is required

    page.get_by_role("textbox", name="taskId").fill(task.pk)
    send(page)

    assert "204 No Content" in response(page)
    assert not Task.objects.exists()


def test_the_key_is_masked_and_forgotten(visit: Visit, workspace: Workspace, secret: str) -> None:
    page = visit()
    page.goto("/docs/api/")
    try_operation(page, "List workspaces")
    key = page.get_by_label("API key or access token")
    expect(key).to_have_attribute("type", "password")
    expect(key).to_have_attribute("autocomplete", "one-time-code")  # not a password to fill in or save
    key.fill(secret)
    page.keyboard.press("Enter")
    assert workspace.pk in response(page)
    assert secret not in page.content()

    # While the page is open, the next operation has the key too, and no response of another one.
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.get_by_role("button", name="Try it: Fetch a workspace").click()
    expect(key).to_have_value(secret)
    expect(page.get_by_role("region", name="Response")).to_be_hidden()

    page.evaluate("dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true }))")
    expect(key).to_have_value("")
    expect(page.get_by_role("dialog")).to_be_hidden()

    assert page.evaluate("JSON.stringify([localStorage, sessionStorage, document.cookie])") == '[{},{},""]'
    page.reload()
    expect(key).to_have_value("")
    try_operation(page, "List workspaces")
    key.fill(secret)
    page.goto("/docs/api/")
    page.go_back()
    expect(page.get_by_role("heading", name="API reference")).to_be_visible()
    expect(key).to_have_value("")


def test_a_double_click_sends_one_request(visit: Visit, workspace: Workspace, secret: str) -> None:
    page = visit()
    try_operation(page, "Create a task")
    page.get_by_label("API key or access token").fill(secret)
    page.get_by_role("button", name="Send request").dblclick()

    assert "201 Created" in response(page)
    assert Task.objects.count() == 1


def test_a_request_that_can_not_be_sent_says_so(visit: Visit, workspace: Workspace) -> None:
    page = visit()
    try_operation(page, "List workspaces")
    page.get_by_label("API key or access token").fill("one_…")
    send(page)

    expect(page.get_by_role("dialog").get_by_role("status")).to_contain_text("could not be sent")


def test_the_dialog_can_be_used_by_keyboard(visit: Visit, workspace: Workspace, secret: str) -> None:
    page = visit()
    page.goto("/api/docs")
    page.wait_for_load_state()
    button = page.get_by_role("button", name="Try it: Fetch the principal of the request")
    button.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_label("API key or access token")).to_be_focused()
    page.keyboard.type(secret)
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Send request")).to_be_focused()
    page.keyboard.press("Enter")
    assert '"kind": "apiKey"' in response(page)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(button).to_be_focused()


def test_without_javascript_the_page_has_everything_but_the_buttons(visit: Visit) -> None:
    page = visit(java_script_enabled=False)
    page.goto("/api/docs#createTask")

    expect(page.get_by_role("heading", name="Create a task")).to_be_in_viewport()
    expect(page.get_by_role("region", name="Create a task")).to_contain_text("201 Created")
    expect(page.get_by_role("button")).to_have_count(0)
    expect(page.get_by_role("dialog")).to_have_count(0)


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_the_page_does_not_overflow(visit: Visit, width: int) -> None:
    page = visit(viewport={"width": width, "height": 844})
    try_operation(page, "Create a task")
    dialog = page.get_by_role("dialog").bounding_box()

    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert dialog is not None
    assert dialog["x"] + dialog["width"] <= width


def test_on_paper_the_examples_are_complete(visit: Visit) -> None:
    page = visit()
    page.goto("/api/docs")
    page.emulate_media(media="print")

    for role in ("banner", "navigation", "button"):
        expect(page.get_by_role(role)).to_have_count(0)
    cut = "Array.from(document.querySelectorAll('pre')).filter((pre) => pre.scrollHeight > pre.clientHeight + 1).length"
    assert page.evaluate(cut) == 0
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_other_paths_below_docs_are_still_the_api(visit: Visit) -> None:
    page = visit()

    for path in ("/api/docs/", "/api/docs/x", "/api/docsx"):
        result = page.goto(path)
        assert result is not None
        assert result.status == 404
        assert result.json()["code"] == 404
