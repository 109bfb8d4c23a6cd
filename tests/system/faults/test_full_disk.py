"""SQLite on a full disk, simulated by a limit on the size of files that the process writes."""

from __future__ import annotations

import resource
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from django.db import connection

from tests.system.faults.conftest import LIFT_LIMITS, TASKS, seed, serving

ROOM = 300  # KiB beyond the size of the database; the write-ahead log soon reaches this limit


def test_a_full_disk_loses_nothing_authenticates_nobody_and_the_site_recovers(tmp_path: Path) -> None:
    if connection.vendor != "sqlite":
        pytest.skip("SQLite's full disk is tested only with SQLite.")
    database = tmp_path / "onehorizon.sqlite3"
    url = f"sqlite:///{database}"
    secret = seed(url)
    with closing(sqlite3.connect(database)) as db, db:
        db.executescript(LIFT_LIMITS)

    limit = database.stat().st_size // 1024 + ROOM
    with serving(url, secret, tmp_path / "log", "bash", "-c", f'ulimit -Sf {limit}; exec "$@"', "granian") as site:
        titles = [f"{number} {'x' * 150}" for number in range(150)]
        responses = [site.request(TASKS, {"title": title, "description": "y" * 5000}) for title in titles]
        when_full = [site.request() for _ in range(4)]
        health = site.get("/healthz")
        for pid in site.workers():
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        site.wait_until_available()

    statuses = [response.status for response in responses]
    assert set(statuses) == {201, 503}
    for response in [*responses, *when_full]:
        if response.status == 503:
            assert response.json["code"] == 503
            assert response.headers["retry-after"] == "5"
            assert site.cause(response) in ("disk_full", "io_error")  # SQLite reports this limit as an I/O error
        else:
            assert "ratelimit" in response.headers
    assert health.status == 200
    with closing(sqlite3.connect(database)) as db:
        written = [title for (title,) in db.execute("SELECT title FROM workspaces_task")]
    acknowledged = [title for title, status in zip(titles, statuses, strict=True) if status == 201]
    assert sorted(title for title in written if title in set(titles)) == sorted(acknowledged)
