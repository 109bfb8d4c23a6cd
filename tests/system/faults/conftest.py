"""A PostgreSQL server that the tests stop and kill, and granian on it as in production."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from bench.cluster import NEEDS, Cluster, children, find_programs, postgresql
from tests.processes import TIMEOUT, free_port, manage, process, wait_until, wait_until_responding

TASKS = "/workspaces/current/tasks"
# The probability that one of two workers gets all of these requests is 1 in 2¹⁹.
REQUESTS_FOR_EVERY_WORKER = 20
# Gives every workspace limits that no test here reaches.
LIFT_LIMITS = """
    INSERT INTO workspaces_tier (name, requests, seconds, burst_requests, burst_seconds)
        VALUES ('lifted', 9999, 900, 9999, 60);
    UPDATE workspaces_workspace SET tier_id = 'lifted';
"""


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    if connection.vendor != "postgresql":
        pytest.skip("Faults of PostgreSQL are tested only with PostgreSQL.")
    installed = find_programs()
    if installed is None:
        if os.environ.get("CI") == "true":
            pytest.fail(NEEDS)
        pytest.skip(NEEDS)
    # More than the pools of the site's two workers can use together, which may be full after a fault.
    with postgresql(installed, free_port(), max_connections="60") as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def _running(request: pytest.FixtureRequest) -> Iterator[None]:
    """Restart PostgreSQL after the test if necessary, and wait until the site responds again."""
    yield
    if "site" in request.fixturenames:
        cluster: Cluster = request.getfixturevalue("cluster")
        if not cluster.is_running:
            cluster.start()
        request.getfixturevalue("site").wait_until_available()


@dataclass
class Response:
    """A response with its timing. `status` is 0 if the connection broke."""

    status: int
    headers: dict[str, str]
    body: bytes
    began: float
    seconds: float

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Site:
    url: str
    secret: str
    log: Path
    process: subprocess.Popen[bytes]

    def request(self, path: str = "/me", body: Any = None, secret: str | None = None) -> Response:
        """Send a request to the REST API: a POST if there is a body, otherwise a GET."""
        headers = {"Authorization": f"Bearer {secret or self.secret}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        return self.send(urllib.request.Request(f"{self.url}/api/v1{path}", data, headers))

    def get(self, path: str) -> Response:
        return self.send(urllib.request.Request(self.url + path))

    def send(self, request: urllib.request.Request) -> Response:
        began = time.monotonic()
        status, headers, content = 0, {}, b""
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
                status, headers, content = response.status, dict(response.headers), response.read()
        except urllib.error.HTTPError as error:
            with error:
                status, headers, content = error.code, dict(error.headers), error.read()
        except OSError:
            pass
        headers = {name.lower(): value for name, value in headers.items()}
        return Response(status, headers, content, began, time.monotonic() - began)

    def in_background(self, *arguments: Any, **options: Any) -> Callable[[], Response]:
        """Send a request in a thread and return a function that waits for the response."""
        responses: list[Response] = []
        thread = threading.Thread(target=lambda: responses.append(self.request(*arguments, **options)), daemon=True)
        thread.start()

        def result() -> Response:
            thread.join(TIMEOUT)
            return responses[0]

        return result

    def wait_until_available(self) -> None:
        self.wait_until_every_worker_responds(200)

    def wait_until_every_worker_responds(self, status: int) -> None:
        """Wait until many requests in a row get `status`. The kernel picks a worker at random."""

        def all_have_status() -> bool:
            return all(self.request().status == status for _ in range(REQUESTS_FOR_EVERY_WORKER))

        wait_until(all_have_status, self.log.read_text)

    def cause(self, response: Response) -> str:
        """Return the cause of a 503 from the log, where only the pool may add a line, about a lost connection."""
        request_id = response.headers["x-request-id"]
        lines = [line for line in self.log.read_text().splitlines() if f" requestId={request_id} " in line]
        (line,) = [line for line in lines if " psycopg.pool: discarding " not in line]
        (cause,) = re.findall(r" WARNING onehorizon\.requests: .* cause=(\w+)", line)
        return str(cause)

    def workers(self) -> list[int]:
        return children(self.process.pid)


def seed(url: str) -> str:
    """Migrate and seed a database, and return the secret of a key in it."""
    result = manage("migrate", "--verbosity=0", DATABASE_URL=url)
    assert result.returncode == 0, result.stderr
    result = manage("seed_demo", "--json", DATABASE_URL=url)
    assert result.returncode == 0, result.stderr
    return str(json.loads(result.stdout)["apiKey"])


def granian(port: int, workers: int = 2) -> list[str]:
    command = [str(Path(sys.executable).with_name("granian")), "--interface", "wsgi", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", str(workers), "--blocking-threads", "2", "--respawn-failed-workers"]
    command += ["--respawn-interval", "20", "--workers-kill-timeout", "5", "--log-config", "deploy/granian-log.json"]
    return [*command, "onehorizon.wsgi:application"]


@contextmanager
def serving(
    url: str, secret: str, log: Path, *prefix: str, workers: int = 2, options: Sequence[str] = ()
) -> Iterator[Site]:
    """Run granian as in the README, with the command `prefix` before it, and `options` that override the README's."""
    port = free_port()
    # No PGOPTIONS: these tests need durable commits, even if the machine sets synchronous_commit=off for speed.
    environment = {"DATABASE_URL": url, "PGOPTIONS": ""}
    with process([*prefix, *granian(port, workers), *options], log, **environment) as started:
        wait_until_responding(f"http://127.0.0.1:{port}/healthz", started, log)
        yield Site(f"http://127.0.0.1:{port}", secret, log, started)


@pytest.fixture(scope="session")
def secret(cluster: Cluster) -> str:
    secret = seed(cluster.url)
    cluster.query(LIFT_LIMITS)
    return secret


@pytest.fixture(scope="session")
def site(cluster: Cluster, secret: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The site on the PostgreSQL server of these tests. `_running` restores it after each test."""
    with serving(cluster.url, secret, tmp_path_factory.mktemp("site") / "log") as site:
        site.wait_until_available()
        yield site


def wait_for_lock(cluster: Cluster) -> None:
    """Return when a statement is waiting for a lock."""
    wait_until(lambda: cluster.query("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"))


@contextmanager
def traffic(site: Site, clients: int = 6) -> Iterator[list[Response]]:
    """Run clients that read and write during the block, and yield the list of their responses."""
    responses: list[Response] = []
    stop = threading.Event()

    def client(number: int) -> None:
        sent = 0
        while not stop.is_set():
            sent += 1
            if sent % 2:
                responses.append(site.request(f"{TASKS}?limit=5"))
            else:
                body = {"title": f"{time.monotonic_ns()} {number}"}
                response = site.request(TASKS, body)
                response.headers["sent"] = body["title"]
                responses.append(response)
            time.sleep(0.01)

    threads = [threading.Thread(target=client, args=[number], daemon=True) for number in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield responses
    finally:
        stop.set()
        for thread in threads:
            thread.join(TIMEOUT)
