"""PostgreSQL behind PgBouncer, whose clients share connections per transaction."""

from __future__ import annotations

import json
import socket
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

from bench.cluster import Cluster, as_postgres
from tests.processes import ROOT, TIMEOUT, environment, free_port, manage, process, program, wait_until
from tests.system.faults.conftest import ENOUGH_FOR_EVERY_WORKER, TASKS, Answer, Site, granian, serving

CONNECTIONS = 3  # to PostgreSQL, for the 8 threads of 4 workers
LIMITS = ["statement_timeout = 10000", "lock_timeout = 3000", "idle_in_transaction_session_timeout = 15000"]

# Two workspaces of one owner, with two keys each and tasks of which a third are private. A third workspace is the only
# one with a limit that is reached here: 40 requests.
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
    url: str  # without PgBouncer in between
    port: int  # PostgreSQL's
    keys: dict[str, list[str]]
    ids: dict[str, str]
    token: str
    owner: str


@pytest.fixture(scope="session")
def seeded(cluster: Cluster) -> Seeded:
    """A database of its own, with a role whose sessions have their limits, and a time zone that isn't ours."""
    cluster.query("CREATE ROLE app LOGIN")
    for setting in [*LIMITS, "timezone = 'Asia/Kolkata'"]:
        cluster.query(f"ALTER ROLE app SET {setting}")
    cluster.query("CREATE ROLE unlimited LOGIN")
    cluster.query("CREATE DATABASE pooled OWNER app")
    url = f"postgres://app@127.0.0.1:{cluster.port}/pooled"
    migrated = manage("migrate", "--verbosity=0", DATABASE_URL=url)
    assert migrated.returncode == 0, migrated.stderr
    result = manage("shell", "--verbosity=0", "--command", SEED, DATABASE_URL=url)
    assert result.returncode == 0, result.stderr
    return Seeded(url, cluster.port, **json.loads(result.stdout))


@contextmanager
def pgbouncer(server: int, port: int, directory: Path, *settings: str) -> Iterator[str]:
    """PgBouncer in front of the PostgreSQL at the port `server`; yields the address of its database `pooled`."""
    path = program("pgbouncer", install="apt-get install pgbouncer")
    users, configuration = directory / "users", directory / "pgbouncer.ini"
    users.write_text('"app" ""\n"unlimited" ""\n')
    lines = ["[databases]", f"* = host=127.0.0.1 port={server}"]
    lines += ["[pgbouncer]", "pool_mode = transaction", f"default_pool_size = {CONNECTIONS}", *settings]
    lines += ["listen_addr = 127.0.0.1", f"listen_port = {port}", "unix_socket_dir =", "auth_type = trust"]
    lines += [f"auth_file = {users}"]
    configuration.write_text("\n".join(lines))
    log = directory / "pgbouncer.log"
    with process([*as_postgres(), path, str(configuration)], log) as started:
        wait_until(lambda: listens(port) or started.poll() is not None)
        assert started.poll() is None, log.read_text()
        yield f"postgres://app@127.0.0.1:{port}/pooled"


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="session")
def directory(cluster: Cluster) -> Path:
    """Where PostgreSQL's user, who runs PgBouncer too, may read."""
    result = cluster.directory / "pgbouncer"
    result.mkdir()
    return result


@pytest.fixture(scope="module")
def pooler(seeded: Seeded, directory: Path) -> Iterator[str]:
    with pgbouncer(seeded.port, free_port(), directory) as url:
        yield url


@pytest.fixture(scope="module")
def pooled(seeded: Seeded, pooler: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Four workers behind PgBouncer."""
    log = tmp_path_factory.mktemp("pooled") / "log"
    with serving(f"{pooler}?pgbouncer=true", seeded.keys["acme"][0], log, workers=4) as site:
        site.wait_until_back()
        yield site


@dataclass
class Question:
    """A list of tasks that a caller asks for."""

    workspace: str
    secret: str
    person: str | None
    filters: list[tuple[str, str]]

    @property
    def path(self) -> str:
        return f"/workspaces/{self.workspace}/tasks?{urlencode([('limit', '200'), *self.filters])}"

    def answer(self, tasks: list[dict[str, Any]]) -> list[Any]:
        filters = {name: [value for key, value in self.filters if key == name] for name, _ in self.filters}
        return [
            [task["id"], task["title"], task["status"], task["visibility"], task["created_at"]]
            for task in tasks
            if task["workspace_id"] == self.workspace
            and (task["visibility"] == "team" or task["user_id"] == self.person)
            and all(task[name] in values for name, values in filters.items())
        ]


def questions(seeded: Seeded) -> list[Question]:
    """Every caller with every combination of some filters, twice, and no two alike in a row."""
    statuses = [("status", status) for status in ("open", "idea", "planned", "in_progress", "completed")]
    kinds = [("kind", "task"), ("kind", "bug")]
    every = [
        Question(seeded.ids[slug], secret, person, [*status, *kind])
        for slug in ("acme", "umbrella")
        for secret, person in [*((key, None) for key in seeded.keys[slug]), (seeded.token, seeded.owner)]
        for status in chain.from_iterable(combinations(statuses, count) for count in range(3))
        for kind in chain.from_iterable(combinations(kinds, count) for count in range(2))
    ]
    return [every[number * 101 % len(every)] for number in range(2 * len(every))]


def at_once(acts: list[Callable[[], Answer]]) -> list[Answer]:
    with ThreadPoolExecutor(12) as threads:
        return list(threads.map(lambda act: act(), acts))


def test_every_response_is_correct(seeded: Seeded, pooled: Site) -> None:
    """With several callers at the same time, each gets their own tasks and only those that they may see."""
    with psycopg.connect(seeded.url, row_factory=dict_row) as connection:
        tasks = connection.execute("SELECT * FROM workspaces_task ORDER BY id DESC").fetchall()
    sent = questions(seeded)
    answers = at_once([partial(pooled.ask, question.path, secret=question.secret) for question in sent])

    assert Counter(answer.status for answer in answers) == {200: len(sent)}
    for question, answer in zip(sent, answers, strict=True):
        shown = [
            [task[name] for name in ("taskId", "title", "status", "visibility")]
            + [datetime.fromisoformat(task["createdAt"])]
            for task in answer.json["tasks"]
        ]
        assert shown == question.answer(tasks)
    see_private = {
        question.secret for question, answer in zip(sent, answers, strict=True) if b'"private"' in answer.body
    }
    assert see_private == {seeded.token}


def test_the_quota_is_exact(seeded: Seeded, pooled: Site) -> None:
    answers = at_once([partial(pooled.ask, TASKS, secret=secret) for secret in seeded.keys["counted"] * 50])

    assert Counter(answer.status for answer in answers) == {200: 40, 429: 60}


def test_a_revoked_key_is_rejected_from_the_next_request_on(seeded: Seeded, pooled: Site) -> None:
    result = manage("create_api_key", "acme", "--description=Revoked soon", DATABASE_URL=seeded.url)
    assert result.returncode == 0, result.stderr
    secret = result.stdout.strip()
    before = at_once([partial(pooled.ask, secret=secret)] * 40)
    assert manage("revoke_api_key", "-", stdin=secret, DATABASE_URL=seeded.url).returncode == 0
    after = at_once([partial(pooled.ask, secret=secret)] * 40)

    assert {answer.status for answer in before} == {200}
    assert {answer.status for answer in after} == {401}


def test_commands_work_behind_a_pooler_declared_or_not(pooler: str) -> None:
    for url in (f"{pooler}?pgbouncer=true", pooler):
        listed = manage("list_api_keys", "acme", "--json", DATABASE_URL=url, PGOPTIONS="")
        assert listed.returncode == 0, listed.stderr


def test_a_long_statement_times_out(seeded: Seeded, pooled: Site) -> None:
    """By the limits of the role: a request waits 3 s for a lock."""
    with psycopg.connect(seeded.url) as holder:
        holder.execute("LOCK TABLE workspaces_task")
        answer = pooled.ask(TASKS, secret=seeded.keys["acme"][0])

    assert answer.status == 503
    assert answer.seconds > 2.5
    pooled.wait_until_back()


# ---- a process that must not serve ----


def load(url: str, **overrides: str) -> subprocess.CompletedProcess[str]:
    """A worker of a server, as far as the application's import."""
    command = [sys.executable, "-c", "import onehorizon.wsgi"]
    return subprocess.run(
        command,
        cwd=ROOT,
        env=environment(DATABASE_URL=url, **overrides),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )


@pytest.mark.parametrize("lines", [[], ["ignore_startup_parameters = options"]], ids=["refusing", "ignoring"])
def test_an_undeclared_pooler_stops_the_server(
    lines: list[str], seeded: Seeded, directory: Path, tmp_path: Path
) -> None:
    with pgbouncer(seeded.port, free_port(), directory, *lines) as url:
        loaded = load(url)
        log = tmp_path / "log"
        with process(granian(free_port(), workers=2), log, DATABASE_URL=url) as server:
            status = server.wait(120)

    assert loaded.returncode == 1
    assert loaded.stderr.startswith("onehorizon: DATABASE_URL ")
    assert "?pgbouncer=true" in loaded.stderr
    assert loaded.stderr.count("\n") == 1
    assert status != 0
    assert loaded.stderr in log.read_text()
    assert "Traceback" not in log.read_text()


def test_a_pooler_without_the_limits_stops_the_server(pooler: str) -> None:
    loaded = load(f"{pooler.replace('app@', 'unlimited@')}?pgbouncer=true")

    assert loaded.returncode == 1
    assert loaded.stderr == (
        "onehorizon: Behind a pooler PostgreSQL must set the time limits: "
        f"{'; '.join(f'ALTER ROLE unlimited SET {limit}' for limit in LIMITS)}.\n"
    )


def test_a_server_starts_while_the_pooler_is_unavailable(seeded: Seeded, directory: Path, tmp_path: Path) -> None:
    """The declared one serves as soon as it is there. The undeclared one is found then: no request is served."""
    port, secret = free_port(), seeded.keys["acme"][0]
    url = f"postgres://app@127.0.0.1:{port}/pooled"
    with (
        serving(f"{url}?pgbouncer=true", secret, tmp_path / "declared") as declared,
        serving(url, secret, tmp_path / "undeclared") as undeclared,
    ):
        away = [declared.ask(), undeclared.ask()]
        with pgbouncer(seeded.port, port, directory, "ignore_startup_parameters = options"):
            declared.wait_until_back()
            refused = [undeclared.ask().status for _ in range(ENOUGH_FOR_EVERY_WORKER)]
            ready = undeclared.get("/readyz")

    assert [answer.status for answer in away] == [503, 503]
    assert set(refused) == {503}
    assert ready.status == 503
    assert "?pgbouncer=true" in undeclared.log.read_text()
