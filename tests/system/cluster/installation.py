"""An installation with two web hosts behind nginx, and PostgreSQL with a hot standby, each behind a PgBouncer.

It runs the files of `deploy/`, with other ports and paths. The web hosts are two granian servers on this machine.
"""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from bench.cluster import Cluster, find_programs, postgresql
from tests.nginx import nginx
from tests.pgbouncer import pgbouncer_command
from tests.processes import ROOT, free_port, manage, program
from tests.system.cluster.client import Traffic
from tests.system.cluster.hosts import Host, Proxy
from tests.system.cluster.services import Service
from tests.system.cluster.standby import Standby, standby_of
from tests.system.conftest import static_files_in

ROLE, PASSWORD, DATABASE = "onehorizon", "onehorizon-password", "onehorizon"
SITE = {
    "DEBUG": "off",
    "SECRET_KEY": secrets.token_urlsafe(50),
    "ALLOWED_HOSTS": "127.0.0.1",
    "TRUSTED_PROXIES": "127.0.0.1",
}

# The workspace `busy` has no limit that a test reaches, `counted` has the standard ones. One person owns both.
SEED = """
import json
from django.core.management import call_command
from tests.helpers import make_key, make_token, make_user, make_workspace
from workspaces.models import Tier, Workspace

call_command("migrate", verbosity=0)
Tier.objects.create(name="counted", requests=200, seconds=900, burst_requests=40, burst_seconds=60)
Tier.objects.update_or_create(name=Tier.DEFAULT, defaults={"requests": 9999, "burst_requests": 9999})
owner = make_user("owner")
busy, counted = make_workspace(owner, "busy"), make_workspace(owner, "counted")
Workspace.objects.filter(pk=counted.pk).update(tier="counted")
print(json.dumps({
    "busy": busy.pk,
    "secret": make_key(busy)[1],
    "counted": [make_key(counted)[1] for _ in range(2)],
    "token": make_token(owner),
}))
"""


@dataclass
class Seeded:
    busy: str  # the id of a workspace
    secret: str  # of a key of `busy`
    counted: list[str]  # secrets of two keys of another workspace
    token: str  # of the owner of both


@dataclass
class Installation:
    primary: Cluster
    standby: Standby
    poolers: list[Service]  # one for each server, in the same order
    hosts: list[Host]
    proxy: Proxy
    seeded: Seeded
    redis: Service

    @property
    def database_url(self) -> str:
        """The URL that operators use for commands: PostgreSQL's servers, without their poolers."""
        return database_url(self.primary.port, self.standby.port, parameters="")

    @property
    def api_keys(self) -> str:
        return f"/api/v1/workspaces/{self.seeded.busy}/api-keys"

    def fail_over(self, after: float = 1.0) -> None:
        """Kill the primary, and promote the standby `after` seconds later, if that has not been done."""
        if self.primary.is_running:
            self.primary.kill()
            time.sleep(after)  # as long as an operator's tool may take to notice
            self.standby.promote()

    def connect(self) -> psycopg.Connection:
        """Connect to the database on the current primary, without time limits."""
        server = self.primary if self.primary.is_running else self.standby
        return psycopg.connect(host="127.0.0.1", port=server.port, user="postgres", dbname=DATABASE)

    def lost(self, recorded: Traffic) -> tuple[set[str], set[str]]:
        """Return the ids of acknowledged keys, and of acknowledged revocations, that the current primary lacks."""
        with self.connect() as connection:
            rows = connection.execute("SELECT id, revoked_at FROM apikeys_apikey").fetchall()
        existing = {api_key_id for api_key_id, _ in rows}
        revoked = {api_key_id for api_key_id, revoked_at in rows if revoked_at}
        return recorded.created.keys() - existing, set(recorded.revoked) - revoked

    def processes(self) -> list[int]:
        """Return the ids of the processes that a failover must not restart."""
        poolers = [pooler.process.pid for pooler in self.poolers]
        return [*poolers, self.proxy.nginx.process.pid, *(pid for host in self.hosts for pid in host.workers())]


def database_url(*ports: int, parameters: str = "?pgbouncer=true") -> str:
    servers = ",".join(f"127.0.0.1:{port}" for port in ports)
    return f"postgres://{ROLE}:{PASSWORD}@{servers}/{DATABASE}{parameters}"


def pgbouncer(server: Cluster) -> Service:
    """Return a PgBouncer with the configuration of `deploy/`, in front of a server."""
    port, directory = free_port(), server.directory / "pgbouncer"
    directory.mkdir()
    command = pgbouncer_command(directory, port, server.port, {ROLE: PASSWORD})
    return Service(command, port, directory / "pgbouncer.log")


def seed(primary: Cluster) -> Seeded:
    """Create the role as docs/operations.md says, and the database with test data."""
    primary.query(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'")
    documented = re.findall(
        rf"^ *(ALTER ROLE {ROLE} SET .*);$", (ROOT / "docs/operations.md").read_text(), re.MULTILINE
    )
    assert documented
    for statement in documented:
        primary.query(statement)
    primary.query(f"CREATE DATABASE {DATABASE} OWNER {ROLE}")
    url = database_url(primary.port, parameters="")
    result = manage("shell", "--verbosity=0", "--command", SEED, DATABASE_URL=url, DEBUG="on")
    assert result.returncode == 0, result.stderr
    return Seeded(**json.loads(result.stdout))


def redis_server(directory: Path) -> Service:
    path, port = program("redis-server", install="apt-get install redis-server"), free_port()
    command = [path, "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    return Service(command, port, directory / "redis.log")


def collect_static(directory: Path) -> dict[str, str]:
    """Collect the static files. Return the environment of servers that serve them."""
    variables = static_files_in(directory) | SITE
    result = manage("collectstatic", "--no-input", "--verbosity=0", DATABASE_URL=None, **variables)
    assert result.returncode == 0, result.stderr
    return variables


def web_environment(database_url: str, cache_url: str) -> dict[str, str]:
    limits = {"APIKEYS_MAX_ACTIVE": "10000", "APIKEYS_FAILURES_PER_MINUTE": "100000"}
    # No PGOPTIONS: commits must be durable, even if the machine sets synchronous_commit=off for speed.
    return {"DATABASE_URL": database_url, "CACHE_URL": cache_url, "PGOPTIONS": "", **limits}


@contextmanager
def installation(directory: Path) -> Iterator[Installation]:
    """Start everything, and stop it at the end of the block."""
    programs = find_programs()
    assert programs
    with ExitStack() as stack, ThreadPoolExecutor() as threads:
        static = directory / "static"
        collected = threads.submit(collect_static, static)
        primary = stack.enter_context(postgresql(programs, free_port(), max_connections="60"))
        seeded = seed(primary)
        standby = stack.enter_context(standby_of(primary, free_port()))
        redis = redis_server(directory)
        poolers = [pgbouncer(server) for server in (primary, standby)]
        for service in (redis, *poolers):
            service.start()
            stack.callback(service.stop)
        url = database_url(*(pooler.port for pooler in poolers))
        environment = web_environment(url, f"redis://127.0.0.1:{redis.port}/0") | collected.result()
        hosts = [Host(name, free_port(), directory / f"{name}.log", environment) for name in ("first", "second")]
        for host in hosts:
            host.start()
            stack.callback(host.stop)
        for host in hosts:
            host.wait_until_ready()
        (directory / "nginx").mkdir()
        running = stack.enter_context(nginx(directory / "nginx", [host.port for host in hosts], static))
        yield Installation(primary, standby, poolers, hosts, Proxy(running, hosts), seeded, redis)
