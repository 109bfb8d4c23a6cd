"""SQLite on a full disk, simulated by a limit on the size of files that the process writes."""

from __future__ import annotations

import resource
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from django.db import connection

from tests.system.faults.conftest import LIFTED, TASKS, seeded, serving

ROOM = 300  # KiB more than the database has; a write-ahead log reaches that soon


def test_a_full_disk_loses_nothing_authenticates_nobody_and_the_site_recovers(tmp_path: Path) -> None:
    if connection.vendor != "sqlite":
        pytest.skip("SQLite's disk is tried when the tests run on SQLite.")
    database = tmp_path / "onehorizon.sqlite3"
    url = f"sqlite:///{database}"
    secret = seeded(url)
    with closing(sqlite3.connect(database)) as opened, opened:
        opened.executescript(LIFTED)

    kept = database.stat().st_size // 1024 + ROOM
    with serving(url, secret, tmp_path / "log", "bash", "-c", f'ulimit -Sf {kept}; exec "$@"', "granian") as site:
        titles = [f"{number} {'x' * 150}" for number in range(150)]
        answers = [site.ask(TASKS, {"title": title, "description": "y" * 5000}) for title in titles]
        full = [site.ask() for _ in range(4)]
        alive = site.get("/healthz")
        for pid in site.workers():
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        site.wait_until_back()

    statuses = [answer.status for answer in answers]
    assert set(statuses) == {201, 503}
    for answer in [*answers, *full]:
        if answer.status == 503:
            assert answer.json["code"] == 503
            assert answer.headers["retry-after"] == "5"
        else:
            assert "ratelimit" in answer.headers
    assert alive.status == 200
    with closing(sqlite3.connect(database)) as opened:
        written = [title for (title,) in opened.execute("SELECT title FROM workspaces_task")]
    acknowledged = [title for title, status in zip(titles, statuses, strict=True) if status == 201]
    assert sorted(title for title in written if title in set(titles)) == sorted(acknowledged)
