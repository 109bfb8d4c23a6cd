from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest
from django.contrib.sessions.models import Session
from django.utils import timezone
from playwright.sync_api import expect

from apikeys.models import ApiKey
from tests.helpers import BY_TEST, Visit, commits, make_key
from tests.processes import fetch
from workspaces import quota
from workspaces.models import Actor, User, Via, Workspace

pytestmark = [commits, pytest.mark.one_database("how Chromium uses pages whose requests other tests send")]


def test_the_empty_list_links_to_the_form_for_the_first_key(visit: Visit, owner: User, keys_url: str) -> None:
    page = visit(owner)
    page.goto(keys_url)

    expect(page.get_by_role("heading", name="No keys yet")).to_be_visible()
    page.get_by_role("link", name="Add your first key").click()
    expect(page.get_by_role("heading", name="Create an API key")).to_be_visible()


def test_rows_show_each_keys_details_newest_first(
    visit: Visit, owner: User, admin: User, workspace: Workspace, site: str, keys_url: str
) -> None:
    by_admin = Actor(Via.PAGE, admin)
    soon = timezone.now() + timedelta(days=30, minutes=1)
    _, secret = ApiKey.objects.create_key(workspace, description="CI, production", by=by_admin, expires_at=soon)
    newer, _ = make_key(workspace, "Billing worker, staging")
    fetch(f"{site}/api/v1/me", secret)
    page = visit(owner)
    page.goto(keys_url)

    rows = page.locator("tbody tr")
    expect(rows).to_have_count(2)
    expect(rows.nth(0)).to_contain_text("Billing worker, staging")
    expect(rows.nth(0)).to_contain_text(newer.masked)
    for text in ("CI, production", "by Admin", "just now", "from 127.0.0.1", "in 1 month"):
        expect(rows.nth(1)).to_contain_text(text)
    assert secret not in page.content()


def test_revoked_and_expired_keys_are_shown_by_the_filter(
    visit: Visit, owner: User, workspace: Workspace, keys_url: str
) -> None:
    make_key(workspace, "In use")
    make_key(workspace, "Leaked")[0].revoke(by=BY_TEST)
    expired, _ = make_key(workspace, "Trial", expires_at=timezone.now() + timedelta(days=1))
    ApiKey.objects.filter(pk=expired.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    page = visit(owner)
    page.goto(keys_url)
    rows = page.locator("tbody tr")

    expect(rows).to_contain_text(["In use"])
    page.get_by_role("link", name="Revoked").click()
    expect(rows).to_contain_text(["Leaked"])
    page.get_by_role("link", name="Expired").click()
    expect(rows).to_contain_text(["Trial"])
    page.get_by_role("link", name="All").click()
    expect(rows).to_have_count(3)
    expect(page.get_by_text("1 of 20 active keys")).to_be_visible()


@pytest.mark.parametrize("javascript", [True, False])
@pytest.mark.parametrize("query", ["billing", "BILLING w", "id", "key id", "masked"])
def test_search_finds_keys_by_description_key_id_and_masked_form(
    visit: Visit, owner: User, workspace: Workspace, keys_url: str, query: str, javascript: bool
) -> None:
    wanted, _ = make_key(workspace, "Billing worker, staging")
    make_key(workspace, "CI, production")
    page = visit(owner, java_script_enabled=javascript)
    page.goto(keys_url)

    page.get_by_role("searchbox").fill(
        {"id": wanted.pk, "key id": wanted.current_secret.key_id, "masked": wanted.masked}.get(query, query)
    )
    page.get_by_role("button", name="Find").click()

    expect(page.locator("tbody tr")).to_contain_text(["Billing worker, staging"])


def test_a_search_without_results_shows_a_message_and_escapes_the_query(
    visit: Visit, owner: User, workspace: Workspace, keys_url: str
) -> None:
    make_key(workspace)
    page = visit(owner)
    page.goto(keys_url)

    page.get_by_role("searchbox").fill("<b>100%_\\</b>")
    page.get_by_role("button", name="Find").click()

    expect(page.get_by_text("No keys match “<b>100%_\\</b>”")).to_be_visible()


def test_a_pasted_secret_is_recognised_and_not_stored(
    visit: Visit, owner: User, workspace: Workspace, elsewhere: Workspace, keys_url: str, log: Path
) -> None:
    _, ours = make_key(workspace, "CI, production")
    revoked, leaked = make_key(workspace, "Leaked")
    revoked.revoke(by=BY_TEST)
    _, theirs = make_key(elsewhere, "Not ours")
    page = visit(owner)
    page.goto(keys_url)
    urls = []
    page.on("request", lambda request: urls.append(request.url))

    for secret, message in [
        (ours, "This is the current secret of CI, production"),
        (leaked, "This is the current secret of Leaked"),
        (theirs, "No key in this workspace has this secret."),
        (ours[:-1], "This looks like part of a key."),
        (f"Bearer {ours}"[7:] + " ", "This is the current secret of CI, production"),
    ]:
        page.get_by_role("searchbox").fill(secret)
        page.get_by_role("button", name="Find").click()
        expect(page.get_by_role("status").first).to_contain_text(message)
        expect(page.get_by_role("searchbox")).to_have_value("")

    stored = "".join(urls) + log.read_text() + "".join(str(session.get_decoded()) for session in Session.objects.all())
    assert not [secret for secret in (ours, leaked, theirs) if secret[17:40] in stored]


def test_the_quota_is_shown_and_refreshed(
    visit: Visit, owner: User, workspace: Workspace, secret: str, site: str, keys_url: str
) -> None:
    page = visit(owner)
    page.clock.install()
    page.goto(keys_url)
    tile = page.get_by_label("Quota, shared by all keys")
    expect(tile).to_contain_text("200 of 200 requests left · last 15 minutes")
    expect(tile).to_contain_text("40 of 40 requests left · last minute")

    for _ in range(3):
        fetch(f"{site}/api/v1/me", secret)
    page.clock.run_for(5_000)

    expect(tile).to_contain_text("197 of 200 requests left")
    assert quota.status(workspace.pk, workspace.tier).windows[0].remaining == 197


def test_times_are_relative_with_the_exact_time_in_the_readers_time_zone(
    visit: Visit, owner: User, workspace: Workspace, keys_url: str
) -> None:
    api_key, _ = make_key(workspace)
    ApiKey.objects.filter(pk=api_key.pk).update(created_at="2026-01-02T23:30:00Z")
    with_script = visit(owner, timezone_id="Asia/Tokyo")
    without_script = visit(owner, java_script_enabled=False)

    for page, title in ((with_script, "3 Jan 2026, 08:30 GMT+9"), (without_script, "2 Jan 2026, 23:30 UTC")):
        page.goto(keys_url)
        created = page.locator("td.created time")
        expect(created).to_have_text(re.compile(r"^\d+ (months?|years?) ago$"))
        assert (created.get_attribute("title") or "").replace(" at ", ", ") == title


def test_a_long_list_is_paginated(visit: Visit, owner: User, workspace: Workspace, keys_url: str) -> None:
    for number in range(51):
        make_key(workspace, f"Key {number}")[0].revoke(by=BY_TEST)
    page = visit(owner)
    page.goto(f"{keys_url}?status=revoked")

    expect(page.locator("tbody tr")).to_have_count(50)
    page.get_by_role("link", name="Next", exact=True).click()

    expect(page.locator("tbody tr")).to_contain_text(["Key 0"])
