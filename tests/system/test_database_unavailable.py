"""Requests and pages while the database is unavailable: 503 with `Retry-After`."""

from __future__ import annotations

import json
import shutil
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from django.db import connection

from apikeys import keys
from tests.processes import TIMEOUT, database_url, fetch, free_port, server

pytestmark = pytest.mark.django_db
has_its_own = pytest.mark.one_database("names a database of its own")


@has_its_own
@pytest.mark.parametrize("database", ["postgres", "sqlite"])
def test_an_api_request_gets_503_with_retry_after(database: str, tmp_path: Path) -> None:
    directory = tmp_path / "var"
    unavailable = {
        "postgres": f"postgres://nobody@127.0.0.1:{free_port()}/nothing",
        "sqlite": f"sqlite:///{directory}/onehorizon.sqlite3",
    }
    log = tmp_path / "server.log"
    secret = keys.generate().secret

    with server(log, DATABASE_URL=unavailable[database]) as site:
        shutil.rmtree(directory, ignore_errors=True)  # as after a failed mount
        status, headers, body = fetch(f"{site}/api/v1/me", secret)
        malformed, _, _ = fetch(f"{site}/api/v1/me", secret[:-1])

    assert status == 503
    assert json.loads(body) == {
        "code": 503,
        "message": "The database is temporarily unavailable, retry shortly.",
    }
    names = {name.lower(): value for name, value in headers.items()}
    assert names["retry-after"] == "5"
    assert names["content-type"] == "application/json"
    assert names["cache-control"] == "no-store"
    assert names["x-request-id"]
    assert malformed == 401  # the checksum needs no database
    (line,) = [line for line in log.read_text().splitlines() if names["x-request-id"] in line]
    assert " WARNING onehorizon.requests: GET /api/v1/me status=503 " in line
    assert " cause=unavailable " in line
    assert secret[17:] not in log.read_text()


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite creates a missing database")
def test_a_server_starts_without_its_database_and_logs_why(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with server(log, DATABASE_URL=f"{database_url().rpartition('/')[0]}/no_such_database") as site:
        assert fetch(f"{site}/healthz")[0] == 200

    (warning,) = [line for line in log.read_text().splitlines() if "could not be checked before serving" in line]
    assert "no_such_database" in warning
    assert "does not exist" in warning


@has_its_own
def test_a_page_gets_503_with_retry_after(tmp_path: Path, db: None) -> None:
    unavailable = f"postgres://nobody@127.0.0.1:{free_port()}/nowhere"
    with server(tmp_path / "log", DATABASE_URL=unavailable) as site:
        request = urllib.request.Request(
            f"{site}/settings/developer/api-keys/", headers={"Cookie": "sessionid=" + "x" * 32}
        )

        with pytest.raises(urllib.error.HTTPError) as exception:
            urllib.request.urlopen(request, timeout=TIMEOUT)

    with exception.value as error:
        assert error.code == 503
        assert error.headers["Retry-After"] == "5"
        assert "Temporarily unavailable" in error.read().decode()
