"""Managing keys over REST, with an access token of an owner or admin."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.utils import timezone

from apikeys.models import ApiKey
from tests.helpers import BY_TEST, Api, make_key, make_token
from workspaces import ids
from workspaces.models import AuditEvent, Role, User, Workspace

KEYS = "/workspaces/current/api-keys"


@pytest.fixture
def person(admin: User, workspace: Workspace) -> Api:
    """The REST API as the admin uses it."""
    return Api(make_token(admin))


def test_creating_a_key_shows_its_secret_once(person: Api, workspace: Workspace, admin: User) -> None:
    created = person.post(KEYS, {"description": "  CI, production "})

    assert created.status_code == 201
    body = created.json()
    secret = body.pop("secret")
    assert Api(secret).get("/me").json()["workspace"]["workspaceId"] == workspace.pk
    assert body == person.get(f"{KEYS}/{body['apiKeyId']}").json() | {"lastUsedAt": None}
    assert body == {
        "apiKeyId": body["apiKeyId"],
        "description": "CI, production",
        "maskedKey": secret[:17] + "…",
        "status": "active",
        "createdAt": body["createdAt"],
        "createdBy": {"userId": admin.pk, "name": "Admin"},
        "lastUsedAt": None,
        "expiresAt": None,
        "revokedAt": None,
        "revokedBy": None,
    }


def test_changes_are_audited_with_the_person_and_the_api(person: Api, admin: User) -> None:
    api_key_id = person.post(KEYS, {"description": "CI"}).json()["apiKeyId"]
    person.patch(f"{KEYS}/{api_key_id}", {"description": "Deploys"})
    person.delete(f"{KEYS}/{api_key_id}")
    person.delete(f"{KEYS}/{api_key_id}")

    events = (
        AuditEvent.objects.filter(subject=api_key_id).order_by("id").values_list("action", "actor", "via", "client_ip")
    )

    assert list(events) == [
        (action, admin.pk, "api", "127.0.0.1") for action in ("api_key.created", "api_key.renamed", "api_key.revoked")
    ]


def test_the_list_has_active_keys_unless_another_status_is_requested(person: Api, workspace: Workspace) -> None:
    for status in ("active", "revoked", "expired"):
        make_key(workspace, status)
    ApiKey.objects.get(description="revoked").revoke(by=BY_TEST)
    ApiKey.objects.filter(description="expired").update(expires_at=timezone.now())

    def listed(query: str) -> list[str]:
        return [key["description"] for key in person.get(f"{KEYS}{query}").json()["apiKeys"]]

    assert listed("") == listed("?status=active") == ["active"]
    assert listed("?status=revoked") == ["revoked"]
    assert listed("?status=expired") == ["expired"]
    assert listed("?status=all") == ["expired", "revoked", "active"]
    assert person.get(f"{KEYS}?status=all").json() | {"apiKeys": []} == {
        "apiKeys": [],
        "activeCount": 1,
        "activeLimit": 20,
    }
    for wrong in ("old", "", "ACTIVE"):
        assert person.get(f"{KEYS}?status={wrong}").status_code == 400


def test_a_secret_sent_as_a_status_is_not_echoed(person: Api, secret: str) -> None:
    response = person.get(f"{KEYS}?status={secret}")

    assert response.json()["errors"] == {"status": ["This must be one of: active, revoked, expired, all."]}


def test_renaming_without_a_body_is_rejected(person: Api, api_key: ApiKey) -> None:
    response = person.request("PATCH", f"{KEYS}/{api_key.pk}")

    assert response.status_code == 400
    assert response.json()["errors"] == {"body": ["This must be a JSON object."]}


def test_the_number_of_queries_does_not_depend_on_the_number_of_keys(
    person: Api, workspace: Workspace, django_assert_num_queries: Any
) -> None:
    for number in range(3):
        person.post(KEYS, {"description": f"Key {number}"})

    with django_assert_num_queries(7):
        assert len(person.get(KEYS).json()["apiKeys"]) == 3


def test_a_key_can_be_sent_back_renamed(person: Api) -> None:
    key = person.post(KEYS, {"description": "CI"}).json()
    del key["secret"]

    answer = person.patch(f"{KEYS}/{key['apiKeyId']}", key | {"description": "Deploys", "status": "revoked"})

    assert answer.json() == key | {"description": "Deploys"}


def test_revoking(person: Api, api: Api, api_key: ApiKey, admin: User) -> None:
    assert person.delete(f"{KEYS}/{api_key.pk}").status_code == 204
    assert person.delete(f"{KEYS}/{api_key.pk}").status_code == 204

    revoked = person.get(f"{KEYS}/{api_key.pk}").json()
    assert (revoked["status"], revoked["revokedBy"]) == ("revoked", {"userId": admin.pk, "name": "Admin"})
    assert api.get("/me").status_code == 401


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, ["description"]),
        ({"description": ""}, ["description"]),
        ({"description": 5}, ["description"]),
        ({"description": "x" * 101}, ["description"]),
        ({"description": "a\u0007b"}, ["description"]),
        ({"description": "CI", "expiresAt": "2020-01-01T00:00:00Z"}, ["expiresAt"]),
        ({"description": "CI", "expiresAt": "soon"}, ["expiresAt"]),
        ({"description": "CI", "expiresAt": "9999-12-31T23:59:59-23:59"}, ["expiresAt"]),
        ([], ["body"]),
    ],
)
def test_an_invalid_body_creates_no_key(person: Api, body: Any, fields: list[str]) -> None:
    answer = person.post(KEYS, body)

    assert answer.status_code == 400
    assert list(answer.json()["errors"]) == fields
    assert not ApiKey.objects.exists()


def test_a_description_can_not_contain_a_key(person: Api, api_key: ApiKey, secret: str) -> None:
    for described in (secret, f"was {secret[:30]}"):
        for answer in (
            person.post(KEYS, {"description": described}),
            person.patch(f"{KEYS}/{api_key.pk}", {"description": described}),
        ):
            assert answer.status_code == 400
            assert list(answer.json()["errors"]) == ["description"]
    assert ApiKey.objects.get().description == "CI, production"


def test_an_expiry(person: Api) -> None:
    at = (timezone.now() + timedelta(days=1)).replace(microsecond=0)

    created = person.post(KEYS, {"description": "CI", "expiresAt": at.isoformat()})

    assert created.json()["expiresAt"] == at.isoformat().replace("+00:00", "Z")


@pytest.mark.parametrize(
    "time",
    [
        "2099-01-01",
        "2099-01-01T00:00:00",
        "2099-01-01 00:00:00Z",
        "2099-W01-1",
        "20990101T000000Z",
        "2099-01-01T00:00:00\x00Z",
        "\u0662\u0660\u0669\u0669-01-01T00:00:00Z",
        4070908800,
    ],
)
def test_an_expiry_that_is_not_in_rfc_3339_format_is_rejected(person: Api, time: Any) -> None:
    answer = person.post(KEYS, {"description": "CI", "expiresAt": time})

    assert answer.status_code == 400
    assert answer.json()["errors"] == {
        "expiresAt": ["Use RFC 3339 format, such as 2027-01-31T09:00:00Z."],
    }


@pytest.mark.parametrize("time", ["2099-01-01t00:00:00z", "2099-01-01T01:30:00.25+01:30"])
def test_an_expiry_in_other_forms_of_rfc_3339_is_accepted(person: Api, time: str) -> None:
    assert (
        person.post(KEYS, {"description": "CI", "expiresAt": time})
        .json()["expiresAt"]
        .startswith("2099-01-01T00:00:00")
    )


def test_the_twenty_first_key(person: Api, workspace: Workspace) -> None:
    for _ in range(20):
        make_key(workspace)

    answer = person.post(KEYS, {"description": "One more"})

    assert answer.status_code == 409
    assert answer.json()["message"] == ("This workspace has 20 active API keys, which is the limit: revoke one first.")


@pytest.mark.parametrize("api_key_id", ["key_unknown", "key_00000000000000000000000000", "x"])
def test_an_unknown_key_is_404(person: Api, elsewhere: Workspace, api_key_id: str) -> None:
    for method in ("GET", "PATCH", "DELETE"):
        assert person.request(method, f"{KEYS}/{api_key_id}").status_code == 404


def test_a_key_of_another_workspace_is_404(person: Api, elsewhere: Workspace) -> None:
    theirs = make_key(elsewhere)[0]

    for method in ("GET", "PATCH", "DELETE"):
        assert person.request(method, f"{KEYS}/{theirs.pk}").status_code == 404


def test_an_admin_who_was_just_demoted_creates_no_key(person: Api, workspace: Workspace, admin: User) -> None:
    workspace.memberships.get(user=admin).change_role(Role.MEMBER, by=BY_TEST)

    assert person.post(KEYS, {"description": "CI"}).status_code == 403


# ---- Idempotency-Key ----


def post_with_key(person: Api, body: dict[str, Any], key: str = "8e03978e", path: str = KEYS) -> Any:
    return person.post(path, body, headers={"Idempotency-Key": key})


def test_a_repeated_request_creates_one_key_and_says_that_its_secret_was_shown(person: Api) -> None:
    first = post_with_key(person, {"description": "CI"})
    second = post_with_key(person, {"description": " CI ", "expiresAt": None})

    assert (first.status_code, second.status_code) == (201, 200)
    assert second["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in first
    assert "secret" not in second.json()
    assert "secret" in second.json()["notice"]
    assert second.json()["apiKeyId"] == first.json()["apiKeyId"]
    assert ApiKey.objects.count() == AuditEvent.objects.filter(action="api_key.created").count() == 1


def test_a_repeated_request_is_answered_after_the_key_was_renamed_and_revoked(person: Api) -> None:
    api_key_id = post_with_key(person, {"description": "CI"}).json()["apiKeyId"]
    person.patch(f"{KEYS}/{api_key_id}", {"description": "Deploys"})
    person.delete(f"{KEYS}/{api_key_id}")

    assert post_with_key(person, {"description": "CI"}).json()["status"] == "revoked"


def test_a_repeated_request_is_answered_after_the_key_has_expired(
    person: Api, admin: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ids, "_last", ids._last)  # no other test's ids are from the future
    body = {"description": "CI", "expiresAt": (timezone.now() + timedelta(hours=1)).isoformat()}
    first = post_with_key(person, body)

    with time_machine.travel(timezone.now() + timedelta(hours=2)):
        second = post_with_key(Api(make_token(admin)), body)

    assert (first.status_code, second.status_code) == (201, 200)
    assert second.json()["apiKeyId"] == first.json()["apiKeyId"]
    assert second.json()["status"] == "expired"


@pytest.mark.parametrize("body", [{"description": "CD"}, {"description": "CI", "expiresAt": "2099-01-01T00:00:00Z"}])
def test_the_same_idempotency_key_with_another_body_is_422(person: Api, body: dict[str, Any]) -> None:
    post_with_key(person, {"description": "CI"})

    answer = post_with_key(person, body)

    assert answer.status_code == 422
    assert answer.json() == {
        "code": 422,
        "message": "This Idempotency-Key was already used with another body: use a new one for another key.",
    }
    assert ApiKey.objects.count() == 1


def test_an_idempotency_key_belongs_to_one_person_and_one_workspace(
    person: Api, owner: User, admin: User, elsewhere: Workspace
) -> None:
    elsewhere.add_member(admin, Role.ADMIN, by=BY_TEST)
    admin.choose(elsewhere)
    created = [
        post_with_key(person, {"description": "CI"}),
        post_with_key(Api(make_token(owner)), {"description": "CI"}),
        post_with_key(person, {"description": "CI"}, path=f"/workspaces/{owner.workspaces.get().pk}/api-keys"),
        post_with_key(person, {"description": "CI"}, key="another"),
    ]

    assert [answer.status_code for answer in created] == [201] * 4
    assert ApiKey.objects.count() == 4


def test_a_request_that_failed_can_be_repeated(person: Api, workspace: Workspace) -> None:
    keys = [make_key(workspace)[0] for _ in range(20)]
    assert post_with_key(person, {"description": "CI"}).status_code == 409
    keys[0].revoke(by=BY_TEST)

    assert post_with_key(person, {"description": "CI"}).status_code == 201


@pytest.mark.parametrize("key", ["", "two words", "x" * 256, "é"])
def test_an_invalid_idempotency_key_is_rejected(person: Api, key: str) -> None:
    assert post_with_key(person, {"description": "CI"}, key).json()["errors"].keys() == {"Idempotency-Key"}
