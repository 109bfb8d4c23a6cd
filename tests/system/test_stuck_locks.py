"""A lock that is not released, such as an operator's, occupies only half of a server's threads."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from django.conf import settings
from django.db import connection
from psycopg import sql

from tests.helpers import commits, lift_quota, make_key, make_token, sign_in
from tests.processes import TIMEOUT, database_url, fetch, wait_until
from workspaces.models import User, Workspace

pytestmark = commits

CLIENTS = 4  # twice as many as the site has threads
PAUSE = 0.05  # seconds between the requests of a client, so that a form is not sent more often than its limit allows
CSRF_TOKEN = "c" * 32
QUOTA = "SELECT 1 FROM workspaces_quota WHERE subject = %s FOR UPDATE"
WORKSPACE = "SELECT 1 FROM workspaces_workspace WHERE id = %s FOR UPDATE"
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


def post(url: str, body: bytes, **headers: str) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=TIMEOUT) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def read(site: str, secret: str, path: str = "/me") -> Callable[[], int]:
    return lambda: fetch(f"{site}/api/v1{path}", secret)[0]


def create_task(site: str, secret: str) -> Callable[[], int]:
    headers = {"Authorization": f"Bearer {secret}", "Content-Type": "application/json"}
    return lambda: post(f"{site}/api/v1/workspaces/current/tasks", json.dumps({"title": "New"}).encode(), **headers)


def revoke_on_page(site: str, workspace: Workspace, user: User) -> Callable[[], int]:
    """Return a function that sends the form to revoke a key. The key is revoked already, which changes nothing."""
    api_key, _ = make_key(workspace)
    session = sign_in(user).cookies[settings.SESSION_COOKIE_NAME].value
    cookies = f"{settings.SESSION_COOKIE_NAME}={session}; {settings.CSRF_COOKIE_NAME}={CSRF_TOKEN}"
    url = f"{site}/w/{workspace.pk}/settings/developer/api-keys/{api_key.pk}/revoke/"
    return lambda: post(url, f"csrfmiddlewaretoken={CSRF_TOKEN}".encode(), Cookie=cookies)


@contextmanager
def repeating(*requests: Callable[[], int]) -> Iterator[list[int]]:
    """Run clients that repeat these requests during the block, and yield the list of their statuses."""
    statuses: list[int] = []
    stop = threading.Event()

    def client(number: int) -> None:
        while not stop.is_set():
            statuses.append(requests[number % len(requests)]())
            stop.wait(PAUSE)

    with ThreadPoolExecutor(CLIENTS) as threads:
        clients = [threads.submit(client, number) for number in range(CLIENTS)]
        try:
            yield statuses
        finally:
            stop.set()
    for finished in clients:
        finished.result()


@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="SQLite has one lock")
@pytest.mark.parametrize(
    "locked",
    [
        *("the quota of a workspace", "the quota of a person", "the row of a workspace"),
        *("the table of tasks", "the table of access tokens", "the table of sessions"),
    ],
)
def test_a_stuck_lock_leaves_threads_to_others(
    locked: str, workspace: Workspace, elsewhere: Workspace, owner: User, secret: str, site: str
) -> None:
    lift_quota(workspace)
    with_key, create, revoke = read(site, secret), create_task(site, secret), revoke_on_page(site, workspace, owner)
    with_token, of_elsewhere = read(site, make_token(owner)), read(site, make_key(elsewhere)[1])
    tasks = read(site, secret, "/workspaces/current/tasks")
    statement, params, requests, other = {
        "the quota of a workspace": (QUOTA, [workspace.pk], [with_key], of_elsewhere),
        "the quota of a person": (QUOTA, [owner.pk], [with_token], of_elsewhere),
        "the row of a workspace": (WORKSPACE, [workspace.pk], [*[create] * 3, revoke], of_elsewhere),
        "the table of tasks": ("LOCK TABLE workspaces_task", [], [tasks, create], with_key),
        "the table of access tokens": ("LOCK TABLE oauth2_provider_accesstoken", [], [with_token], with_key),
        "the table of sessions": ("LOCK TABLE django_session", [], [revoke], with_key),
    }[locked]
    assert {request() for request in (*requests, other)} <= {200, 201}

    url = database_url()
    with psycopg.connect(url) as holder, psycopg.connect(url, autocommit=True) as watcher:
        assert holder.execute(statement, params).rowcount != 0
        with repeating(*requests) as statuses:
            wait_until(lambda: len(statuses) > CLIENTS)  # the first requests have waited for the lock in vain
            others = [other() for _ in range(5)]
            waiting = []
            for _ in range(20):
                waiting += watcher.execute(WAITING).fetchall()
                time.sleep(0.02)
            probe = fetch(f"{site}/healthz")[0]

    assert others == [200] * 5
    assert probe == 200
    assert set(statuses) == {503}
    assert max(waiting) == (1,), "one of two threads tries again, the other is free"
    assert {request() for request in requests} <= {200, 201}, "works immediately after the lock"


@pytest.mark.skipif("connection.vendor != 'sqlite'", reason="PostgreSQL has row locks")
def test_a_stuck_writer_of_sqlite_leaves_a_thread_to_reads(secret: str, site: str, log: Path) -> None:
    """Includes requests that would save the key's last use, which must not fail the request."""
    request = read(site, secret)
    rejected = log.read_text().count("cause=blocked")

    holder = sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with repeating(request) as statuses:
        wait_until(lambda: len(statuses) > 2 * CLIENTS)
        malformed = [read(site, f"{secret}x")() for _ in range(5)]
        probe = fetch(f"{site}/healthz")[0]
        holder.execute("ROLLBACK")
        wait_until(lambda: 200 in statuses)
    holder.close()

    assert (probe, malformed) == (200, [401] * 5), "what only reads is not affected"
    assert set(statuses) == {200, 503}
    assert log.read_text().count("cause=blocked") > rejected, "most requests fail without waiting"
    assert request() == 200


@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="part of the test of SQLite")
@pytest.mark.parametrize("table", ["apikeys_apikey", "apikeys_storedsecret"])
def test_a_malformed_key_is_rejected_while_the_table_of_keys_is_locked(table: str, secret: str, site: str) -> None:
    """It is rejected without the database, so it neither waits nor counts as a success that ends the block."""
    request, malformed = read(site, secret), read(site, f"{secret}x")

    with psycopg.connect(database_url()) as holder:
        holder.execute(sql.SQL("LOCK TABLE {}").format(sql.Identifier(table)))
        with repeating(request) as statuses:
            wait_until(lambda: len(statuses) > CLIENTS)
            rejected = [malformed() for _ in range(5)]

    assert set(statuses) == {503}
    assert rejected == [401] * 5
    assert request() == 200
