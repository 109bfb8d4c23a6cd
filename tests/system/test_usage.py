"""Usage that several servers count: exact, also while they stop, and within known bounds if one is killed."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import connection

from apikeys.models import ApiKeyUsage, Counts
from apikeys.usage import WRITE_SECONDS
from tests.helpers import commits, lift_quota, make_key, make_user, make_workspace, stretch_windows, usage_of
from tests.processes import ROOT, TIMEOUT, database_url, environment, in_processes, wait_until
from tests.system.faults.conftest import Site, serving
from tests.system.test_metrics import metrics_urls, scrape, value
from workspaces.models import Tier, Workspace

pytestmark = commits

on_postgresql = pytest.mark.skipif(
    "connection.vendor != 'postgresql'", reason="locks rows of PostgreSQL: set DATABASE_URL to a postgres:// URL"
)
# Longer than the test: a busy machine may need more than the seconds of the other tests for the last write.
PATIENT = ("--workers-kill-timeout", str(TIMEOUT))
UNWRITTEN, WRITTEN_AGAIN = "could not write the usage of API keys", "the usage of API keys is written again"

REQUESTS: list[tuple[str, str, bytes | None]] = [
    ("GET", "/me", None),
    ("POST", "/workspaces/current/tasks", b'{"title": "Task"}'),
    ("GET", "/me?unknown=1", None),
    ("GET", "/workspaces/current/api-keys", None),
    ("GET", "/unknown", None),
    ("DELETE", "/me", None),
    ("GET", "/failing/view", None),
]
STATUSES = {200, 201, 400, 403, 404, 405, 500}  # of these requests


@pytest.fixture
def workspace(transactional_db: None) -> Workspace:
    workspace = make_workspace(make_user("owner"))
    lift_quota(workspace)
    return workspace


def server_on_test_database(log: Path, secret: str = "", workers: int = 1) -> AbstractContextManager[Site]:
    return serving(database_url(), secret, log, workers=workers, options=PATIENT)


def send(site: Site, secret: str, method: str, path: str, body: bytes | None) -> int:
    """Send a request and return its status, or 0 if the connection broke."""
    headers = {"Authorization": f"Bearer {secret}", "Content-Type": "application/json"}
    return site.send(urllib.request.Request(f"{site.url}/api/v1{path}", body, headers, method=method)).status


def counts_of(statuses: Counter[int]) -> Counts:
    """Return the usage of a key whose requests had these statuses, by a client's own count."""
    return Counts(
        admitted=statuses.total() - statuses[429],
        rejected=statuses[429],
        client_errors=sum(number for status, number in statuses.items() if 400 <= status < 500 and status != 429),
        server_errors=sum(number for status, number in statuses.items() if status >= 500),
    )


def stop(site: Site) -> None:
    site.process.terminate()
    assert site.process.wait(TIMEOUT) == 0


def test_every_figure_is_exact_while_servers_start_and_stop(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stretch_windows()
    Tier.objects.create(name="small", requests=150, seconds=900, burst_requests=150, burst_seconds=900)
    Workspace.objects.filter(pk=workspace.pk).update(tier="small")
    keys = [make_key(workspace, f"Service {number}") for number in range(3)]
    requests = [(key, request) for request in REQUESTS for key in keys] * 10
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "tests.system.failing_settings")
    monkeypatch.setenv("COLLECTED", str(tmp_path))

    sent: dict[str, Counter[int]] = {api_key.pk: Counter() for api_key, _ in keys}
    with (
        server_on_test_database(tmp_path / "first", workers=2) as first,
        server_on_test_database(tmp_path / "second") as second,
        ThreadPoolExecutor(6) as clients,
    ):

        def send_to_either(number: int) -> tuple[str, int]:
            (api_key, secret), request = requests[number]
            status = send(first, secret, *request) if number % 2 else 0
            if number == len(requests) // 3:
                first.process.terminate()  # while others send to it
            return api_key.pk, status or send(second, secret, *request)  # 0: the first has stopped

        for api_key_id, status in clients.map(send_to_either, range(len(requests))):
            sent[api_key_id][status] += 1
        assert first.process.wait(TIMEOUT) == 0
        stop(second)

    statuses = sum(sent.values(), Counter())
    assert set(statuses) == STATUSES | {429}
    assert statuses.total() - statuses[429] == 150
    assert dict(ApiKeyUsage.objects.by_key()) == {
        api_key_id: counts_of(statuses) for api_key_id, statuses in sent.items()
    }


def test_a_killed_process_loses_at_most_what_it_counted_since_its_last_write(
    workspace: Workspace, tmp_path: Path
) -> None:
    _, secret = make_key(workspace)
    with server_on_test_database(tmp_path / "log", secret) as site:
        answered: list[float] = []
        end = time.monotonic() + 5 * WRITE_SECONDS
        while (now := time.monotonic()) < end:
            assert site.request().status == 200
            answered.append(now)
            time.sleep(0.05)
        for worker in site.workers():
            os.kill(worker, signal.SIGKILL)
        wait_until(lambda: site.request().status == 200, site.log.read_text)  # from a new process
        stop(site)

    # Four times the time between writes: a busy machine may write late.
    written = sum(moment < end - 4 * WRITE_SECONDS for moment in answered)
    assert written + 1 <= usage_of().admitted <= len(answered) + 1


def test_a_stop_writes_what_was_counted_before(workspace: Workspace, tmp_path: Path) -> None:
    """As systemd does it with the unit of `deploy/systemd/`: only granian's parent process gets the signal."""
    _, secret = make_key(workspace)
    with server_on_test_database(tmp_path / "log", secret, workers=2) as site:
        statuses = [site.request().status for _ in range(30)]
        site.process.send_signal(signal.SIGTERM)
        assert site.process.wait(TIMEOUT) == 0

    assert statuses == [200] * 30
    assert usage_of() == Counts(admitted=30)


def test_a_reload_writes_what_the_old_workers_counted(workspace: Workspace, tmp_path: Path) -> None:
    _, secret = make_key(workspace)
    options = (*PATIENT, "--respawn-interval", "1")
    with serving(database_url(), secret, tmp_path / "log", workers=1, options=options) as site:
        old = site.workers()
        assert [site.request().status for _ in range(10)] == [200] * 10
        site.process.send_signal(signal.SIGHUP)
        wait_until(lambda: not set(old) & set(site.workers()), site.log.read_text)
        assert usage_of() == Counts(admitted=10)


@contextmanager
def transaction_with(statement: str, *params: Any) -> Iterator[Any]:
    """Run the statement in a transaction of another client, which is open until the end of the block."""
    if connection.vendor == "sqlite":
        client: Any = sqlite3.connect(connection.settings_dict["NAME"], uri=True, timeout=TIMEOUT)
        client.isolation_level = None
    else:
        client = psycopg.connect(database_url())
    try:
        client.execute(statement, params)
        yield client
    finally:
        client.rollback()
        client.close()


def lock_database() -> AbstractContextManager[Any]:
    if connection.vendor == "sqlite":
        return transaction_with("BEGIN IMMEDIATE")
    return transaction_with("LOCK TABLE apikeys_apikeyusage IN EXCLUSIVE MODE")  # it can be read


def test_a_long_transaction_delays_the_usage_and_loses_nothing(
    workspace: Workspace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, secret = make_key(workspace)
    monkeypatch.setenv("METRICS_ADDRESS", "127.0.0.1:0")
    with server_on_test_database(tmp_path / "log", secret) as site:
        statuses: list[int] = []

        def pending_requests() -> float:
            return value(scrape(metrics_urls(site.log, 1)), "onehorizon_usage_pending")

        with ExitStack() as locked:
            if connection.vendor == "postgresql":
                locked.enter_context(lock_database())
                statuses += [site.request().status for _ in range(10)]
            else:  # requests need the lock too, and a write may come between them and the lock
                while not pending_requests():
                    locked.close()
                    statuses.append(site.request().status)
                    locked.enter_context(lock_database())
            wait_until(lambda: UNWRITTEN in site.log.read_text(), site.log.read_text)
            pending = pending_requests()
            written = usage_of().admitted
        wait_until(lambda: WRITTEN_AGAIN in site.log.read_text(), site.log.read_text)
        samples = scrape(metrics_urls(site.log, 1))
        assert pending + written == len(statuses)
        assert pending > 0
        assert value(samples, "onehorizon_usage_pending") == value(samples, "onehorizon_usage_lost_total") == 0
        statuses += [site.request().status for _ in range(5)]
        stop(site)

    assert set(statuses) == {200}
    assert usage_of() == Counts(admitted=len(statuses))
    assert (tmp_path / "log").read_text().count(UNWRITTEN) == 1


@on_postgresql
def test_the_last_write_has_the_requests_that_were_counted_during_the_one_before(
    workspace: Workspace, tmp_path: Path
) -> None:
    _, secret = make_key(workspace)
    with server_on_test_database(tmp_path / "log", secret) as site:
        statuses = [site.request().status]
        with transaction_with("LOCK TABLE apikeys_apikeyusage") as holder:
            waiting = "SELECT count(*) FROM pg_locks WHERE relation = 'apikeys_apikeyusage'::regclass AND NOT granted"
            wait_until(lambda: holder.execute(waiting).fetchone() == (1,), site.log.read_text)
            statuses.append(site.request().status)
            site.process.terminate()
        assert site.process.wait(TIMEOUT) == 0

    assert statuses == [200, 200]
    assert usage_of() == Counts(admitted=2)


def test_processes_that_add_to_the_same_rows_wait_for_each_other(workspace: Workspace) -> None:
    keys = [make_key(workspace, f"Service {number}")[0].pk for number in range(15)]

    in_processes(
        4,
        f"""
        import random
        from apikeys.models import ApiKeyUsage
        from tests.processes import in_threads
        def add_in_any_order(repetitions=25):
            rows = [(api_key_id, hour * 3600) for api_key_id in {keys!r} for hour in range(4)]
            for _ in range(repetitions):
                random.shuffle(rows)
                ApiKeyUsage.objects.add({{row: (4, 3, 2, 1) for row in rows}})
        assert in_threads(add_in_any_order, add_in_any_order) == [None, None]
        """,
    )

    additions = 4 * 2 * 25
    each = Counts(4 * additions, 3 * additions, 2 * additions, additions)
    rows = ApiKeyUsage.objects.values_list(*Counts._fields)
    assert list(rows) == [each] * len(keys) * 4


@pytest.mark.one_database("names a database of its own")
def test_loading_the_application_ends_and_does_not_write(tmp_path: Path) -> None:
    """As `ExecReload` does before a reload."""
    database = tmp_path / "missing" / "onehorizon.sqlite3"
    result = subprocess.run(
        [sys.executable, "-c", "import onehorizon.wsgi"],
        cwd=ROOT,
        env=environment(DATABASE_URL=f"sqlite:///{database}", DEBUG="on"),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )

    assert (result.returncode, result.stdout) == (0, "")
    assert "usage" not in result.stderr
    assert not database.exists()
