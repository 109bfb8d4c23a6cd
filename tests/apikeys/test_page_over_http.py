"""The pages over HTTP: redirects and statuses. tests/system/browser covers them in a browser."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from apikeys.models import ApiKey
from tests.helpers import BY_TEST, make_workspace
from workspaces.models import Action, AuditEvent, User, Workspace

IDEMPOTENCY_KEY = "0" * 32
NEW = {"description": "CI, production", "expiry": "never", "idempotency_key": IDEMPOTENCY_KEY}


@pytest.fixture
def page(owner: User) -> Client:
    client = Client()
    client.force_login(owner)
    return client


@pytest.fixture
def keys_url(workspace: Workspace) -> str:
    return f"/w/{workspace.pk}/settings/developer/api-keys/"


@pytest.fixture
def key_url(keys_url: str, api_key: ApiKey) -> str:
    return f"{keys_url}{api_key.pk}/"


def test_the_short_address_leads_to_the_only_workspace(page: Client, keys_url: str) -> None:
    assert page.get("/settings/developer/api-keys/")["Location"] == keys_url


def test_the_short_address_leads_to_a_choice_where_none_was_made(page: Client, owner: User, keys_url: str) -> None:
    beta = make_workspace(owner, slug="beta")

    assert page.get("/settings/developer/api-keys/")["Location"] == "/workspaces/"
    page.post("/workspaces/choose/", {"workspace": beta.pk})
    assert page.get("/settings/developer/api-keys/")["Location"] == f"/w/{beta.pk}/settings/developer/api-keys/"


def test_nobody_elses_workspace_can_be_chosen(page: Client, elsewhere: Workspace, keys_url: str) -> None:
    assert page.post("/workspaces/choose/", {"workspace": elsewhere.pk}).status_code == 404


def test_nobody_is_sent_to_sign_in(client: Client, keys_url: str) -> None:
    assert client.get(keys_url)["Location"] == f"/sign-in/?next={keys_url}"


def test_a_member_is_refused_whatever_they_send(member: User, api_key: ApiKey, keys_url: str) -> None:
    client = Client()
    client.force_login(member)

    answers = [client.post(f"{keys_url}add/", NEW), client.post(f"{keys_url}{api_key.pk}/revoke/")]

    assert [answer.status_code for answer in answers] == [403, 403]
    assert [key.status for key in ApiKey.objects.all()] == ["active"]


@pytest.mark.usefixtures("_frozen_clock")
@pytest.mark.parametrize(
    ("expiry", "days"), [({"expiry": "never"}, None), ({"expiry": "30"}, 30), ({"expiry": "date"}, 10)]
)
def test_a_key_is_made_with_the_chosen_expiry(
    page: Client, workspace: Workspace, keys_url: str, expiry: dict[str, str], days: int | None
) -> None:
    day = (timezone.now() + timedelta(days=10)).date()

    answer = page.post(f"{keys_url}add/", NEW | expiry | {"expires_on": day.isoformat()})

    expires_at = workspace.api_keys.get().expires_at
    assert answer.status_code == 200
    assert "Save your API key" in answer.content.decode()
    assert (expires_at and expires_at.date()) == (days and (timezone.now() + timedelta(days=days)).date())


@pytest.mark.parametrize(
    ("spoilt", "sentence"),
    [
        ({"expiry": "date", "expires_on": ""}, "Choose the last day"),
        ({"expiry": "date", "expires_on": "2020-01-01"}, "Choose a day after today."),
        ({"expiry": "date", "expires_on": "soon"}, "Enter a date such as"),
        ({"expiry": "sometimes"}, "Select a valid choice."),
        ({"description": " "}, "Enter a description"),
        ({"description": "a\u202eb"}, "Control characters"),
    ],
)
def test_a_form_that_cannot_be_taken_says_why_and_makes_nothing(
    page: Client, workspace: Workspace, keys_url: str, spoilt: dict[str, str], sentence: str
) -> None:
    answer = page.post(f"{keys_url}add/", NEW | spoilt)

    assert sentence in answer.content.decode()
    assert not workspace.api_keys.exists()


def test_a_date_that_was_typed_and_not_chosen_is_no_error(page: Client, workspace: Workspace, keys_url: str) -> None:
    page.post(f"{keys_url}add/", NEW | {"expires_on": "soon"})

    assert workspace.api_keys.get().expires_at is None


def test_the_same_form_again_leads_to_the_key_it_made(page: Client, workspace: Workspace, keys_url: str) -> None:
    page.post(f"{keys_url}add/", NEW)

    again = page.post(f"{keys_url}add/", NEW)

    assert again["Location"] == f"{keys_url}{workspace.api_keys.get().pk}/?duplicate=1"


def test_a_full_workspace_says_so_in_the_form(page: Client, api_key: ApiKey, keys_url: str, settings: Any) -> None:
    settings.APIKEYS_MAX_ACTIVE = 1

    answer = page.post(f"{keys_url}add/", NEW)

    assert "revoke one first" in answer.content.decode()
    assert ApiKey.objects.count() == 1


def test_the_quota_comes_as_a_piece_of_the_page(page: Client, keys_url: str) -> None:
    piece = page.get(f"{keys_url}quota/").content.decode()

    assert "<strong>200 of 200</strong> requests left · last 15 minutes" in piece
    assert "<html" not in piece


def test_a_pasted_secret_leads_to_its_keys_id_and_an_unknown_one_nowhere(
    page: Client, api_key: ApiKey, secret: str, keys_url: str
) -> None:
    assert page.post(f"{keys_url}find/", {"text": secret})["Location"] == f"{keys_url}?secret={api_key.pk}"
    assert page.post(f"{keys_url}find/", {"text": secret[:-1]})["Location"] == f"{keys_url}?secret=unknown"
    assert page.post(f"{keys_url}find/", {"text": api_key.pk})["Location"] == f"{keys_url}?q={api_key.pk}"


def test_a_key_is_renamed_and_its_history_says_so(page: Client, api_key: ApiKey, key_url: str) -> None:
    assert page.post(f"{key_url}rename/", {"description": "CI, staging"})["Location"] == key_url

    assert "Renamed from “CI, production” to “CI, staging”" in page.get(key_url).content.decode()


def test_a_bad_name_is_told_at_the_keys_page(page: Client, api_key: ApiKey, key_url: str) -> None:
    assert "Enter a description" in page.post(f"{key_url}rename/", {"description": ""}).content.decode()


def test_a_key_is_revoked_with_a_reason_once(page: Client, api_key: ApiKey, key_url: str) -> None:
    assert page.get(f"{key_url}revoke/").status_code == 200

    for _ in range(2):
        assert page.post(f"{key_url}revoke/", {"reason": "Leaked"})["Location"] == key_url

    assert page.get(f"{key_url}revoke/")["Location"] == key_url
    assert "Revoked: “Leaked”" in page.get(key_url).content.decode()
    assert AuditEvent.objects.filter(subject=api_key.pk, action="api_key.revoked").count() == 1


def test_a_reason_that_cannot_be_kept_is_told_and_revokes_nothing(
    page: Client, api_key: ApiKey, secret: str, key_url: str
) -> None:
    answer = page.post(f"{key_url}revoke/", {"reason": f"It is {secret}"})

    assert "put a key in the reason; it isn" in answer.content.decode()
    assert secret not in answer.content.decode()
    assert ApiKey.objects.get().status == "active"


@pytest.mark.parametrize("key_id", ["nonsense", f"key_{'0' * 26}"])
def test_an_unknown_key_is_not_there(page: Client, keys_url: str, key_id: str) -> None:
    assert page.get(f"{keys_url}{key_id}/").status_code == 404


def test_an_event_without_a_sentence_of_its_own_tells_its_action(api_key: ApiKey) -> None:
    api_key.record(Action.API_KEY_REVOKED, BY_TEST)

    assert AuditEvent.objects.get(action="api_key.revoked").sentence == "api_key.revoked"


def test_a_description_can_not_hold_a_key(page: Client, secret: str, keys_url: str, key_url: str) -> None:
    """The sweep after each test finds a page that shows it again."""
    for answer in (
        page.post(f"{keys_url}add/", NEW | {"description": secret}),
        page.post(f"{key_url}rename/", {"description": secret}),
    ):
        assert "put a key in the description; it isn" in answer.content.decode()
    assert ApiKey.objects.get().description == "CI, production"


def test_a_key_in_the_address_of_the_list_is_not_shown(page: Client, secret: str, keys_url: str) -> None:
    assert secret not in page.get(keys_url, {"q": secret}).content.decode()


@pytest.mark.usefixtures("_frozen_clock")
def test_who_renames_without_end_is_stopped(page: Client, key_url: str) -> None:
    answers = [page.post(f"{key_url}rename/", {"description": f"Key {number}"}) for number in range(121)]

    assert [answer.status_code for answer in answers[-2:]] == [302, 429]
