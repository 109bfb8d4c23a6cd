"""Only the owner of the process can read SQLite's files, whatever the umask, also if others could before."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from django.db import OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import ConnectionHandler

from onehorizon.databases import database_settings
from tests.processes import in_threads

pytestmark = pytest.mark.django_db


@pytest.fixture(params=[0, 0o077, 0o777], ids=oct, autouse=True)
def _umask(request: pytest.FixtureRequest) -> Iterator[None]:
    umask = os.umask(request.param)
    yield
    os.umask(umask)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    return tmp_path / "onehorizon.sqlite3"


def connect(file: Path) -> BaseDatabaseWrapper:
    return ConnectionHandler({"default": database_settings(file, debug=True)})["default"]


def write(file: Path) -> dict[str, int]:
    """Write to the database, and return the permissions of all its files while it is open."""
    with closing(connect(file)) as connection:
        with connection.cursor() as cursor:
            cursor.execute("CREATE TABLE IF NOT EXISTS sample (id INTEGER)")
        return {path.name: stat.S_IMODE(path.stat().st_mode) for path in file.parent.glob(f"{file.name}*")}


PRIVATE = dict.fromkeys(["onehorizon.sqlite3", "onehorizon.sqlite3-wal", "onehorizon.sqlite3-shm"], 0o600)


def test_a_new_database_is_private(file: Path) -> None:
    assert write(file) == PRIVATE


def test_an_existing_database_becomes_private(file: Path) -> None:
    with closing(sqlite3.connect(file)) as other:
        file.chmod(0o666)
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("CREATE TABLE first (id INTEGER)")
        assert {stat.S_IMODE(path.stat().st_mode) for path in file.parent.iterdir()} == {0o666}

        assert write(file) == PRIVATE


def test_connections_that_create_the_database_at_once_share_it(file: Path) -> None:
    """While one of them switches a new file to WAL, SQLite may reject another without waiting."""
    outcomes = in_threads(*[lambda: set(write(file).values())] * 8)

    assert {0o600} in outcomes
    assert {str(outcome) for outcome in outcomes if outcome != {0o600}} <= {"database is locked"}
    assert write(file) == PRIVATE
    # Only now: if the last two connections close at once, neither removes the temporary files.
    assert list(file.parent.iterdir()) == [file], "the temporary files of all connections are removed"


def test_a_directory_that_is_missing_is_reported_by_sqlite(file: Path) -> None:
    connection = connect(file)
    file.parent.rmdir()

    with pytest.raises(OperationalError, match="unable to open database file"):
        connection.ensure_connection()
