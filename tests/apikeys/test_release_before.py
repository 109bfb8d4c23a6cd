"""Processes of the release before use the same database during an upgrade.

They keep a key's secret in the key's row, and the time of each request in the quota's row. The tests execute the
statements of that release.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.db import connection
from django.utils import timezone

from apikeys import hashing, keys
from apikeys.models import ApiKey, StoredSecret
from tests.helpers import BY_TEST, Api, commits, fill_quota, make_key
from tests.processes import TIMEOUT, database_url, in_threads, wait_until_blocked
from workspaces import quota
from workspaces.ids import new_id
from workspaces.models import Tier, Workspace

pytestmark = pytest.mark.django_db

OF_SECRET = ["key_id", "hash", "fingerprint", "shared_proof"]
LAST_USE = """
    UPDATE apikeys_apikey SET last_used_at = %s, last_used_from = %s
    WHERE workspace_id = %s AND id IN (SELECT id FROM apikeys_apikey WHERE workspace_id = %s AND id = %s {lock})
"""


def execute(statement: str, *params: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, params)


def row_of(api_key: ApiKey) -> dict[str, Any]:
    """Return what the release before reads of the key's secret."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {', '.join(OF_SECRET)} FROM apikeys_apikey WHERE id = %s", [api_key.pk])
        values = cursor.fetchone()
    return {n: bytes(v) if isinstance(v, memoryview) else v for n, v in zip(OF_SECRET, values, strict=True)}


def stored_of(key_id: str) -> dict[str, Any]:
    """Return the same of this release's row."""
    values = StoredSecret.objects.filter(pk=key_id).values(*OF_SECRET).get()
    return {name: bytes(v) if isinstance(v, memoryview) else v for name, v in values.items()}


def create_with_release_before(workspace: Workspace) -> tuple[ApiKey, str]:
    generated = keys.generate()
    hash_ = hashing.hash_secret(generated.secret)
    values = {
        "id": new_id("key"),
        "workspace_id": workspace.pk,
        "key_id": generated.key_id,
        "hash": hash_,
        "fingerprint": hashing.fingerprint(generated.secret),
        "shared_proof": hashing.shared_proof(generated.secret, hash_),
        "description": "Created by the release before",
        "created_at": timezone.now(),
        "revoke_reason": "",
        "request_digest": "",
    }
    columns, placeholders = ", ".join(values), ", ".join(["%s"] * len(values))
    execute(f"INSERT INTO apikeys_apikey ({columns}) VALUES ({placeholders})", *values.values())
    return ApiKey.objects.get(pk=values["id"]), generated.secret


def record_use_with_release_before(api_key: ApiKey, client_ip: str) -> None:
    lock = "FOR UPDATE SKIP LOCKED" if connection.vendor == "postgresql" else ""
    of_workspace = api_key.workspace_id
    execute(LAST_USE.format(lock=lock), timezone.now(), client_ip, of_workspace, of_workspace, api_key.pk)


def rehash_with_release_before(api_key: ApiKey, secret: str) -> str:
    new_hash = hashing.hash_secret(secret)
    execute(
        "UPDATE apikeys_apikey SET hash = %s, shared_proof = %s WHERE id = %s AND hash = %s",
        *(new_hash, hashing.shared_proof(secret, new_hash), api_key.pk, row_of(api_key)["hash"]),
    )
    return new_hash


def test_a_key_of_the_release_before_works_and_can_be_rotated(workspace: Workspace) -> None:
    api_key, secret = create_with_release_before(workspace)
    assert Api(secret).get("/me").status_code == 200
    assert row_of(api_key) == stored_of(api_key.current_secret.key_id)

    new_secret = api_key.rotate(overlap=timedelta(hours=1), by=BY_TEST)

    assert [Api(bearer).get("/me").status_code for bearer in (secret, new_secret)] == [200, 200]


def test_the_release_before_reads_the_current_secret(workspace: Workspace) -> None:
    api_key, _ = make_key(workspace)
    created = api_key.current_secret.key_id
    assert row_of(api_key) == stored_of(created)

    api_key.rotate(overlap=timedelta(hours=1), by=BY_TEST)

    assert api_key.current_secret.key_id != created
    assert row_of(api_key) == stored_of(api_key.current_secret.key_id)


def test_a_rehash_by_either_release_is_read_by_the_other(workspace: Workspace, settings: Any) -> None:
    api_key, secret = make_key(workspace)
    key_id = api_key.current_secret.key_id

    settings.APIKEYS_ARGON2_TIME_COST = 2
    rehashed = rehash_with_release_before(api_key, secret)
    assert stored_of(key_id) == row_of(api_key)
    assert stored_of(key_id)["hash"] == rehashed

    settings.APIKEYS_ARGON2_TIME_COST = 3
    assert StoredSecret.objects.authenticate(secret)
    assert stored_of(key_id) == row_of(api_key)
    assert ",t=3," in row_of(api_key)["hash"]


def test_a_shared_proof_of_either_release_is_read_by_the_other(workspace: Workspace) -> None:
    api_key, secret = make_key(workspace)
    key_id = api_key.current_secret.key_id

    execute("UPDATE apikeys_apikey SET shared_proof = NULL WHERE id = %s", api_key.pk)
    assert stored_of(key_id)["shared_proof"] is None

    assert StoredSecret.objects.authenticate(secret)
    assert row_of(api_key)["shared_proof"] == stored_of(key_id)["shared_proof"] is not None


def test_a_rehash_of_the_previous_secret_does_not_reach_the_release_before(workspace: Workspace, settings: Any) -> None:
    api_key, secret = make_key(workspace)
    api_key.rotate(overlap=timedelta(hours=1), by=BY_TEST)
    before = row_of(api_key)

    settings.APIKEYS_ARGON2_TIME_COST = 2
    assert ",t=2," in StoredSecret.objects.authenticate(secret).hash

    assert row_of(api_key) == before


def test_a_use_that_the_release_before_records_is_shown(workspace: Workspace) -> None:
    api_key, _ = make_key(workspace)
    record_use_with_release_before(api_key, "192.0.2.7")
    stored = StoredSecret.objects.get(api_key=api_key)
    assert stored.last_used_at is not None
    assert (stored.last_used_from, stored.first_used_at) == ("192.0.2.7", stored.last_used_at)

    record_use_with_release_before(api_key, "192.0.2.8")
    after = StoredSecret.objects.get(api_key=api_key)
    assert after.last_used_at is not None
    assert (after.last_used_from, after.first_used_at) == ("192.0.2.8", stored.first_used_at)
    assert after.last_used_at > stored.last_used_at


def test_a_use_and_a_new_hash_in_one_statement_are_both_copied(workspace: Workspace) -> None:
    api_key, secret = make_key(workspace)
    new_hash = hashing.hash_secret(secret)

    execute("UPDATE apikeys_apikey SET hash = %s, last_used_at = %s", new_hash, timezone.now())

    stored = StoredSecret.objects.get(api_key=api_key)
    assert stored.hash == new_hash
    assert stored.last_used_at is not None


def test_a_use_after_a_rotation_counts_for_the_current_secret(workspace: Workspace) -> None:
    """The release before rejects the previous one."""
    api_key, _ = make_key(workspace)
    api_key.rotate(overlap=timedelta(hours=1), by=BY_TEST)

    record_use_with_release_before(api_key, "192.0.2.7")

    api_key.refresh_from_db()
    assert api_key.previous_secret is not None
    assert (api_key.current_secret.last_used_from, api_key.previous_secret.last_used_from) == ("192.0.2.7", None)


def test_changes_that_do_not_concern_the_secret_leave_it_alone(workspace: Workspace) -> None:
    api_key, _ = make_key(workspace)
    before = StoredSecret.objects.values().get(api_key=api_key)

    execute("UPDATE apikeys_apikey SET description = 'Renamed' WHERE id = %s", api_key.pk)
    execute("UPDATE apikeys_apikey SET revoked_at = %s WHERE id = %s", timezone.now(), api_key.pk)

    assert StoredSecret.objects.values().get(api_key=api_key) == before


@pytest.mark.skipif("connection.vendor != 'sqlite'", reason="PostgreSQL's triggers check their depth")
def test_the_triggers_end_with_recursive_triggers(workspace: Workspace, settings: Any) -> None:
    execute("PRAGMA recursive_triggers = on")
    try:
        api_key, secret = create_with_release_before(workspace)
        rehash_with_release_before(api_key, secret)
        record_use_with_release_before(api_key, "192.0.2.7")
        settings.APIKEYS_ARGON2_TIME_COST = 2
        assert StoredSecret.objects.authenticate(secret)
        api_key.rotate(overlap=timedelta(hours=1), by=BY_TEST)
    finally:
        execute("PRAGMA recursive_triggers = off")

    assert row_of(api_key) == stored_of(api_key.current_secret.key_id)


@commits
@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="SQLite has no row locks")
def test_a_rotation_and_a_use_that_the_release_before_records_are_no_deadlock(workspace: Workspace) -> None:
    """The rotation locks the secret and waits for the key, which the release before has locked."""
    api_key, _ = make_key(workspace)

    with psycopg.connect(database_url()) as release_before, ThreadPoolExecutor(1) as threads:
        release_before.execute("SELECT 1 FROM apikeys_apikey WHERE id = %s FOR UPDATE", [api_key.pk])
        rotation = threads.submit(in_threads, lambda: api_key.rotate(overlap=timedelta(hours=1), by=BY_TEST))
        wait_until_blocked()
        release_before.execute("UPDATE apikeys_apikey SET last_used_at = now() WHERE id = %s", [api_key.pk])
        release_before.commit()
        (outcome,) = rotation.result(TIMEOUT)

    assert isinstance(outcome, str), outcome
    assert StoredSecret.objects.filter(api_key=api_key).count() == 2


# ---- the quota ----

NOW = {
    "postgresql": "(date_part('epoch', clock_timestamp()) * 1000000)::bigint",
    "sqlite": "(CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER) * 1000)",
}
ADMIT = {
    "postgresql": """
        INSERT INTO workspaces_quota AS quota (subject, admissions) VALUES (%(subject)s, ARRAY[{now}])
        ON CONFLICT (subject) DO UPDATE
            SET admissions = ARRAY[{now}] || quota.admissions[1:%(requests)s - 1]
            WHERE quota.admissions[1] <= {now}
              AND coalesce(quota.admissions[%(requests)s] <= {now} - %(window)s, true)
              AND coalesce(quota.admissions[%(burst_requests)s] <= {now} - %(burst_window)s, true)
    """,
    "sqlite": """
        INSERT INTO workspaces_quota AS quota (subject, admissions) VALUES (%(subject)s, json_array({now}))
        ON CONFLICT (subject) DO UPDATE
            SET admissions = json_remove(
                '[' || {now} || ',' || substr(quota.admissions, 2),
                '$[' || %(requests)s || ']',
                '$[' || %(requests)s || ']'
            )
            WHERE json_extract(quota.admissions, '$[0]') <= {now}
              AND coalesce(json_extract(quota.admissions, '$[' || (%(requests)s - 1) || ']') <= {now} - %(window)s, 1)
              AND coalesce(
                    json_extract(quota.admissions, '$[' || (%(burst_requests)s - 1) || ']') <= {now} - %(burst_window)s,
                    1
                  )
    """,
}


def admit_with_release_before(subject: str, tier: Tier) -> bool:
    main, burst = quota.limits_of(tier)
    params: dict[str, str | int] = {
        "subject": subject,
        "requests": main.requests,
        "window": main.window,
        "burst_requests": burst.requests,
        "burst_window": burst.window,
    }
    with connection.cursor() as cursor:
        cursor.execute(ADMIT[connection.vendor].format(now=NOW[connection.vendor]), params)
        return bool(cursor.rowcount == 1)


def test_both_releases_count_the_requests_of_a_tier_without_slots(workspace: Workspace) -> None:
    standard = workspace.tier
    admitted = 0
    for _ in range(25):
        admitted += quota.admit(workspace.pk, standard).admitted
        admitted += admit_with_release_before(workspace.pk, standard)

    assert admitted == 40
    assert len(quota.read(workspace.pk)[0].admissions) == 40


def test_a_row_of_the_release_before_is_counted_in_slots_from_the_next_request_on(workspace: Workspace) -> None:
    large = Tier(name="large", requests=5000, seconds=900, burst_requests=2000, burst_seconds=60)
    for _ in range(30):
        assert admit_with_release_before(workspace.pk, large)

    assert [window.remaining for window in quota.admit(workspace.pk, large).status.windows] == [4969, 1969]


def test_the_release_before_takes_nothing_from_slots(workspace: Workspace) -> None:
    """It counts the requests of a tier with slots separately."""
    large = Tier(name="large", requests=5000, seconds=900, burst_requests=2000, burst_seconds=60)
    fill_quota(workspace.pk, large, 1500)
    for _ in range(5):
        assert admit_with_release_before(workspace.pk, large)

    assert [window.remaining for window in quota.admit(workspace.pk, large).status.windows] == [3499, 499]
    assert admit_with_release_before(workspace.pk, large)
