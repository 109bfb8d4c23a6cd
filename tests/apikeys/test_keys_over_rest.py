"""Managing keys over REST, with an access token of an owner or admin."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.utils import timezone

from apikeys.models import ApiKey, StoredSecret
from tests.helpers import BY_TEST, Api, make_key, make_token
from workspaces import ids
from workspaces.models import AuditEvent, Role, User, Workspace

KEYS = "/workspaces/current/api-keys"


@pytest.fixture
def admin_api(admin: User, workspace: Workspace) -> Api:
    """The REST API with an access token of the admin."""
    return Api(make_token(admin))


def test_creating_a_key_shows_its_secret_once(admin_api: Api, workspace: Workspace, admin: User) -> None:
    created = admin_api.post(KEYS, {"description": "  CI, production "})

    assert created.status_code == 201
    body = created.json()
    secret = body.pop("secret")
    assert Api(secret).get("/me").json()["workspace"]["workspaceId"] == workspace.pk
    assert created["Location"] == f"/api/v1/workspaces/{workspace.pk}/api-keys/{body['apiKeyId']}"
    assert body == admin_api.get(created["Location"].removeprefix("/api/v1")).json() | {"lastUsedAt": None}
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
        "previousSecret": None,
    }


def test_each_change_has_an_audit_event_with_the_user_and_the_client_ip(admin_api: Api, admin: User) -> None:
    api_key_id = admin_api.post(KEYS, {"description": "CI"}).json()["apiKeyId"]
    admin_api.patch(f"{KEYS}/{api_key_id}", {"description": "Deploys"})
    admin_api.delete(f"{KEYS}/{api_key_id}")
    admin_api.delete(f"{KEYS}/{api_key_id}")

    events = (
        AuditEvent.objects.filter(subject=api_key_id).order_by("id").values_list("action", "actor", "via", "client_ip")
    )

    assert list(events) == [
        (action, admin.pk, "api", "127.0.0.1") for action in ("api_key.created", "api_key.renamed", "api_key.revoked")
    ]


def test_the_list_has_active_keys_unless_another_status_is_requested(admin_api: Api, workspace: Workspace) -> None:
    for status in ("active", "revoked", "expired"):
        make_key(workspace, status)
    ApiKey.objects.get(description="revoked").revoke(by=BY_TEST)
    ApiKey.objects.filter(description="expired").update(expires_at=timezone.now())

    def listed(query: str) -> list[str]:
        return [key["description"] for key in admin_api.get(f"{KEYS}{query}").json()["apiKeys"]]

    assert listed("") == listed("?status=active") == ["active"]
    assert listed("?status=revoked") == ["revoked"]
    assert listed("?status=expired") == ["expired"]
    assert listed("?status=all") == ["expired", "revoked", "active"]
    assert admin_api.get(f"{KEYS}?status=all").json() | {"apiKeys": []} == {
        "apiKeys": [],
        "activeCount": 1,
        "activeLimit": 20,
        "nextCursor": None,
    }
    for invalid in ("old", "", "ACTIVE"):
        assert admin_api.get(f"{KEYS}?status={invalid}").status_code == 400


def test_a_secret_sent_as_a_status_is_not_echoed(admin_api: Api, secret: str) -> None:
    response = admin_api.get(f"{KEYS}?status={secret}")

    assert response.json()["errors"] == {"status": ["This must be one of: active, revoked, expired, all."]}


def test_creating_or_renaming_without_a_body_is_rejected(admin_api: Api, api_key: ApiKey) -> None:
    for response in (admin_api.post(KEYS), admin_api.patch(f"{KEYS}/{api_key.pk}")):
        assert response.status_code == 400
        assert response.json()["errors"] == {"body": ["This must be a JSON object."]}


def test_the_number_of_queries_does_not_depend_on_the_number_of_keys(
    admin_api: Api, workspace: Workspace, django_assert_num_queries: Any
) -> None:
    for number in range(3):
        admin_api.post(KEYS, {"description": f"Key {number}"})

    with django_assert_num_queries(8):
        assert len(admin_api.get(KEYS).json()["apiKeys"]) == 3


# ---- pages ----


def make_revoked_keys(workspace: Workspace, count: int) -> list[str]:
    """Create revoked keys, without hashing, and return their ids, newest first."""
    created = ApiKey.objects.bulk_create(ApiKey(workspace=workspace, revoked_at=timezone.now()) for _ in range(count))
    StoredSecret.objects.bulk_create(
        StoredSecret(key_id=f"{number:012}", workspace=workspace, api_key=api_key, hash="", fingerprint=b"")
        for number, api_key in enumerate(created)
    )
    return [api_key.pk for api_key in created][::-1]


def pages(api: Api, query: str) -> list[list[str]]:
    """Return the ids of the keys on each page."""
    result, cursor = [], ""
    while True:
        body = api.get(f"{KEYS}?{query}{cursor}").json()
        assert (body["activeCount"], body["activeLimit"]) == (1, 20)
        result.append([key["apiKeyId"] for key in body["apiKeys"]])
        if body["nextCursor"] is None:
            return result
        cursor = f"&cursor={body['nextCursor']}"


def test_keys_are_listed_in_pages_newest_first(admin_api: Api, api_key: ApiKey, workspace: Workspace) -> None:
    revoked = make_revoked_keys(workspace, 55)

    assert pages(admin_api, "status=revoked") == [revoked[:50], revoked[50:]]
    assert pages(admin_api, "status=revoked&limit=55") == [revoked]
    assert pages(admin_api, "status=all&limit=20") == [revoked[:20], revoked[20:40], [*revoked[40:], api_key.pk]]
    assert pages(admin_api, "limit=1") == [[api_key.pk]]
    assert pages(admin_api, "status=expired") == [[]]


def test_a_page_takes_no_more_queries_than_a_key(
    admin_api: Api, workspace: Workspace, django_assert_num_queries: Any
) -> None:
    make_revoked_keys(workspace, 60)

    with django_assert_num_queries(8):
        assert len(admin_api.get(f"{KEYS}?status=all").json()["apiKeys"]) == 50


def test_a_cursor_of_another_workspace_shows_none_of_its_keys(
    admin_api: Api, api_key: ApiKey, elsewhere: Workspace
) -> None:
    theirs = make_key(elsewhere)[0]

    assert pages(admin_api, f"status=all&cursor={theirs.pk}") == [[api_key.pk]]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("cursor=", "cursor"),
        ("cursor=tsk_00000000000000000000000000", "cursor"),
        ("cursor=key_0000000000000000000000000%00", "cursor"),
        ("cursor=%FF", "cursor"),
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=many", "limit"),
    ],
)
def test_an_invalid_page_is_rejected(query: str, field: str, admin_api: Api) -> None:
    response = admin_api.get(f"{KEYS}?{query}")

    assert response.status_code == 400
    assert set(response.json()["errors"]) == {field}


def test_renaming_ignores_read_only_fields(admin_api: Api) -> None:
    key = admin_api.post(KEYS, {"description": "CI"}).json()
    del key["secret"]

    response = admin_api.patch(f"{KEYS}/{key['apiKeyId']}", key | {"description": "Deploys", "status": "revoked"})

    assert response.json() == key | {"description": "Deploys"}


def test_a_patch_without_a_description_changes_nothing(admin_api: Api, api_key: ApiKey) -> None:
    response = admin_api.patch(f"{KEYS}/{api_key.pk}", {"status": "revoked"})

    assert (response.status_code, response.json()["description"]) == (200, "CI, production")
    assert not api_key.audit_events.exclude(action="api_key.created").exists()


def test_a_revoked_key_is_rejected_and_shows_who_revoked_it(
    admin_api: Api, api: Api, api_key: ApiKey, admin: User
) -> None:
    assert admin_api.delete(f"{KEYS}/{api_key.pk}").status_code == 204
    assert admin_api.delete(f"{KEYS}/{api_key.pk}").status_code == 204

    revoked = admin_api.get(f"{KEYS}/{api_key.pk}").json()
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
def test_an_invalid_body_creates_no_key(admin_api: Api, body: Any, fields: list[str]) -> None:
    response = admin_api.post(KEYS, body)

    assert response.status_code == 400
    assert list(response.json()["errors"]) == fields
    assert not ApiKey.objects.exists()


def test_a_description_can_not_contain_a_key(admin_api: Api, api_key: ApiKey, secret: str) -> None:
    for description in (secret, f"was {secret[:30]}"):
        for response in (
            admin_api.post(KEYS, {"description": description}),
            admin_api.patch(f"{KEYS}/{api_key.pk}", {"description": description}),
        ):
            assert response.status_code == 400
            assert list(response.json()["errors"]) == ["description"]
    assert ApiKey.objects.get().description == "CI, production"


def test_an_expiry_is_returned_in_utc(admin_api: Api) -> None:
    expires_at = (timezone.now() + timedelta(days=1)).replace(microsecond=0)

    created = admin_api.post(KEYS, {"description": "CI", "expiresAt": expires_at.isoformat()})

    assert created.json()["expiresAt"] == expires_at.isoformat().replace("+00:00", "Z")


@pytest.mark.parametrize(
    "expires_at",
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
def test_an_expiry_that_is_not_in_rfc_3339_format_is_rejected(admin_api: Api, expires_at: Any) -> None:
    response = admin_api.post(KEYS, {"description": "CI", "expiresAt": expires_at})

    assert response.status_code == 400
    assert response.json()["errors"] == {
        "expiresAt": ["Use RFC 3339 format, such as 2027-01-31T09:00:00Z."],
    }


@pytest.mark.parametrize("expires_at", ["2099-01-01t00:00:00z", "2099-01-01T01:30:00.25+01:30"])
def test_an_expiry_in_other_forms_of_rfc_3339_is_accepted(admin_api: Api, expires_at: str) -> None:
    assert (
        admin_api.post(KEYS, {"description": "CI", "expiresAt": expires_at})
        .json()["expiresAt"]
        .startswith("2099-01-01T00:00:00")
    )


def test_the_twenty_first_active_key_is_409(admin_api: Api, workspace: Workspace) -> None:
    for _ in range(20):
        make_key(workspace)

    response = admin_api.post(KEYS, {"description": "One more"})

    assert response.status_code == 409
    assert response.json()["message"] == (
        "This workspace has 20 active API keys, which is the limit: revoke one first."
    )


@pytest.mark.parametrize("api_key_id", ["key_unknown", "key_00000000000000000000000000", "x"])
def test_an_unknown_key_is_404(admin_api: Api, elsewhere: Workspace, api_key_id: str) -> None:
    for method in ("GET", "PATCH", "DELETE"):
        assert admin_api.request(method, f"{KEYS}/{api_key_id}").status_code == 404


def test_a_key_of_another_workspace_is_404(admin_api: Api, elsewhere: Workspace) -> None:
    other = make_key(elsewhere)[0]

    for method in ("GET", "PATCH", "DELETE"):
        assert admin_api.request(method, f"{KEYS}/{other.pk}").status_code == 404


def test_a_demoted_admin_can_not_create_keys(admin_api: Api, workspace: Workspace, admin: User) -> None:
    workspace.memberships.get(user=admin).change_role(Role.MEMBER, by=BY_TEST)

    assert admin_api.post(KEYS, {"description": "CI"}).status_code == 403


# ---- Idempotency-Key ----


def create_key(admin_api: Api, body: dict[str, Any], idempotency_key: str = "8e03978e", path: str = KEYS) -> Any:
    return admin_api.post(path, body, headers={"Idempotency-Key": idempotency_key})


def test_a_repeated_request_creates_one_key_and_says_that_its_secret_was_shown(admin_api: Api) -> None:
    first = create_key(admin_api, {"description": "CI"})
    second = create_key(admin_api, {"description": " CI ", "expiresAt": None})

    assert (first.status_code, second.status_code) == (201, 200)
    assert second["Idempotent-Replayed"] == "true"
    assert "Location" not in second  # RFC 9110, 10.2.2, defines it only for 201 and for redirects
    assert "Idempotent-Replayed" not in first
    assert "secret" not in second.json()
    assert "secret" in second.json()["notice"]
    assert second.json()["apiKeyId"] == first.json()["apiKeyId"]
    assert ApiKey.objects.count() == AuditEvent.objects.filter(action="api_key.created").count() == 1


def test_a_repeated_request_returns_the_key_after_it_was_renamed_and_revoked(admin_api: Api) -> None:
    api_key_id = create_key(admin_api, {"description": "CI"}).json()["apiKeyId"]
    admin_api.patch(f"{KEYS}/{api_key_id}", {"description": "Deploys"})
    admin_api.delete(f"{KEYS}/{api_key_id}")

    assert create_key(admin_api, {"description": "CI"}).json()["status"] == "revoked"


def test_a_repeated_request_returns_the_key_after_it_has_expired(
    admin_api: Api, admin: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ids, "_last", ids._last)  # restored after the test, so that later ids are not from the future
    body = {"description": "CI", "expiresAt": (timezone.now() + timedelta(hours=1)).isoformat()}
    first = create_key(admin_api, body)

    with time_machine.travel(timezone.now() + timedelta(hours=2)):
        second = create_key(Api(make_token(admin)), body)

    assert (first.status_code, second.status_code) == (201, 200)
    assert second.json()["apiKeyId"] == first.json()["apiKeyId"]
    assert second.json()["status"] == "expired"


@pytest.mark.parametrize("body", [{"description": "CD"}, {"description": "CI", "expiresAt": "2099-01-01T00:00:00Z"}])
def test_the_same_idempotency_key_with_another_body_is_422(admin_api: Api, body: dict[str, Any]) -> None:
    create_key(admin_api, {"description": "CI"})

    response = create_key(admin_api, body)

    assert response.status_code == 422
    assert response.json() == {
        "code": 422,
        "message": "This Idempotency-Key was used before with a different body. "
        "Send a new Idempotency-Key with this request.",
    }
    assert ApiKey.objects.count() == 1


def test_an_idempotency_key_belongs_to_one_person_and_one_workspace(
    admin_api: Api, owner: User, admin: User, elsewhere: Workspace
) -> None:
    elsewhere.add_member(admin, Role.ADMIN, by=BY_TEST)
    admin.choose(elsewhere)
    responses = [
        create_key(admin_api, {"description": "CI"}),
        create_key(Api(make_token(owner)), {"description": "CI"}),
        create_key(admin_api, {"description": "CI"}, path=f"/workspaces/{owner.workspaces.get().pk}/api-keys"),
        create_key(admin_api, {"description": "CI"}, idempotency_key="another"),
    ]

    assert [response.status_code for response in responses] == [201] * 4
    assert ApiKey.objects.count() == 4


def test_a_request_that_failed_can_be_repeated(admin_api: Api, workspace: Workspace) -> None:
    keys = [make_key(workspace)[0] for _ in range(20)]
    assert create_key(admin_api, {"description": "CI"}).status_code == 409
    keys[0].revoke(by=BY_TEST)

    assert create_key(admin_api, {"description": "CI"}).status_code == 201


@pytest.mark.parametrize("idempotency_key", ["", "two words", "x" * 256, "é"])
def test_an_invalid_idempotency_key_is_rejected(admin_api: Api, idempotency_key: str) -> None:
    assert create_key(admin_api, {"description": "CI"}, idempotency_key).json()["errors"].keys() == {"Idempotency-Key"}
