"""The stored database of every release can be migrated to this version, and its keys still authenticate."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
import requests
from django.db import connection

from tests.processes import TIMEOUT, database_url, fetch, manage, server
from tests.system.upgrades.keep import DIRECTORY, empty_postgresql, load

FILES = sorted(DIRECTORY.glob("*.sql"))
RELEASES = sorted({file.name.rsplit(".", 2)[0] for file in FILES})


@pytest.fixture(params=RELEASES)
def file(request: pytest.FixtureRequest) -> Path:
    return DIRECTORY / f"{request.param}.{connection.vendor}.sql"


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database of the same kind as the test database."""
    if connection.vendor == "sqlite":
        yield f"sqlite:///{tmp_path}/db.sqlite3"
    else:
        with empty_postgresql(database_url().rpartition("/")[0] + "/postgres") as created:
            yield created


def migrate(url: str, *to: str) -> None:
    result = manage("migrate", "--verbosity", "0", *to, DATABASE_URL=url)
    assert result.returncode == 0, result.stderr


def test_there_are_releases_and_each_is_stored_for_both_databases() -> None:
    assert RELEASES
    expected = [f"{name}.{kind}.sql" for name in RELEASES for kind in ("postgresql", "sqlite")]
    assert [file.name for file in FILES] == expected


def test_after_the_migrations_every_credential_works_or_fails_as_before(file: Path, url: str, tmp_path: Path) -> None:
    credentials = load(file, url)
    migrate(url)

    with server(tmp_path / "log", DATABASE_URL=url) as site:
        tasks = f"{site}/api/v1/workspaces/current/tasks"
        responses = {name: fetch(tasks, bearer) for name, bearer in credentials.items()}
        assert {name: status for name, (status, _, _) in responses.items()} == {
            "active": 200,
            "token": 200,
            "revoked": 401,
            "expired": 401,
            "suspended": 401,
        }
        assert [task["title"] for task in json.loads(responses["active"][2])["tasks"]] == ["Kept"]
        assert signs_in(site, "owner@example.com", "owner-password")


def rows(url: str, statement: str) -> list[tuple[Any, ...]]:
    """Run a statement in the database, in a transaction of its own, and return its rows."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as database, database:
            return list(database.execute(statement))
    with psycopg.connect(url) as session:
        cursor = session.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


OF_KEYS = "SELECT id, key_id, hash, fingerprint, shared_proof, last_used_at, last_used_from FROM apikeys_apikey"
OF_SECRETS = """
    SELECT api_key_id, key_id, hash, fingerprint, shared_proof, last_used_at, last_used_from FROM apikeys_storedsecret
"""
ROTATE = """
from datetime import timedelta
from apikeys.models import ApiKey, StoredSecret
from tests.helpers import BY_TEST
stored = StoredSecret.objects.authenticate({secret!r})
print(stored.api_key.rotate(overlap=timedelta(hours=1), by=BY_TEST))
"""


def rotate(secret: str, url: str) -> str:
    result = manage("shell", "--verbosity", "0", "--command", ROTATE.format(secret=secret), DATABASE_URL=url)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_each_key_has_one_current_secret_with_its_last_use(file: Path, url: str, tmp_path: Path) -> None:
    credentials = load(file, url)
    migrate(url, "apikeys", "0003")
    keys = rows(url, OF_KEYS)
    migrate(url)

    assert sorted(rows(url, OF_SECRETS)) == sorted(keys)
    assert [row for row in keys if row[5] is not None]
    assert rows(url, "SELECT count(*) FROM apikeys_storedsecret WHERE replaced_at IS NOT NULL") == [(0,)]

    old, new = credentials["active"], rotate(credentials["active"], url)
    with server(tmp_path / "log", DATABASE_URL=url) as site:
        assert [fetch(f"{site}/api/v1/me", secret)[0] for secret in (old, new)] == [200, 200]


def test_after_a_reversal_the_key_has_the_secret_of_its_last_rotation(file: Path, url: str) -> None:
    credentials = load(file, url)
    migrate(url)
    new = rotate(rotate(credentials["active"], url), url)
    current = [row[:5] for row in rows(url, OF_SECRETS + "WHERE replaced_at IS NULL")]

    migrate(url, "apikeys", "0003")

    assert sorted(row[:5] for row in rows(url, OF_KEYS)) == sorted(current)
    assert new[4:16] in [key_id for _, key_id, *_ in current]
    migrate(url)
    assert sorted(row[:5] for row in rows(url, OF_SECRETS)) == sorted(current)


# More than two batches.
COPY_KEYS = """
    WITH RECURSIVE number(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < 2500)
    INSERT INTO apikeys_apikey (id, workspace_id, key_id, hash, fingerprint, description, created_at, revoke_reason,
        request_digest, last_used_at)
    SELECT substr(id, 1, 24) || (100000 + n), workspace_id, 'copy' || (10000000 + n), hash || n, fingerprint,
        description, created_at, revoke_reason, request_digest, created_at
    FROM number, (SELECT * FROM apikeys_apikey ORDER BY id LIMIT 1) AS first
"""


def test_an_interrupted_migration_of_many_keys_continues(file: Path, url: str) -> None:
    load(file, url)
    migrate(url, "apikeys", "0003")
    rows(url, COPY_KEYS)
    keys = rows(url, OF_KEYS)
    indexes, references = schema(url)
    migrate(url, "apikeys", "0004")
    assert rows(url, OF_SECRETS) == []
    result = manage("shell", "--verbosity", "0", "--command", FIRST_BATCH_ONLY, DATABASE_URL=url)
    assert "stopped after 2 batches" in result.stdout, result.stderr
    assert len(rows(url, OF_SECRETS)) == 1000

    # The release before goes on.
    rows(url, "UPDATE apikeys_apikey SET hash = 'rehashed' WHERE key_id IN ('copy10000001', 'copy10002400')")
    keys = [row for row in keys if row[1] not in ("copy10000001", "copy10002400")]
    rows(url, "UPDATE apikeys_apikey SET last_used_from = '192.0.2.9', last_used_at = CURRENT_TIMESTAMP")
    migrate(url)

    assert len(rows(url, OF_SECRETS)) == 2504
    assert sorted(rows(url, OF_SECRETS)) == sorted(rows(url, OF_KEYS))
    assert {row[:5] for row in keys} <= {row[:5] for row in rows(url, OF_SECRETS)}
    after_indexes, after_references = schema(url)
    assert indexes - after_indexes == references - after_references == set()


FIRST_BATCH_ONLY = """
from importlib import import_module
from django.apps import apps
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
filling = import_module("apikeys.migrations.0005_fill_stored_secrets")
batches, store = [], filling.store_secrets_of
def stop_in_second(*arguments):
    batches.append(1)
    store(*arguments)
    if len(batches) == 2:
        raise InterruptedError
filling.store_secrets_of = stop_in_second
state = MigrationExecutor(connection).loader.project_state(("apikeys", "0004_stored_secret"))
try:
    filling.store_secrets(state.apps, None)
except InterruptedError:
    print("stopped after", len(batches), "batches")
"""


def schema(url: str) -> tuple[set[str], set[str]]:
    """Return the names of the indexes of the table of keys, and the tables that it refers to."""
    if url.startswith("sqlite"):
        indexes = rows(url, "SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = 'apikeys_apikey'")
        references = rows(url, 'SELECT "from" || "table" FROM pragma_foreign_key_list(\'apikeys_apikey\')')
        assert rows(url, "PRAGMA foreign_key_check") == []
    else:
        indexes = rows(url, "SELECT indexname FROM pg_indexes WHERE tablename = 'apikeys_apikey'")
        references = rows(url, "SELECT conname FROM pg_constraint WHERE conrelid = 'apikeys_apikey'::regclass")
    # SQLite names the index of a unique column by its number.
    return {name for (name,) in indexes if "autoindex" not in name}, {name for (name,) in references}


def signs_in(site: str, email: str, password: str) -> bool:
    with requests.Session() as browser:
        browser.get(f"{site}/sign-in/", timeout=TIMEOUT)
        form = {"username": email, "password": password, "csrfmiddlewaretoken": browser.cookies["csrftoken"]}
        response = browser.post(f"{site}/sign-in/", form, allow_redirects=False, timeout=TIMEOUT)
    return response.status_code == 302


def test_every_migration_can_be_reversed(file: Path, url: str) -> None:
    load(file, url)
    migrate(url)

    migrate(url, "workspaces", "zero")

    remaining = manage("inspectdb", DATABASE_URL=url).stdout
    assert "class " in remaining
    assert not [
        line for line in remaining.splitlines() if line.startswith(("class Apikeys", "class Workspaces", "class Oauth"))
    ]
