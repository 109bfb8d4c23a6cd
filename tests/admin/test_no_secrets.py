"""No page of the admin contains a secret, a hash or a part of one."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib import admin
from django.test import Client
from oauth2_provider.models import AccessToken

from apikeys.models import ApiKey
from core.admin import change_url, changelist_url
from oauth.models import Application
from tests.admin.pages import FIND, INDEX, MODELS, REVOKE, action_url, add_url
from tests.helpers import BY_TEST, make_token
from workspaces.models import AuditEvent, Tier, User, Workspace


def test_models_lists_every_model_of_the_admin() -> None:
    assert set(admin.site._registry) == set(MODELS)


@pytest.fixture
def bearer_strings(api_key: ApiKey, secret: str) -> list[str]:
    """The ended, the previous and the current secret of the key."""
    return [secret, *(api_key.rotate(overlap=timedelta(hours=1), by=BY_TEST) for _ in range(2))]


@pytest.fixture
def secrets(workspace: Workspace, api_key: ApiKey, bearer_strings: list[str], owner: User) -> dict[str, str]:
    """The values that no page may contain, by name."""
    values = {"password": owner.password, "digest of the password": owner.password.rpartition("$")[2]}
    states = ("ended", "previous", "current")
    for state, secret, stored in zip(states, bearer_strings, api_key.secrets.order_by("created_at"), strict=True):
        fingerprint, proof = bytes(stored.fingerprint), bytes(stored.shared_proof or b"")
        values |= {
            f"{state} secret": secret,
            f"middle of the {state} secret": secret[17:40],
            f"hash of the {state} secret": stored.hash,
            f"digest of the {state} secret": stored.hash.rpartition("$")[2],
            f"salt of the {state} secret": stored.hash.split("$")[-2],
            f"fingerprint of the {state} secret": fingerprint.hex(),
            f"fingerprint of the {state} secret as bytes": repr(fingerprint)[2:-1],
            f"shared proof of the {state} secret": proof.hex(),
            f"shared proof of the {state} secret as bytes": repr(proof)[2:-1],
        }
    return values


@pytest.fixture
def token(owner: User) -> str:
    return make_token(owner)


def test_no_page_contains_a_secret_or_a_hash(
    admin_client: Client,
    operator: User,
    workspace: Workspace,
    api_key: ApiKey,
    secret: str,
    bearer_strings: list[str],
    owner: User,
    secrets: dict[str, str],
    token: str,
) -> None:
    stored, application = AccessToken.objects.get(), Application.objects.get(client_id="tests")
    secrets |= {
        "token": token,
        "stored token": stored.token_checksum,
        "stored client secret": application.client_secret,
    }
    pages: list[Any] = [
        admin_client.get(INDEX),
        admin_client.get(FIND),
        admin_client.post(FIND, {"text": secret + "x"}, follow=True),
    ]
    pages += [admin_client.post(FIND, {"text": text}, follow=True) for text in bearer_strings]
    pages += [admin_client.get(changelist_url(ApiKey), {"q": stored.key_id[:6]}) for stored in api_key.secrets.all()]
    pages += [admin_client.get(changelist_url(model)) for model in MODELS]
    pages += [admin_client.get(changelist_url(model), {"q": "a", "o": "1", "all": ""}) for model in MODELS]
    pages += [admin_client.get(changelist_url(ApiKey), {"q": secret}, follow=True)]
    pages += [admin_client.get(add_url(model)) for model in (Workspace, User, Tier)]
    pages += [admin_client.get(action_url(workspace, verb)) for verb in ("suspend", "resume", "clear-quota")]
    pages += [
        admin_client.get(f"{REVOKE}?key={api_key.pk}"),
        admin_client.get(action_url(owner, "password").replace("_5F", "_")),
        admin_client.get(action_url(owner, "end-access")),
    ]
    pages += [admin_client.post(REVOKE, {"key": api_key.pk, "reason": f"It is {secret[:-1]}"})]
    autocomplete = {"app_label": "workspaces", "model_name": "membership", "field_name": "user", "term": "o"}
    pages += [admin_client.get(f"{INDEX}autocomplete/", autocomplete)]
    shown = [obj for model in MODELS for obj in model._default_manager.all()]
    pages += [admin_client.get(change_url(obj)) for obj in shown]
    pages += [admin_client.get(action_url(obj, "history"), follow=True) for obj in shown]
    pages += [admin_client.post(REVOKE, {"key": api_key.pk, "reason": "Leaked"}), admin_client.get(change_url(api_key))]

    for page in pages:
        assert page.status_code == 200
        text = page.content.decode()
        assert {name for name, value in secrets.items() if value in text} == set(), page.request["PATH_INFO"]
        assert secret not in page.request["QUERY_STRING"] or page.redirect_chain


@pytest.mark.parametrize(
    "field",
    ["idempotency_key", "secrets__hash", "secrets__fingerprint", "secrets__shared_proof", "secrets__idempotency_key"],
)
def test_a_list_cannot_be_filtered_by_a_hidden_field(admin_client: Client, api_key: ApiKey, field: str) -> None:
    """Otherwise `?hash__startswith=` would reveal a hash character by character."""
    response = admin_client.get(changelist_url(ApiKey), {f"{field}__startswith": "a"})

    assert response.status_code == 400


def test_users_cannot_be_filtered_by_password(admin_client: Client, owner: User) -> None:
    lists: list[tuple[type[Any], str]] = [
        (User, "password__startswith"),
        (ApiKey, "created_by__password__startswith"),
        (AuditEvent, "actor__password__startswith"),
        (AuditEvent, "api_key__hash__startswith"),
        (Workspace, "members__password__startswith"),
    ]
    assert [admin_client.get(changelist_url(model), {lookup: "m"}).status_code for model, lookup in lists] == [
        400
    ] * len(lists)


def test_a_secret_that_was_searched_for_is_not_stored(
    admin_client: Client, bearer_strings: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    for secret in bearer_strings:
        response = admin_client.post(FIND, {"text": secret})

        texts = [response["Location"], str(response.cookies), str(dict(admin_client.session)), caplog.text]
        texts += [str(event.details) for event in AuditEvent.objects.all()]
        assert all(secret[17:40] not in text for text in texts)
