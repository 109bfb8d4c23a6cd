"""The fast path: how many statements a warm key takes, and that the result is the same as with `authenticate`."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apikeys import admission, hashing
from apikeys.models import ApiKey, StoredSecret
from core.db import contention
from tests.helpers import BY_TEST, Api, commits, make_key
from tests.processes import TIMEOUT, database_url, wait_until_blocked
from workspaces import quota
from workspaces.access import CredentialRejected
from workspaces.models import Task, Tier, User, Workspace

on_postgresql = pytest.mark.skipif("connection.vendor != 'postgresql'", reason="only PostgreSQL has the fast path")
TASKS = "/workspaces/current/tasks"


def current_delay(subject: str, tier: Tier) -> int:
    """Return the Retry-After, in seconds, of a request that is rejected now."""
    return quota.status(subject, tier).retry_after


@pytest.fixture
def warm(api: Api) -> Api:
    """The REST API with a key that this process has verified and whose last use is less than a minute old."""
    assert api.get("/me").status_code == 200
    return api


@pytest.mark.django_db
def test_a_list_of_tasks_takes_two_statements(warm: Api, workspace: Workspace, owner: User) -> None:
    for number in range(5):
        contributor = (owner.pk, "assignee")
        Task.objects.create_task(workspace, title=f"Task {number}", user_id=owner.pk, contributors=[contributor])

    with CaptureQueriesContext(connection) as captured:
        response = warm.get(TASKS)

    assert len(response.json()["tasks"]) == 5
    statements = [query["sql"] for query in captured]
    assert len(statements) == (2 if connection.vendor == "postgresql" else 3)
    assert "workspaces_quota" in statements[-2]
    assert "workspaces_task" in statements[-1]


@pytest.mark.django_db
def test_a_task_is_the_same_in_the_list_and_on_its_own(api: Api, workspace: Workspace, owner: User) -> None:
    contributors = [(owner.pk, "reviewer"), (owner.pk, "assignee")]
    task = Task.objects.create_task(
        workspace, title="Ünïcode “T”", status="completed", user_id=owner.pk, contributors=contributors
    )
    Task.objects.filter(pk=task.pk).update(created_at=task.created_at.replace(microsecond=0))

    listed, single = api.get(TASKS).json()["tasks"][0], api.get(f"{TASKS}/{task.pk}").json()

    assert listed == single
    assert listed["createdAt"].endswith("Z")


@on_postgresql
@pytest.mark.django_db
def test_a_rejected_request_takes_one_statement(warm: Api, workspace: Workspace) -> None:
    while quota.admit(workspace.pk, workspace.tier).admitted:
        pass

    before = current_delay(workspace.pk, workspace.tier)
    with CaptureQueriesContext(connection) as captured:
        response = warm.get(TASKS)
    after = current_delay(workspace.pk, workspace.tier)

    assert response.status_code == 429
    assert before >= int(response.headers["Retry-After"]) >= after
    assert '"burst";r=0' in response.headers["RateLimit"]
    assert len(captured) == 1


@pytest.mark.django_db
@pytest.mark.parametrize("state", ["revoked", "expired", "suspended"])
def test_a_warm_key_that_is_revoked_expired_or_suspended_is_rejected_and_not_counted(
    state: str, warm: Api, api_key: ApiKey, workspace: Workspace
) -> None:
    if state == "revoked":
        api_key.revoke(by=BY_TEST)
    elif state == "expired":
        ApiKey.objects.filter(pk=api_key.pk).update(expires_at=api_key.created_at)
    else:
        workspace.suspend("Unpaid", by=BY_TEST)
    before = quota.status(workspace.pk, workspace.tier).windows[0].remaining

    assert warm.get("/me").status_code == 401
    assert quota.status(workspace.pk, workspace.tier).windows[0].remaining == before


def end_by_rotating(api_key: ApiKey) -> None:
    api_key.rotate(overlap=timedelta(), by=BY_TEST)


def end_by_hand(api_key: ApiKey) -> None:
    api_key.rotate(overlap=timedelta(hours=1), by=BY_TEST)
    api_key.end_previous_secret(by=BY_TEST)


def end_by_rotating_twice(api_key: ApiKey) -> None:
    api_key.rotate(overlap=timedelta(hours=1), by=BY_TEST)
    api_key.rotate(overlap=timedelta(hours=1), by=BY_TEST)


def end_with_the_overlap(api_key: ApiKey) -> None:
    api_key.rotate(overlap=timedelta(hours=1), by=BY_TEST)
    StoredSecret.objects.exclude(replaced_at=None).update(ends_at=timezone.now())


def revoke_during_the_overlap(api_key: ApiKey) -> None:
    api_key.rotate(overlap=timedelta(hours=1), by=BY_TEST)
    api_key.revoke(by=BY_TEST)


def expire_during_the_overlap(api_key: ApiKey) -> None:
    api_key.rotate(overlap=timedelta(hours=1), by=BY_TEST)
    ApiKey.objects.filter(pk=api_key.pk).update(expires_at=timezone.now())


def suspend_during_the_overlap(api_key: ApiKey) -> None:
    api_key.rotate(overlap=timedelta(hours=1), by=BY_TEST)
    api_key.workspace.suspend("Unpaid", by=BY_TEST)


ENDS: dict[Callable[[ApiKey], None], str] = {
    end_by_rotating: "ended",
    end_by_hand: "ended",
    end_by_rotating_twice: "ended",
    end_with_the_overlap: "ended",
    revoke_during_the_overlap: "revoked",
    expire_during_the_overlap: "expired",
    suspend_during_the_overlap: "suspended",
}


@pytest.mark.django_db
@pytest.mark.parametrize("is_warm", [True, False], ids=["warm", "cold"])
@pytest.mark.parametrize(("end", "reason"), ENDS.items(), ids=lambda value: getattr(value, "__name__", value))
def test_both_paths_reject_a_replaced_secret_that_has_ended(
    end: Callable[[ApiKey], None], reason: str, is_warm: bool, api_key: ApiKey, secret: str
) -> None:
    if is_warm:
        assert Api(secret).get("/me").status_code == 200
    else:
        hashing.proofs.clear()

    end(api_key)

    assert admission.authenticate(secret) is None
    with pytest.raises(CredentialRejected) as rejected:
        StoredSecret.objects.authenticate(secret)
    assert rejected.value.reason == reason
    assert Api(secret).get("/me").status_code == 401


@pytest.mark.django_db
@pytest.mark.parametrize("is_warm", [True, False], ids=["warm", "cold"])
def test_both_paths_accept_both_secrets_during_the_overlap(is_warm: bool, api_key: ApiKey, secret: str) -> None:
    if is_warm:
        assert Api(secret).get("/me").status_code == 200
    new_secret = api_key.rotate(overlap=timedelta(hours=1), by=BY_TEST)
    if not is_warm:
        hashing.proofs.clear()

    for each in (secret, new_secret):
        stored = StoredSecret.objects.authenticate(each)
        fast = admission.authenticate(each)
        assert (stored.api_key, stored.masked) == (api_key, f"{each[:17]}…")
        assert (fast is None) == (connection.vendor != "postgresql")
        if fast is not None:
            assert (fast.stored_secret, fast.headers()["RateLimit"] != "") == (stored, True)
            assert fast.stored_secret.ends_at == stored.ends_at
            assert fast.stored_secret.replaced_at == stored.replaced_at


@pytest.mark.django_db
def test_a_new_tier_applies_from_the_next_request_on(warm: Api, workspace: Workspace) -> None:
    workspace.tier = Tier.objects.create(name="small", requests=7, seconds=90, burst_requests=3, burst_seconds=9)
    workspace.save()

    response = warm.get("/me")

    assert response.headers["RateLimit-Policy"] == '"small";q=7;w=90, "burst";q=3;w=9'
    assert response.json()["quota"]["tier"] == "small"


@pytest.mark.django_db
def test_fields_that_the_fast_path_does_not_load_are_loaded_on_access(warm: Api, api_key: ApiKey) -> None:
    body = warm.get("/me").json()

    assert body["apiKeyId"] == api_key.pk
    assert body["description"] == api_key.description


@pytest.mark.django_db
def test_the_fast_path_returns_the_same_workspace_as_authenticate(api: Api) -> None:
    slow, fast = [api.get("/me").json()["workspace"] for _ in range(2)]

    assert fast == slow
    assert fast["createdAt"].endswith("Z")


@on_postgresql
@commits
def test_a_request_that_waited_for_the_last_admission_gets_the_exact_delay(workspace: Workspace) -> None:
    """The statement starts while the quota has room, then waits for the lock on the quota's row."""
    api = Api(make_key(workspace)[1])
    assert api.get("/me").status_code == 200
    for _ in range(38):
        quota.admit(workspace.pk, workspace.tier)

    with ThreadPoolExecutor(1) as threads:
        with transaction.atomic():
            assert quota.admit(workspace.pk, workspace.tier).admitted
            waiting = threads.submit(get_me_in_thread, api)
            wait_until_blocked()
            before = current_delay(workspace.pk, workspace.tier)
        response = waiting.result(TIMEOUT)

    assert response.status_code == 429
    assert '"burst";r=0' in response.headers["RateLimit"]
    assert before >= int(response.headers["Retry-After"]) >= current_delay(workspace.pk, workspace.tier)


@on_postgresql
@commits
def test_a_request_that_waited_for_the_first_admission_gets_the_exact_delay(workspace: Workspace) -> None:
    """The statement starts before the quota has a row."""
    tier = Tier.objects.create(name="single", requests=1, seconds=60, burst_requests=1, burst_seconds=60)
    Workspace.objects.filter(pk=workspace.pk).update(tier=tier)
    api = Api(make_key(workspace)[1])
    assert api.get("/me").status_code == 200
    quota.clear(workspace, by=BY_TEST)

    with ThreadPoolExecutor(1) as threads:
        with transaction.atomic():
            assert quota.admit(workspace.pk, tier).admitted
            waiting = threads.submit(get_me_in_thread, api)
            wait_until_blocked()
            before = current_delay(workspace.pk, tier)
        response = waiting.result(TIMEOUT)

    assert response.status_code == 429
    assert before >= int(response.headers["Retry-After"]) >= current_delay(workspace.pk, tier)


def get_me_in_thread(api: Api) -> Any:
    try:
        return api.get("/me")
    finally:
        connection.close()


@on_postgresql
@commits
def test_connections_outlive_a_migration_that_changes_a_column(workspace: Workspace) -> None:
    """PostgreSQL rejects a prepared statement once the type of a result column has changed."""
    api = Api(make_key(workspace)[1])
    assert [api.get(TASKS).status_code for _ in range(3)] == [200, 200, 200]

    with psycopg.connect(database_url(), autocommit=True) as migration:
        migration.execute("ALTER TABLE workspaces_workspace ALTER COLUMN name TYPE varchar(150)")
        migration.execute("ALTER TABLE workspaces_task ALTER COLUMN title TYPE varchar(250)")
        try:
            assert [api.get(TASKS).status_code for _ in range(3)] == [200, 200, 200]
        finally:
            migration.execute("ALTER TABLE workspaces_workspace ALTER COLUMN name TYPE varchar(100)")
            migration.execute("ALTER TABLE workspaces_task ALTER COLUMN title TYPE varchar(200)")


@on_postgresql
@commits
def test_while_a_quota_is_stuck_the_reference_path_tries_it_again(warm: Api, workspace: Workspace) -> None:
    def status() -> int:
        with contention.request():  # as the server's handler does
            return int(warm.get("/me").status_code)

    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '50ms'")
    try:
        with psycopg.connect(database_url()) as holder:
            holder.execute("SELECT 1 FROM workspaces_quota WHERE subject = %s FOR UPDATE", [workspace.pk])
            assert (status(), contention.count_blocked()) == (503, 1)
            assert (status(), contention.count_blocked()) == (503, 1)
        assert (status(), contention.count_blocked()) == (200, 0)
    finally:
        with connection.cursor() as cursor:
            cursor.execute("RESET lock_timeout")
