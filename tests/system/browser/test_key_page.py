from __future__ import annotations

import pytest
from playwright.sync_api import expect

from apikeys.models import ApiKey
from tests.helpers import Visit, commits, make_key
from tests.processes import fetch
from workspaces.models import AuditEvent, User, Workspace

pytestmark = [commits, pytest.mark.one_database("how Chromium uses pages whose requests other tests send")]


@pytest.mark.parametrize("javascript", [True, False])
def test_revoking_shows_the_consequences_and_applies_from_the_next_request(
    visit: Visit, owner: User, api_key: ApiKey, secret: str, site: str, keys_url: str, javascript: bool
) -> None:
    assert fetch(f"{site}/api/v1/me", secret)[0] == 200
    page = visit(owner, java_script_enabled=javascript)
    page.goto(keys_url)
    page.get_by_role("link", name=api_key.description).first.click()
    expect(page.get_by_role("heading", name=api_key.description, exact=True)).to_be_visible()
    page.wait_for_load_state()

    page.get_by_role("link", name="Revoke", exact=True).click()
    confirmation = page.get_by_role("dialog") if javascript else page.get_by_role("main")
    expect(confirmation).to_contain_text("Requests with this key will fail immediately. Other keys keep working.")
    expect(confirmation).to_contain_text("It was last used just now from 127.0.0.1")
    confirmation.get_by_label("Type the description to confirm").fill(api_key.description)
    confirmation.get_by_label("Reason (optional)").fill("Leaked in a log")
    confirmation.get_by_role("button", name="Revoke key").click()

    expect(page.get_by_role("status")).to_have_text("Key revoked.")
    expect(page.get_by_text("Requests with this key fail.")).to_be_visible()
    expect(page.get_by_text("Leaked in a log").first).to_be_visible()
    assert fetch(f"{site}/api/v1/me", secret)[0] == 401
    page.goto(f"{keys_url}{api_key.pk}/")
    expect(page.get_by_role("heading", name=api_key.description, exact=True)).to_be_visible()
    expect(page.get_by_role("link", name="Revoke", exact=True)).to_have_count(0)


def test_cancelling_changes_nothing_and_restores_the_focus(
    visit: Visit, owner: User, api_key: ApiKey, keys_url: str
) -> None:
    page = visit(owner)
    page.goto(f"{keys_url}{api_key.pk}/")
    revoke = page.get_by_role("link", name="Revoke", exact=True)

    revoke.click()
    page.get_by_role("link", name="Cancel").click()
    expect(revoke).to_be_focused()
    revoke.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")

    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(revoke).to_be_focused()
    api_key.refresh_from_db()
    assert api_key.status == "active"


def test_renaming_is_in_the_history_with_the_user_and_the_client_ip(
    visit: Visit, admin: User, api_key: ApiKey, keys_url: str
) -> None:
    page = visit(admin)
    page.goto(f"{keys_url}{api_key.pk}/")

    page.locator("details.edit summary").click()
    page.get_by_label("Description").fill("  CI, staging ")
    page.get_by_role("button", name="Rename key").click()

    expect(page.get_by_role("status")).to_have_text("Key renamed.")
    expect(page.get_by_role("heading", name="CI, staging", exact=True)).to_be_focused()
    event = page.get_by_role("listitem").filter(has_text="Renamed from “CI, production” to “CI, staging”")
    expect(event).to_contain_text("by Admin from 127.0.0.1")
    assert AuditEvent.objects.filter(subject=api_key.pk, action="api_key.renamed", actor=admin).count() == 1


def test_an_invalid_description_gets_an_error_next_to_its_field_and_is_kept(
    visit: Visit, owner: User, api_key: ApiKey, keys_url: str
) -> None:
    page = visit(owner)
    page.goto(f"{keys_url}{api_key.pk}/")
    page.locator("details.edit summary").click()
    page.get_by_label("Description").fill("right-to-left \u202e override")

    page.get_by_role("button", name="Rename key").click()

    expect(page.get_by_role("alert")).to_have_text("Remove line breaks and control characters.")
    expect(page).to_have_title("Error: CI, production · One Horizon")
    expect(page.get_by_label("Description")).to_be_focused()
    expect(page.get_by_label("Description")).to_have_value("right-to-left \u202e override")
    api_key.refresh_from_db()
    assert api_key.description == "CI, production"


def test_revoking_twice_in_two_tabs_records_one_revocation(
    visit: Visit, owner: User, admin: User, api_key: ApiKey, keys_url: str
) -> None:
    pages = [visit(owner), visit(admin)]
    for page in pages:
        page.goto(f"{keys_url}{api_key.pk}/revoke/")

    for page in pages:
        page.get_by_role("button", name="Revoke key").click()
        expect(page.get_by_text("by Owner").first).to_be_visible()

    assert AuditEvent.objects.filter(subject=api_key.pk, action="api_key.revoked").count() == 1


@pytest.mark.parametrize("path", ["", "rotate/", "previous-secret/", "end-previous-secret/", "revoke/"])
def test_a_key_of_another_workspace_is_not_found(
    visit: Visit, owner: User, elsewhere: Workspace, workspace: Workspace, keys_url: str, path: str
) -> None:
    other_key, _ = make_key(elsewhere)
    page = visit(owner)

    for url in (f"{keys_url}{other_key.pk}/{path}", f"{keys_url}key_{'0' * 26}/{path}", f"{keys_url}nonsense/{path}"):
        response = page.goto(url)
        assert response is not None
        assert response.status == 404
        expect(page.get_by_role("heading", name="Not found")).to_be_visible()
