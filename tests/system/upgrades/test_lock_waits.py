"""`migrate` on PostgreSQL while another transaction, such as pg_dump's, uses a table that a migration changes.

The migrations of `next_release` create a table, add a column to the table of tasks, and create an index concurrently.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest
from django.db import connection
from psycopg import IsolationLevel

from tests.helpers import commits, lift_quota, make_key, make_user, make_workspace
from tests.processes import TIMEOUT, database_url, fetch, manage, process, server, wait_until

pytestmark = [commits, pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has no such locks")]

NEXT_RELEASE = {"DJANGO_SETTINGS_MODULE": "tests.system.upgrades.next_release.settings"}
REQUEST_LIMITS = "-c statement_timeout=900 -c idle_in_transaction_session_timeout=1"
WAITS_FOR_TASKS = " Waiting for a lock on workspaces_task (AccessExclusiveLock), blocked by process "
CLEAN_UP = """
    DROP TABLE IF EXISTS next_release;
    ALTER TABLE workspaces_task DROP COLUMN IF EXISTS next_release;
    DELETE FROM django_migrations WHERE app = 'next_release';
"""
TERMINATE_INDEX_CREATION = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND query LIKE 'CREATE INDEX CONCURRENTLY%'
        AND state = 'active' AND query_start < clock_timestamp() - interval '1 second'
"""
INDEX_IS_VALID = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('next_release_index')"


@pytest.fixture(autouse=True)
def _current_release(transactional_db: None) -> Iterator[None]:
    """Remove the next release from the database after the test."""
    yield
    with psycopg.connect(database_url()) as database:
        database.execute(CLEAN_UP)


@contextmanager
def reader(query: LiteralString = "SELECT count(*) FROM workspaces_task") -> Iterator[int]:
    """Keep a transaction open during the block, as pg_dump does, and yield its process id."""
    with psycopg.connect(database_url(), application_name="reader") as database:
        database.isolation_level = IsolationLevel.REPEATABLE_READ
        database.execute(query)
        yield database.info.backend_pid


def migrate(*arguments: str) -> subprocess.CompletedProcess[str]:
    return manage("migrate", *arguments, **NEXT_RELEASE)


@contextmanager
def migrating(log: Path, *arguments: str, **overrides: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run `migrate` during the block, and yield its process."""
    with process([sys.executable, "manage.py", "migrate", *arguments], log, **NEXT_RELEASE, **overrides) as started:
        yield started


def applied() -> list[str]:
    with psycopg.connect(database_url()) as database:
        rows = database.execute("SELECT name FROM django_migrations WHERE app = 'next_release' ORDER BY name")
        return [name for (name,) in rows]


def index_is_valid() -> bool | None:
    """Return None if the index does not exist."""
    with psycopg.connect(database_url()) as database:
        row = database.execute(INDEX_IS_VALID).fetchone()
        return None if row is None else bool(row[0])


def test_requests_succeed_while_migrations_wait(tmp_path: Path) -> None:
    """The second `migrate` waits for the first, and continues with its migration after the first is killed.

    It then waits for the reader as long as if it had not waited before.
    """
    workspace = make_workspace(make_user("owner"))
    lift_quota(workspace)
    _, secret = make_key(workspace)
    first, second = tmp_path / "first", tmp_path / "second"

    with server(tmp_path / "log") as site, ExitStack() as stack:

        def requests_succeed_until(condition: Callable[[], bool]) -> None:
            def succeeded() -> bool:
                status, _, body = fetch(f"{site}/api/v1/workspaces/current/tasks", secret)
                assert status == 200, body
                return condition()

            wait_until(succeeded)

        with reader() as pid:
            migration = stack.enter_context(migrating(first))
            requests_succeed_until(lambda: f"{WAITS_FOR_TASKS}{pid} (reader, " in first.read_text())
            other = stack.enter_context(migrating(second, "--lock-wait=10"))
            waits_for_first = r" Waiting for another migrate to end \(process \d+\)\. Trying again in 4 s\.\n"
            requests_succeed_until(lambda: re.search(waits_for_first, second.read_text()) is not None)
            migration.kill()
            requests_succeed_until(lambda: f"{WAITS_FOR_TASKS}{pid} (reader, " in second.read_text())
            requests_succeed_until(lambda: second.read_text().partition("(reader, ")[2].count(" Trying again in ") >= 2)
            assert applied() == ["0001_table"]
        requests_succeed_until(lambda: other.poll() is not None)

    assert other.returncode == 0, first.read_text() + second.read_text()
    assert applied() == ["0001_table", "0002_column", "0003_index"]


def test_migrate_gives_up() -> None:
    with reader() as pid:
        result = migrate("--lock-wait=2")

    assert (result.returncode, applied()) == (1, ["0001_table"])
    since = r"\d\d:\d\d:\d\d UTC"
    assert re.fullmatch(
        r"CommandError: Gave up after waiting 2 s for a lock on workspaces_task \(AccessExclusiveLock\), "
        rf"blocked by process {pid} \(reader, idle in transaction, in a transaction since {since}\)\. "
        r"Run migrate again: it continues after the last migration that was applied\.\n",
        result.stderr,
    )


def test_an_index_is_created_concurrently_after_its_creation_failed(tmp_path: Path) -> None:
    """Its creation waits for earlier transactions, which delays no request.
    So it has no time limits, even if the role does.

    The second `migrate` continues after the last migration that was applied.
    """
    log = tmp_path / "log"

    with reader("SELECT count(*) FROM workspaces_tier") as pid:
        with migrating(log, PGOPTIONS=REQUEST_LIMITS) as migration:
            text = f"0003_index... Waiting for earlier transactions to end, blocked by process {pid} (reader, "
            wait_until(lambda: text in log.read_text(), log.read_text)

            def terminated() -> bool:
                assert "Trying again" not in log.read_text()
                with psycopg.connect(database_url()) as database:
                    return database.execute(TERMINATE_INDEX_CREATION).fetchone() is not None

            wait_until(terminated)
            assert migration.wait(TIMEOUT) == 1
        assert index_is_valid() is False
        assert "onehorizon: The database can't be used: terminating connection" in log.read_text()

    result = migrate()
    assert (result.returncode, index_is_valid()) == (0, True), result.stderr
    assert "0002_column" not in result.stdout
