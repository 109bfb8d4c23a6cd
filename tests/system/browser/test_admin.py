"""The tasks of an operator on call, in Chromium under the strict Content-Security-Policy."""

from itertools import pairwise
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import Page, expect

from apikeys.models import ApiKey, ApiKeyUsage
from core.admin import change_url
from tests.admin.pages import REVOKE, action_url
from tests.helpers import Api, Visit, commits, make_key, make_user, make_workspace
from workspaces.models import Actor, Tier, User, Via, Workspace

MAX_PAGES = 3  # loaded to find and revoke a leaked key

pytestmark = [commits, pytest.mark.one_database("how Chromium uses pages whose requests other tests send")]


@pytest.fixture
def console_errors() -> list[str]:
    """The errors on the browser's console, such as a script or style that the policy blocked."""
    return []


@pytest.fixture
def page(visit: Visit, operator: User, console_errors: list[str], browser_options: dict[str, Any]) -> Page:
    """The admin's index, open in an operator's browser."""
    page = visit(operator, **browser_options)
    page.on("console", lambda message: console_errors.append(message.text) if message.type == "error" else None)
    page.goto("/admin/")
    expect(page.get_by_role("heading", name="Operators")).to_be_visible()
    return page


@pytest.fixture
def browser_options() -> dict[str, Any]:
    return {"viewport": {"width": 1280, "height": 900}}


@pytest.fixture
def acme(db: None) -> Workspace:
    return make_workspace(make_user("owner"), admin=make_user("admin"), member=make_user("member"))


def test_a_leaked_key_is_found_and_revoked(page: Page, acme: Workspace, console_errors: list[str]) -> None:
    secret = make_key(acme, "Billing worker")[1]
    urls: list[str] = []
    page.on("framenavigated", lambda frame: urls.append(frame.url))

    page.get_by_label("Secret, key ID").fill(secret)
    page.get_by_role("button", name="Find").click()
    expect(page.get_by_label("Description")).to_have_value("Billing worker")
    page.get_by_role("link", name="Revoke", exact=True).click()
    page.get_by_label("Reason").fill("Leaked in a public repository")
    page.get_by_role("button", name="Revoke").click()
    expect(page.get_by_role("listitem").filter(has_text="Billing worker")).to_contain_text("Revoked")

    assert len(urls) <= MAX_PAGES
    assert Api(secret).get("/me").status_code == 401
    assert all(secret[17:] not in url for url in urls)
    assert console_errors == []


def test_a_throttled_workspace_gets_a_larger_tier_and_a_cleared_quota(
    page: Page, acme: Workspace, console_errors: list[str]
) -> None:
    Tier.objects.create(name="large", requests=2000, seconds=900, burst_requests=400, burst_seconds=60)
    api = Api(make_key(acme)[1])
    while api.get("/me").status_code == 200:
        pass

    page.get_by_role("link", name="Workspaces", exact=True).last.click()
    page.get_by_role("textbox").and_(page.locator("#searchbar")).fill("acm")
    page.keyboard.press("Enter")
    page.get_by_role("link", name="Acme").first.click()
    expect(page.get_by_text("Throttled")).to_be_visible()
    page.get_by_label("Tier").select_option("large")
    page.get_by_role("button", name="Save and continue editing").click()
    expect(page.get_by_text("360 of 400")).to_be_visible()
    assert api.get("/me").status_code == 200
    page.get_by_role("link", name="Clear quota").click()
    page.get_by_role("button", name="Clear quota").click()

    expect(page.get_by_text("400 of 400")).to_be_visible()
    assert console_errors == []


def test_the_keys_of_an_admin_who_left_are_listed_and_the_admin_is_removed(
    page: Page, acme: Workspace, console_errors: list[str]
) -> None:
    admin = User.objects.get(name="Admin")
    ApiKey.objects.create_key(acme, description="Made by who left", by=Actor(Via.PAGE, admin))
    make_key(acme, "Made by another")

    page.get_by_role("link", name="Users", exact=True).click()
    page.locator("#searchbar").fill("admin@")
    page.keyboard.press("Enter")
    page.get_by_role("link", name="admin@example.com").click()
    page.get_by_role("link", name="Keys this person created").click()
    expect(page.get_by_text("Made by who left")).to_be_visible()
    expect(page.get_by_text("Made by another")).not_to_be_visible()
    page.go_back()
    page.get_by_role("link", name="Acme").click()
    row = page.get_by_role("row").filter(has_text="admin@example.com")
    row.get_by_role("checkbox").check()
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("was changed successfully")).to_be_visible()

    assert sorted(acme.members.values_list("name", flat=True)) == ["Member", "Owner"]
    assert console_errors == []


def test_a_member_is_added_with_the_autocomplete(page: Page, acme: Workspace, console_errors: list[str]) -> None:
    """The widgets that run scripts: the inline's "add another" and the autocomplete."""
    make_user("newcomer")

    page.get_by_role("link", name="Workspaces", exact=True).last.click()
    page.get_by_role("link", name="Acme").first.click()
    page.get_by_role("button", name="Add another member").click()
    page.locator(".select2-selection").last.click()
    page.keyboard.type("newc")
    page.get_by_role("option", name="newcomer@example.com").click()
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("was changed successfully")).to_be_visible()

    assert acme.members.filter(name="Newcomer").exists()
    assert console_errors == []


def test_a_first_customer_is_added(page: Page, db: None, console_errors: list[str]) -> None:
    """The workspace is rejected without an owner, whose account is then created in the pop-up."""
    page.get_by_role("link", name="Workspaces", exact=True).last.click()
    page.get_by_role("link", name="Add workspace").click()
    page.get_by_label("Name").fill("Acme & Sons")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("Choose an owner.")).to_be_visible()
    expect(page.get_by_label("Slug")).to_have_value("acme-sons")
    with page.expect_popup() as opened:
        page.get_by_title("Add another user").click()
    opened.value.get_by_label("Email").fill("first@example.com")
    opened.value.get_by_label("Name").fill("First")
    for field in opened.value.get_by_label("Password", exact=False).and_(opened.value.locator("[type=password]")).all():
        field.fill("correct horse battery")
    opened.value.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator(".select2-selection")).to_have_text("first@example.com")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("was added successfully")).to_be_visible()

    assert Workspace.objects.get(slug="acme-sons").memberships.get().role == "owner"
    assert console_errors == []


def test_each_scope_is_on_one_line(page: Page) -> None:
    page.goto("/admin/oauth/application/add/")

    lines = page.locator("#id_scopes label").evaluate_all("labels => labels.map((label) => label.offsetHeight)")

    assert len(lines) == 6
    assert max(lines) < 30


BUTTONS = """() => {
  const buttons = [...document.querySelectorAll(".object-tools a, .submit-row input, .submit-row a")];
  return buttons.filter((button) => button.checkVisibility()).map((button) => {
    const { left, right } = button.getBoundingClientRect();
    const red = getComputedStyle(button).backgroundColor === "rgb(186, 33, 33)";
    return { label: button.value || button.textContent.trim(), red, left, right };
  });
}"""


def test_dangerous_buttons_are_red_and_apart_from_the_others(page: Page, acme: Workspace) -> None:
    api_key, owner = make_key(acme)[0], User.objects.get(name="Owner")
    tier = Tier.objects.create(name="unused", requests=9, seconds=9, burst_requests=9, burst_seconds=9)
    User.objects.get(name="Operator").user_permissions.add(Permission.objects.get(codename="delete_tier"))
    dangerous = {
        change_url(acme): ["Suspend", "Revoke all keys"],
        change_url(owner): ["End sessions and tokens"],
        change_url(api_key): ["Revoke"],
        change_url(tier): ["Delete"],
        f"{REVOKE}?key={api_key.pk}": ["Revoke key"],
        reverse("admin:apikeys_apikey_revoke_all", args=[acme.pk]): ["Revoke all keys"],
        action_url(acme, "suspend"): ["Suspend"],
        action_url(owner, "end-access"): ["End sessions and tokens"],
        action_url(acme, "clear-quota"): [],
    }
    for url, labels in dangerous.items():
        page.goto(url)
        buttons: list[dict[str, Any]] = page.evaluate(BUTTONS)
        assert [button["label"] for button in buttons if button["red"]] == labels, url
        for previous, button in pairwise(buttons):
            if button["red"] and not previous["red"]:
                assert button["left"] - previous["right"] > 20, (url, button)
    page.goto(action_url(owner, "password").replace("_5F", "_"))
    page.get_by_label("Disabled").check()
    assert [(item["label"], item["red"]) for item in page.evaluate(BUTTONS)] == [
        ("Disable password-based authentication", True)
    ]


def test_the_chart_of_usage_shows_the_figures_of_one_hour_and_stays_out_of_the_form(
    page: Page, acme: Workspace, console_errors: list[str]
) -> None:
    api_key = make_key(acme, "Nightly import")[0]
    hour = int(timezone.now().timestamp()) // 3600 * 3600
    ApiKeyUsage.objects.add({(api_key.pk, hour): (1200, 30, 0, 0), (api_key.pk, hour - 7200): (7, 0, 0, 0)})
    page.goto(f"{change_url(api_key)}?usage=7d")

    page.get_by_role("link", name="24 hours").click()
    expect(page.get_by_text("1,237 requests in the last 24 hours.")).to_be_visible()
    figures = page.locator(".figures", has_text="7 admitted")
    expect(figures).to_have_css("opacity", "0")
    page.get_by_role("radio").first.focus()
    page.keyboard.press("Space")
    expect(figures).to_have_css("opacity", "1")

    page.get_by_label("Description").fill("Nightly export")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("was changed successfully")).to_be_visible()
    assert ApiKey.objects.get(pk=api_key.pk).description == "Nightly export"
    assert console_errors == []
