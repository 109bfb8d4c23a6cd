"""PostgreSQL behind PgBouncer, whose clients share connections per transaction."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import chain, combinations
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import psycopg
import pytest
from psycopg.rows import dict_row

from bench.cluster import Cluster
from tests.pgbouncer import pgbouncer_command
from tests.processes import ROOT, TIMEOUT, environment, free_port, manage, process, wait_until, wait_until_listening
from tests.system.faults.conftest import REQUESTS_FOR_EVERY_WORKER, TASKS, Response, Site, granian, serving

CONNECTIONS = 3  # to PostgreSQL, for the 8 threads of 4 workers
LIMITS = ["statement_timeout = 10000", "lock_timeout = 1000", "idle_in_transaction_session_timeout = 15000"]

# Two workspaces of one owner, with two keys each; one in three of their tasks is private. Only the workspace `counted`
# has a limit that a test reaches: 40 requests.
SEED = """
import json
from tests.helpers import make_key, make_token, make_user, make_workspace
from workspaces.models import Task, TaskKind, TaskStatus, Tier, Workspace

owner = make_user("owner")
workspaces = {slug: make_workspace(owner, slug) for slug in ("acme", "umbrella", "counted")}
Tier.objects.update(requests=9999, burst_requests=9999)
forty = Tier.objects.create(name="forty", requests=200, seconds=900, burst_requests=40, burst_seconds=60)
Workspace.objects.filter(slug="counted").update(tier=forty)
for slug in ("acme", "umbrella"):
    for number, status in enumerate(TaskStatus.values * 3):
        kind = TaskKind.values[number % 2]
        visibility = ("team", "team", "private")[number % 3]
        Task.objects.create_task(
            workspaces[slug], title=f"{slug} {number}", status=status, kind=kind, visibility=visibility, user=owner
        )
keys = {slug: [make_key(workspace)[1] for _ in range(2)] for slug, workspace in workspaces.items()}
ids = {slug: workspace.pk for slug, workspace in workspaces.items()}
print(json.dumps({"keys": keys, "ids": ids, "token": make_token(owner), "owner": owner.pk}))
"""


@dataclass
class Seeded:
    url: str  # of the database, without PgBouncer
    port: int  # of PostgreSQL
    keys: dict[str, list[str]]
    ids: dict[str, str]
    token: str
    owner: str


@pytest.fixture(scope="session")
def seeded(cluster: Cluster) -> Seeded:
    """A database with test data, and a role with time limits and a time zone other than Django's."""
    cluster.query("CREATE ROLE app LOGIN")
    for setting in [*LIMITS, "timezone = 'Asia/Kolkata'"]:
        cluster.query(f"ALTER ROLE app SET {setting}")
    cluster.query("CREATE ROLE unlimited LOGIN")
    cluster.query("CREATE DATABASE pooled OWNER app")
    url = f"postgres://app@127.0.0.1:{cluster.port}/pooled"
    result = manage("migrate", "--verbosity=0", DATABASE_URL=url)
    assert result.returncode == 0, result.stderr
    result = manage("shell", "--verbosity=0", "--command", SEED, DATABASE_URL=url)
    assert result.returncode == 0, result.stderr
    return Seeded(url, cluster.port, **json.loads(result.stdout))


@contextmanager
def pgbouncer(postgresql_port: int, port: int, directory: Path, *settings: str) -> Iterator[str]:
    """Run PgBouncer without passwords, and yield the URL of the database `pooled` through it."""
    replaced = {
        "onehorizon = host": "* = host",
        "auth_type = scram-sha-256": "auth_type = trust",
        "default_pool_size = 20": "\n".join([f"default_pool_size = {CONNECTIONS}", *settings]),
    }
    command = pgbouncer_command(directory, port, postgresql_port, {"app": "", "unlimited": ""}, replaced)
    log = directory / "pgbouncer.log"
    with process(command, log) as started:
        wait_until_listening(port, started, log)
        yield f"postgres://app@127.0.0.1:{port}/pooled"


@pytest.fixture(scope="session")
def directory(cluster: Cluster) -> Path:
    """A directory that PostgreSQL's user can read, because PgBouncer runs as that user."""
    path = cluster.directory / "pgbouncer"
    path.mkdir()
    return path


@pytest.fixture(scope="module")
def pooler(seeded: Seeded, directory: Path) -> Iterator[str]:
    with pgbouncer(seeded.port, free_port(), directory) as url:
        yield url


@pytest.fixture(scope="module")
def pooled(seeded: Seeded, pooler: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Four workers behind PgBouncer."""
    log = tmp_path_factory.mktemp("pooled") / "log"
    with serving(f"{pooler}?pgbouncer=true", seeded.keys["acme"][0], log, workers=4) as site:
        site.wait_until_available()
        yield site


@dataclass
class Query:
    """A request for a list of tasks."""

    workspace: str
    secret: str
    person: str | None
    filters: list[tuple[str, str]]

    @property
    def path(self) -> str:
        return f"/workspaces/{self.workspace}/tasks?{urlencode([('limit', '200'), *self.filters])}"

    def expected(self, tasks: list[dict[str, Any]]) -> list[Any]:
        filters = {name: [value for key, value in self.filters if key == name] for name, _ in self.filters}
        return [
            [task["id"], task["title"], task["status"], task["visibility"], task["created_at"]]
            for task in tasks
            if task["workspace_id"] == self.workspace
            and (task["visibility"] == "team" or task["user_id"] == self.person)
            and all(task[name] in values for name, values in filters.items())
        ]


def queries(seeded: Seeded) -> list[Query]:
    """Return queries of every principal with every combination of some filters, each query twice.

    They are ordered so that consecutive queries differ.
    """
    statuses = [("status", status) for status in ("open", "idea", "planned", "in_progress", "completed")]
    kinds = [("kind", "task"), ("kind", "bug")]
    combined = [
        Query(seeded.ids[slug], secret, person, [*status, *kind])
        for slug in ("acme", "umbrella")
        for secret, person in [*((key, None) for key in seeded.keys[slug]), (seeded.token, seeded.owner)]
        for status in chain.from_iterable(combinations(statuses, count) for count in range(3))
        for kind in chain.from_iterable(combinations(kinds, count) for count in range(2))
    ]
    return [combined[number * 101 % len(combined)] for number in range(2 * len(combined))]


def in_parallel(requests: list[Callable[[], Response]]) -> list[Response]:
    with ThreadPoolExecutor(12) as threads:
        return list(threads.map(lambda request: request(), requests))


def test_every_response_is_correct(seeded: Seeded, pooled: Site) -> None:
    """Concurrent clients get the tasks of their own workspace, and only those that they may see."""
    with psycopg.connect(seeded.url, row_factory=dict_row) as connection:
        tasks = connection.execute("SELECT * FROM workspaces_task ORDER BY id DESC").fetchall()
    sent = queries(seeded)
    responses = in_parallel([partial(pooled.request, query.path, secret=query.secret) for query in sent])

    assert Counter(response.status for response in responses) == {200: len(sent)}
    for query, response in zip(sent, responses, strict=True):
        shown = [
            [task[name] for name in ("taskId", "title", "status", "visibility")]
            + [datetime.fromisoformat(task["createdAt"])]
            for task in response.json["tasks"]
        ]
        assert shown == query.expected(tasks)
    see_private = {
        query.secret for query, response in zip(sent, responses, strict=True) if b'"private"' in response.body
    }
    assert see_private == {seeded.token}


def test_the_quota_is_exact(seeded: Seeded, pooled: Site) -> None:
    responses = in_parallel([partial(pooled.request, TASKS, secret=secret) for secret in seeded.keys["counted"] * 50])

    assert Counter(response.status for response in responses) == {200: 40, 429: 60}


def test_a_revoked_key_is_rejected_from_the_next_request_on(seeded: Seeded, pooled: Site) -> None:
    result = manage("create_api_key", "acme", "--description=Revoked soon", DATABASE_URL=seeded.url)
    assert result.returncode == 0, result.stderr
    secret = result.stdout.strip()
    before = in_parallel([partial(pooled.request, secret=secret)] * 40)
    assert manage("revoke_api_key", "-", stdin=secret, DATABASE_URL=seeded.url).returncode == 0
    after = in_parallel([partial(pooled.request, secret=secret)] * 40)

    assert {response.status for response in before} == {200}
    assert {response.status for response in after} == {401}


def test_commands_work_behind_a_pooler_declared_or_not(pooler: str) -> None:
    for url in (f"{pooler}?pgbouncer=true", pooler):
        result = manage("list_api_keys", "acme", "--json", DATABASE_URL=url, PGOPTIONS="")
        assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("parameters", ["", "?pgbouncer=true"], ids=["undeclared", "declared"])
def test_migrate_refuses_a_pooler(parameters: str, pooler: str) -> None:
    """Its settings and locks belong to a session, and the next transaction may run in another one."""
    result = manage("migrate", DATABASE_URL=pooler + parameters, PGOPTIONS="")

    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        "CommandError: Run migrate without the connection pooler: name PostgreSQL itself in DATABASE_URL. "
        "See docs/operations.md.\n"
    )
    with psycopg.connect(pooler, autocommit=True, options="") as client:  # without PGOPTIONS
        assert client.execute("SHOW lock_timeout").fetchone() == ("1s",), "the session is as it was"


def test_a_long_statement_times_out(seeded: Seeded, pooler: str, tmp_path: Path) -> None:
    """The role's lock_timeout is 1 s. The server is this test's own: it may reject the next requests for tasks."""
    with (
        serving(f"{pooler}?pgbouncer=true", seeded.keys["acme"][0], tmp_path / "log", workers=1) as site,
        psycopg.connect(seeded.url) as holder,
    ):
        holder.execute("LOCK TABLE workspaces_task")
        response = site.request(TASKS)

    assert response.status == 503
    assert response.seconds >= 1


# ---- starting a server ----


def load(url: str, **overrides: str) -> subprocess.CompletedProcess[str]:
    """Import the application, as a server's worker does first."""
    return subprocess.run(
        [sys.executable, "-c", "import onehorizon.wsgi"],
        cwd=ROOT,
        env=environment(DATABASE_URL=url, **overrides),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )


@pytest.mark.parametrize(
    "lines", [[], ["ignore_startup_parameters = options"]], ids=["rejects options", "ignores options"]
)
def test_an_undeclared_pooler_stops_each_worker(
    lines: list[str], seeded: Seeded, directory: Path, tmp_path: Path
) -> None:
    with pgbouncer(seeded.port, free_port(), directory, *lines) as url:
        result = load(url)
        log = tmp_path / "log"
        with process(granian(free_port(), workers=2), log, DATABASE_URL=url):
            # granian starts a failed worker again, and need not notice that all fail: so it may never exit.
            failures = [f"Unexpected exit from worker-{number}" for number in (1, 2)]
            wait_until(lambda: all(failure in log.read_text() for failure in failures), log.read_text)

    assert result.returncode == 1
    assert result.stderr.startswith("onehorizon: DATABASE_URL ")
    assert "?pgbouncer=true" in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stderr in log.read_text()
    assert "Started worker" not in log.read_text()
    assert "Traceback" not in log.read_text()


def test_a_pooler_without_the_limits_stops_the_server(pooler: str) -> None:
    result = load(f"{pooler.replace('app@', 'unlimited@')}?pgbouncer=true")

    assert result.returncode == 1
    assert result.stderr == (
        "onehorizon: Behind a pooler, set the time limits in PostgreSQL: "
        f"{'; '.join(f'ALTER ROLE unlimited SET {limit}' for limit in LIMITS)}.\n"
    )


def test_a_server_starts_while_the_pooler_is_unavailable(seeded: Seeded, directory: Path, tmp_path: Path) -> None:
    """When the pooler starts, the server that declares it recovers. The other detects it and rejects all requests."""
    port, secret = free_port(), seeded.keys["acme"][0]
    url = f"postgres://app@127.0.0.1:{port}/pooled"
    with (
        serving(f"{url}?pgbouncer=true", secret, tmp_path / "declared") as declared,
        serving(url, secret, tmp_path / "undeclared") as undeclared,
    ):
        unavailable = [declared.request(), undeclared.request()]
        with pgbouncer(seeded.port, port, directory, "ignore_startup_parameters = options"):
            declared.wait_until_available()
            statuses = [undeclared.request().status for _ in range(REQUESTS_FOR_EVERY_WORKER)]
            ready = undeclared.get("/readyz")

    assert [response.status for response in unavailable] == [503, 503]
    assert set(statuses) == {503}
    assert ready.status == 503
    assert "?pgbouncer=true" in undeclared.log.read_text()
