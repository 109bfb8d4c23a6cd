"""The stored database of every release can be migrated to this version, and its keys still authenticate."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

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
