from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from django.contrib.sessions.models import Session
from playwright.sync_api import Page, expect

from apikeys import keys
from apikeys.models import ApiKey, StoredSecret
from tests.helpers import BY_TEST, Visit, commits, lift_quota
from tests.processes import fetch, wait_until
from workspaces.models import User, Workspace

pytestmark = [commits, pytest.mark.one_database("how Chromium uses pages whose requests other tests send")]

DAY = timedelta(days=1)


def open_form(page: Page, key_url: str, javascript: bool = True) -> None:
    page.goto(key_url)
    page.get_by_role("link", name="Rotate", exact=True).click()
    expect(page.get_by_role("heading", name="Rotate this key?")).to_be_visible()
    expect(page.get_by_role("dialog")).to_have_count(1 if javascript else 0)


def rotate(page: Page, key_url: str, javascript: bool = True) -> str:
    """Rotate the key, and return the new secret that the page shows."""
    open_form(page, key_url, javascript)
    page.get_by_role("button", name="Rotate key").click()
    expect(page.get_by_role("heading", name="Save your new API key")).to_be_visible()
    secret = page.locator("#secret").text_content() or ""
    page.wait_for_load_state()  # by then, the script has replaced the history entry of the submitted form
    assert keys.parse(secret)
    return secret


def assert_shown_nowhere(page: Page, secret: str) -> None:
    page.wait_for_load_state()
    assert secret not in page.content()
    assert secret not in page.url


def secrets_of(api_key: ApiKey) -> int:
    return api_key.secrets.count()


@pytest.mark.parametrize("javascript", [True, False])
def test_a_rotated_key_has_two_secrets_until_the_old_one_is_ended(
    visit: Visit, owner: User, api_key: ApiKey, secret: str, site: str, key_url: str, javascript: bool
) -> None:
    old = api_key.masked
    page = visit(owner, java_script_enabled=javascript)
    new = rotate(page, key_url, javascript)
    expect(page.get_by_text(f"The old secret {old} works until")).to_be_visible()
    page.get_by_role("link", name="Done, I've saved it").click()
    page.wait_for_url(f"**{key_url}")

    notice = page.get_by_role("region", name="Old secret")
    expect(notice).to_contain_text(f"Old secret {old} works until")
    expect(notice).to_contain_text("The new secret has not been used yet.")
    assert [fetch(f"{site}/api/v1/me", value)[0] for value in (secret, new)] == [200, 200]
    page.reload()
    expect(notice).to_contain_text("last used just now from 127.0.0.1")
    expect(notice).to_contain_text("Safe to end.")

    page.get_by_role("link", name="End now").click()
    confirmation = page.get_by_role("dialog") if javascript else page.get_by_role("main")
    expect(confirmation).to_contain_text("Requests with this secret will fail immediately.")
    expect(confirmation).to_contain_text("last used just now from 127.0.0.1")
    confirmation.get_by_role("button", name="End old secret").click()

    expect(page.get_by_role("status")).to_have_text("Old secret ended.")
    expect(notice).to_have_count(0)
    expect(page.get_by_role("listitem").filter(has_text=f"Old secret {old} ended")).to_contain_text("by Owner")
    assert [fetch(f"{site}/api/v1/me", value)[0] for value in (secret, new)] == [401, 200]


@pytest.mark.parametrize("javascript", [True, False])
def test_rotating_with_now_ends_the_old_secret_at_once(
    visit: Visit, owner: User, api_key: ApiKey, secret: str, site: str, key_url: str, javascript: bool
) -> None:
    page = visit(owner, java_script_enabled=javascript)
    open_form(page, key_url, javascript)
    page.get_by_label("Now. Services that use it fail immediately.").check()

    page.get_by_role("button", name="Rotate key").click()

    expect(page.get_by_text("The old secret no longer works.")).to_be_visible()
    assert fetch(f"{site}/api/v1/me", secret)[0] == 401


@pytest.mark.parametrize("javascript", [True, False])
def test_reload_back_and_forward_rotate_once_and_show_no_secret(
    visit: Visit, owner: User, api_key: ApiKey, key_url: str, javascript: bool
) -> None:
    page = visit(owner, java_script_enabled=javascript)
    secret = rotate(page, key_url, javascript)

    page.reload()
    assert_shown_nowhere(page, secret)
    if not javascript:
        expect(page.get_by_role("status").last).to_contain_text("the key was rotated only once")
    page.go_back()
    assert_shown_nowhere(page, secret)
    page.go_forward()
    assert_shown_nowhere(page, secret)

    assert secrets_of(api_key) == 2


def test_going_back_from_another_page_shows_no_secret(visit: Visit, owner: User, api_key: ApiKey, key_url: str) -> None:
    page = visit(owner)
    secret = rotate(page, key_url)

    page.goto("/settings/password/")
    page.go_back()

    assert_shown_nowhere(page, secret)
    assert secrets_of(api_key) == 2


def test_a_double_click_rotates_once_and_shows_the_secret(
    visit: Visit, owner: User, api_key: ApiKey, key_url: str
) -> None:
    page = visit(owner)
    open_form(page, key_url)

    page.get_by_role("button", name="Rotate key").dblclick()

    expect(page.locator("#secret")).to_be_visible()
    assert secrets_of(api_key) == 2


def test_the_same_form_sent_twice_without_javascript_rotates_once(
    visit: Visit, owner: User, api_key: ApiKey, key_url: str
) -> None:
    page = visit(owner, java_script_enabled=False)
    page.goto(f"{key_url}rotate/")
    fields = dict(page.locator("form[data-submit-once]").evaluate("form => [...new FormData(form)]"))

    first, second = (page.context.request.post(page.url, form=fields, headers={"Referer": page.url}) for _ in range(2))

    assert "Save your new API key" in first.text()
    assert "the key was rotated only once" in second.text()
    assert secrets_of(api_key) == 2


@pytest.mark.parametrize("javascript", [True, False])
def test_of_two_tabs_only_the_first_rotates_and_the_other_explains_why(
    visit: Visit, owner: User, admin: User, api_key: ApiKey, secret: str, site: str, key_url: str, javascript: bool
) -> None:
    tabs = [visit(user, java_script_enabled=javascript) for user in (owner, admin)]
    for tab in tabs:
        open_form(tab, key_url, javascript)
    tabs[0].get_by_role("button", name="Rotate key").click()
    new = tabs[0].locator("#secret").text_content() or ""

    tabs[1].get_by_role("button", name="Rotate key").click()

    expect(tabs[1].get_by_role("alert")).to_contain_text("This key was rotated in the meantime")
    expect(tabs[1].get_by_role("main")).to_contain_text("Rotating ends it immediately.")
    assert secrets_of(api_key) == 2
    assert [fetch(f"{site}/api/v1/me", value)[0] for value in (secret, new)] == [200, 200]
    tabs[1].get_by_role("button", name="Rotate key").click()  # now deliberately
    expect(tabs[1].locator("#secret")).to_be_visible()
    assert [fetch(f"{site}/api/v1/me", value)[0] for value in (secret, new)] == [401, 200]


@pytest.mark.parametrize("javascript", [True, False])
def test_an_open_confirmation_does_not_end_a_secret_that_a_colleague_replaced_since(
    visit: Visit, owner: User, api_key: ApiKey, site: str, key_url: str, javascript: bool
) -> None:
    first = api_key.masked
    second = api_key.rotate(overlap=DAY, by=BY_TEST)
    page = visit(owner, java_script_enabled=javascript)
    page.goto(key_url)
    page.get_by_role("link", name="End now").click()
    api_key.rotate(overlap=DAY, by=BY_TEST)

    page.get_by_role("button", name="End old secret").click()

    expect(page.get_by_role("status")).to_contain_text(f"Nothing was ended: {first} is not an old secret")
    assert fetch(f"{site}/api/v1/me", second)[0] == 200


def test_the_notice_goes_quiet_while_the_page_is_open(
    visit: Visit, owner: User, api_key: ApiKey, secret: str, site: str, key_url: str
) -> None:
    fetch(f"{site}/api/v1/me", secret)
    new = api_key.rotate(overlap=DAY, by=BY_TEST)
    page = visit(owner)
    page.clock.install()
    page.goto(key_url)
    notice = page.get_by_role("region", name="Old secret")
    expect(notice).to_contain_text("The new secret has not been used yet.")

    fetch(f"{site}/api/v1/me", new)
    page.clock.run_for(5_000)
    expect(notice).to_contain_text("Safe to end.")
    fetch(f"{site}/api/v1/me", secret)
    page.clock.run_for(5_000)

    expect(notice).to_contain_text("It was still used after the new secret's first use.")


def test_the_list_shows_the_old_secret_and_leads_to_the_confirmation(
    visit: Visit, owner: User, api_key: ApiKey, keys_url: str
) -> None:
    old = api_key.masked
    api_key.rotate(overlap=DAY, by=BY_TEST)
    page = visit(owner, viewport={"width": 390, "height": 844})
    page.goto(keys_url)
    expect(page.get_by_role("table")).to_contain_text(f"Old secret {old} works until")

    page.get_by_role("link", name="End now for CI, production").click()

    expect(page.get_by_role("heading", name="End the old secret?")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_end_of_each_overlap_is_shown_in_the_readers_time_zone(
    visit: Visit, owner: User, api_key: ApiKey, key_url: str
) -> None:
    page = visit(owner, timezone_id="Asia/Tokyo")
    open_form(page, key_url)

    for label in ("In 1 hour", "In 24 hours", "In 7 days"):
        expect(page.locator("label").filter(has_text=label)).to_contain_text("GMT+9")
    expect(page.get_by_role("dialog").get_by_label("In 24 hours")).to_be_checked()


def test_a_key_can_be_rotated_and_its_old_secret_ended_by_keyboard(
    visit: Visit, owner: User, api_key: ApiKey, key_url: str
) -> None:
    page = visit(owner)
    page.goto(key_url)

    def tab_to(text: str) -> None:
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.textContent.trim() || document.activeElement.name") == text:
                return
        raise AssertionError(f"Tab does not reach {text}")

    tab_to("Rotate")
    page.keyboard.press("Enter")
    tab_to("overlap")
    page.keyboard.press("ArrowUp")
    expect(page.get_by_label("In 1 hour")).to_be_checked()
    tab_to("Rotate key")
    page.keyboard.press("Enter")
    expect(page.locator("#secret")).to_be_visible()
    tab_to("Done, I've saved it")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**{key_url}")
    expect(page.get_by_role("region", name="Old secret")).to_be_visible()
    tab_to("End now")
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    expect(page.get_by_role("link", name="End now")).to_be_focused()
    page.keyboard.press("Enter")
    tab_to("End old secret")
    page.keyboard.press("Enter")

    expect(page.get_by_role("status")).to_have_text("Old secret ended.")
    assert ApiKey.objects.get().previous_secret is None


def test_the_new_secret_is_in_no_cookie_session_log_or_cache(
    visit: Visit, owner: User, api_key: ApiKey, key_url: str, log: Path
) -> None:
    page = visit(owner)
    with page.expect_response(lambda response: response.request.method == "POST") as rotated:
        secret = rotate(page, key_url)

    assert rotated.value.headers["cache-control"] == "no-store"
    cookies = " ".join(f"{cookie['name']}={cookie['value']}" for cookie in page.context.cookies())
    sessions = " ".join(str(session.get_decoded()) for session in Session.objects.all())
    stored = page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, history.state])")
    assert secret[17:40] not in cookies + sessions + stored + log.read_text()


class Script:
    """A program that sends requests with the secret in `secret` until it is stopped."""

    def __init__(self, url: str, secret: str) -> None:
        self.url, self.secret = url, secret
        self.statuses: list[tuple[str, int]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._stop.wait(0.2):
            secret = self.secret
            self.statuses.append((secret, fetch(self.url, secret)[0]))

    def requests_with(self, secret: str) -> int:
        return sum(used == secret for used, _ in self.statuses)

    @contextmanager
    def running(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._thread.join()


def test_a_running_script_sees_no_failed_request_while_its_key_is_rotated(
    visit: Visit, owner: User, workspace: Workspace, api_key: ApiKey, secret: str, site: str, key_url: str
) -> None:
    lift_quota(workspace)
    script = Script(f"{site}/api/v1/workspaces/current/tasks", secret)
    page = visit(owner)
    with script.running():
        wait_until(lambda: script.requests_with(secret) >= 3)
        new = rotate(page, key_url)
        page.get_by_role("link", name="Done, I've saved it").click()
        notice = page.get_by_role("region", name="Old secret")
        expect(notice).to_contain_text("The new secret has not been used yet.")
        seen = script.requests_with(secret)
        wait_until(lambda: script.requests_with(secret) >= seen + 3)

        script.secret = new
        expect(notice).to_contain_text("Safe to end.")  # without a reload
        notice.get_by_role("link", name="End now").click()
        page.get_by_role("button", name="End old secret").click()
        expect(page.get_by_role("status")).to_have_text("Old secret ended.")
        seen = script.requests_with(new)
        wait_until(lambda: script.requests_with(new) >= seen + 3)

    assert {status for _, status in script.statuses} == {200}
    assert fetch(script.url, secret)[0] == 401
    ended = StoredSecret.objects.get(pk=keys.parse(secret))
    assert ended.has_ended
