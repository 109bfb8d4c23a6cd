"""The layout of the pages on wide screens, phones and paper, and where the focus goes after a change."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from playwright.sync_api import FloatRect, Locator, Page, expect

from apikeys.models import ApiKey
from tests.helpers import BY_TEST, Visit, commits, make_key
from tests.processes import fetch
from tests.system.browser.helpers import PHONE, create_key
from workspaces.models import User, Workspace

pytestmark = [commits, pytest.mark.one_database("how Chromium shows a page")]


def box(locator: Locator) -> FloatRect:
    """Return the position and size of an element, in pixels."""
    bounding_box = locator.bounding_box()
    assert bounding_box is not None
    return bounding_box


def visible_bottom(page: Page) -> float:
    height: float = page.evaluate("innerHeight")
    return height


# ---- the frame ----


@pytest.mark.parametrize("path", ["{keys}", "/docs/api-keys/"])
@pytest.mark.parametrize("width", [1280, 2560])
def test_the_header_is_on_the_grid_of_the_content(
    visit: Visit, owner: User, keys_url: str, path: str, width: int
) -> None:
    page = visit(owner, viewport={"width": width, "height": 900})
    page.goto(path.format(keys=keys_url))

    brand, group = box(page.locator(".brand")), box(page.locator(".side .group").first)
    bar, frame = box(page.locator(".bar")), box(page.locator(".frame"))

    assert abs(brand["x"] - group["x"]) < 1
    assert (bar["x"], bar["width"]) == (frame["x"], frame["width"])


@pytest.mark.parametrize("javascript", [True, False])
def test_a_phone_has_one_header_row_and_shows_the_first_key_without_scrolling(
    visit: Visit, owner: User, workspace: Workspace, keys_url: str, javascript: bool
) -> None:
    for number in range(3):
        make_key(workspace, f"Key {number}")
    page = visit(owner, java_script_enabled=javascript, **PHONE)
    page.goto(keys_url)

    header, first = box(page.locator(".top")), box(page.locator("tbody tr").first)

    assert header["height"] < 64
    assert first["y"] + first["height"] < visible_bottom(page)


@pytest.mark.parametrize("javascript", [True, False])
@pytest.mark.parametrize(("path", "name"), [("{keys}", "Settings"), ("/docs/api-keys/", "Documentation")])
def test_a_phone_opens_the_navigation_from_the_header(
    visit: Visit, owner: User, keys_url: str, path: str, name: str, javascript: bool
) -> None:
    page = visit(owner, java_script_enabled=javascript, **PHONE)
    page.goto(path.format(keys=keys_url))
    navigation = page.get_by_role("navigation", name=name)
    expect(navigation).not_to_be_visible()

    page.get_by_role("button", name=name).tap()

    expect(navigation).to_be_visible()
    page.keyboard.press("Escape")
    expect(navigation).not_to_be_visible()


def test_a_row_is_one_target_on_a_phone(visit: Visit, owner: User, api_key: ApiKey, keys_url: str) -> None:
    api_key.current_secret.record_use("203.0.113.7")
    page = visit(owner, **PHONE)
    page.goto(keys_url)
    row = box(page.locator("tbody tr"))
    assert row["height"] >= 44

    page.touchscreen.tap(row["x"] + row["width"] - 4, row["y"] + row["height"] - 4)

    expect(page.get_by_role("heading", name=api_key.description, exact=True)).to_be_visible()


@pytest.mark.parametrize("viewport", [{"width": 390, "height": 844}, {"width": 1280, "height": 900}])
def test_dialogs_are_centred(visit: Visit, owner: User, api_key: ApiKey, keys_url: str, viewport: Any) -> None:
    page = visit(owner, viewport=viewport)
    page.goto(f"{keys_url}{api_key.pk}/")
    page.get_by_role("link", name="Revoke", exact=True).click()

    dialog = box(page.get_by_role("dialog"))

    left, right = dialog["x"], viewport["width"] - dialog["x"] - dialog["width"]
    top, bottom = dialog["y"], viewport["height"] - dialog["y"] - dialog["height"]
    assert abs(left - right) < 2
    assert abs(top - bottom) < 2


def test_print_leaves_out_what_only_works_on_a_screen(
    visit: Visit, owner: User, api_key: ApiKey, keys_url: str
) -> None:
    page = visit(owner)
    page.emulate_media(media="print")

    for path, shown, left_out in [
        ("", ".keys", [".top", ".side", ".toolbar", ".button", "button"]),
        (f"{api_key.pk}/", ".facts", [".top", ".side", ".edit", ".button", "button"]),
    ]:
        page.goto(keys_url + path)
        expect(page.locator(shown)).to_be_visible()
        for selector in left_out:
            elements = page.locator(selector).all()
            assert elements, selector
            for element in elements:
                expect(element).not_to_be_visible()


def test_a_meter_is_painted_over_its_full_height(
    visit: Visit, owner: User, workspace: Workspace, api_key: ApiKey, keys_url: str
) -> None:
    page = visit(owner)
    page.goto(keys_url)

    expect(page.locator("meter")).to_have_count(3)
    for meter in page.locator("meter").all():
        area = box(meter)
        upper, lower = (
            page.screenshot(clip={"x": area["x"] + 5, "y": area["y"] + area["height"] * part, "width": 4, "height": 1})
            for part in (0.3, 0.7)  # within the value, which is at the left
        )
        assert upper == lower


def test_a_meter_has_a_track_with_forced_colours(
    visit: Visit, owner: User, workspace: Workspace, keys_url: str
) -> None:
    make_key(workspace)
    page = visit(owner, forced_colors="active")
    page.goto(keys_url)

    expect(page.locator("meter")).to_have_count(3)
    for meter in page.locator("meter").all():
        style = meter.evaluate("e => [getComputedStyle(e).borderTopStyle, getComputedStyle(e).borderTopWidth]")
        assert style == ["solid", "1px"]


# ---- the secret ----


def test_the_secret_is_on_one_line_and_can_be_copied_without_scrolling_on_a_phone(
    visit: Visit, owner: User, keys_url: str
) -> None:
    page = visit(owner, permissions=["clipboard-read", "clipboard-write"], **PHONE)
    secret = create_key(page, keys_url)
    copy, done = page.locator("[data-copy=secret]"), page.get_by_role("link", name="Done, I've saved it")
    shown, button = box(page.locator("#secret")), box(copy)

    assert shown["height"] < 60
    assert button["width"] == shown["width"]
    for element in (button, box(done)):
        assert element["y"] + element["height"] < visible_bottom(page)
    expect(copy).to_contain_class("primary")
    expect(done).not_to_contain_class("primary")
    copy.tap()
    expect(done).to_contain_class("primary")
    expect(copy).not_to_contain_class("primary")
    assert page.evaluate("navigator.clipboard.readText()") == secret


def test_the_dialog_closes_without_a_copy(visit: Visit, owner: User, keys_url: str) -> None:
    page = visit(owner)
    create_key(page, keys_url)

    page.get_by_role("link", name="Done, I've saved it").click()

    expect(page.get_by_text("Key created.")).to_be_visible()


def test_the_secret_can_be_downloaded_as_a_file(visit: Visit, owner: User, keys_url: str) -> None:
    page = visit(owner)
    secret = create_key(page, keys_url)
    page.get_by_role("tab", name=".env").click()

    with page.expect_download() as download:
        page.get_by_role("button", name="Download onehorizon.env").click()

    assert download.value.suggested_filename == "onehorizon.env"
    assert download.value.path().read_text() == f"ONE_API_KEY={secret}\n"
    assert download.value.url.startswith("blob:")
    assert secret not in download.value.url


def test_the_dialog_shows_when_the_first_request_arrives(visit: Visit, owner: User, site: str, keys_url: str) -> None:
    page = visit(owner)
    page.clock.install()
    secret = create_key(page, keys_url)
    waiting = page.locator("dialog .waiting")
    expect(waiting).to_have_text("Waiting for the first request…")

    assert fetch(f"{site}/api/v1/me", secret)[0] == 200
    page.clock.run_for(5_000)

    expect(waiting).to_have_text("Received from 127.0.0.1. The key works.")
    assert secret in (page.locator("#secret").text_content() or "")


# ---- the focus ----


@pytest.mark.parametrize("javascript", [True, False])
def test_the_new_key_has_the_focus_and_is_highlighted(
    visit: Visit, owner: User, workspace: Workspace, keys_url: str, javascript: bool
) -> None:
    make_key(workspace, "Another")
    page = visit(owner, java_script_enabled=javascript)
    create_key(page, keys_url)

    page.get_by_role("link", name="Done, I've saved it").click()

    expect(page.get_by_role("status").first).to_have_text("Key created.")
    expect(page.get_by_role("link", name="CI, production")).to_be_focused()
    expect(page.locator("tr.changed")).to_contain_text(["CI, production"])
    page.reload()
    expect(page.locator("tr.changed")).to_have_count(0)


@pytest.mark.parametrize("javascript", [True, False])
def test_revoking_moves_the_focus_to_the_sentence_about_it(
    visit: Visit, owner: User, api_key: ApiKey, keys_url: str, javascript: bool
) -> None:
    page = visit(owner, java_script_enabled=javascript)
    page.goto(f"{keys_url}{api_key.pk}/revoke/")

    page.get_by_role("button", name="Revoke key").click()

    expect(page.get_by_role("status").first).to_have_text("Key revoked.")
    expect(page.locator(".notice").filter(has_text="Requests with this key fail.")).to_be_focused()


def test_a_confirmation_without_a_place_of_its_own_has_the_focus(
    visit: Visit, owner: User, api_key: ApiKey, keys_url: str
) -> None:
    api_key.rotate(overlap=timedelta(days=1), by=BY_TEST)
    page = visit(owner)
    page.goto(f"{keys_url}{api_key.pk}/end-previous-secret/")

    page.get_by_role("button", name="End old secret").click()

    expect(page.get_by_text("Old secret ended.", exact=True)).to_be_focused()


@pytest.mark.parametrize("javascript", [True, False])
def test_the_description_is_edited_in_place_of_the_heading(
    visit: Visit, owner: User, api_key: ApiKey, keys_url: str, javascript: bool
) -> None:
    page = visit(owner, java_script_enabled=javascript)
    page.goto(f"{keys_url}{api_key.pk}/")
    edit = page.locator("details.edit summary")
    heading = page.get_by_role("heading", name=api_key.description, exact=True)

    edit.click()
    assert box(heading)["height"] <= 1  # still there for screen readers
    if javascript:
        expect(page.get_by_label("Description")).to_be_focused()
        page.keyboard.type("!")
        expect(page.get_by_label("Description")).to_have_value(f"{api_key.description}!")
        page.keyboard.press("Escape")
        expect(edit).to_be_focused()
        edit.click()
    page.get_by_role("link", name="Cancel").click()

    assert box(heading)["height"] > 20
    expect(page.get_by_label("Description")).not_to_be_visible()


@pytest.mark.parametrize(("name", "selector"), [("Copy masked key", "#masked"), ("Copy ID", "#key-id")])
def test_the_masked_key_and_the_id_can_be_copied(
    visit: Visit, owner: User, api_key: ApiKey, keys_url: str, name: str, selector: str
) -> None:
    page = visit(owner, permissions=["clipboard-read", "clipboard-write"])
    page.goto(f"{keys_url}{api_key.pk}/")

    page.get_by_role("button", name=name).click()

    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == page.locator(selector).text_content()
    expect(page.get_by_role("button", name=name)).to_be_visible()  # again, after a moment


def test_the_navigation_of_a_phone_closes_when_a_link_is_followed_or_the_screen_widens(visit: Visit) -> None:
    page = visit(**PHONE)
    page.goto("/docs/api-keys/")
    navigation, toggle = page.get_by_role("navigation", name="Documentation"), page.locator(".nav-toggle")

    toggle.tap()
    navigation.get_by_role("link", name="Rate limits").tap()
    expect(navigation).not_to_be_visible()
    expect(page.get_by_role("heading", name="Rate limits", exact=True)).to_be_in_viewport()

    page.goto("/docs/api-keys/")
    toggle.tap()
    expect(navigation).to_be_visible()
    page.set_viewport_size({"width": 1280, "height": 844})
    expect(page.locator("nav:popover-open")).to_have_count(0)
    assert box(page.locator("main"))["x"] >= box(navigation)["x"] + box(navigation)["width"]


def test_a_dialog_opens_with_the_focus_on_nothing_that_changes_something(
    visit: Visit, owner: User, api_key: ApiKey, keys_url: str
) -> None:
    api_key.rotate(overlap=timedelta(days=1), by=BY_TEST)
    page = visit(owner)
    page.goto(f"{keys_url}{api_key.pk}/")

    for link, heading in [("Rotate", "Rotate this key?"), ("End now", "End the old secret?")]:
        page.get_by_role("link", name=link, exact=True).click()
        expect(page.get_by_role("heading", name=heading)).to_be_focused()
        page.keyboard.press("Space")
        page.keyboard.press("Enter")
        page.get_by_role("dialog").get_by_role("link", name="Cancel").click()
    expect(page.get_by_role("region", name="Old secret")).to_be_visible()


def test_choosing_another_expiry_clears_the_custom_date(visit: Visit, owner: User, keys_url: str) -> None:
    page = visit(owner)
    page.goto(f"{keys_url}add/")
    date = page.locator("#id_expires_on")

    date.fill("2020-01-01")
    expect(page.get_by_label("Custom date")).to_be_checked()
    page.get_by_label("90 days").check()

    expect(date).to_have_value("")


def test_a_menu_closes_when_the_focus_leaves_it(visit: Visit, owner: User, keys_url: str) -> None:
    page = visit(owner)
    page.goto(keys_url)
    page.wait_for_load_state()
    page.locator("details.switcher summary").click()
    expect(page.locator("details.switcher")).to_have_attribute("open", "")

    for _ in range(3):
        page.keyboard.press("Tab")

    expect(page.locator("details.switcher")).not_to_have_attribute("open", "")
