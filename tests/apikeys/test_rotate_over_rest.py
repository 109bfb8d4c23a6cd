"""Rotating a key over REST, and the responses to its secrets during the overlap."""

from __future__ import annotations

from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
import time_machine
from django.utils import timezone

from apikeys.models import ApiKey, StoredSecret
from tests.helpers import BY_TEST, RESOURCE_METADATA, Api, make_key, make_token
from workspaces import ids
from workspaces.models import AuditEvent, Role, User, Workspace

KEYS = "/workspaces/current/api-keys"
A_DAY = 86400
A_WEEK = 7 * A_DAY
OF_A_PREVIOUS_SECRET = ("Deprecation", "Sunset", "Link")


@pytest.fixture
def admin_api(admin: User, workspace: Workspace) -> Api:
    """The REST API with an access token of the admin."""
    return Api(make_token(admin))


@pytest.fixture
def path(api_key: ApiKey) -> str:
    return f"{KEYS}/{api_key.pk}"


def rotate(api: Api, path: str, overlap: Any = None, idempotency_key: str | None = None) -> Any:
    body = {} if overlap is None else {"overlapSeconds": overlap}
    headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
    return api.post(f"{path}/rotate", body, headers=headers)


def statuses(*secrets: str) -> list[int]:
    return [Api(secret).get("/me").status_code for secret in secrets]


def let_the_overlap_end(api_key: ApiKey) -> None:
    """Move the end to now. A test can't set the database's clock."""
    assert api_key.secrets.not_ended().exclude(replaced_at=None).update(ends_at=timezone.now()) == 1


def rotations() -> int:
    return AuditEvent.objects.filter(action="api_key.rotated").count()


# ---- the new secret ----


def test_a_rotation_replaces_the_secret_and_nothing_else(admin_api: Api, path: str, secret: str) -> None:
    before = admin_api.get(path).json()

    rotated = rotate(admin_api, path)

    assert rotated.status_code == 200
    body = rotated.json()
    new_secret = body.pop("secret")
    assert "notice" not in body
    assert body == admin_api.get(path).json()
    assert body == before | {
        "maskedKey": new_secret[:17] + "…",
        "previousSecret": {
            "maskedKey": secret[:17] + "…",
            "endsAt": body["previousSecret"]["endsAt"],
            "lastUsedAt": None,
        },
    }
    assert "Location" not in rotated
    assert "Idempotent-Replayed" not in rotated
    assert statuses(secret, new_secret) == [200, 200]


def test_no_other_response_contains_the_secret(admin_api: Api, path: str) -> None:
    new_secret = rotate(admin_api, path).json()["secret"]

    for response in (
        admin_api.get(path),
        admin_api.get(KEYS),
        admin_api.patch(path, {"description": "CI"}),
        Api(new_secret).get("/me"),
        rotate(admin_api, path, idempotency_key="another"),
    ):
        assert response.status_code == 200
        assert new_secret not in response.content.decode()


def test_each_secret_authenticates_the_same_key(admin_api: Api, path: str, api_key: ApiKey, secret: str) -> None:
    new_secret = rotate(admin_api, path).json()["secret"]

    old, new = (Api(bearer).get("/me").json() for bearer in (secret, new_secret))

    assert old["apiKeyId"] == new["apiKeyId"] == api_key.pk
    assert (old["maskedKey"], new["maskedKey"]) == (secret[:17] + "…", new_secret[:17] + "…")
    assert old["description"] == new["description"]
    assert old["workspace"] == new["workspace"]


def test_a_rotation_has_an_audit_event_with_the_user_and_the_client_ip(
    admin_api: Api, path: str, api_key: ApiKey, admin: User
) -> None:
    rotate(admin_api, path)
    admin_api.delete(f"{path}/previous-secret")
    admin_api.delete(f"{path}/previous-secret")

    events = AuditEvent.objects.filter(subject=api_key.pk).order_by("id")

    assert list(events.values_list("action", "actor", "via", "client_ip"))[1:] == [
        (action, admin.pk, "api", "127.0.0.1") for action in ("api_key.rotated", "api_key.previous_secret_ended")
    ]


# ---- the overlap ----


@pytest.mark.parametrize(
    ("body", "seconds"),
    [
        (None, A_DAY),
        ({}, A_DAY),
        ({"description": "ignored", "secret": None}, A_DAY),
        ({"overlapSeconds": 1}, 1),
        ({"overlapSeconds": 60.0}, 60),
        ({"overlapSeconds": A_WEEK}, A_WEEK),
    ],
)
def test_the_replaced_secret_works_until_the_end_of_the_overlap(
    body: Any, seconds: int, admin_api: Api, path: str, secret: str
) -> None:
    earliest = timezone.now()
    rotated = admin_api.post(f"{path}/rotate", body)
    latest = timezone.now()

    assert rotated.status_code == 200
    ends_at = datetime.fromisoformat(rotated.json()["previousSecret"]["endsAt"])
    assert earliest <= ends_at - timedelta(seconds=seconds) <= latest


def test_without_an_overlap_the_replaced_secret_ends_at_once(admin_api: Api, path: str, secret: str) -> None:
    assert statuses(secret) == [200]

    rotated = rotate(admin_api, path, 0).json()

    assert rotated["previousSecret"] is None
    assert statuses(secret, rotated["secret"]) == [401, 200]


@pytest.mark.parametrize(
    "overlap", [-1, A_WEEK + 1, 10**30, -(10**30), 1e300, 1.5, True, "60", "", "P1D", [], {}, [60]]
)
def test_an_invalid_overlap_is_rejected(overlap: Any, admin_api: Api, path: str, secret: str) -> None:
    response = rotate(admin_api, path, overlap)

    assert response.status_code == 400
    assert response.json() == {
        "code": 400,
        "message": "Invalid fields: overlapSeconds.",
        "errors": {"overlapSeconds": ["Send a whole number from 0 to 604800."]},
    }
    assert admin_api.get(path).json()["maskedKey"] == secret[:17] + "…"


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        ('{"overlapSeconds": null}', {"overlapSeconds": ["This field may not be null."]}),
        ("[]", {"body": ["This must be a JSON object."]}),
        ("null", {"body": ["This must be a JSON object."]}),
        ('"60"', {"body": ["This must be a JSON object."]}),
        ("0", {"body": ["This must be a JSON object."]}),
    ],
)
def test_an_invalid_body_is_rejected(body: str, errors: Any, admin_api: Api, path: str) -> None:
    response = admin_api.post(f"{path}/rotate", data=body, content_type="application/json")

    assert (response.status_code, response.json()["errors"]) == (400, errors)
    assert rotations() == 0


def test_an_overlap_does_not_outlive_the_key(admin_api: Api, workspace: Workspace) -> None:
    expires_at = timezone.now() + timedelta(hours=1)
    api_key = make_key(workspace, expires_at=expires_at)[0]

    rotated = rotate(admin_api, f"{KEYS}/{api_key.pk}", A_WEEK).json()

    assert rotated["previousSecret"]["endsAt"] == rotated["expiresAt"]
    assert datetime.fromisoformat(rotated["expiresAt"]) == expires_at


def test_a_second_rotation_ends_the_secret_that_the_first_one_replaced(admin_api: Api, path: str, secret: str) -> None:
    second = rotate(admin_api, path).json()["secret"]
    assert statuses(secret, second) == [200, 200]

    rotated = rotate(admin_api, path).json()

    assert rotated["previousSecret"]["maskedKey"] == second[:17] + "…"
    assert statuses(secret, second, rotated["secret"]) == [401, 200, 200]


def test_the_replaced_secret_gets_401_as_soon_as_the_overlap_ends(
    admin_api: Api, path: str, api_key: ApiKey, secret: str
) -> None:
    new_secret = rotate(admin_api, path).json()["secret"]
    assert statuses(secret, new_secret) == [200, 200]

    let_the_overlap_end(api_key)
    rejected = Api(secret).get("/me")

    assert rejected.status_code == 401
    assert rejected.json() == {"code": 401, "message": "The API key or access token is not valid."}
    assert rejected["WWW-Authenticate"] == f'Bearer realm="onehorizon", error="invalid_token", {RESOURCE_METADATA}'
    assert statuses(new_secret) == [200]
    assert admin_api.get(path).json()["previousSecret"] is None


def test_ending_the_previous_secret_is_repeatable_and_effective_at_its_next_request(
    admin_api: Api, path: str, secret: str
) -> None:
    new_secret = rotate(admin_api, path).json()["secret"]
    assert statuses(secret) == [200]

    assert admin_api.delete(f"{path}/previous-secret").status_code == 204
    assert admin_api.delete(f"{path}/previous-secret").status_code == 204

    assert statuses(secret, new_secret) == [401, 200]
    assert admin_api.get(path).json()["previousSecret"] is None


def test_ending_the_previous_secret_of_a_key_that_was_never_rotated_changes_nothing(
    admin_api: Api, path: str, secret: str
) -> None:
    assert admin_api.delete(f"{path}/previous-secret").status_code == 204
    assert statuses(secret) == [200]


def test_revoking_a_key_ends_both_secrets(admin_api: Api, path: str, secret: str) -> None:
    new_secret = rotate(admin_api, path).json()["secret"]
    assert statuses(secret, new_secret) == [200, 200]

    admin_api.delete(path)

    assert statuses(secret, new_secret) == [401, 401]
    assert admin_api.get(path).json()["previousSecret"] is None
    assert admin_api.delete(f"{path}/previous-secret").status_code == 204


def test_expiry_ends_both_secrets(admin_api: Api, path: str, api_key: ApiKey, secret: str) -> None:
    new_secret = rotate(admin_api, path).json()["secret"]
    assert statuses(secret, new_secret) == [200, 200]

    ApiKey.objects.filter(pk=api_key.pk).update(expires_at=timezone.now())

    assert statuses(secret, new_secret) == [401, 401]
    assert admin_api.get(path).json()["previousSecret"] is None


# ---- last uses ----


def test_the_last_use_of_each_secret_is_shown(admin_api: Api, path: str, secret: str) -> None:
    assert statuses(secret) == [200]
    used_at = admin_api.get(path).json()["lastUsedAt"]
    assert used_at is not None

    rotated = rotate(admin_api, path).json()

    assert rotated["lastUsedAt"] is None
    assert rotated["previousSecret"]["lastUsedAt"] == used_at
    assert statuses(rotated["secret"]) == [200]
    (listed,) = admin_api.get(KEYS).json()["apiKeys"]
    assert listed["lastUsedAt"] > used_at
    assert listed["previousSecret"] == rotated["previousSecret"]


# ---- keys that can't be rotated ----


@pytest.mark.parametrize("status", ["revoked", "expired"])
def test_an_inactive_key_can_not_be_rotated(status: str, admin_api: Api, path: str, api_key: ApiKey) -> None:
    times = {"revoked": {"revoked_at": timezone.now()}, "expired": {"expires_at": timezone.now()}}
    ApiKey.objects.filter(pk=api_key.pk).update(**times[status])

    response = rotate(admin_api, path)

    assert (response.status_code, response.json()) == (
        409,
        {"code": 409, "message": f"This key is {status}, so it can't be rotated. Create a new key instead."},
    )
    assert api_key.secrets.count() == 1


def test_keys_of_a_suspended_workspace_can_not_be_rotated(
    admin_api: Api, path: str, workspace: Workspace, api_key: ApiKey
) -> None:
    workspace.suspend("An invoice is three months late", by=BY_TEST)

    response = rotate(admin_api, path)

    assert (response.status_code, response.json()["message"]) == (
        409,
        "This workspace is suspended: “An invoice is three months late”. You can rotate keys once it is resumed.",
    )
    assert api_key.secrets.count() == 1


def test_keys_are_rotated_at_the_limit_of_active_keys(admin_api: Api, path: str, workspace: Workspace) -> None:
    for _ in range(19):
        make_key(workspace)

    assert rotate(admin_api, path).status_code == 200
    assert admin_api.get(KEYS).json()["activeCount"] == 20
    assert admin_api.post(KEYS, {"description": "One more"}).status_code == 409


# ---- who may rotate ----


OPERATIONS = [("POST", "rotate"), ("DELETE", "previous-secret")]


@pytest.fixture
def rotated_path(api_key: ApiKey, path: str) -> str:
    api_key.rotate(overlap=timedelta(hours=1), by=BY_TEST)
    return path


@pytest.mark.parametrize(("method", "operation"), OPERATIONS)
def test_a_key_can_not_rotate_itself(method: str, operation: str, api: Api, rotated_path: str, secret: str) -> None:
    response = api.request(method, f"{rotated_path}/{operation}")

    assert (response.status_code, response.json()["message"]) == (
        403,
        "API keys can't manage API keys: this needs an OAuth token of an owner or admin.",
    )
    assert statuses(secret) == [200]
    assert rotations() == 1


@pytest.mark.parametrize(("method", "operation"), OPERATIONS)
def test_a_member_can_not_rotate(method: str, operation: str, rotated_path: str, member: User, secret: str) -> None:
    assert Api(make_token(member)).request(method, f"{rotated_path}/{operation}").status_code == 403
    assert statuses(secret) == [200]
    assert rotations() == 1


@pytest.mark.parametrize(("method", "operation"), OPERATIONS)
def test_a_demoted_admin_can_not_rotate(
    method: str, operation: str, admin_api: Api, rotated_path: str, workspace: Workspace, admin: User, secret: str
) -> None:
    workspace.memberships.get(user=admin).change_role(Role.MEMBER, by=BY_TEST)

    assert admin_api.request(method, f"{rotated_path}/{operation}").status_code == 403
    assert statuses(secret) == [200]


@pytest.mark.parametrize(("method", "operation"), OPERATIONS)
def test_a_token_needs_the_scope_to_manage_keys(
    method: str, operation: str, rotated_path: str, admin: User, secret: str
) -> None:
    token = make_token(admin, "workspace:read", "workspace:write")

    response = Api(token).request(method, f"{rotated_path}/{operation}")

    assert response.status_code == 403
    assert response["WWW-Authenticate"] == (
        f'Bearer realm="onehorizon", error="insufficient_scope", scope="api-keys:manage", {RESOURCE_METADATA}'
    )
    assert statuses(secret) == [200]
    assert rotations() == 1


@pytest.mark.parametrize(("method", "operation"), OPERATIONS)
def test_another_workspaces_key_looks_exactly_like_an_absent_one(
    method: str, operation: str, api_key: ApiKey, workspace: Workspace, elsewhere: Workspace, outsider: User
) -> None:
    outsider_api = Api(make_token(outsider))

    responses = [
        outsider_api.request(method, f"/workspaces/{workspace_id}/api-keys/{api_key_id}/{operation}")
        for workspace_id, api_key_id in [
            (workspace.pk, api_key.pk),
            ("current", api_key.pk),
            ("current", ids.new_id("key")),
            ("current", "nonsense"),
        ]
    ]

    assert {(response.status_code, response.content) for response in responses} == {
        (404, b'{"code":404,"message":"Not found."}')
    }
    assert api_key.secrets.count() == 1


# ---- Idempotency-Key ----


def test_a_repeated_request_rotates_once_and_says_that_the_secret_was_shown(
    admin_api: Api, path: str, secret: str
) -> None:
    first = rotate(admin_api, path, A_DAY, idempotency_key="8e03978e")
    second = rotate(admin_api, path, idempotency_key="8e03978e")  # the default is the same overlap

    assert (first.status_code, second.status_code) == (200, 200)
    assert "Idempotent-Replayed" not in first
    assert second["Idempotent-Replayed"] == "true"
    body = first.json()
    new_secret = body.pop("secret")
    assert second.json() == body | {
        "notice": "An earlier request with this Idempotency-Key rotated the key, and only its response contained the "
        "secret."
    }
    assert rotations() == 1
    assert statuses(secret, new_secret) == [200, 200]


def test_a_repeated_request_returns_the_key_as_it_is_now(admin_api: Api, path: str) -> None:
    rotate(admin_api, path, idempotency_key="8e03978e")
    latest = rotate(admin_api, path, idempotency_key="another").json()
    assert rotate(admin_api, path, idempotency_key="8e03978e").json()["maskedKey"] == latest["maskedKey"]

    admin_api.delete(path)

    repeated = rotate(admin_api, path, idempotency_key="8e03978e")
    assert (repeated.status_code, repeated.json()["status"]) == (200, "revoked")
    assert "secret" not in repeated.json()
    assert rotations() == 2


def test_a_repeated_request_is_recognized_after_the_overlap(
    admin_api: Api, path: str, admin: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ids, "_last", ids._last)  # restored after the test, so that later ids are not from the future
    new_secret = rotate(admin_api, path, 60, idempotency_key="8e03978e").json()["secret"]

    with time_machine.travel(timezone.now() + timedelta(days=29)):
        repeated = rotate(Api(make_token(admin)), path, 60, idempotency_key="8e03978e")

    assert (repeated.status_code, repeated.json()["previousSecret"]) == (200, None)
    assert repeated.json()["maskedKey"] == new_secret[:17] + "…"
    assert rotations() == 1


def test_the_same_idempotency_key_with_another_overlap_is_422(admin_api: Api, path: str) -> None:
    rotate(admin_api, path, 60, idempotency_key="8e03978e")

    response = rotate(admin_api, path, 61, idempotency_key="8e03978e")

    assert response.status_code == 422
    assert response.json() == {
        "code": 422,
        "message": "This Idempotency-Key was used before with a different body. "
        "Send a new Idempotency-Key with this request.",
    }
    assert rotations() == 1


def test_an_idempotency_key_belongs_to_one_person_and_one_key(
    admin_api: Api, path: str, workspace: Workspace, owner: User
) -> None:
    other = f"{KEYS}/{make_key(workspace)[0].pk}"
    created = admin_api.post(KEYS, {"description": "CI"}, headers={"Idempotency-Key": "8e03978e"}).json()

    responses = [
        rotate(admin_api, path, 60, idempotency_key="8e03978e"),
        rotate(admin_api, other, 61, idempotency_key="8e03978e"),
        rotate(admin_api, f"{KEYS}/{created['apiKeyId']}", 62, idempotency_key="8e03978e"),
        rotate(Api(make_token(owner)), path, 63, idempotency_key="8e03978e"),
    ]

    assert [response.status_code for response in responses] == [200] * 4
    assert all("secret" in response.json() for response in responses)
    assert rotations() == 4


def test_a_rotation_that_failed_can_be_repeated(admin_api: Api, path: str, workspace: Workspace) -> None:
    workspace.suspend("An invoice is three months late", by=BY_TEST)
    assert rotate(admin_api, path, idempotency_key="8e03978e").status_code == 409
    workspace.resume(by=BY_TEST)

    assert "secret" in rotate(admin_api, path, idempotency_key="8e03978e").json()


@pytest.mark.parametrize("idempotency_key", ["", "two words", "x" * 256, "é"])
def test_an_invalid_idempotency_key_is_rejected(admin_api: Api, path: str, idempotency_key: str) -> None:
    response = rotate(admin_api, path, idempotency_key=idempotency_key)

    assert (response.status_code, list(response.json()["errors"])) == (400, ["Idempotency-Key"])
    assert rotations() == 0


# ---- headers ----


def test_responses_to_the_previous_secret_say_when_it_was_replaced_and_when_it_ends(
    admin_api: Api, path: str, api_key: ApiKey, secret: str
) -> None:
    rotated = rotate(admin_api, path, 3600).json()
    replaced = StoredSecret.objects.get(api_key=api_key, replaced_at__isnull=False)
    assert replaced.replaced_at is not None

    response = Api(secret).get("/me")

    assert response["Deprecation"] == f"@{int(replaced.replaced_at.timestamp())}"
    assert response["Sunset"].endswith(" GMT")
    ends_at = datetime.fromisoformat(rotated["previousSecret"]["endsAt"])
    assert parsedate_to_datetime(response["Sunset"]) == ends_at.replace(microsecond=0)
    assert response["Link"] == (
        '<http://127.0.0.1:8000/docs/api-keys/#rotating-a-key>; rel="deprecation"; type="text/html"'
    )


@pytest.mark.parametrize(
    ("method", "url", "body", "status"),
    [
        ("GET", "/workspaces/current", None, 200),
        ("HEAD", "/me", None, 200),
        ("GET", "/openapi.json", None, 200),
        ("POST", "/workspaces/current/tasks", {"title": "Ship"}, 201),
        ("POST", "/workspaces/current/tasks", {}, 400),
        ("GET", KEYS, None, 403),
        ("GET", "/workspaces/w_00000000000000000000000000", None, 404),
        ("GET", "/nowhere", None, 404),
        ("PUT", "/me", None, 405),
    ],
)
def test_only_responses_to_the_previous_secret_have_the_headers(
    method: str, url: str, body: Any, status: int, admin_api: Api, path: str, secret: str
) -> None:
    before = Api(secret).request(method, url, body)
    new_secret = rotate(admin_api, path).json()["secret"]

    old, new = (Api(bearer).request(method, url, body) for bearer in (secret, new_secret))

    assert before.status_code == old.status_code == new.status_code == status
    assert [old.has_header(name) for name in OF_A_PREVIOUS_SECRET] == [True] * 3
    for response in (before, new):
        assert [response.has_header(name) for name in OF_A_PREVIOUS_SECRET] == [False] * 3


def test_both_secrets_share_one_quota_and_a_429_has_the_headers_too(admin_api: Api, path: str, secret: str) -> None:
    old, new = Api(secret), Api(rotate(admin_api, path).json()["secret"])
    for _ in range(20):
        assert (old.get("/me").status_code, new.get("/me").status_code) == (200, 200)

    rejected = {name: api.get("/me") for name, api in {"old": old, "new": new}.items()}

    assert [response.status_code for response in rejected.values()] == [429, 429]
    assert all(rejected["old"].has_header(name) for name in OF_A_PREVIOUS_SECRET)
    assert not any(rejected["new"].has_header(name) for name in OF_A_PREVIOUS_SECRET)


def test_a_401_does_not_say_that_the_secret_once_worked(admin_api: Api, path: str, secret: str) -> None:
    rotate(admin_api, path, 0)

    ended, unknown = Api(secret).get("/me"), Api("one_000000000000_0").get("/me")

    assert (ended.status_code, ended.content) == (401, unknown.content)
    assert ended.headers.keys() == unknown.headers.keys()
    assert not any(ended.has_header(name) for name in OF_A_PREVIOUS_SECRET)
