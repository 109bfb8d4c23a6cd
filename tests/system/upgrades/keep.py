"""Store the database of a release, with keys in use, for the tests of later releases: `make fixture RELEASE=1.2.0`.

There is one text file per kind of database. Its first line has the credentials in clear. They were generated for this
file and are valid nowhere else.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
from psycopg import sql

ROOT = Path(__file__).resolve().parents[3]
DIRECTORY = Path(__file__).parent / "releases"
POSTGRES = "postgres://postgres@127.0.0.1:5432/postgres"

# Runs with the code of the release that is stored. Adapt it when a release renames something.
FILL = """
import json
from datetime import timedelta
from django.utils import timezone
from workspaces import quota
from workspaces.models import Actor, Via
from apikeys.models import ApiKey
from tests.helpers import make_token, make_user, make_workspace
from workspaces.models import Task

by = Actor(via=Via.COMMAND)
owner, outsider = make_user("owner"), make_user("outsider")
acme, suspended = make_workspace(owner), make_workspace(outsider, slug="shut")
created = {
    name: ApiKey.objects.create_key(workspace, description=name.capitalize(), by=by)
    for name, workspace in {"active": acme, "revoked": acme, "expired": acme, "suspended": suspended}.items()
}
created["revoked"][0].revoke(by=by, reason="Kept for the tests")
ApiKey.objects.filter(pk=created["expired"][0].pk).update(expires_at=timezone.now() - timedelta(days=1))
suspended.suspend("Kept for the tests", by=by)
created["active"][0].record_use("192.0.2.7")
quota.admit(acme.pk, acme.tier)
Task.objects.create_task(acme, title="Kept", user=owner, contributors=[(owner.pk, "assignee")])
token = make_token(owner)
owner.oauth2_provider_accesstoken.update(expires="2100-01-01T00:00:00Z")
print(json.dumps({name: secret for name, (_, secret) in created.items()} | {"token": token}))
"""


def run(*arguments: str, url: str) -> str:
    environment = {**os.environ, "DATABASE_URL": url, "DEBUG": "on"}
    return subprocess.run(arguments, cwd=ROOT, env=environment, check=True, capture_output=True, text=True).stdout


def fill(url: str) -> str:
    """Migrate an empty database, create keys in it, and return the credentials as JSON."""
    manage = (sys.executable, "manage.py")
    run(*manage, "migrate", "--verbosity", "0", url=url)
    return run(*manage, "shell", "--verbosity", "0", "--command", FILL, url=url).strip()


def dump_sqlite() -> str:
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "db.sqlite3"
        credentials = fill(f"sqlite:///{file}")
        with closing(sqlite3.connect(file)) as database:
            return f"-- {credentials}\n" + "\n".join(database.iterdump()) + "\n"


def dump_postgresql() -> str:
    with empty_postgresql(os.environ.get("POSTGRES", POSTGRES)) as url:
        credentials = fill(url)
        dumped = run("pg_dump", "--no-owner", "--no-privileges", "--inserts", url, url=url)
    # Leave out the lines for psql, and those that depend on the version of PostgreSQL.
    lines = [line for line in dumped.splitlines() if line and not re.match(r"--|\\|SET \w+_timeout", line)]
    return f"-- {credentials}\n" + "\n".join(lines) + "\n"


@contextmanager
def empty_postgresql(server: str) -> Iterator[str]:
    """Create a database, yield its URL, and drop it at the end of the block."""
    name = f"kept_{uuid4().hex[:12]}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            yield urlsplit(server)._replace(path=f"/{name}").geturl()
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def load(file: Path, url: str) -> dict[str, str]:
    """Restore the database of a release into an empty one, and return its credentials."""
    text = file.read_text()
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as database:
            database.executescript(text)
    else:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(text.encode())
    credentials: dict[str, str] = json.loads(text.partition("\n")[0].removeprefix("-- "))
    return credentials


if __name__ == "__main__":
    release = sys.argv[1]
    DIRECTORY.mkdir(exist_ok=True)
    for vendor, dump in {"sqlite": dump_sqlite, "postgresql": dump_postgresql}.items():
        file = DIRECTORY / f"{release}.{vendor}.sql"
        file.write_text(dump())
        sys.stdout.write(f"{file.relative_to(ROOT)}\n")
