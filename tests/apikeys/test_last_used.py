"""The time and client IP of a key's last use: saved at most once a minute, without ever failing a request."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apikeys.models import ApiKey, StoredSecret
from tests.helpers import BY_TEST, Api, commits, make_key
from workspaces import quota
from workspaces.models import Workspace

pytestmark = pytest.mark.django_db

NOON = datetime(2030, 5, 1, 12, 0, tzinfo=UTC)


def last_use(api_key: ApiKey) -> tuple[datetime | None, str | None]:
    stored = StoredSecret.objects.get(api_key=api_key)
    return stored.last_used_at, stored.last_used_from


@contextmanager
def at(seconds: float) -> Iterator[None]:
    with time_machine.travel(NOON + timedelta(seconds=seconds), tick=False):
        yield


def test_an_unused_key_has_no_last_use(api_key: ApiKey) -> None:
    assert last_use(api_key) == (None, None)


def test_the_first_use_is_saved_with_its_client_ip(api: Api, api_key: ApiKey) -> None:
    with at(0):
        api.get("/me", REMOTE_ADDR="203.0.113.7")

    assert last_use(api_key) == (NOON, "203.0.113.7")


def test_the_last_use_is_saved_at_most_once_a_minute(api: Api, api_key: ApiKey) -> None:
    with at(0):
        api.get("/me", REMOTE_ADDR="203.0.113.7")
    with at(59):
        api.get("/me", REMOTE_ADDR="203.0.113.8")
    assert last_use(api_key) == (NOON, "203.0.113.7")

    with at(60):
        api.get("/me", REMOTE_ADDR="203.0.113.9")
    assert last_use(api_key) == (NOON + timedelta(seconds=60), "203.0.113.9")


def test_a_second_request_within_a_minute_updates_only_the_quota(api: Api) -> None:
    with at(0):
        api.get("/me")
    with at(30), CaptureQueriesContext(connection) as captured:
        api.get("/me")

    assert not [query["sql"] for query in captured if query["sql"].startswith("UPDATE")]


def test_only_one_of_two_concurrent_requests_saves_its_use(api_key: ApiKey) -> None:
    """Both requests read the key before either of them writes it."""
    first, second = (StoredSecret.objects.get(api_key=api_key) for _ in range(2))

    with at(0):
        first.record_use("203.0.113.7")
    with at(1):
        second.record_use("203.0.113.8")

    assert last_use(api_key) == (NOON, "203.0.113.7")


def test_each_key_has_its_own_last_use(api: Api, api_key: ApiKey, workspace: Workspace) -> None:
    other, _ = make_key(workspace, "Deploys")

    api.get("/me")

    assert last_use(api_key)[0] is not None
    assert last_use(other) == (None, None)


@pytest.mark.parametrize(
    ("status", "method", "path"),
    [
        (200, "GET", "/me"),
        (200, "GET", "/workspaces"),
        (200, "GET", "/workspaces/current"),
        (200, "GET", "/workspaces/current/members"),
        (200, "GET", "/workspaces/current/tasks"),
        (400, "POST", "/workspaces/current/tasks"),
        (404, "GET", "/workspaces/current/tasks/tsk_1"),
        (404, "PATCH", "/workspaces/current/tasks/tsk_1"),
        (404, "DELETE", "/workspaces/current/tasks/tsk_1"),
        (404, "GET", "/workspaces/w_1"),
        (404, "GET", "/nowhere"),
        (405, "PUT", "/me"),
        (405, "OPTIONS", "/me"),
    ],
)
def test_a_request_to_any_route_counts_as_use_with_any_response(
    status: int, method: str, path: str, api: Api, api_key: ApiKey
) -> None:
    assert api.request(method, path).status_code == status

    assert last_use(api_key)[0] is not None


def test_a_request_over_quota_counts_as_use(api: Api, api_key: ApiKey, workspace: Workspace) -> None:
    for _ in range(40):
        quota.admit(workspace.pk, workspace.tier)

    assert api.get("/me").status_code == 429
    assert last_use(api_key)[0] is not None


def test_a_rejected_key_has_no_last_use(api_key: ApiKey, secret: str) -> None:
    api_key.revoke(by=BY_TEST)

    assert Api(secret).get("/me").status_code == 401
    assert Api(secret[:-1]).get("/me").status_code == 401
    assert last_use(api_key) == (None, None)


@pytest.mark.parametrize("remote_addr", ["", "unix:", "not an address"])
def test_a_use_without_a_client_ip_is_saved(remote_addr: str, api: Api, api_key: ApiKey) -> None:
    assert api.get("/me", REMOTE_ADDR=remote_addr).status_code == 200

    used_at, used_from = last_use(api_key)
    assert used_at is not None
    assert used_from is None


def reject_updates_of_last_use() -> None:
    """Make the database reject updates of `last_used_at` until the test's transaction is rolled back."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(
                "CREATE FUNCTION reject() RETURNS trigger LANGUAGE plpgsql "
                "AS $$ BEGIN RAISE EXCEPTION 'disk full'; END $$"
            )
            cursor.execute(
                "CREATE TRIGGER reject BEFORE UPDATE OF last_used_at ON apikeys_storedsecret EXECUTE FUNCTION reject()"
            )
        else:
            cursor.execute(
                "CREATE TRIGGER reject BEFORE UPDATE OF last_used_at ON apikeys_storedsecret "
                "BEGIN SELECT RAISE(ABORT, 'disk full'); END"
            )


def test_a_use_that_can_not_be_saved_does_not_fail_the_request(
    api: Api, api_key: ApiKey, caplog: pytest.LogCaptureFixture
) -> None:
    reject_updates_of_last_use()

    created = api.post("/workspaces/current/tasks", {"title": "Ship it"})

    assert created.status_code == 201
    assert api.get(f"/workspaces/current/tasks/{created.json()['taskId']}").status_code == 200
    assert last_use(api_key) == (None, None)
    assert f"could not save the last use of key {api_key.current_secret.key_id}" in caplog.text


def test_a_web_server_clock_that_steps_back_causes_no_error(api: Api, api_key: ApiKey) -> None:
    ahead = timezone.now() + timedelta(hours=1)
    StoredSecret.objects.filter(api_key=api_key.pk).update(last_used_at=ahead)

    assert api.get("/me").status_code == 200
    assert last_use(api_key)[0] == ahead


@commits
@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="SQLite has no row locks: it has one writer at a time")
@pytest.mark.parametrize("locked", [ApiKey, StoredSecret])
def test_no_request_waits_for_a_locked_row(
    locked: type[ApiKey] | type[StoredSecret], workspace: Workspace, settings: Any
) -> None:
    """Neither to save the last use, nor to rehash the secret after the settings of Argon2 have changed."""
    api_key, secret = make_key(workspace)
    settings.APIKEYS_ARGON2_TIME_COST = 2

    def get_me() -> int:
        try:
            status: int = Api(secret).get("/me").status_code
        finally:
            connection.close()
        return status

    with ThreadPoolExecutor(1) as threads, transaction.atomic():
        locked.objects.select_for_update().get()
        assert threads.submit(get_me).result(20) == 200

    assert (last_use(api_key)[0] is None) == (locked is StoredSecret)
