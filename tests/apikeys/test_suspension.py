"""A suspended workspace: its keys are rejected, and its people can still revoke them."""

from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.test import Client

from apikeys.models import ApiKey, StoredSecret, WorkspaceSuspended
from tests.helpers import BY_TEST, Api, make_key, make_token
from workspaces.models import User, Workspace

REASON = "An invoice is three months late"


@pytest.fixture
def suspended(workspace: Workspace) -> Workspace:
    workspace.suspend(REASON, by=BY_TEST)
    return workspace


def test_a_suspended_workspaces_key_gets_the_same_response_as_an_unknown_key(api: Api, workspace: Workspace) -> None:
    unknown = Api("one_000000000000_0").get("/me")
    assert api.get("/me").status_code == 200

    workspace.suspend(REASON, by=BY_TEST)
    rejected = api.get("/me")

    assert (rejected.status_code, rejected.content) == (401, unknown.content)
    assert rejected["WWW-Authenticate"] == unknown["WWW-Authenticate"]
    assert "RateLimit" not in rejected


def test_keys_work_again_after_the_workspace_is_resumed(api: Api, suspended: Workspace) -> None:
    suspended.resume(by=BY_TEST)
    assert api.get("/me").status_code == 200


def test_other_workspaces_are_not_affected(suspended: Workspace, elsewhere: Workspace) -> None:
    assert Api(make_key(elsewhere)[1]).get("/me").status_code == 200


def test_authentication_takes_one_query(secret: str, django_assert_num_queries: Any) -> None:
    StoredSecret.objects.authenticate(secret)
    with django_assert_num_queries(1):
        stored = StoredSecret.objects.authenticate(secret)
        assert stored.workspace.tier.name == "standard"


def test_resuming_an_active_workspace_changes_nothing(workspace: Workspace) -> None:
    assert workspace.resume(by=BY_TEST) is False


INVALID_REASONS = {
    "a" * 201: "at most 200 characters",
    "Unpaid\nsince May": "Remove line breaks and control characters.",
    "\u200b": "Enter at least one visible character.",
}


@pytest.mark.parametrize(("reason", "message"), INVALID_REASONS.items())
def test_an_invalid_reason_is_rejected(workspace: Workspace, reason: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        workspace.suspend(reason, by=BY_TEST)
    workspace.refresh_from_db()
    assert workspace.suspended_at is None

    workspace.suspend(f" {REASON} ", by=BY_TEST)
    with pytest.raises(ValidationError, match=message):
        workspace.resume(reason, by=BY_TEST)
    workspace.refresh_from_db()
    assert workspace.suspend_reason == REASON


def test_no_key_can_be_created_in_a_suspended_workspace(suspended: Workspace) -> None:
    with pytest.raises(WorkspaceSuspended, match=REASON):
        ApiKey.objects.create_key(suspended, description="CI", by=BY_TEST)


@pytest.mark.parametrize("role", ["owner", "admin", "member"])
def test_members_of_every_role_see_the_reason(
    role: str, suspended: Workspace, client: Client, request: pytest.FixtureRequest
) -> None:
    client.force_login(request.getfixturevalue(role))
    assert REASON in client.get(f"/w/{suspended.pk}/settings/developer/api-keys/").content.decode()


def test_the_page_disables_its_buttons_and_creates_no_key(
    owner_client: Client, api_key: ApiKey, suspended: Workspace
) -> None:
    list_url = f"/w/{suspended.pk}/settings/developer/api-keys/"
    list_page = owner_client.get(list_url).content.decode()
    form_page = owner_client.get(f"{list_url}add/")
    idempotency_key = form_page.context["form"]["idempotency_key"].value()
    error_page = owner_client.post(
        f"{list_url}add/", {"description": "CI", "expiry": "never", "idempotency_key": idempotency_key}
    ).content.decode()

    disabled = '<button class="primary" disabled aria-describedby="suspended">'
    assert f"{disabled}Add key</button>" in list_page
    assert f"{disabled}Create key</button>" in form_page.content.decode()
    assert "You can create keys once it is resumed." in error_page
    assert suspended.api_keys.count() == 1


def test_a_key_can_still_be_revoked(owner_client: Client, api_key: ApiKey, suspended: Workspace) -> None:
    owner_client.post(f"/w/{suspended.pk}/settings/developer/api-keys/{api_key.pk}/revoke/", {"reason": ""})

    api_key.refresh_from_db()
    assert api_key.revoked_at is not None


def test_an_access_token_can_still_revoke_keys_but_not_create_them(
    owner: User, api_key: ApiKey, suspended: Workspace
) -> None:
    owner_api = Api(make_token(owner))

    assert owner_api.get("/workspaces/current/tasks").status_code == 200
    rejected = owner_api.post("/workspaces/current/api-keys", {"description": "CI"})
    assert (rejected.status_code, REASON in rejected.json()["message"]) == (409, True)
    assert owner_api.delete(f"/workspaces/current/api-keys/{api_key.pk}").status_code == 204
