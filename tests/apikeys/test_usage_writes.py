"""How a process adds the usage that it counted to the database: all of it, once, and in bounded memory."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from time_machine import TimeMachineFixture

from apikeys.models import ApiKey, ApiKeyUsage, Counts
from apikeys.usage import MAX_ROWS, ROWS_PER_WRITE, Recorder
from tests.helpers import Api, make_key, usage_of
from workspaces.models import Workspace

HOURS = 2 * ROWS_PER_WRITE + 1  # three batches


@pytest.mark.django_db
def test_many_rows_are_written_in_several_statements(api_key: ApiKey, time_machine: TimeMachineFixture) -> None:
    recorder, start = Recorder(), datetime(2026, 1, 1, tzinfo=UTC)
    for hour in range(HOURS):
        time_machine.move_to(start + timedelta(hours=hour), tick=False)
        recorder.count(api_key.pk, admitted=True, status=200)
        recorder.count(api_key.pk, admitted=hour % 2 == 0, status=404)

    statements = written_in(recorder)

    assert len(statements) == 3
    usage = ApiKeyUsage.objects.filter(api_key=api_key)
    assert usage.count() == HOURS
    even = HOURS // 2 + 1
    assert usage_of(api_key=api_key) == Counts(admitted=HOURS + even, rejected=HOURS - even, client_errors=even)
    assert usage.get(hour=start).admitted == 2


def written_in(recorder: Recorder) -> list[str]:
    """Write the recorder's counts and return the statements that did so."""
    statements = []

    def record(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if "INSERT INTO apikeys_apikeyusage" in sql:
            statements.append(sql)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(record):
        recorder.write()
    return statements


@pytest.mark.django_db
def test_requests_that_are_counted_during_a_write_are_left_for_the_next_one(api_key: ApiKey) -> None:
    recorder = Recorder()
    recorder.count(api_key.pk, admitted=True, status=200)

    def count(execute: Any, *arguments: Any) -> Any:
        assert recorder.pending < 10, "the write has no end"
        recorder.count(api_key.pk, admitted=True, status=500)
        return execute(*arguments)

    with connection.execute_wrapper(count):
        recorder.write()
    counted_meanwhile = recorder.pending
    recorder.write()

    assert counted_meanwhile > 0
    assert recorder.pending == 0
    assert usage_of() == Counts(admitted=1 + counted_meanwhile, server_errors=counted_meanwhile)


@pytest.mark.django_db
def test_the_keys_of_several_workspaces_are_written_together(
    api_key: ApiKey, workspace: Workspace, elsewhere: Workspace
) -> None:
    recorder = Recorder()
    keys = [api_key, make_key(workspace)[0], make_key(elsewhere)[0]]
    for number, key in enumerate(keys, 1):
        for _ in range(number):
            recorder.count(key.pk, admitted=True, status=200)

    statements = written_in(recorder)

    assert len(statements) == 1
    assert ApiKeyUsage.objects.filter(workspace=workspace).by_key() == [
        (keys[1].pk, Counts(admitted=2)),
        (keys[0].pk, Counts(admitted=1)),
    ]
    assert ApiKeyUsage.objects.filter(workspace=elsewhere).by_key() == [(keys[2].pk, Counts(admitted=3))]


@pytest.mark.django_db
def test_counting_takes_no_statement(api: Api) -> None:
    api.get("/me")  # saves the key's last use

    with CaptureQueriesContext(connection) as queries:
        assert [api.get("/me").status_code, api.get("/unknown").status_code] == [200, 404]

    assert len(queries) > 0
    assert not [item["sql"] for item in queries if "apikeyusage" in item["sql"] or "COMMIT" in item["sql"]]


def test_a_process_that_cannot_write_counts_the_requests_that_it_has_no_memory_for() -> None:
    recorder = Recorder()
    for number in range(MAX_ROWS + 3):
        recorder.count(f"key_{number}", admitted=True, status=200)
    recorder.count("key_0", admitted=False, status=429)  # needs no more memory

    assert (recorder.pending, recorder.lost) == (MAX_ROWS + 1, 3)
