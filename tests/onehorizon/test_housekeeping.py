"""`manage.py housekeeping`: what it deletes, failures, concurrency, and that no table is forgotten."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import timedelta

import psycopg
import pytest
from django.contrib.sessions.models import Session
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone
from time_machine import TimeMachineFixture

from apikeys.models import ApiKey, KeyAlreadyRotated
from core.db import batches
from onehorizon import housekeeping_metrics
from onehorizon.housekeeping import PARTS
from onehorizon.housekeeping_metrics import HousekeepingCollector
from onehorizon.models import HousekeepingRun
from tests.helpers import BY_TEST, Api, advance_quota_clock, commits, make_token, sign_in
from tests.processes import database_url, in_threads, wait_until
from workspaces import quota
from workspaces.models import Tier, User, Workspace

pytestmark = pytest.mark.django_db

KEYS = "/workspaces/current/api-keys"
DAY = 24 * 3600

# Tables that housekeeping leaves alone, and why they don't grow without bound, or must not lose rows.
KEPT = {
    "apikeys_apikey": "keys are never deleted",
    "apikeys_storedsecret": "secrets of keys are never deleted",
    "workspaces_task": "the customer's data",
    "workspaces_taskcontributor": "the customer's data",
    "workspaces_membership": "the customer's data",
    "workspaces_workspace": "created by operators",
    "workspaces_user": "created by operators",
    "workspaces_user_groups": "created by operators",
    "workspaces_user_user_permissions": "created by operators",
    "workspaces_tier": "created by operators",
    "oauth_application": "created by operators",
    "oauth2_provider_idtoken": "empty: OpenID Connect is off",
    "django_admin_log": "empty: audit events replace it",
    "django_content_type": "written by migrations",
    "django_migrations": "written by migrations",
    "auth_group": "written by migrations",
    "auth_group_permissions": "written by migrations",
    "auth_permission": "written by migrations",
    "onehorizon_housekeepingrun": "one row",
}
CLEANED = {
    "oauth2_provider_refreshtoken",
    "oauth2_provider_accesstoken",
    "oauth_tokenfamily",
    "oauth_grant",
    "oauth_devicegrant",
    "django_session",
    "apikeys_apikeyusage",
    "workspaces_quota",
    "workspaces_auditevent",
}


def test_every_table_is_cleaned_or_kept_for_a_reason() -> None:
    """A new table belongs in one of the two lists, and in `PARTS` if it grows without bound."""
    assert set(connection.introspection.table_names()) == KEPT.keys() | CLEANED


def with_quota_row(*subjects: str) -> list[str]:
    """Return those of `subjects` that have a row. Tests that commit leave rows of others."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT subject FROM workspaces_quota")
        rows = {subject for (subject,) in cursor.fetchall()}
    return [subject for subject in subjects if subject in rows]


@pytest.mark.usefixtures("_frozen_clock")
def test_expired_sessions_are_deleted(
    owner: User, member: User, time_machine: TimeMachineFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    sign_in(owner)
    time_machine.shift(timedelta(days=13))
    browser = sign_in(member)
    time_machine.shift(timedelta(days=1))

    call_command("housekeeping")

    assert "sessions: 1 rows\n" in capsys.readouterr().out
    assert browser.get("/workspaces/").status_code == 200


@pytest.mark.usefixtures("_frozen_clock")
def test_an_idempotency_key_is_recognized_for_30_days(
    workspace: Workspace, owner: User, time_machine: TimeMachineFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    def create() -> str:
        api = Api(make_token(owner))
        response = api.post(KEYS, {"description": "CI"}, headers={"Idempotency-Key": "8e03978e"})
        return str(response.json()["apiKeyId"])

    first = create()
    time_machine.shift(timedelta(days=30) - timedelta(seconds=1))
    call_command("housekeeping")
    assert create() == first

    time_machine.shift(timedelta(seconds=1))
    call_command("housekeeping")
    assert "idempotency_keys: 1 rows\n" in capsys.readouterr().out
    assert ApiKey.objects.get().request_digest == ""
    assert create() != first


@pytest.mark.usefixtures("_frozen_clock")
def test_the_idempotency_key_of_a_rotation_is_recognized_for_30_days(
    api_key: ApiKey, time_machine: TimeMachineFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    def rotate() -> str:
        return api_key.rotate(overlap=timedelta(), by=BY_TEST, idempotency_key="8e03978e", request_digest="f3b1")

    rotate()
    time_machine.shift(timedelta(days=30) - timedelta(seconds=1))
    call_command("housekeeping")
    with pytest.raises(KeyAlreadyRotated):
        rotate()

    time_machine.shift(timedelta(seconds=1))
    call_command("housekeeping")
    assert "idempotency_keys: 1 rows\n" in capsys.readouterr().out
    assert set(api_key.secrets.values_list("idempotency_key", "request_digest")) == {(None, "")}
    rotate()


def test_only_idle_quotas_are_deleted(workspace: Workspace, elsewhere: Workspace, owner: User) -> None:
    monthly = Tier.objects.create(name="monthly", requests=9, seconds=30 * DAY, burst_requests=9, burst_seconds=60)
    subjects = {workspace.pk: 29 * DAY, elsewhere.pk: 31 * DAY, owner.pk: 0}
    for subject, idle_seconds in subjects.items():
        quota.admit(subject, monthly)
        advance_quota_clock(subject, idle_seconds)

    call_command("housekeeping")
    assert with_quota_row(*subjects) == [workspace.pk, owner.pk], "a window of 30 days needs them"

    monthly.delete()
    call_command("housekeeping")
    assert with_quota_row(*subjects) == [owner.pk]
    assert quota.status(workspace.pk, workspace.tier).windows[0].remaining == 200


@pytest.mark.usefixtures("_frozen_clock")
def test_a_successful_run_is_recorded(owner: User, capsys: pytest.CaptureFixture[str]) -> None:
    sign_in(owner)
    Session.objects.update(expire_date=timezone.now())

    call_command("housekeeping")
    call_command("housekeeping")

    run = HousekeepingRun.objects.get()
    assert run.finished_at == timezone.now()
    assert run.rows == dict.fromkeys(PARTS, 0)
    lines = capsys.readouterr().out.splitlines()
    assert lines[: len(PARTS)] == [f"{name}: {1 if name == 'sessions' else 0} rows" for name in PARTS]


@commits
@pytest.mark.skipif(connection.vendor != "sqlite", reason="PostgreSQL stores no invalid time")
def test_the_metrics_survive_a_run_that_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """If its thread ended, the metric would keep its value. pytest fails a test whose thread has an exception."""
    monkeypatch.setattr(housekeeping_metrics, "READ_INTERVAL", 1e6)
    HousekeepingRun.objects.record(seconds=1.0, rows={})
    with connection.cursor() as cursor:
        cursor.execute("UPDATE onehorizon_housekeepingrun SET finished_at = '2026-11-31 00:00:00'")

    HousekeepingCollector()

    wait_until(lambda: "the last housekeeping run could not be read" in caplog.text)
    assert "ValueError" in caplog.text
    HousekeepingRun.objects.all().delete()


@commits
def test_a_part_that_fails_does_not_stop_the_others(
    owner: User,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail() -> Iterator[int]:
        yield 1
        raise OSError("no space left on device")

    sign_in(owner)
    Session.objects.update(expire_date=timezone.now())
    monkeypatch.setitem(PARTS, "token_families", fail)

    with pytest.raises(CommandError, match=r"^Failed: token_families\. The log has the reason\.") as error:
        call_command("housekeeping")

    assert error.value.returncode == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == [name for name in PARTS if name != "token_families"]
    assert Session.objects.count() == 0
    assert not HousekeepingRun.objects.exists(), "the alert must fire"
    record = next(record for record in caplog.records if record.levelno == logging.ERROR)
    assert (record.message, "no space left" in str(record.exc_info)) == ("token_families failed", True)


# ---- batches ----


def make_expired_sessions(count: int) -> None:
    expired = timezone.now() - timedelta(days=1)
    Session.objects.bulk_create(Session(pk=f"{n:040}", expire_date=expired) for n in range(count))


@commits
def test_an_interrupted_run_keeps_what_it_has_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "BATCH_SIZE", 10)
    make_expired_sessions(35)

    steps = iter(PARTS["sessions"]())
    done = [next(steps), next(steps)]
    connection.close()  # as when the process is killed

    assert done == [10, 10]
    assert Session.objects.count() == 15
    assert list(PARTS["sessions"]()) == [10, 5]


@commits
def test_two_runs_at_the_same_time_share_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "BATCH_SIZE", 10)
    make_expired_sessions(100)

    results = in_threads(*[lambda: sum(PARTS["sessions"]())] * 2)

    assert sum(results) == 100  # type: ignore[arg-type]  # an exception fails the test
    assert Session.objects.count() == 0


@commits
@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="SQLite has no row locks")
def test_a_locked_row_is_skipped_and_a_concurrent_admission_keeps_its_row(workspace: Workspace, owner: User) -> None:
    make_expired_sessions(3)
    for subject in (workspace.pk, owner.pk):
        quota.admit(subject, workspace.tier)
        advance_quota_clock(subject, 2 * DAY)
    with psycopg.connect(database_url()) as other:
        other.execute("SELECT 1 FROM django_session WHERE session_key LIKE '%1' FOR UPDATE")
        other.execute(
            "UPDATE workspaces_quota SET admissions = (extract(epoch FROM now()) * 1000000)::bigint || admissions"
            " WHERE subject = %s",
            [workspace.pk],
        )
        call_command("housekeeping")
        other.commit()

    assert Session.objects.count() == 1
    assert with_quota_row(workspace.pk, owner.pk) == [workspace.pk]
    call_command("housekeeping")
    assert Session.objects.count() == 0
    assert with_quota_row(workspace.pk, owner.pk) == [workspace.pk]
