"""How a key comes to be, is renamed and ends; and what is written down of it."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from argon2 import extract_parameters
from argon2.low_level import Type
from django.core.exceptions import ValidationError
from django.db import connection, transaction
from django.utils import timezone

from apikeys import keys
from apikeys.models import ApiKey
from tests.helpers import BY_TEST, Api, fetch, in_processes, in_threads, make_key, make_user, make_workspace, server
from workspaces.models import Actor, AuditEvent, User, Via, Workspace

in_one_transaction = pytest.mark.django_db
committed = pytest.mark.django_db(transaction=True, serialized_rollback=True)


@pytest.fixture
def by_admin(admin: User) -> Actor:
    return Actor(via=Via.PAGE, user=admin, client_ip="203.0.113.7")


def events_of(api_key: ApiKey) -> list[tuple[str, dict[str, Any]]]:
    """Oldest first."""
    return [(event.action, event.details) for event in api_key.audit_events.order_by("id")]


# ---- creating ----


@in_one_transaction
def test_a_new_key_is_active_and_works(workspace: Workspace, by_admin: Actor, admin: User) -> None:
    api_key, secret = ApiKey.objects.create_key(workspace, description="CI, production", by=by_admin)

    assert (api_key.status, api_key.created_by, api_key.workspace) == ("active", admin, workspace)
    assert api_key.masked == f"one_{api_key.key_id}_…"
    assert keys.parse(secret) == api_key.key_id
    assert ApiKey.objects.authenticate(secret) == api_key
    assert Api(secret).get("/me").status_code == 200


@in_one_transaction
def test_nothing_of_the_secret_is_kept_but_an_argon2id_hash_and_eight_bytes(
    workspace: Workspace, settings: Any
) -> None:
    settings.APIKEYS_ARGON2_TIME_COST, settings.APIKEYS_ARGON2_MEMORY_COST = 3, 128
    settings.APIKEYS_ARGON2_PARALLELISM = 2

    api_key, secret = make_key(workspace)

    parameters = extract_parameters(api_key.hash)
    assert (parameters.type, parameters.time_cost, parameters.memory_cost) == (Type.ID, 3, 128)
    assert (parameters.parallelism, parameters.hash_len, parameters.salt_len) == (2, 32, 16)
    digest = hashlib.sha256(secret.encode())
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM apikeys_apikey")
        stored = {column[0]: value for column, value in zip(cursor.description, cursor.fetchone(), strict=True)}
    assert bytes(stored["fingerprint"]) == digest.digest()[:8]
    whole = repr({name: bytes(value) if name == "fingerprint" else value for name, value in stored.items()})
    for part in (secret, secret[len("one_") + 12 + 1 :], secret[-6:], secret[20:36], digest.hexdigest()):
        assert part not in whole


@in_one_transaction
def test_two_keys_with_one_secret_would_have_hashes_that_share_nothing(workspace: Workspace) -> None:
    hashes = {make_key(workspace)[0].hash.split("$")[-2] for _ in range(5)}

    assert len(hashes) == 5


@in_one_transaction
@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("CI", "CI"),
        ("x", "x"),
        ("  trimmed \t\n", "trimmed"),
        ("a" * 100, "a" * 100),
        (" " + "a" * 100 + " ", "a" * 100),
        ("🚀 Deploys 👩‍💻", "🚀 Deploys 👩‍💻"),
        ("🚀" * 100, "🚀" * 100),
        ("Zürich, 東京, عربي", "Zürich, 東京, عربي"),
        ("<b>bold</b> & \"quoted\" 'too'", "<b>bold</b> & \"quoted\" 'too'"),
    ],
)
def test_a_description_is_kept_as_written_but_for_the_space_around_it(
    workspace: Workspace, given: str, kept: str
) -> None:
    api_key, _ = make_key(workspace, given)

    api_key.refresh_from_db()
    assert api_key.description == kept


BAD_DESCRIPTIONS = {
    "empty": "",
    "nothing but space": " \t\n ",
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
    "nothing but zero width": "\u200b\u200d\ufeff",
    "nothing but zero width and space": "\u200b \u00a0\u2060",
}


@in_one_transaction
@pytest.mark.parametrize("description", BAD_DESCRIPTIONS.values(), ids=BAD_DESCRIPTIONS.keys())
def test_a_description_that_can_not_be_shown_on_one_line_is_refused(workspace: Workspace, description: str) -> None:
    with pytest.raises(ValidationError) as refused:
        make_key(workspace, description)

    assert list(refused.value.message_dict) == ["description"]
    assert not workspace.api_keys.exists()
    assert not AuditEvent.objects.filter(action__startswith="api_key").exists()


FAR = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


@in_one_transaction
@pytest.mark.parametrize("ago", [timedelta(), timedelta(seconds=1), timedelta(days=400)])
def test_an_expiry_in_the_past_is_refused(workspace: Workspace, ago: timedelta) -> None:
    with pytest.raises(ValidationError) as refused:
        make_key(workspace, expires_at=timezone.now() - ago)

    assert refused.value.message_dict == {"expires_at": ["This must be in the future."]}
    assert not workspace.api_keys.exists()


@in_one_transaction
def test_an_expiry_is_kept_up_to_the_last_moment_that_can_be_written(workspace: Workspace) -> None:
    api_key, secret = make_key(workspace, expires_at=FAR)

    api_key.refresh_from_db()
    assert api_key.expires_at == FAR
    assert ApiKey.objects.authenticate(secret) == api_key


@in_one_transaction
def test_an_expiry_after_the_year_9999_in_utc_is_refused(workspace: Workspace) -> None:
    with pytest.raises(ValidationError) as refused:
        make_key(workspace, expires_at=datetime.fromisoformat("9999-12-31T23:59:59-14:00"))

    assert list(refused.value.message_dict) == ["expires_at"]
    assert list(workspace.api_keys.all()) == []


@in_one_transaction
def test_an_expired_key_is_refused_from_that_moment_on(workspace: Workspace) -> None:
    api_key, secret = make_key(workspace, expires_at=timezone.now() + timedelta(days=1))
    api = Api(secret)
    assert api.get("/me").status_code == 200

    ApiKey.objects.filter(pk=api_key.pk).update(expires_at=timezone.now())

    api_key.refresh_from_db()
    assert api.get("/me").status_code == 401
    assert ApiKey.objects.authenticate(secret) is None
    assert api_key.status == "expired"


@in_one_transaction
def test_a_key_that_expired_and_was_revoked_is_revoked(workspace: Workspace) -> None:
    api_key, _ = make_key(workspace, expires_at=timezone.now() + timedelta(days=1))
    ApiKey.objects.filter(pk=api_key.pk).update(expires_at=timezone.now())
    api_key.refresh_from_db()

    assert api_key.revoke(by=BY_TEST)

    assert api_key.status == "revoked"
    assert list(ApiKey.objects.revoked()) == [api_key]


# ---- the audit event ----


@in_one_transaction
def test_each_change_is_written_down_with_who_and_from_where(
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


@in_one_transaction
def test_events_are_told_newest_first(api_key: ApiKey) -> None:
    api_key.rename("New", by=BY_TEST)

    assert [str(event) for event in AuditEvent.objects.filter(workspace=api_key.workspace)[:2]] == [
        f"api_key.renamed {api_key.pk}",
        f"api_key.created {api_key.pk}",
    ]


class Failure(Exception):
    pass


def refuse_events(cursor_execute: Any, sql: str, *arguments: Any) -> Any:
    """A database that takes everything but audit events."""
    if sql.startswith("INSERT") and "workspaces_auditevent" in sql:
        raise Failure
    return cursor_execute(sql, *arguments)


@in_one_transaction
def test_what_can_not_be_written_down_does_not_happen(workspace: Workspace, api_key: ApiKey, secret: str) -> None:
    with connection.execute_wrapper(refuse_events):
        with pytest.raises(Failure):
            make_key(workspace, "Never")
        with pytest.raises(Failure):
            api_key.rename("Never", by=BY_TEST)
        with pytest.raises(Failure):
            api_key.revoke(by=BY_TEST)

    kept = ApiKey.objects.get()
    assert (kept.pk, kept.description, kept.status) == (api_key.pk, "CI, production", "active")
    assert ApiKey.objects.authenticate(secret) == api_key


@in_one_transaction
def test_what_does_not_happen_is_not_written_down(workspace: Workspace, api_key: ApiKey) -> None:
    def undone() -> None:
        make_key(workspace, "Never")
        api_key.rename("Never", by=BY_TEST)
        api_key.revoke(by=BY_TEST)
        raise Failure

    with pytest.raises(Failure), transaction.atomic():
        undone()

    assert ApiKey.objects.get().status == "active"
    assert events_of(api_key) == [("api_key.created", {"description": "CI, production"})]


# ---- renaming ----


@in_one_transaction
def test_renaming_changes_the_description_and_nothing_else(api_key: ApiKey, secret: str) -> None:
    before = ApiKey.objects.values().get()
    stale = ApiKey.objects.get()
    ApiKey.objects.update(last_used_at=timezone.now(), last_used_from="192.0.2.1")
    used = ApiKey.objects.values().get()

    stale.rename("  Deploys ", by=BY_TEST)

    assert ApiKey.objects.values().get() == used | {"description": "Deploys"}
    assert used != before
    assert ApiKey.objects.authenticate(secret) == api_key


@in_one_transaction
def test_renaming_to_the_same_description_is_no_change(api_key: ApiKey) -> None:
    api_key.rename(" CI, production ", by=BY_TEST)

    assert [action for action, _ in events_of(api_key)] == ["api_key.created"]


@in_one_transaction
@pytest.mark.parametrize("description", BAD_DESCRIPTIONS.values(), ids=BAD_DESCRIPTIONS.keys())
def test_a_bad_description_renames_nothing(api_key: ApiKey, description: str) -> None:
    with pytest.raises(ValidationError):
        api_key.rename(description, by=BY_TEST)

    assert api_key.description == "CI, production"
    api_key.refresh_from_db()
    assert api_key.description == "CI, production"
    assert [action for action, _ in events_of(api_key)] == ["api_key.created"]


# ---- revoking ----


@in_one_transaction
def test_a_revoked_key_is_refused_from_the_next_request_on(api: Api, api_key: ApiKey) -> None:
    assert api.get("/me").status_code == 200

    assert api_key.revoke(by=BY_TEST)

    assert api.get("/me").status_code == 401


@in_one_transaction
def test_revoking_again_changes_nothing(api_key: ApiKey, by_admin: Actor) -> None:
    stale = ApiKey.objects.get()
    api_key.revoke(by=by_admin, reason="Leaked")
    before = ApiKey.objects.values().get()

    assert not api_key.revoke(by=BY_TEST, reason="Again")
    assert not stale.revoke(by=BY_TEST, reason="Again")

    assert ApiKey.objects.values().get() == before
    assert [action for action, _ in events_of(api_key)] == ["api_key.created", "api_key.revoked"]


@in_one_transaction
@pytest.mark.parametrize("reason", ["a" * 201, "a\0b", "a\nb"])
def test_a_reason_that_can_not_be_kept_is_refused_and_revokes_nothing(
    api_key: ApiKey, secret: str, reason: str
) -> None:
    with pytest.raises(ValidationError) as refused:
        api_key.revoke(by=BY_TEST, reason=reason)

    assert list(refused.value.message_dict) == ["reason"]
    assert ApiKey.objects.authenticate(secret) == api_key


@pytest.fixture
def committed_key(transactional_db: None) -> tuple[ApiKey, str]:
    return make_key(make_workspace(make_user("owner")))


@committed
def test_of_many_who_revoke_at_once_one_does(committed_key: tuple[ApiKey, str]) -> None:
    api_key, _ = committed_key

    outcomes = in_threads(*[lambda: ApiKey.objects.get(pk=api_key.pk).revoke(by=BY_TEST)] * 10)

    assert sorted(map(repr, outcomes)) == ["False"] * 9 + ["True"]
    assert [action for action, _ in events_of(api_key)] == ["api_key.created", "api_key.revoked"]


@committed
def test_of_processes_that_revoke_at_once_one_does(committed_key: tuple[ApiKey, str]) -> None:
    api_key, _ = committed_key

    outputs = in_processes(
        3,
        f"""
        from apikeys.models import ApiKey
        from tests.helpers import BY_TEST
        print(ApiKey.objects.get(pk={api_key.pk!r}).revoke(by=BY_TEST))
        """,
    )

    assert sorted(outputs) == ["False\n"] * 2 + ["True\n"]
    assert [action for action, _ in events_of(api_key)] == ["api_key.created", "api_key.revoked"]


@committed
def test_a_revocation_in_one_process_holds_in_every_other_from_the_next_request_on(
    committed_key: tuple[ApiKey, str], tmp_path: Path
) -> None:
    api_key, secret = committed_key
    with server(tmp_path / "server.log", workers=2) as address:
        # Each request is a connection of its own, so all 30 in one worker have a chance of 1 in 2²⁹.
        warm = [fetch(f"{address}/api/v1/me", secret)[0] for _ in range(30)]
        api_key.revoke(by=BY_TEST)
        after = [fetch(f"{address}/api/v1/me", secret)[0] for _ in range(30)]

    assert (warm, after) == ([200] * 30, [401] * 30)


# ---- whose it is ----


@in_one_transaction
def test_a_key_outlives_its_maker(workspace: Workspace, by_admin: Actor, admin: User) -> None:
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


@in_one_transaction
def test_a_key_is_found_by_whatever_a_person_has_of_it_in_any_state(workspace: Workspace) -> None:
    make_key(workspace, "Another")
    api_key, secret = make_key(workspace)
    ways = [api_key.pk, api_key.key_id, api_key.masked, f"one_{api_key.key_id}_", f"one_{api_key.key_id}_...", secret]

    assert [ApiKey.objects.look_up(f" {way}\n") for way in ways] == [api_key] * len(ways)
    api_key.revoke(by=BY_TEST)
    assert [ApiKey.objects.look_up(way).status for way in ways] == ["revoked"] * len(ways)


def with_another_secret(secret: str) -> str:
    """The same key id, another secret, and a checksum that is right for it."""
    body = secret[:17] + secret[17:-6].swapcase()
    return body + keys.checksum(body)


@in_one_transaction
def test_a_key_is_not_found_by_a_secret_that_only_looks_like_its(api_key: ApiKey, secret: str) -> None:
    wrong = [
        with_another_secret(secret),
        secret[:-1],
        secret[:-6],
        secret[:-1] + ("0" if secret[-1] != "0" else "1"),
        keys.generate().secret,
        keys.generate().key_id,
        "key_00000000000000000000000000",
        api_key.pk[:-1],
        api_key.key_id[:-1],
        "",
        "one_",
        "a\0b",
        "\ud800",
    ]
    for text in wrong:
        with pytest.raises(ApiKey.DoesNotExist):
            ApiKey.objects.look_up(text)
    assert keys.parse(with_another_secret(secret)) == api_key.key_id
