from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from playwright.sync_api import Page, expect

from apikeys.models import ApiKey, ApiKeyUsage
from onehorizon.documents import NAMES
from tests.helpers import BY_TEST, Visit, commits, fill_quota, make_key, make_workspace
from tests.system.browser.craft import SCREENSHOTS, problems_of, save_screenshots
from workspaces.models import User, Workspace

pytestmark = [commits, pytest.mark.one_database("how Chromium shows a page")]


def a_key_list(page: Page, keys_url: str, workspace: Workspace) -> None:
    make_key(workspace, "Leaked")[0].revoke(by=BY_TEST, reason="Leaked in a log")
    make_key(workspace, "CI, production")
    page.goto(f"{keys_url}?status=all")


def a_full_list(page: Page, keys_url: str, workspace: Workspace) -> None:
    for number in range(20):
        make_key(workspace, f"Key {number}")
    page.goto(keys_url)


def an_open_menu(page: Page, keys_url: str, workspace: Workspace) -> None:
    page.goto(keys_url)
    page.locator("details.person summary").click()


def a_found_secret(page: Page, keys_url: str, workspace: Workspace) -> None:
    _, secret = make_key(workspace)
    page.goto(keys_url)
    page.get_by_role("searchbox").fill(secret)
    page.get_by_role("button", name="Find").click()
    expect(page.get_by_text("This is the current secret of")).to_be_visible()


def a_form_with_errors(page: Page, keys_url: str, workspace: Workspace) -> None:
    page.goto(f"{keys_url}add/")
    page.get_by_label("Description").fill(" ")
    page.get_by_role("button", name="Create key").click()
    expect(page.get_by_role("alert")).to_be_visible()


def a_shown_secret(page: Page, keys_url: str, workspace: Workspace) -> None:
    page.goto(f"{keys_url}add/")
    page.get_by_label("Description").fill("CI, production")
    page.get_by_role("button", name="Create key").click()
    expect(page.locator("#secret")).to_be_visible()


def a_chosen_example(page: Page, keys_url: str, workspace: Workspace) -> None:
    a_shown_secret(page, keys_url, workspace)
    page.get_by_role("tab", name=".env").click()
    page.get_by_role("button", name="Download").scroll_into_view_if_needed()


def a_key_page(page: Page, keys_url: str, workspace: Workspace) -> None:
    page.goto(f"{keys_url}{make_key(workspace)[0].pk}/")


def a_revocation_dialog(page: Page, keys_url: str, workspace: Workspace) -> None:
    a_key_page(page, keys_url, workspace)
    page.get_by_role("link", name="Revoke", exact=True).click()


def rotated(workspace: Workspace) -> tuple[ApiKey, str]:
    """Return a key whose previous secret still works, and that secret."""
    api_key, secret = make_key(workspace)
    api_key.rotate(overlap=timedelta(days=1), by=BY_TEST)
    return api_key, secret


def a_rotation_dialog(page: Page, keys_url: str, workspace: Workspace) -> None:
    a_key_page(page, keys_url, workspace)
    page.get_by_role("link", name="Rotate", exact=True).click()


def a_rotation_with_an_error(page: Page, keys_url: str, workspace: Workspace) -> None:
    api_key, _ = make_key(workspace)
    page.goto(f"{keys_url}{api_key.pk}/rotate/")
    api_key.rotate(overlap=timedelta(days=1), by=BY_TEST)
    page.get_by_role("button", name="Rotate key").click()
    expect(page.get_by_role("alert")).to_be_visible()


def a_new_secret(page: Page, keys_url: str, workspace: Workspace) -> None:
    a_rotation_dialog(page, keys_url, workspace)
    page.get_by_role("button", name="Rotate key").click()
    expect(page.locator("#secret")).to_be_visible()


def a_repeated_rotation(page: Page, keys_url: str, workspace: Workspace) -> None:
    page.goto(f"{keys_url}{rotated(workspace)[0].pk}/?duplicate=rotation")


def a_key_with_an_old_secret(page: Page, keys_url: str, workspace: Workspace) -> None:
    page.goto(f"{keys_url}{rotated(workspace)[0].pk}/")


def a_quiet_old_secret(page: Page, keys_url: str, workspace: Workspace) -> None:
    api_key, _ = rotated(workspace)
    api_key.current_secret.record_use("203.0.113.7")
    page.goto(f"{keys_url}{api_key.pk}/")
    expect(page.get_by_role("region", name="Old secret")).to_contain_text("Safe to end.")


def a_list_with_old_secrets(page: Page, keys_url: str, workspace: Workspace) -> None:
    rotated(workspace)
    rotated(workspace)[0].current_secret.record_use("203.0.113.7")
    page.goto(keys_url)


def a_confirmation_to_end(page: Page, keys_url: str, workspace: Workspace) -> None:
    page.goto(f"{keys_url}{rotated(workspace)[0].pk}/end-previous-secret/")


def a_dialog_to_end(page: Page, keys_url: str, workspace: Workspace) -> None:
    a_key_with_an_old_secret(page, keys_url, workspace)
    page.get_by_role("link", name="End now").click()


def a_found_old_secret(page: Page, keys_url: str, workspace: Workspace) -> None:
    _, secret = rotated(workspace)
    page.goto(keys_url)
    page.get_by_role("searchbox").fill(secret)
    page.get_by_role("button", name="Find").click()
    expect(page.get_by_text("This is the old secret of")).to_be_visible()


def a_revoked_key(page: Page, keys_url: str, workspace: Workspace) -> None:
    api_key, _ = make_key(workspace)
    api_key.revoke(by=BY_TEST)
    page.goto(f"{keys_url}{api_key.pk}/")


def extreme_keys(workspace: Workspace) -> ApiKey:
    """Fill the workspace with what is hard to fit: long names without spaces, IPv6 addresses, other scripts. Return
    the key with the longest description.
    """
    Workspace.objects.filter(pk=workspace.pk).update(name="W" * 100)
    User.objects.filter(email="owner@example.com").update(name="Bartholomew" * 9)
    descriptions = ["x" * 100, "مفتاح النشر للإنتاج 2026", "🚀👩‍🚀 Deploys", "CI, production", "Billing, staging"]
    created = [make_key(workspace, description)[0] for description in descriptions]
    for api_key in created[:4]:
        api_key.current_secret.record_use("2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff")
    now = timezone.now()
    ApiKey.objects.filter(pk=created[3].pk).update(expires_at=now + timedelta(days=3))
    hour = int(now.timestamp()) // 3600 * 3600
    used = [(created[0].pk, hour), (created[3].pk, hour)]
    ApiKeyUsage.objects.add(dict(zip(used, [(1_234_567, 98_765, 4_321, 12), (64, 0, 0, 0)], strict=True)))
    fill_quota(workspace.pk, workspace.tier, 38)
    return created[0]


def an_extreme_list(page: Page, keys_url: str, workspace: Workspace) -> None:
    extreme_keys(workspace)
    page.goto(keys_url)


def an_extreme_search(page: Page, keys_url: str, workspace: Workspace) -> None:
    extreme_keys(workspace)
    page.goto(f"{keys_url}?q=" + "x" * 20)


def an_extreme_key(page: Page, keys_url: str, workspace: Workspace) -> None:
    page.goto(f"{keys_url}{extreme_keys(workspace).pk}/")


def an_extreme_revocation(page: Page, keys_url: str, workspace: Workspace) -> None:
    an_extreme_key(page, keys_url, workspace)
    page.get_by_role("link", name="Revoke", exact=True).click()


def an_edited_description(page: Page, keys_url: str, workspace: Workspace) -> None:
    a_key_page(page, keys_url, workspace)
    page.locator("details.edit summary").click()


def a_suspended_workspace(page: Page, keys_url: str, workspace: Workspace) -> None:
    make_key(workspace)
    workspace.suspend("Unpaid invoices", by=BY_TEST)
    page.goto(keys_url)


def a_created_key(page: Page, keys_url: str, workspace: Workspace) -> None:
    a_shown_secret(page, keys_url, workspace)
    page.get_by_role("link", name="Done, I've saved it").click()
    expect(page.get_by_text("Key created.")).to_be_visible()


def two_extreme_workspaces(workspace: Workspace) -> None:
    make_workspace(User.objects.get(email="owner@example.com"), "second")
    Workspace.objects.update(name="W" * 100)


def a_choice_of_workspaces(page: Page, keys_url: str, workspace: Workspace) -> None:
    two_extreme_workspaces(workspace)
    page.goto("/workspaces/")


def an_open_switcher(page: Page, keys_url: str, workspace: Workspace) -> None:
    two_extreme_workspaces(workspace)
    page.goto(keys_url)
    page.locator("details.switcher summary").click()


def a_tried_request(page: Page, keys_url: str, workspace: Workspace) -> None:
    page.goto("/api/docs")
    page.get_by_role("button", name="Try it: List tasks").click()
    page.get_by_label("API key or access token").fill(make_key(workspace)[1])
    page.get_by_text("Optional parameters").click()
    page.get_by_role("button", name="Send request").click()
    expect(page.get_by_role("dialog").get_by_role("status")).to_have_text("200 OK")


def page_at(path: str) -> Callable[[Page, str, Workspace], None]:
    def state(page: Page, keys_url: str, workspace: Workspace) -> None:
        page.goto(path.format(keys_url=keys_url))

    state.__name__ = path.replace("{keys_url}", "keys/").strip("/") or "home"
    return state


STATES = [
    page_at("{keys_url}"),
    a_key_list,
    a_full_list,
    an_open_menu,
    a_found_secret,
    page_at("{keys_url}add/"),
    a_form_with_errors,
    a_shown_secret,
    a_chosen_example,
    a_key_page,
    a_revocation_dialog,
    a_rotation_dialog,
    a_rotation_with_an_error,
    a_new_secret,
    a_repeated_rotation,
    a_key_with_an_old_secret,
    a_quiet_old_secret,
    a_list_with_old_secrets,
    a_confirmation_to_end,
    a_dialog_to_end,
    a_found_old_secret,
    a_revoked_key,
    an_extreme_list,
    an_extreme_search,
    an_extreme_key,
    an_extreme_revocation,
    an_edited_description,
    a_suspended_workspace,
    a_created_key,
    a_choice_of_workspaces,
    an_open_switcher,
    page_at("/api/docs"),
    a_tried_request,
    page_at("/settings/password/"),
    page_at("/workspaces/"),
    *(page_at(f"/docs/{name}/") for name in NAMES),
    page_at("/w/w_00000000000000000000000000/settings/developer/api-keys/"),
]


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
def test_pages_pass_axe_and_fit_every_width(
    visit: Visit, owner: User, workspace: Workspace, keys_url: str, state: Any
) -> None:
    page = visit(owner, viewport={"width": 390, "height": 844}, color_scheme="dark", reduced_motion="reduce")

    state(page, keys_url, workspace)

    if SCREENSHOTS:
        save_screenshots(page, state.__name__)
    assert problems_of(page) == []


def test_pages_pass_axe_and_fit_every_width_when_signed_out_and_for_a_member(
    visit: Visit, member: User, keys_url: str
) -> None:
    signed_out, signed_in = visit(reduced_motion="reduce"), visit(member, reduced_motion="reduce")

    for page, url in [(signed_in, keys_url), (signed_out, "/sign-in/"), (signed_out, "/docs/api-keys/")]:
        page.goto(url)
        assert problems_of(page) == [], url


FOCUSED = """() => {
  const { activeElement } = document;
  return activeElement === document.body ? "" : activeElement.textContent.trim() || activeElement.name;
}"""


def test_a_key_can_be_created_and_revoked_by_keyboard(visit: Visit, owner: User, keys_url: str) -> None:
    page = visit(owner, permissions=["clipboard-read", "clipboard-write"])
    page.clock.install()
    page.goto(keys_url)
    page.clock.pause_at(timezone.now() + timedelta(hours=1))  # so that "Copied" stays

    def tab_to(text: str) -> None:
        for _ in range(40):
            if text in page.evaluate(FOCUSED):
                return
            page.keyboard.press("Tab")
        raise AssertionError(f"Tab does not reach {text}")

    tab_to("Add your first key")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Create an API key")).to_be_visible()
    tab_to("description")
    page.keyboard.type("CI, production")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_contain_text("Save your API key")
    tab_to("Copy")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    tab_to("Done, I've saved it")
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="CI, production")).to_be_visible()
    tab_to("CI, production")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="CI, production")).to_be_visible()
    page.wait_for_load_state()
    tab_to("Revoke")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    tab_to("Revoke key")
    page.keyboard.press("Enter")

    expect(page.get_by_text("Requests with this key fail.")).to_be_visible()
    assert ApiKey.objects.get().status == "revoked"


def test_the_first_load_is_under_sixty_kilobytes(
    visit: Visit, owner: User, workspace: Workspace, keys_url: str
) -> None:
    for number in range(20):
        api_key, _ = make_key(workspace, f"Service {number:02}, production, a description of 60 characters"[:60])
        api_key.current_secret.record_use("2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff")
    page = visit(owner)
    sizes = []
    page.on("response", lambda response: sizes.append(len(response.body())))

    page.goto(keys_url, wait_until="networkidle")

    assert sum(sizes) < 60_000


def test_every_page_has_the_security_and_cache_headers(visit: Visit, owner: User, keys_url: str) -> None:
    page = visit(owner)
    for path in (keys_url, f"{keys_url}add/", "/settings/password/", "/docs/api-keys/"):
        response = page.goto(path)
        assert response is not None
        headers = response.headers
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "same-origin"
        assert "unsafe" not in headers["content-security-policy"]
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
