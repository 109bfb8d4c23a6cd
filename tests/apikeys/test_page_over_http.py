"""The pages over HTTP: redirects and statuses. tests/system/browser covers them in a browser."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta
from html import unescape
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from time_machine import TimeMachineFixture

from apikeys import keys
from apikeys.models import ApiKey
from tests.helpers import BY_TEST, html_of, make_key, make_workspace
from workspaces.models import Action, AuditEvent, User, Workspace

IDEMPOTENCY_KEY = "0" * 32
NEW = {"description": "CI, production", "expiry": "never", "idempotency_key": IDEMPOTENCY_KEY}


def test_the_short_url_redirects_to_the_only_workspace(owner_client: Client, keys_url: str) -> None:
    assert owner_client.get("/settings/developer/api-keys/")["Location"] == keys_url


def test_the_short_url_redirects_to_the_workspace_list_if_none_was_chosen(
    owner_client: Client, owner: User, keys_url: str
) -> None:
    beta = make_workspace(owner, slug="beta")

    assert owner_client.get("/settings/developer/api-keys/")["Location"] == "/workspaces/"
    owner_client.post("/workspaces/choose/", {"workspace": beta.pk})
    assert owner_client.get("/settings/developer/api-keys/")["Location"] == f"/w/{beta.pk}/settings/developer/api-keys/"


def test_a_workspace_can_not_be_chosen_without_being_a_member(
    owner_client: Client, elsewhere: Workspace, keys_url: str
) -> None:
    assert owner_client.post("/workspaces/choose/", {"workspace": elsewhere.pk}).status_code == 404


def test_only_the_page_that_shows_the_secret_is_never_translated(owner_client: Client, keys_url: str) -> None:
    """A browser's translation sends the text of a page to another server."""
    shown = owner_client.post(f"{keys_url}add/", NEW).content.decode()

    assert "Save your API key" in shown
    assert '<html lang="en" translate="no">' in shown
    assert '<html lang="en">' in owner_client.get(keys_url).content.decode()


def test_masked_keys_and_code_are_never_translated(owner_client: Client, api_key: ApiKey, keys_url: str) -> None:
    masked = f'<code translate="no">{api_key.masked}</code>'

    for url in (
        keys_url,
        f"{keys_url}{api_key.pk}/",
        f"{keys_url}{api_key.pk}/revoke/",
        f"{keys_url}{api_key.pk}/rotate/",
    ):
        assert masked in owner_client.get(url).content.decode(), url
    guide = owner_client.get("/docs/api-keys/").content.decode()
    assert not re.search(r'<pre(?![^>]* translate="no")|(?<!translate="no">)<code>', guide)


def test_an_anonymous_user_is_redirected_to_the_sign_in_page(client: Client, keys_url: str) -> None:
    assert client.get(keys_url)["Location"] == f"/sign-in/?next={keys_url}"


def test_a_member_gets_403_for_every_form(member: User, api_key: ApiKey, keys_url: str) -> None:
    client = Client()
    client.force_login(member)

    responses = [client.post(f"{keys_url}add/", NEW), client.post(f"{keys_url}{api_key.pk}/revoke/")]

    assert [response.status_code for response in responses] == [403, 403]
    assert [key.status for key in ApiKey.objects.all()] == ["active"]


@pytest.mark.usefixtures("_frozen_clock")
@pytest.mark.parametrize(
    ("expiry", "days"), [({"expiry": "never"}, None), ({"expiry": "30"}, 30), ({"expiry": "date"}, 10)]
)
def test_a_key_is_created_with_the_chosen_expiry(
    owner_client: Client, workspace: Workspace, keys_url: str, expiry: dict[str, str], days: int | None
) -> None:
    day = (timezone.now() + timedelta(days=10)).date()
    date = {"expires_on": day.isoformat()} if expiry["expiry"] == "date" else {}

    response = owner_client.post(f"{keys_url}add/", NEW | expiry | date)

    expires_at = workspace.api_keys.get().expires_at
    assert response.status_code == 200
    assert "Save your API key" in response.content.decode()
    day = (timezone.now() + timedelta(days=days or 0)).date()
    assert expires_at == (datetime.combine(day, time.max, tzinfo=UTC) if days else None)


@pytest.mark.parametrize(
    ("now", "day", "expires_at"),
    [
        # Tomorrow in Los Angeles, where it is 8 p.m. on 25 November.
        ("2026-11-26T04:00Z", "2026-11-26", "2026-11-26T23:59:59.999999Z"),
        ("2026-11-26T23:59:59.5Z", "2026-11-26", "2026-11-26T23:59:59.999999Z"),
        # Today in Auckland, where it is 8 a.m. on 27 November.
        ("2026-11-26T19:00Z", "2026-11-27", "2026-11-27T23:59:59.999999Z"),
        ("2026-11-26T00:00Z", "2026-11-25", None),
        ("2026-11-26T23:59:59.999999Z", "2026-11-26", None),  # the day ends before the key is created
    ],
)
def test_a_date_counts_to_the_end_of_that_day_in_utc(
    workspace: Workspace,
    owner_client: Client,
    keys_url: str,
    now: str,
    day: str,
    expires_at: str | None,
    time_machine: TimeMachineFixture,
) -> None:
    time_machine.move_to(datetime.fromisoformat(now), tick=False)
    assert f'min="{now[:10]}"' in owner_client.get(f"{keys_url}add/").content.decode()

    response = owner_client.post(f"{keys_url}add/", NEW | {"expiry": "date", "expires_on": day})

    created = workspace.api_keys.first()
    assert response.status_code == 200
    assert (created.expires_at if created else None) == (datetime.fromisoformat(expires_at) if expires_at else None)
    assert ("This day is over in UTC. Choose a later day." in response.content.decode()) == (expires_at is None)


def test_the_labels_of_the_form_name_the_last_day(
    owner_client: Client, keys_url: str, workspace: Workspace, time_machine: TimeMachineFixture
) -> None:
    time_machine.move_to(datetime(2026, 11, 26, 4, tzinfo=UTC), tick=False)

    page = owner_client.get(f"{keys_url}add/").content.decode()

    assert "30 days, until 26 December 2026" in page
    assert "The key expires at the end of the day (UTC)." in page


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"expiry": "date", "expires_on": ""}, "Choose the last day"),
        ({"expiry": "date", "expires_on": "2020-01-01"}, "This day is over in UTC. Choose a later day."),
        ({"expiry": "date", "expires_on": "soon"}, "Enter a date such as"),
        ({"expiry": "sometimes"}, "Select a valid choice."),
        ({"description": " "}, "Enter a description"),
        ({"description": "a\u202eb"}, "Remove line breaks and control characters."),
    ],
)
def test_an_invalid_form_shows_its_error_and_creates_nothing(
    owner_client: Client, workspace: Workspace, keys_url: str, changes: dict[str, str], error: str
) -> None:
    response = owner_client.post(f"{keys_url}add/", NEW | changes)

    assert error in response.content.decode()
    assert not workspace.api_keys.exists()


@pytest.mark.parametrize("date", ["2999-12-31", "2020-01-01", "soon"])
def test_a_date_that_is_not_chosen_is_not_ignored(
    owner_client: Client, workspace: Workspace, keys_url: str, date: str
) -> None:
    response = owner_client.post(f"{keys_url}add/", NEW | {"expires_on": date})

    errors = re.findall(r'<p class="error"[^>]*>(.*?)</p>', response.content.decode())
    assert errors == ["Choose “Custom date” to use this date, or clear it."]
    assert f'value="{date}"' in response.content.decode()
    assert not workspace.api_keys.exists()


def test_submitting_a_form_twice_redirects_to_the_key_it_created(
    owner_client: Client, workspace: Workspace, keys_url: str
) -> None:
    owner_client.post(f"{keys_url}add/", NEW)

    response = owner_client.post(f"{keys_url}add/", NEW)

    assert response["Location"] == f"{keys_url}{workspace.api_keys.get().pk}/?duplicate=1"


def test_the_form_shows_an_error_at_the_key_limit(
    owner_client: Client, api_key: ApiKey, keys_url: str, settings: Any
) -> None:
    settings.APIKEYS_MAX_ACTIVE = 1

    response = owner_client.post(f"{keys_url}add/", NEW)

    assert "revoke one first" in response.content.decode()
    assert ApiKey.objects.count() == 1


def test_the_quota_is_served_as_a_fragment(owner_client: Client, keys_url: str) -> None:
    fragment = owner_client.get(f"{keys_url}quota/").content.decode()

    assert "<strong>200 of 200</strong> requests left · last 15 minutes" in fragment
    assert "<html" not in fragment


def test_a_search_redirects_to_the_list_and_never_with_a_secret_in_the_url(
    owner_client: Client, api_key: ApiKey, secret: str, keys_url: str
) -> None:
    key_id = api_key.current_secret.key_id
    assert owner_client.post(f"{keys_url}find/", {"text": secret})["Location"] == f"{keys_url}?secret={key_id}"
    other = keys.generate().secret
    for text, found in [
        (f'ONE_API_KEY="{secret}"', key_id),
        (f" export ONE_API_KEY={secret}\ncurl", key_id),
        (f"Authorization: Bearer {secret}", key_id),
        (other, "unknown"),
        (secret[:-7] + other[-7:], "unknown"),
        (secret[:-1], "incomplete"),
        (secret[20:], "incomplete"),
    ]:
        assert owner_client.post(f"{keys_url}find/", {"text": text})["Location"] == f"{keys_url}?secret={found}"
    assert "This looks like part of a key." in owner_client.get(f"{keys_url}?secret=incomplete").content.decode()
    assert owner_client.post(f"{keys_url}find/", {"text": api_key.pk})["Location"] == f"{keys_url}?q={api_key.pk}"


def test_a_key_is_renamed_and_its_history_shows_it(owner_client: Client, api_key: ApiKey, key_url: str) -> None:
    assert owner_client.post(f"{key_url}rename/", {"description": "CI, staging"})["Location"] == key_url

    assert "Renamed from “CI, production” to “CI, staging”" in owner_client.get(key_url).content.decode()


def test_an_invalid_description_shows_an_error_on_the_keys_page(
    owner_client: Client, api_key: ApiKey, key_url: str
) -> None:
    assert "Enter a description" in owner_client.post(f"{key_url}rename/", {"description": ""}).content.decode()


def test_text_that_is_too_long_shows_one_error(
    owner_client: Client, workspace: Workspace, api_key: ApiKey, keys_url: str, key_url: str
) -> None:
    added = owner_client.post(f"{keys_url}add/", NEW | {"description": "x" * 101})
    renamed = owner_client.post(f"{key_url}rename/", {"description": "x" * 101})
    revoked = owner_client.post(f"{key_url}revoke/", {"reason": "x" * 201})

    for response in (added, renamed):
        assert response.content.decode().count("Ensure this value has at most 100 characters (it has 101).") == 1
    assert revoked.content.decode().count("Ensure this value has at most 200 characters (it has 201).") == 1
    assert [(key.description, key.status) for key in workspace.api_keys.all()] == [("CI, production", "active")]


@pytest.mark.parametrize(
    ("path", "form", "message"),
    [("rename/", {"description": "CI, staging"}, "Key renamed."), ("revoke/", {"reason": "Leaked"}, "Key revoked.")],
)
def test_a_change_is_confirmed_once(
    owner_client: Client, key_url: str, path: str, form: dict[str, str], message: str
) -> None:
    confirmation = f'<p class="notice notice-success" role="status">{message}</p>'

    changed = owner_client.post(f"{key_url}{path}", form, follow=True)
    reloaded = owner_client.get(key_url)
    repeated = owner_client.post(f"{key_url}{path}", form, follow=True)

    assert changed.redirect_chain == [(key_url, 302)]
    assert [response.content.decode().count(confirmation) for response in (changed, reloaded, repeated)] == [1, 0, 0]


def test_an_invalid_form_on_the_keys_page_confirms_nothing(owner_client: Client, key_url: str) -> None:
    for path, form in (("rename/", {"description": ""}), ("revoke/", {"reason": "a\nb"})):
        assert "notice-success" not in owner_client.post(f"{key_url}{path}", form).content.decode()
    assert "notice-success" not in owner_client.get(key_url).content.decode()


@pytest.mark.parametrize("key_id", ["nonsense", f"key_{'0' * 26}"])
def test_an_unknown_key_is_404(owner_client: Client, keys_url: str, key_id: str) -> None:
    assert owner_client.get(f"{keys_url}{key_id}/").status_code == 404


def test_the_sentence_of_an_event_without_details_is_its_action(api_key: ApiKey) -> None:
    api_key.record(Action.API_KEY_REVOKED, BY_TEST)

    assert AuditEvent.objects.get(action="api_key.revoked").sentence == "api_key.revoked"


# ---- the history ----


def add_events(api_key: ApiKey, count: int) -> list[str]:
    """Add renamings to the history of the key, and return the numbers in their descriptions, newest first."""
    AuditEvent.objects.bulk_create(
        AuditEvent(
            action=Action.API_KEY_RENAMED,
            workspace_id=api_key.workspace_id,
            subject=api_key.pk,
            details={"before": "CI", "after": f"Number {number:03}"},
        )
        for number in range(count)
    )
    return [f"{number:03}" for number in range(count)][::-1]


def history_of(page: str) -> list[str]:
    return re.findall(r"<li><p>.*?(?:Number |Created as “)([^”]+)”", page)


def links_of(page: str) -> dict[str, str]:
    """Return the URLs of the links between the pages of the history by their text."""
    return {text: unescape(url) for url, text in re.findall(r'<a [^>]*href="([^"]*)">(Newest|Older)</a>', page)}


def test_the_history_of_a_key_has_pages_of_fifty_events(owner_client: Client, api_key: ApiKey, key_url: str) -> None:
    numbers = add_events(api_key, 119)

    newest = owner_client.get(key_url).content.decode()
    older = owner_client.get(links_of(newest)["Older"]).content.decode()
    oldest = owner_client.get(links_of(older)["Older"]).content.decode()

    assert [history_of(page) for page in (newest, older, oldest)] == [
        numbers[:50],
        numbers[50:100],
        [*numbers[100:], "CI, production"],
    ]
    assert [set(links_of(page)) for page in (newest, older, oldest)] == [{"Older"}, {"Newest", "Older"}, {"Newest"}]
    assert history_of(owner_client.get(links_of(oldest)["Newest"]).content.decode()) == numbers[:50]


def test_a_history_of_fifty_events_has_one_page(owner_client: Client, api_key: ApiKey, key_url: str) -> None:
    add_events(api_key, 49)

    page = owner_client.get(key_url).content.decode()

    assert len(history_of(page)) == 50
    assert not links_of(page)


@pytest.mark.parametrize("cursor", ["", "1", "key_00000000000000000000000000", "evt_%00", "%FF", "x" * 5000])
def test_a_malformed_cursor_shows_the_newest_events(
    cursor: str, owner_client: Client, api_key: ApiKey, key_url: str
) -> None:
    response = owner_client.get(f"{key_url}?before={cursor}")

    assert response.status_code == 200
    assert history_of(response.content.decode()) == ["CI, production"]


def test_a_cursor_of_another_key_shows_none_of_its_events(
    owner_client: Client, api_key: ApiKey, workspace: Workspace, key_url: str
) -> None:
    other = make_key(workspace, "Other")[0]
    cursor = other.audit_events.get().pk

    assert history_of(owner_client.get(f"{key_url}?before={cursor}").content.decode()) == ["CI, production"]


def test_the_confirmation_page_reads_no_history(owner_client: Client, key_url: str) -> None:
    with CaptureQueriesContext(connection) as captured:
        assert owner_client.get(f"{key_url}revoke/").status_code == 200

    assert not [query for query in captured if "auditevent" in query["sql"]]


def test_a_description_can_not_contain_a_key(owner_client: Client, secret: str, keys_url: str, key_url: str) -> None:
    """The sweep after each test fails if a page shows the key again."""
    for response in (
        owner_client.post(f"{keys_url}add/", NEW | {"description": secret}),
        owner_client.post(f"{key_url}rename/", {"description": secret}),
    ):
        assert "put a key in the description; it isn" in response.content.decode()
    assert ApiKey.objects.get().description == "CI, production"


def test_a_key_in_the_url_of_the_list_is_not_shown(owner_client: Client, secret: str, keys_url: str) -> None:
    assert secret not in owner_client.get(keys_url, {"q": secret}).content.decode()


@pytest.mark.usefixtures("_frozen_clock")
def test_renaming_is_rate_limited(owner_client: Client, key_url: str) -> None:
    responses = [owner_client.post(f"{key_url}rename/", {"description": f"Key {number}"}) for number in range(121)]

    assert [response.status_code for response in responses[-2:]] == [302, 429]


def test_the_tabs_count_up_to_a_thousand_keys(owner_client: Client, workspace: Workspace, keys_url: str) -> None:
    make_key(workspace)
    revoked = ApiKey.objects.bulk_create(ApiKey(workspace=workspace, revoked_at=timezone.now()) for _ in range(1000))

    def tabs() -> list[str]:
        return re.findall(r"<a [^>]*>(\w+ <small>.*?)</small>", html_of(owner_client.get(keys_url)))

    assert tabs() == ["Active <small>1", "Expired <small>0", "Revoked <small>1,000", "All <small>1,000+"]
    ApiKey.objects.bulk_create([ApiKey(workspace=workspace, revoked_at=revoked[0].revoked_at)])
    assert tabs() == ["Active <small>1", "Expired <small>0", "Revoked <small>1,000+", "All <small>1,000+"]
