from __future__ import annotations

import re
from itertools import count

import pytest
from playwright.sync_api import Page, expect

from tests.helpers import Visit, commits, make_user, make_workspace, with_new_window
from workspaces.models import User, Workspace

pytestmark = [commits, pytest.mark.one_database("how Chromium uses pages whose requests other tests send")]


def sign_in(page: Page, email: str, password: str) -> None:
    page.get_by_label("Email").fill(email)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()


@pytest.mark.parametrize("javascript", [True, False])
def test_a_user_signs_in_by_email_in_any_case_and_is_redirected_to_the_keys(
    visit: Visit, workspace: Workspace, keys_url: str, javascript: bool
) -> None:
    page = visit(java_script_enabled=javascript)
    page.goto("/")

    sign_in(page, "Owner@Example.com", "owner-password")

    expect(page).to_have_url(re.compile(re.escape(keys_url) + "$"))
    expect(page.get_by_role("heading", name="API Keys", exact=True)).to_be_visible()


def test_a_wrong_password_shows_an_error_and_keeps_the_email(visit: Visit, workspace: Workspace) -> None:
    page = visit()
    page.goto("/sign-in/")

    sign_in(page, "admin@example.com", "wrong")

    expect(page.get_by_role("alert")).to_have_text("Incorrect email or password.")
    expect(page.get_by_label("Email")).to_have_value("admin@example.com")


def test_signing_in_redirects_to_the_requested_page(visit: Visit, workspace: Workspace, keys_url: str) -> None:
    page = visit()
    page.goto(f"{keys_url}add/")

    sign_in(page, "admin@example.com", "admin-password")

    expect(page.get_by_role("heading", name="Create an API key")).to_be_visible()


@pytest.mark.parametrize(
    ("name", "next_url"),
    [
        ("first", "https://evil.example/"),
        ("second", "//evil.example"),
        ("third", "/\\evil.example"),
        ("fourth", "javascript:alert(1)"),
    ],
)
def test_next_only_redirects_within_this_site(visit: Visit, db: None, site: str, name: str, next_url: str) -> None:
    make_workspace(make_user(name))
    page = visit()
    page.goto(f"/sign-in/?next={next_url}")

    sign_in(page, f"{name}@example.com", f"{name}-password")

    expect(page.get_by_role("heading", name="API Keys", exact=True)).to_be_visible()
    assert page.url.startswith(site)


def test_signing_in_starts_a_new_session(visit: Visit, workspace: Workspace) -> None:
    page = visit()
    page.goto("/sign-in/")
    planted = "a" * 32
    page.context.add_cookies([{"name": "sessionid", "value": planted, "url": page.url}])

    sign_in(page, "owner@example.com", "owner-password")
    page.wait_for_url("**/api-keys/")

    cookies = {cookie["name"]: cookie for cookie in page.context.cookies()}
    assert cookies["sessionid"]["value"] != planted
    assert cookies["sessionid"]["httpOnly"]


def test_signing_out_ends_the_session_and_the_back_button_shows_nothing(
    visit: Visit, owner: User, workspace: Workspace, keys_url: str
) -> None:
    page = visit(owner)
    page.goto(keys_url)

    page.locator("summary", has_text="Signed in as").click()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    page.go_back()

    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_changing_the_password_keeps_this_browser_and_signs_the_other_out(
    visit: Visit, owner: User, workspace: Workspace, keys_url: str
) -> None:
    first, second = visit(owner), visit(owner)
    second.goto(keys_url)
    first.goto("/settings/password/")

    first.get_by_label("Current password").fill("owner-password")
    first.get_by_label("New password", exact=True).fill("a much better one")
    first.get_by_label("Confirm new password").fill("a much better one")
    first.get_by_role("button", name="Change password").click()

    expect(first.get_by_role("status")).to_contain_text("Password changed. API keys are not affected.")
    second.reload()
    expect(second.get_by_role("heading", name="Sign in")).to_be_visible()
    owner.refresh_from_db()
    assert owner.check_password("a much better one")


def test_too_many_attempts_at_one_account_show_when_to_try_again(visit: Visit, workspace: Workspace) -> None:
    email = with_new_window((f"guessed-{number}@example.com" for number in count()), 5 * 60)
    role = email.partition("@")[0]
    make_user(role)
    page = visit()
    page.goto("/sign-in/")
    for _ in range(10):
        sign_in(page, email, "wrong")
        expect(page.get_by_role("alert")).to_be_visible()

    sign_in(page, email, f"{role}-password")

    expect(page.get_by_role("heading", name="Too many attempts")).to_be_visible()
    expect(page.get_by_text(re.compile(r"Try again in .*, at \d+ \w+ \d{4}"))).to_be_visible()


def test_the_switcher_remembers_the_chosen_workspace(visit: Visit, owner: User, workspace: Workspace) -> None:
    second = make_workspace(owner, slug="beta")
    page = visit(owner)
    page.goto("/")
    expect(page.get_by_role("heading", name="Choose a workspace")).to_be_visible()
    page.get_by_role("main").get_by_role("button", name="Acme").click()
    page.wait_for_url(f"**/w/{workspace.pk}/**")

    page.locator("summary", has_text="Workspace").click()
    page.get_by_role("button", name="Beta").click()

    page.wait_for_url(f"**/w/{second.pk}/**")
    page.goto("/settings/developer/api-keys/")
    page.wait_for_url(f"**/w/{second.pk}/**")


def test_a_user_without_a_workspace_sees_a_message(visit: Visit, outsider: User) -> None:
    page = visit(outsider)
    page.goto("/")

    expect(page.get_by_role("heading", name="No workspace yet")).to_be_visible()
