"""The night's three calls, by hand: a real browser, under the strict Content-Security-Policy."""

import os
import shutil
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from playwright.sync_api import Page, expect, sync_playwright

from apikeys.models import Actor, ApiKey, Via
from tests.admin.conftest import staff_of
from tests.helpers import Api, make_key, make_user, make_workspace
from workspaces.models import Tier, User, Workspace

CHROMIUM = shutil.which("chromium")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
A_MINUTE = 60

pytestmark = [
    pytest.mark.django_db(transaction=True, serialized_rollback=True),
    pytest.mark.skipif(
        CHROMIUM is None and os.environ.get("CI") != "true", reason="needs a browser: apt-get install chromium"
    ),
]


@pytest.fixture
def complaints() -> list[str]:
    """What the browser's console had to say: a blocked script or style among it."""
    return []


@pytest.fixture
def browser(
    live_server: Any, complaints: list[str], monkeypatch: pytest.MonkeyPatch, browser_options: dict[str, Any]
) -> Iterator[Page]:
    """An operator's, signed in by the product's own page."""
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")  # Playwright's loop runs in this thread
    staff_of("operator", "operators")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM or "chromium", args=ARGUMENTS)
        page = chromium.new_page(base_url=live_server.url, **browser_options)
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto("/admin/")
        page.get_by_label("Email").fill("operator@example.com")
        page.get_by_label("Password").fill("operator-password")
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("heading", name="Operators")).to_be_visible()
        yield page
        connection.close()  # under Playwright's loop the test has had one of its own
        chromium.close()


@pytest.fixture
def browser_options() -> dict[str, Any]:
    return {"viewport": {"width": 1280, "height": 900}}


@pytest.fixture
def acme(db: None) -> Workspace:
    return make_workspace(make_user("owner"), admin=make_user("admin"), member=make_user("member"))


def test_a_key_leaked(browser: Page, acme: Workspace, complaints: list[str]) -> None:
    secret = make_key(acme, "Billing worker")[1]
    addresses: list[str] = []
    browser.on("framenavigated", lambda frame: addresses.append(frame.url))
    started = time.monotonic()

    browser.get_by_label("A whole secret").fill(secret)
    browser.get_by_role("button", name="Find").click()
    expect(browser.get_by_label("Description")).to_have_value("Billing worker")
    browser.get_by_role("link", name="Revoke", exact=True).click()
    browser.get_by_label("Reason").fill("Leaked in a public repository")
    browser.get_by_role("button", name="Revoke").click()
    expect(browser.get_by_role("listitem").filter(has_text="Billing worker")).to_contain_text("revoked")

    assert time.monotonic() - started < A_MINUTE
    assert Api(secret).get("/me").status_code == 401
    assert all(secret[17:] not in address for address in addresses)
    assert complaints == []


def test_a_customer_is_throttled(browser: Page, acme: Workspace, complaints: list[str]) -> None:
    Tier.objects.create(name="large", requests=2000, seconds=900, burst_requests=400, burst_seconds=60)
    api = Api(make_key(acme)[1])
    while api.get("/me").status_code == 200:
        pass

    browser.get_by_role("link", name="Workspaces", exact=True).last.click()
    browser.get_by_role("textbox").and_(browser.locator("#searchbar")).fill("acm")
    browser.keyboard.press("Enter")
    browser.get_by_role("link", name="Acme").first.click()
    expect(browser.get_by_text("Throttled")).to_be_visible()
    browser.get_by_label("Tier").select_option("large")
    browser.get_by_role("button", name="Save and continue editing").click()
    expect(browser.get_by_text("360 of 400")).to_be_visible()
    assert api.get("/me").status_code == 200
    browser.get_by_role("link", name="Clear quota").click()
    browser.get_by_role("button", name="Clear the quota").click()

    expect(browser.get_by_text("400 of 400")).to_be_visible()
    assert complaints == []


def test_an_admin_left(browser: Page, acme: Workspace, complaints: list[str]) -> None:
    admin = User.objects.get(name="Admin")
    ApiKey.objects.create_key(acme, description="Made by who left", by=Actor(Via.PAGE, admin))
    make_key(acme, "Made by another")

    browser.get_by_role("link", name="Users", exact=True).click()
    browser.locator("#searchbar").fill("admin@")
    browser.keyboard.press("Enter")
    browser.get_by_role("link", name="admin@example.com").click()
    browser.get_by_role("link", name="Keys they created").click()
    expect(browser.get_by_text("Made by who left")).to_be_visible()
    expect(browser.get_by_text("Made by another")).not_to_be_visible()
    browser.go_back()
    browser.get_by_role("link", name="Acme").click()
    row = browser.get_by_role("row").filter(has_text="admin@example.com")
    row.get_by_role("checkbox").check()
    browser.get_by_role("button", name="Save", exact=True).click()
    expect(browser.get_by_text("was changed successfully")).to_be_visible()

    assert sorted(acme.members.values_list("name", flat=True)) == ["Member", "Owner"]
    assert complaints == []


def test_a_member_is_added_by_looking_them_up(browser: Page, acme: Workspace, complaints: list[str]) -> None:
    """The widgets that run scripts: the inline's "add another" and the autocomplete."""
    make_user("newcomer")

    browser.get_by_role("link", name="Workspaces", exact=True).last.click()
    browser.get_by_role("link", name="Acme").first.click()
    browser.get_by_role("button", name="Add another Membership").click()
    browser.locator(".select2-selection").last.click()
    browser.keyboard.type("newc")
    browser.get_by_role("option", name="newcomer@example.com").click()
    browser.get_by_role("button", name="Save", exact=True).click()
    expect(browser.get_by_text("was changed successfully")).to_be_visible()

    assert acme.members.filter(name="Newcomer").exists()
    assert complaints == []


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("browser_options", [{"color_scheme": "light"}, {"color_scheme": "dark"}])
def test_no_page_is_wider_than_the_screen_or_blocked_by_the_policy(
    browser: Page, acme: Workspace, complaints: list[str], width: int, tmp_path: Any
) -> None:
    api_key = make_key(acme, "Billing worker")[0]
    browser.set_viewport_size({"width": width, "height": 900})
    for address in ("", "apikeys/apikey/find/?unknown=1", f"apikeys/apikey/revoke/?key={api_key.pk}"):
        browser.goto(f"/admin/{address}")
        browser.screenshot(path=tmp_path / f"{address.partition('?')[0].replace('/', '-')}.png", full_page=True)
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert complaints == []
