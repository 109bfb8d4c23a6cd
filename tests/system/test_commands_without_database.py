"""A command that can't use its database prints one sentence and exits with 1. A bug still shows its traceback."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from django.db import connection

from tests.processes import database_url, free_port, manage

pytestmark = pytest.mark.django_db
on_postgresql = pytest.mark.skipif(connection.vendor != "postgresql", reason="needs PostgreSQL")

MISSING_MIGRATIONS = "onehorizon: The database lacks migrations of this release: run manage.py migrate.\n"
BUG = "from django.db import connection; connection.cursor().execute('SELECT nonsense')"

IDLE_TRANSACTION = """
import time
from django.db import connection, transaction
with transaction.atomic(), connection.cursor() as cursor:
    cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 1")
    time.sleep(0.1)
    cursor.execute("SELECT 1")
"""


def sentence_of(*arguments: str, **overrides: str) -> str:
    """Run a command that fails, and return what it prints to standard error."""
    result = manage(*arguments, **overrides)

    assert (result.returncode, result.stdout) == (1, "")
    return result.stderr


def test_postgresql_that_does_not_respond() -> None:
    port = free_port()
    sentence = sentence_of("list_api_keys", "acme", DATABASE_URL=f"postgres://me:hunter22@127.0.0.1:{port}/x")

    assert sentence.startswith("onehorizon: The database can't be used: connection failed: ")
    assert sentence.endswith(f'"127.0.0.1", port {port} failed: Connection refused.\n')
    assert (sentence.count("\n"), "hunter22" in sentence) == (1, False)


def test_every_host_is_reported_with_its_reason() -> None:
    """If the primary is down, the standby's reason alone would hide that."""
    first, second = free_port(), free_port()
    url = f"postgres://me@localhost:{first},127.0.0.1:{second}/x?hostaddr=127.0.0.1,127.0.0.1"

    assert sentence_of("migrate", DATABASE_URL=url) == (
        f"onehorizon: The database can't be used: localhost:{first}: Connection refused; "
        f"127.0.0.1:{second}: Connection refused.\n"
    )


def test_a_file_that_is_not_a_database(tmp_path: Path) -> None:
    file = tmp_path / "onehorizon.sqlite3"
    file.write_text("not a database " * 100)

    sentence = sentence_of("createsuperuser", "--no-input", DATABASE_URL=f"sqlite:///{file}")

    assert sentence == "onehorizon: The database can't be used: file is not a database.\n"


def test_sqlite_without_migrations(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/onehorizon.sqlite3"

    assert sentence_of("list_api_keys", "acme", DATABASE_URL=url) == MISSING_MIGRATIONS


@on_postgresql
def test_postgresql_without_migrations() -> None:
    url = f"{database_url()}?currentSchema=nowhere"

    assert sentence_of("list_api_keys", "acme", DATABASE_URL=url) == MISSING_MIGRATIONS
    assert sentence_of("migrate", "--verbosity=0", DATABASE_URL=url) == (
        "onehorizon: The database can't be used: no schema has been selected to create in.\n"
    )


@pytest.fixture
def schema_url() -> Iterator[str]:
    """The URL of a schema whose only table is an empty `django_migrations`."""
    with psycopg.connect(database_url(), autocommit=True) as client:
        client.execute("CREATE SCHEMA unmigrated")
        client.execute(
            "CREATE TABLE unmigrated.django_migrations "
            "(id bigserial PRIMARY KEY, app varchar(255), name varchar(255), applied timestamptz)"
        )
        yield f"{database_url()}?options=-c%20search_path%3Dunmigrated"
        client.execute("DROP SCHEMA unmigrated CASCADE")


@on_postgresql
def test_migrate_with_a_role_that_may_not_create_tables(schema_url: str) -> None:
    result = manage("migrate", DATABASE_URL=f"{schema_url}%20-c%20role%3Dpg_read_all_data")

    reason = "permission denied for schema unmigrated"
    assert (result.returncode, result.stderr) == (1, f"onehorizon: The database can't be used: {reason}.\n")


@on_postgresql
def test_a_transaction_that_postgresql_ends() -> None:
    assert sentence_of("shell", "--verbosity=0", "--command", IDLE_TRANSACTION) == (
        "onehorizon: The database can't be used: terminating connection due to idle-in-transaction timeout.\n"
    )


@on_postgresql
def test_a_migration_that_fails_on_postgresql_shows_its_traceback(schema_url: str) -> None:
    with psycopg.connect(database_url(), autocommit=True) as client:
        client.execute("CREATE TABLE unmigrated.workspaces_user ()")

    result = manage("migrate", DATABASE_URL=schema_url)

    assert result.returncode == 1
    assert result.stderr.endswith('ProgrammingError: relation "workspaces_user" already exists\n')


def test_a_migration_that_fails_on_sqlite_shows_its_traceback(tmp_path: Path) -> None:
    """It must not ask for `migrate`, which is what fails."""
    file = tmp_path / "onehorizon.sqlite3"
    with closing(sqlite3.connect(file)) as database:
        database.execute("CREATE TABLE workspaces_user (id)")

    result = manage("migrate", DATABASE_URL=f"sqlite:///{file}")

    assert result.returncode == 1
    assert result.stderr.endswith('OperationalError: table "workspaces_user" already exists\n')


def test_a_bug_shows_its_traceback() -> None:
    stderr = sentence_of("shell", "--verbosity=0", "--command", BUG)

    assert stderr.startswith("Traceback (most recent call last):\n")
    assert "onehorizon: " not in stderr


def test_a_traceback_can_be_requested(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/onehorizon.sqlite3"
    stderr = sentence_of("list_api_keys", "acme", "--traceback", DATABASE_URL=url)

    assert stderr.startswith("Traceback (most recent call last):\n")
    assert "no such table" in stderr
