"""What counts as usage of a key, in which hour, and how processes add it up."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.db import DEFAULT_DB_ALIAS, OperationalError, connection, connections
from django.urls import include, path
from rest_framework.request import Request
from time_machine import TimeMachineFixture

from apikeys import usage
from apikeys.models import ApiKey, ApiKeyUsage, Counts, Interval, Period
from apikeys.usage import Recorder, recorder
from tests.helpers import BY_TEST, Api, commits, exhaust_quota, make_key, make_token, usage_of
from tests.processes import TIMEOUT, wait_until
from workspaces.api import ApiView
from workspaces.models import User, Workspace

pytestmark = pytest.mark.django_db

TASKS = "/workspaces/current/tasks"
HOUR = timedelta(hours=1)
AT_NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)


class FailingView(ApiView):
    def get(self, request: Request) -> None:
        raise ZeroDivisionError


urlpatterns = [path("api/v1/failing", FailingView.as_view()), path("", include("onehorizon.urls"))]
handler404 = "onehorizon.errors.not_found"
handler500 = "onehorizon.errors.server_error"


def written_usage(api_key: ApiKey) -> Counts:
    """Return the key's usage, after this process has written what it counted."""
    recorder.write()
    return usage_of(api_key=api_key)


# ---- what counts ----


@pytest.mark.urls(__name__)
@pytest.mark.parametrize(
    ("send", "status"),
    [
        (lambda api: api.get("/me"), 200),
        (lambda api: api.request("HEAD", "/me"), 200),
        (lambda api: api.post(TASKS, {"title": "Task"}), 201),
        (lambda api: api.get("/me?unknown=1"), 400),
        (lambda api: api.post(TASKS, {"title": 1}), 400),
        (lambda api: api.get("/workspaces/current/api-keys"), 403),
        (lambda api: api.get(f"{TASKS}/unknown"), 404),
        (lambda api: api.get("/unknown"), 404),
        (lambda api: api.get("/me/"), 404),
        (lambda api: api.delete("/me"), 405),
        (lambda api: api.request("OPTIONS", "/me"), 405),
        (lambda api: api.get("/me", headers={"accept": "text/csv"}), 406),
        (lambda api: api.get("/failing"), 500),
    ],
)
def test_every_authenticated_request_counts_once(
    send: Callable[[Api], Any], status: int, api: Api, api_key: ApiKey
) -> None:
    """The first request authenticates with the stored hash, the second one on PostgreSQL with the fused statement."""
    responses = [send(api), send(api)]

    assert [response.status_code for response in responses] == [status, status]
    assert written_usage(api_key) == Counts(
        admitted=2, client_errors=2 * (400 <= status < 500), server_errors=2 * (status >= 500)
    )


def test_a_request_over_the_quota_counts_as_rejected(api: Api, api_key: ApiKey, workspace: Workspace) -> None:
    api.get("/me")
    exhaust_quota(workspace, 60)

    responses = [api.get("/me"), api.get("/unknown"), api.delete("/me")]

    assert [response.status_code for response in responses] == [429] * 3
    assert written_usage(api_key) == Counts(admitted=1, rejected=3)


def test_each_key_of_a_workspace_has_its_own_usage(api: Api, api_key: ApiKey, workspace: Workspace) -> None:
    other_key, other_secret = make_key(workspace, "Deploys")
    for client, number in ((api, 2), (Api(other_secret), 3)):
        for _ in range(number):
            client.get("/me")

    recorder.write()

    assert ApiKeyUsage.objects.by_key() == [(other_key.pk, Counts(admitted=3)), (api_key.pk, Counts(admitted=2))]


def test_both_secrets_of_a_rotated_key_count_for_the_key(api: Api, api_key: ApiKey) -> None:
    new_secret = api_key.rotate(overlap=HOUR, by=BY_TEST)

    assert [client.get("/me").status_code for client in (api, Api(new_secret))] == [200, 200]
    assert written_usage(api_key) == Counts(admitted=2)


def test_rejected_secrets_and_access_tokens_count_for_no_key(
    secret: str, api_key: ApiKey, workspace: Workspace, owner: User
) -> None:
    revoked_key, revoked_secret = make_key(workspace, "Revoked")
    revoked_key.revoke(by=BY_TEST)
    clients = [Api(), Api(revoked_secret), Api(secret[:-1]), Api(make_token(owner))]

    assert [client.get("/me").status_code for client in clients] == [401, 401, 401, 200]
    recorder.write()
    assert not ApiKeyUsage.objects.exists()


def test_the_usage_of_a_key_survives_its_revocation(api: Api, api_key: ApiKey) -> None:
    api.get("/me")
    api_key.revoke(by=BY_TEST)

    assert api.get("/me").status_code == 401
    assert written_usage(api_key) == Counts(admitted=1)


# ---- hours and days ----


def test_requests_count_in_their_hour(
    api: Api, api_key: ApiKey, time_machine: TimeMachineFixture, workspace: Workspace
) -> None:
    for hours, number in ((-12, 1), (-1, 3), (0, 2)):
        time_machine.move_to(AT_NOON + hours * HOUR, tick=False)
        for _ in range(number):
            api.get("/me")
    recorder.write()

    rows = workspace.usage.all()
    by_hour = [counts.admitted for _, counts in rows.by_interval(Period.last(13, Interval.HOUR))]
    assert by_hour == [1, *[0] * 10, 3, 2]
    today, yesterday = AT_NOON.replace(hour=0), AT_NOON.replace(hour=0, day=26)
    assert rows.by_interval(Period.last(2, Interval.DAY)) == [(yesterday, Counts()), (today, Counts(admitted=6))]
    assert rows.in_period(Period.last(2, Interval.HOUR)).by_key() == [(api_key.pk, Counts(admitted=5))]


@pytest.mark.parametrize(
    ("start", "end", "interval", "expected"),
    [
        (AT_NOON, AT_NOON + HOUR, Interval.HOUR, [AT_NOON]),
        (AT_NOON + HOUR / 2, AT_NOON + 3 * HOUR / 2, Interval.HOUR, [AT_NOON, AT_NOON + HOUR]),
        (AT_NOON, AT_NOON + 24 * HOUR, Interval.DAY, [AT_NOON - 12 * HOUR, AT_NOON + 12 * HOUR]),
        (AT_NOON - 12 * HOUR, AT_NOON + 12 * HOUR, Interval.DAY, [AT_NOON - 12 * HOUR]),
    ],
)
def test_a_period_has_the_intervals_that_overlap_it(
    start: datetime, end: datetime, interval: Interval, expected: list[datetime]
) -> None:
    assert Period.containing(start, end, interval).starts == expected


# ---- adding up ----


def count(recorder: Recorder, api_key: ApiKey, *statuses: int) -> None:
    for status in statuses:
        recorder.count(api_key.pk, admitted=status != 429, status=status)


def test_processes_add_to_the_same_rows(api_key: ApiKey) -> None:
    first, second = Recorder(), Recorder()
    count(first, api_key, 200, 404)
    first.write()
    count(first, api_key, 503)
    count(second, api_key, 200, 429)

    second.write()
    first.write()
    first.write()  # has nothing left to write

    assert written_usage(api_key) == Counts(admitted=4, rejected=1, client_errors=1, server_errors=1)
    assert first.pending == second.pending == 0


# ---- writing ----


@pytest.fixture
def own_recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """A recorder for the thread that writes, which tries often."""
    own = Recorder()
    monkeypatch.setattr(usage, "recorder", own)
    monkeypatch.setattr(usage, "WRITE_SECONDS", 0.05)
    return own


@pytest.fixture
def process() -> Iterator[tuple[threading.Thread, Callable[[], None]]]:
    """A thread that stands for the main thread of a server, and the function that ends it."""
    end = threading.Event()
    thread = threading.Thread(target=end.wait)
    thread.start()
    yield thread, end.set
    end.set()


@contextmanager
def without_table() -> Iterator[None]:
    """Make every write fail."""
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE apikeys_apikeyusage RENAME TO absent")
        try:
            yield
        finally:
            cursor.execute("ALTER TABLE absent RENAME TO apikeys_apikeyusage")


def metrics() -> dict[str, float]:
    return {sample.name: sample.value for family in usage.UsageCollector().collect() for sample in family.samples}


Process = tuple[threading.Thread, Callable[[], None]]


@commits
def test_a_thread_writes_regularly_and_when_the_process_ends(
    api_key: ApiKey, own_recorder: Recorder, process: Process
) -> None:
    main_thread, end_process = process
    writer = usage.start_writing(main_thread)

    count(own_recorder, api_key, 200)
    wait_until(lambda: written_usage(api_key) == Counts(admitted=1))
    count(own_recorder, api_key, 404)
    end_process()
    writer.join(TIMEOUT)

    assert written_usage(api_key) == Counts(admitted=2, client_errors=1)
    assert metrics() == {"onehorizon_usage_pending": 0, "onehorizon_usage_lost_total": 0}


@commits
def test_counts_wait_until_the_database_accepts_them(
    api_key: ApiKey, own_recorder: Recorder, process: Process, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with without_table():
        writer = usage.start_writing(process[0])
        count(own_recorder, api_key, 200)
        wait_until(lambda: "trying again" in caplog.text)
        count(own_recorder, api_key, 429)
        assert metrics() == {"onehorizon_usage_pending": 2, "onehorizon_usage_lost_total": 0}
    wait_until(lambda: "the usage of API keys is written again" in caplog.text)
    process[1]()
    writer.join(TIMEOUT)

    assert written_usage(api_key) == Counts(admitted=1, rejected=1)
    assert caplog.text.count("could not write the usage of API keys") == 1


@commits
def test_a_process_that_ends_without_a_database_logs_what_is_lost(
    api_key: ApiKey, own_recorder: Recorder, process: Process, caplog: pytest.LogCaptureFixture
) -> None:
    with without_table():
        count(own_recorder, api_key, 200, 429, 500)
        process[1]()
        usage.start_writing(process[0]).join(TIMEOUT)

    assert "the usage of API keys lacks 3 requests" in caplog.text


@commits
def test_the_thread_still_writes_after_a_connection_could_not_be_closed(
    api_key: ApiKey,
    own_recorder: Recorder,
    process: Process,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wrapper, failed = type(connections[DEFAULT_DB_ALIAS]), threading.Event()
    close = wrapper.close

    def fail_once(self: Any) -> None:
        if threading.current_thread().name == "usage" and not failed.is_set():
            failed.set()
            raise OperationalError
        close(self)

    monkeypatch.setattr(wrapper, "close", fail_once)
    writer = usage.start_writing(process[0])
    assert failed.wait(TIMEOUT)
    count(own_recorder, api_key, 200)
    process[1]()
    writer.join(TIMEOUT)

    assert usage_of(api_key=api_key) == Counts(admitted=1)


@commits
@pytest.mark.skipif(connection.vendor != "postgresql", reason="the answer to SQLite's COMMIT can't get lost")
def test_a_write_whose_answer_was_lost_is_not_repeated(api_key: ApiKey) -> None:
    batch = usage.Batch({(api_key.pk, int(AT_NOON.timestamp())): [1, 0, 0, 0]})

    batch.write()
    batch.write()
    batch.transaction_id = "1000000000000"  # of another server's history
    batch.write()

    assert written_usage(api_key) == Counts(admitted=2)


# ---- retention ----


def test_usage_is_kept_for_90_days(
    api_key: ApiKey, time_machine: TimeMachineFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    time_machine.move_to(AT_NOON, tick=False)
    count(recorder, api_key, 200)
    assert written_usage(api_key) == Counts(admitted=1)

    time_machine.move_to(AT_NOON + timedelta(days=90, minutes=59, seconds=59), tick=False)
    call_command("housekeeping")
    assert written_usage(api_key) == Counts(admitted=1)

    time_machine.move_to(AT_NOON + timedelta(days=90, hours=1), tick=False)
    call_command("housekeeping")
    assert written_usage(api_key) == Counts()
    assert "usage: 1 rows\n" in capsys.readouterr().out


def test_only_old_usage_is_deleted_in_batches(
    api_key: ApiKey,
    workspace: Workspace,
    monkeypatch: pytest.MonkeyPatch,
    settings: Any,
    time_machine: TimeMachineFixture,
) -> None:
    monkeypatch.setattr("apikeys.models.usage.BATCH_SIZE", 3)
    settings.APIKEYS_USAGE_DAYS = 1
    other_key, _ = make_key(workspace, "Deploys")
    for hours in range(5):
        time_machine.move_to(AT_NOON + hours * HOUR, tick=False)
        count(recorder, api_key, 200)
        count(recorder, other_key, 200)
    recorder.write()
    time_machine.move_to(AT_NOON + 28 * HOUR, tick=False)  # the fourth hour ended a day ago

    call_command("housekeeping")

    kept = ApiKeyUsage.objects.order_by("api_key").values_list("api_key", "hour")
    assert list(kept) == [(key.pk, AT_NOON + 4 * HOUR) for key in (api_key, other_key)]
