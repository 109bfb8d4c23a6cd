"""Usage with 1,000,000 rows: every query reads only rows of its period, and of its workspace if it has one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from itertools import islice
from typing import Any

import psycopg
import pytest
from django.conf import LazySettings
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from apikeys.models import ApiKeyUsage, Interval, Period
from apikeys.models.usage import delete_old_usage
from core.db.batches import BATCH_SIZE
from tests.processes import database_url
from tests.system.test_many_rows import rows_read
from workspaces.models import Workspace

pytestmark = pytest.mark.django_db

KEYS, HOURS = 50, 90 * 24
KEY_IDS = [f"key_{number:026}" for number in range(KEYS)]
ALL_KEYS = 1_000_000 // HOURS + 1  # of all workspaces
HOUR = timedelta(hours=1)
PERIODS = [(24, Interval.HOUR), (7 * 24, Interval.HOUR), (30, Interval.DAY)]

# A workspace with 50 keys that are used in each hour of 90 days, and the keys of others: 1,000,000 rows.
FILL = f"""
    INSERT INTO apikeys_apikeyusage (workspace_id, hour, api_key_id, admitted, rejected, client_errors, server_errors)
        SELECT CASE WHEN n < {KEYS} THEN '{{workspace}}' ELSE 'w_' || lpad((n / 2)::text, 26, '0') END,
               date_trunc('hour', now()) - hour * interval '1 hour', 'key_' || lpad(n::text, 26, '0'), 40, 1, 2, 1
        FROM generate_series(0, {ALL_KEYS - 1}) AS n, generate_series(0, {HOURS - 1}) AS hour
"""


@pytest.fixture(scope="module", autouse=True)
def _vacuumed(django_db_setup: None) -> Iterator[None]:
    """Vacuum the table afterwards: the dead rows of the rolled back million would slow later tests."""
    yield
    if connection.vendor == "postgresql":
        with psycopg.connect(database_url(), autocommit=True) as vacuum:
            vacuum.execute("VACUUM apikeys_apikeyusage")


@contextmanager
def much_usage(workspace: Workspace) -> Iterator[None]:
    """Insert the rows of `FILL`, and roll back at the end of the block. On SQLite insert none: plans ignore them."""
    with transaction.atomic(), connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
            cursor.execute(
                "SELECT conname FROM pg_constraint WHERE contype = 'f' AND conrelid = 'apikeys_apikeyusage'::regclass"
            )
            for (name,) in cursor.fetchall():
                cursor.execute(f"ALTER TABLE apikeys_apikeyusage DROP CONSTRAINT {name}")
            cursor.execute(FILL.format(workspace=workspace.pk))
            cursor.execute("ANALYZE apikeys_apikeyusage")
        yield
        transaction.set_rollback(True)


def statements_of(run: Callable[[], Any]) -> list[str]:
    """Return the statements on the table of usage that `run` executes."""
    with CaptureQueriesContext(connection) as queries:
        run()
    return [item["sql"] for item in queries if '"apikeys_apikeyusage"' in item["sql"]]


def assert_uses_an_index(statement: str) -> None:
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(f"EXPLAIN (FORMAT JSON) {statement}")
            plan = json.dumps(cursor.fetchone()[0])
            assert "Index" in plan
            assert "Seq Scan" not in plan, statement
        else:
            cursor.execute(f"EXPLAIN QUERY PLAN {statement}")
            plan = " ".join(str(row[-1]) for row in cursor.fetchall())
            assert "SEARCH apikeys_apikeyusage USING" in plan
            assert "SCAN apikeys_apikeyusage" not in plan, statement


def assert_reads_at_most(rows: int, read: Callable[[], Any]) -> None:
    """Assert that `read` executes one statement, which uses an index and, on PostgreSQL, reads at most `rows`."""
    [statement] = statements_of(read)
    assert_uses_an_index(statement)
    if connection.vendor == "postgresql":
        assert rows_read(statement) <= rows


def test_usage_is_read_by_workspace_and_period(workspace: Workspace) -> None:
    with much_usage(workspace):
        for number, interval in PERIODS:
            period = Period.last(number, interval)
            hours = (period.end - period.start) // HOUR
            usage = ApiKeyUsage.objects.filter(workspace=workspace)
            of_key = usage.filter(api_key=KEY_IDS[7])
            for rows, read in (
                (KEYS * hours, partial(usage.by_interval, period)),
                (KEYS * hours, usage.in_period(period).by_key),
                (KEYS * hours, partial(usage.by_key_and_interval, period, KEY_IDS)),
                (hours, partial(of_key.by_interval, period)),
            ):
                assert_reads_at_most(rows, read)


def test_the_busiest_of_all_workspaces_are_read_by_period(workspace: Workspace) -> None:
    with much_usage(workspace):
        usage = ApiKeyUsage.objects.in_period(Period.last(24, Interval.HOUR))
        for read in (usage.busiest_workspaces, usage.busiest_keys):
            assert_reads_at_most(ALL_KEYS * 24, partial(read, 10))


def test_housekeeping_reads_and_deletes_old_rows_in_batches(workspace: Workspace, settings: LazySettings) -> None:
    settings.APIKEYS_USAGE_DAYS = 89

    with much_usage(workspace):
        deleted: list[int] = []
        statements = statements_of(lambda: deleted.extend(islice(delete_old_usage(), 3)))
        for statement in statements:
            assert_uses_an_index(statement)
        if connection.vendor == "postgresql":
            assert deleted == [BATCH_SIZE] * 3
            reads = [statement for statement in statements if statement.startswith("SELECT")]
            assert max(map(rows_read, reads)) <= ALL_KEYS + BATCH_SIZE
