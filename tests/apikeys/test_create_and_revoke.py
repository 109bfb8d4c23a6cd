"""Keys are created, renamed and revoked, with an audit event for each change."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from argon2 import extract_parameters
from argon2.low_level import Type
from django.core.exceptions import ValidationError
from django.db import connection, transaction
from django.utils import timezone

from apikeys import hashing, keys
from apikeys.models import ApiKey, StoredSecret
from tests.helpers import BY_TEST, Api, commits, make_key, make_user, make_workspace
from tests.processes import in_threads
from workspaces.access import CredentialRejected
from workspaces.models import Actor, AuditEvent, User, Via, Workspace


@pytest.fixture
def by_admin(admin: User) -> Actor:
    return Actor(via=Via.PAGE, user=admin, client_ip="203.0.113.7")


def events_of(api_key: ApiKey) -> list[tuple[str, dict[str, Any]]]:
    """Return the action and details of each audit event of the key, oldest first."""
    return [(event.action, event.details) for event in api_key.audit_events.order_by("id")]


# ---- creating ----


@pytest.mark.django_db
def test_a_new_key_is_active_and_works(workspace: Workspace, by_admin: Actor, admin: User) -> None:
    api_key, secret = ApiKey.objects.create_key(workspace, description="CI, production", by=by_admin)

    assert (api_key.status, api_key.created_by, api_key.workspace) == ("active", admin, workspace)
    assert api_key.masked == f"one_{api_key.current_secret.key_id}_…"
    assert keys.parse(secret) == api_key.current_secret.key_id
    assert StoredSecret.objects.authenticate(secret).api_key == api_key
    assert Api(secret).get("/me").status_code == 200


@pytest.mark.django_db
def test_only_an_argon2id_hash_a_keyed_digest_and_eight_bytes_of_the_secret_are_stored(
    workspace: Workspace, settings: Any
) -> None:
    settings.APIKEYS_ARGON2_TIME_COST, settings.APIKEYS_ARGON2_MEMORY_COST = 3, 128
    settings.APIKEYS_ARGON2_PARALLELISM = 2

    api_key, secret = make_key(workspace)

    parameters = extract_parameters(api_key.current_secret.hash)
    assert (parameters.type, parameters.time_cost, parameters.memory_cost) == (Type.ID, 3, 128)
    assert (parameters.parallelism, parameters.hash_len, parameters.salt_len) == (2, 32, 16)
    digest = hashlib.sha256(secret.encode())
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM apikeys_storedsecret")
        stored = {column[0]: value for column, value in zip(cursor.description, cursor.fetchone(), strict=True)}
    assert bytes(stored["fingerprint"]) == digest.digest()[:8]
    assert bytes(stored["shared_proof"]) == hashing.shared_proof(secret, api_key.current_secret.hash)
    row = repr({name: bytes(value) if isinstance(value, memoryview) else value for name, value in stored.items()})
    for part in (secret, secret[len("one_") + 12 + 1 :], secret[-6:], secret[20:36], digest.hexdigest()):
        assert part not in row


@pytest.mark.django_db
def test_each_hash_has_its_own_salt(workspace: Workspace) -> None:
    salts = {make_key(workspace)[0].current_secret.hash.split("$")[-2] for _ in range(5)}

    assert len(salts) == 5


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("description", "stored"),
    [
        ("CI", "CI"),
        ("x", "x"),
        ("  trimmed \t\n", "trimmed"),
        ("a" * 100, "a" * 100),
        (" " + "a" * 100 + " ", "a" * 100),
        ("🚀 Deploys 👩‍💻", "🚀 Deploys 👩‍💻"),
        ("🚀" * 50, "🚀" * 50),
        ("Zürich, 東京, عربي", "Zürich, 東京, عربي"),
        ("<b>bold</b> & \"quoted\" 'too'", "<b>bold</b> & \"quoted\" 'too'"),
    ],
)
def test_a_description_is_stored_trimmed_and_otherwise_unchanged(
    workspace: Workspace, description: str, stored: str
) -> None:
    api_key, _ = make_key(workspace, description)

    api_key.refresh_from_db()
    assert api_key.description == stored


BAD_DESCRIPTIONS = {
    "empty": "",
    "only white space": " \t\n ",
    "101 characters": "a" * 101,
    "101 emoji": "🚀" * 101,
    "NUL": "a\0b",
    "line break": "a\nb",
    "carriage return": "a\rb",
    "tab": "a\tb",
    "escape": "a\x1b[31mb",
    "delete": "a\x7fb",
    "C1 control": "a\x85b",
    "line separator": "a\u2028b",
    "paragraph separator": "a\u2029b",
    "right-to-left override": "a\u202eb",
    "isolate": "a\u2067b",
    "lone surrogate": "a\ud800b",
    "only zero-width characters": "\u200b\u200d\ufeff",
    "only zero-width characters and spaces": "\u200b \u00a0\u2060",
}


@pytest.mark.django_db
@pytest.mark.parametrize("description", BAD_DESCRIPTIONS.values(), ids=BAD_DESCRIPTIONS.keys())
def test_an_invalid_description_creates_no_key(workspace: Workspace, description: str) -> None:
    with pytest.raises(ValidationError) as excinfo:
        make_key(workspace, description)

    assert list(excinfo.value.message_dict) == ["description"]
    assert not workspace.api_keys.exists()
    assert not AuditEvent.objects.filter(action__startswith="api_key").exists()


LATEST = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


@pytest.mark.django_db
@pytest.mark.parametrize("ago", [timedelta(), timedelta(seconds=1), timedelta(days=400)])
def test_an_expiry_in_the_past_is_rejected(workspace: Workspace, ago: timedelta) -> None:
    with pytest.raises(ValidationError) as excinfo:
        make_key(workspace, expires_at=timezone.now() - ago)

    assert excinfo.value.message_dict == {"expires_at": ["This must be in the future."]}
    assert not workspace.api_keys.exists()


@pytest.mark.django_db
def test_an_expiry_can_be_as_late_as_the_end_of_the_year_9999(workspace: Workspace) -> None:
    api_key, secret = make_key(workspace, expires_at=LATEST)

    api_key.refresh_from_db()
    assert api_key.expires_at == LATEST
    assert StoredSecret.objects.authenticate(secret).api_key == api_key


@pytest.mark.django_db
def test_an_expiry_after_the_year_9999_in_utc_is_rejected(workspace: Workspace) -> None:
    with pytest.raises(ValidationError) as excinfo:
        make_key(workspace, expires_at=datetime.fromisoformat("9999-12-31T23:59:59-14:00"))

    assert list(excinfo.value.message_dict) == ["expires_at"]
    assert list(workspace.api_keys.all()) == []


@pytest.mark.django_db
def test_a_key_is_rejected_from_its_expiry_on(workspace: Workspace) -> None:
    api_key, secret = make_key(workspace, expires_at=timezone.now() + timedelta(days=1))
    api = Api(secret)
    assert api.get("/me").status_code == 200

    ApiKey.objects.filter(pk=api_key.pk).update(expires_at=timezone.now())

    api_key.refresh_from_db()
    assert api.get("/me").status_code == 401
    with pytest.raises(CredentialRejected, match="expired"):
        StoredSecret.objects.authenticate(secret)
    assert api_key.status == "expired"


@pytest.mark.django_db
def test_a_key_that_expired_and_was_revoked_has_the_status_revoked(workspace: Workspace) -> None:
    api_key, _ = make_key(workspace, expires_at=timezone.now() + timedelta(days=1))
    ApiKey.objects.filter(pk=api_key.pk).update(expires_at=timezone.now())
    api_key.refresh_from_db()

    assert api_key.revoke(by=BY_TEST)

    assert api_key.status == "revoked"
    assert list(ApiKey.objects.with_status("revoked")) == [api_key]


# ---- the audit event ----


@pytest.mark.django_db
def test_each_change_has_an_audit_event_with_the_actor_and_the_client_ip(
    workspace: Workspace, by_admin: Actor, admin: User
) -> None:
    began = timezone.now()
    api_key, _ = ApiKey.objects.create_key(workspace, description="Old", by=by_admin)
    api_key.rename("New", by=by_admin)
    api_key.revoke(by=by_admin, reason="Leaked")

    assert events_of(api_key) == [
        ("api_key.created", {"description": "Old"}),
        ("api_key.renamed", {"before": "Old", "after": "New"}),
        ("api_key.revoked", {"reason": "Leaked"}),
    ]
    for event in api_key.audit_events.all():
        assert (event.actor, event.via, event.client_ip) == (admin, "page", "203.0.113.7")
        assert event.workspace == workspace
        assert began <= event.created_at <= timezone.now()


@pytest.mark.django_db
def test_events_are_listed_newest_first(api_key: ApiKey) -> None:
    api_key.rename("New", by=BY_TEST)

    assert [str(event) for event in AuditEvent.objects.filter(workspace=api_key.workspace)[:2]] == [
        f"api_key.renamed {api_key.pk}",
        f"api_key.created {api_key.pk}",
    ]


class Failure(Exception):
    pass


def fail_on_audit_events(cursor_execute: Any, sql: str, *arguments: Any) -> Any:
    """Raise `Failure` instead of inserting an audit event."""
    if sql.startswith("INSERT") and "workspaces_auditevent" in sql:
        raise Failure
    return cursor_execute(sql, *arguments)


@pytest.mark.django_db
def test_a_change_whose_audit_event_fails_does_not_happen(workspace: Workspace, api_key: ApiKey, secret: str) -> None:
    with connection.execute_wrapper(fail_on_audit_events):
        with pytest.raises(Failure):
            make_key(workspace, "Never")
        with pytest.raises(Failure):
            api_key.rename("Never", by=BY_TEST)
        with pytest.raises(Failure):
            api_key.revoke(by=BY_TEST)

    stored = ApiKey.objects.get()
    assert (stored.pk, stored.description, stored.status) == (api_key.pk, "CI, production", "active")
    assert StoredSecret.objects.authenticate(secret).api_key == api_key


@pytest.mark.django_db
def test_a_change_that_is_rolled_back_has_no_audit_event(workspace: Workspace, api_key: ApiKey) -> None:
    def change_and_fail() -> None:
        make_key(workspace, "Never")
        api_key.rename("Never", by=BY_TEST)
        api_key.revoke(by=BY_TEST)
        raise Failure

    with pytest.raises(Failure), transaction.atomic():
        change_and_fail()

    assert ApiKey.objects.get().status == "active"
    assert events_of(api_key) == [("api_key.created", {"description": "CI, production"})]


# ---- renaming ----


@pytest.mark.django_db
def test_renaming_changes_the_description_and_nothing_else(api_key: ApiKey, secret: str) -> None:
    before = ApiKey.objects.values().get()
    stale = ApiKey.objects.get()
    StoredSecret.objects.update(last_used_at=timezone.now(), last_used_from="192.0.2.1")
    used = StoredSecret.objects.values().get()

    assert stale.rename("  Deploys ", by=BY_TEST)

    assert ApiKey.objects.values().get() == before | {"description": "Deploys"}
    assert StoredSecret.objects.values().get() == used
    assert StoredSecret.objects.authenticate(secret).api_key == api_key


@pytest.mark.django_db
def test_renaming_to_the_same_description_is_no_change(api_key: ApiKey) -> None:
    assert not api_key.rename(" CI, production ", by=BY_TEST)

    assert [action for action, _ in events_of(api_key)] == ["api_key.created"]


@pytest.mark.django_db
def test_renaming_compares_with_the_description_that_is_stored_now(api_key: ApiKey) -> None:
    repeating, reverting = ApiKey.objects.get(), ApiKey.objects.get()
    api_key.rename("Deploys", by=BY_TEST)

    repeating.rename("Deploys", by=BY_TEST)
    reverting.rename("CI, production", by=BY_TEST)

    assert ApiKey.objects.get().description == "CI, production"
    assert events_of(api_key)[1:] == [
        ("api_key.renamed", {"before": "CI, production", "after": "Deploys"}),
        ("api_key.renamed", {"before": "Deploys", "after": "CI, production"}),
    ]


@pytest.mark.django_db
@pytest.mark.parametrize("description", BAD_DESCRIPTIONS.values(), ids=BAD_DESCRIPTIONS.keys())
def test_an_invalid_description_renames_nothing(api_key: ApiKey, description: str) -> None:
    with pytest.raises(ValidationError):
        api_key.rename(description, by=BY_TEST)

    assert api_key.description == "CI, production"
    api_key.refresh_from_db()
    assert api_key.description == "CI, production"
    assert [action for action, _ in events_of(api_key)] == ["api_key.created"]


# ---- revoking ----


@pytest.mark.django_db
def test_a_revoked_key_is_rejected_from_the_next_request_on(api: Api, api_key: ApiKey) -> None:
    assert api.get("/me").status_code == 200

    assert api_key.revoke(by=BY_TEST)

    assert api.get("/me").status_code == 401


@pytest.mark.django_db
def test_revoking_again_changes_nothing(api_key: ApiKey, by_admin: Actor) -> None:
    stale = ApiKey.objects.get()
    api_key.revoke(by=by_admin, reason="Leaked")
    before = ApiKey.objects.values().get()

    assert not api_key.revoke(by=BY_TEST, reason="Again")
    assert not stale.revoke(by=BY_TEST, reason="Again")

    assert ApiKey.objects.values().get() == before
    assert [action for action, _ in events_of(api_key)] == ["api_key.created", "api_key.revoked"]


@pytest.mark.django_db
@pytest.mark.parametrize("reason", ["a" * 201, "a\0b", "a\nb"])
def test_an_invalid_reason_is_rejected_and_revokes_nothing(api_key: ApiKey, secret: str, reason: str) -> None:
    with pytest.raises(ValidationError) as excinfo:
        api_key.revoke(by=BY_TEST, reason=reason)

    assert list(excinfo.value.message_dict) == ["reason"]
    assert StoredSecret.objects.authenticate(secret).api_key == api_key


@pytest.fixture
def committed_key(transactional_db: None) -> tuple[ApiKey, str]:
    return make_key(make_workspace(make_user("owner")))


@commits
def test_one_of_ten_threads_revokes_the_key(committed_key: tuple[ApiKey, str]) -> None:
    api_key, _ = committed_key

    outcomes = in_threads(*[lambda: ApiKey.objects.get(pk=api_key.pk).revoke(by=BY_TEST)] * 10)

    assert sorted(map(repr, outcomes)) == ["False"] * 9 + ["True"]
    assert [action for action, _ in events_of(api_key)] == ["api_key.created", "api_key.revoked"]


@commits
def test_ten_threads_rename_the_key_one_after_another(committed_key: tuple[ApiKey, str]) -> None:
    api_key, _ = committed_key

    in_threads(*[lambda n=n: ApiKey.objects.get(pk=api_key.pk).rename(f"Key {n}", by=BY_TEST) for n in range(10)])

    api_key.refresh_from_db()
    renames = [details for action, details in events_of(api_key) if action == "api_key.renamed"]
    after = {details["after"] for details in renames}
    assert after == {f"Key {n}" for n in range(10)}
    assert {details["before"] for details in renames} == after - {api_key.description} | {"CI, production"}


# ---- ownership ----


@pytest.mark.django_db
def test_a_key_outlives_its_creator(workspace: Workspace, by_admin: Actor, admin: User) -> None:
    api_key, secret = ApiKey.objects.create_key(workspace, description="CI", by=by_admin)
    other, _ = make_key(workspace, "Revoked by the admin")
    other.revoke(by=by_admin)

    workspace.memberships.get(user=admin).leave(by=BY_TEST)
    admin.delete()

    api_key.refresh_from_db()
    other.refresh_from_db()
    assert (api_key.created_by, other.revoked_by, other.status) == (None, None, "revoked")
    assert Api(secret).get("/me").status_code == 200
    assert [(event.action, event.actor, event.client_ip) for event in api_key.audit_events.all()] == [
        ("api_key.created", None, "203.0.113.7")
    ]


# ---- looking up ----


@pytest.mark.django_db
def test_a_key_in_any_state_is_found_by_id_key_id_masked_form_or_secret(workspace: Workspace) -> None:
    make_key(workspace, "Another")
    api_key, secret = make_key(workspace)
    references = [
        api_key.pk,
        api_key.current_secret.key_id,
        api_key.masked,
        f"one_{api_key.current_secret.key_id}_",
        f"one_{api_key.current_secret.key_id}_...",
        secret,
        f"export ONE_API_KEY={secret}",
        f"curl -H 'Authorization: Bearer {secret}'",
    ]

    assert {StoredSecret.objects.look_up(f" {reference}\n").api_key for reference in references} == {api_key}
    api_key.revoke(by=BY_TEST)
    assert {StoredSecret.objects.look_up(reference).api_key.status for reference in references} == {"revoked"}


def with_another_secret(secret: str) -> str:
    """Return a key with the same key id, another secret and a correct checksum."""
    body = secret[:17] + secret[17:-6].swapcase()
    return body + keys.checksum(body)


@pytest.mark.django_db
def test_a_key_is_not_found_by_a_wrong_or_incomplete_identifier(api_key: ApiKey, secret: str) -> None:
    wrong = [
        with_another_secret(secret),
        secret[:-1],
        secret[:-6],
        secret[:-1] + ("0" if secret[-1] != "0" else "1"),
        keys.generate().secret,
        keys.generate().key_id,
        "key_00000000000000000000000000",
        api_key.pk[:-1],
        api_key.current_secret.key_id[:-1],
        "",
        "one_",
        "a\0b",
        "\ud800",
    ]
    for text in wrong:
        with pytest.raises(StoredSecret.DoesNotExist):
            StoredSecret.objects.look_up(text)
    assert keys.parse(with_another_secret(secret)) == api_key.current_secret.key_id
