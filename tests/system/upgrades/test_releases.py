"""A database of every release, with keys in use, migrates to this one, and the keys still authenticate."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from django.db import connection

from tests.processes import TIMEOUT, database_url, fetch, manage, server
from tests.system.upgrades.keep import KEPT, empty_postgresql, load

FILES = sorted(KEPT.glob("*.sql"))
RELEASES = sorted({file.name.rsplit(".", 2)[0] for file in FILES})


@pytest.fixture(params=RELEASES)
def file(request: pytest.FixtureRequest) -> Path:
    return KEPT / f"{request.param}.{connection.vendor}.sql"


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """The address of an empty database like the one under test."""
    if connection.vendor == "sqlite":
        yield f"sqlite:///{tmp_path}/db.sqlite3"
    else:
        with empty_postgresql(database_url().rpartition("/")[0] + "/postgres") as created:
            yield created


def migrate(url: str, *to: str) -> None:
    migrated = manage("migrate", "--verbosity", "0", *to, DATABASE_URL=url)
    assert migrated.returncode == 0, migrated.stderr


def test_there_are_releases_and_each_is_stored_for_both_databases() -> None:
    assert RELEASES
    kept = [f"{name}.{kind}.sql" for name in RELEASES for kind in ("postgresql", "sqlite")]
    assert [file.name for file in FILES] == kept


def test_after_the_migrations_every_credential_works_or_fails_as_before(file: Path, url: str, tmp_path: Path) -> None:
    clear = load(file, url)
    migrate(url)

    with server(tmp_path / "log", DATABASE_URL=url) as site:
        answers = {name: fetch(f"{site}/api/v1/workspaces/current/tasks", bearer) for name, bearer in clear.items()}
        assert {name: status for name, (status, _, _) in answers.items()} == {
            "active": 200,
            "token": 200,
            "revoked": 401,
            "expired": 401,
            "suspended": 401,
        }
        assert [task["title"] for task in json.loads(answers["active"][2])["tasks"]] == ["Kept"]
        assert signs_in(site, "owner@example.com", "owner-password")


def signs_in(site: str, email: str, password: str) -> bool:
    with requests.Session() as browser:
        browser.get(f"{site}/sign-in/", timeout=TIMEOUT)
        form = {"username": email, "password": password, "csrfmiddlewaretoken": browser.cookies["csrftoken"]}
        answer = browser.post(f"{site}/sign-in/", form, allow_redirects=False, timeout=TIMEOUT)
    return answer.status_code == 302


def test_every_migration_can_be_reversed(file: Path, url: str) -> None:
    load(file, url)
    migrate(url)

    migrate(url, "workspaces", "zero")

    left = manage("inspectdb", DATABASE_URL=url).stdout
    assert "class " in left
    assert not [
        line for line in left.splitlines() if line.startswith(("class Apikeys", "class Workspaces", "class Oauth"))
    ]
