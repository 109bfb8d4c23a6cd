"""What is measured, as processes: a PostgreSQL and a Redis of our own, and granian, with one worker of one thread."""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.cluster import NEEDS, Cluster, children, postgresql, programs
from bench.load import HOST

ROOT = Path(__file__).resolve().parent.parent
# Argon2 as cheap as it gets: keys are hashed by the ten thousand here, and a known key's request has none of it.
ENVIRONMENT = {
    "DEBUG": "off",
    "SECRET_KEY": secrets.token_urlsafe(50),
    "ALLOWED_HOSTS": HOST,
    "TRUSTED_PROXIES": "127.0.0.1",
    "APIKEYS_ARGON2_MEMORY_COST": "8",
    "APIKEYS_ARGON2_TIME_COST": "1",
    "APIKEYS_FAILURES_PER_MINUTE": "100000",
}


@dataclass
class Server:
    port: int
    process: subprocess.Popen[bytes]

    @property
    def worker(self) -> int:
        return children(self.process.pid)[0]

    def processor_seconds(self) -> float:
        return sum(map(processor_seconds, [self.process.pid, *children(self.process.pid)]))


@dataclass
class Stage:
    cluster: Cluster
    redis: Server
    directory: Path
    _stack: ExitStack

    def url(self, database: str) -> str:
        return self.cluster.url.removesuffix("postgres") + database

    def run(self, *arguments: str, database: str, **environment: str) -> Any:
        """What a Python command prints, as JSON; None where it prints nothing."""
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=self._environment(database, environment),
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(done.stderr[-5000:])
        return json.loads(done.stdout) if done.stdout.strip() else None

    def serve(
        self, application: str, *, database: str, workers: int = 1, threads: int = 1, **environment: str
    ) -> Server:
        """granian, until the stage is taken down; its log is a file, as production's would be."""
        port = free_port()
        granian = [str(Path(sys.executable).with_name("granian")), "--interface", "wsgi", "--host", "127.0.0.1"]
        granian += ["--port", str(port), "--workers", str(workers), "--blocking-threads", str(threads)]
        # A connection of the client idles while the others are measured; granian would close it after 30 s.
        granian += ["--log-level", "warning", "--http1-header-read-timeout", "60000"]
        log = self._stack.enter_context((self.directory / f"{port}.log").open("wb"))
        started = subprocess.Popen(
            [*granian, application],
            cwd=ROOT,
            env=self._environment(database, environment),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        self._stack.callback(_end, started)
        _wait(port, started)
        return Server(port, started)

    def _environment(self, database: str, more: dict[str, str]) -> dict[str, str]:
        bench = {"DATABASE_URL": self.url(database), "BENCH_REDIS": f"redis://127.0.0.1:{self.redis.port}/0"}
        return os.environ | ENVIRONMENT | bench | more


@contextmanager
def staged() -> Iterator[Stage]:
    found = programs()
    if found is None or not shutil.which("redis-server"):
        sys.exit(f"{NEEDS} And Redis: apt-get install redis-server.")
    settings = {"max_connections": "40", "shared_buffers": "512MB", "autovacuum": "off", "max_wal_size": "4GB"}
    with postgresql(found, free_port(), **settings) as cluster, ExitStack() as stack:
        port = free_port()
        redis = subprocess.Popen(
            ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""], stdout=subprocess.DEVNULL
        )
        stack.callback(_end, redis)
        _wait(port, redis)
        yield Stage(cluster, Server(port, redis), cluster.directory, stack)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(port: int, started: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and started.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"{started.args!r} does not listen")


def _end(started: subprocess.Popen[bytes]) -> None:
    started.terminate()
    try:
        started.wait(20)
    except subprocess.TimeoutExpired:
        started.kill()
        started.wait()


def processor_seconds(pid: int) -> float:
    """Of all threads of a process, in nanoseconds' precision; 0 where it has ended."""
    try:
        threads = [task.read_text() for task in Path(f"/proc/{pid}/task").glob("*/schedstat")]
    except FileNotFoundError:
        return 0
    return sum(int(thread.split()[0]) for thread in threads) / 1e9


def resident_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024
