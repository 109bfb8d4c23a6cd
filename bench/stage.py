"""The processes of the benchmark: its own PostgreSQL and Redis, and granian with one worker of one thread."""

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

from bench.cluster import NEEDS, Cluster, children, find_programs, postgresql
from bench.load import HOST

ROOT = Path(__file__).resolve().parent.parent
# Argon2 at its lowest cost: 20,000 keys are hashed here, and a request with a verified key runs no Argon2.
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
        """The id of the first worker process."""
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
        """Run a Python command and return the JSON that it prints, or None if it prints nothing."""
        result = subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=self._environment(database, environment),
            capture_output=True,
            text=True,
        )
        if result.returncode:
            raise RuntimeError(result.stderr[-5000:])
        return json.loads(result.stdout) if result.stdout.strip() else None

    def start(self, *arguments: str, database: str) -> subprocess.Popen[str]:
        """Start a Python command whose standard input and output are pipes."""
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=self._environment(database, {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def serve(
        self, application: str, *, database: str, workers: int = 1, threads: int = 1, **environment: str
    ) -> Server:
        """Start granian, until the stage ends. It logs to a file, as in production."""
        port = free_port()
        granian = [str(Path(sys.executable).with_name("granian")), "--interface", "wsgi", "--host", "127.0.0.1"]
        granian += ["--port", str(port), "--workers", str(workers), "--blocking-threads", str(threads)]
        # The client's connections are idle while other contenders are measured; granian would close them after 30 s.
        granian += ["--log-level", "warning", "--http1-header-read-timeout", "60000", "--workers-kill-timeout", "5"]
        log = self._stack.enter_context((self.directory / f"{port}.log").open("wb"))
        process = subprocess.Popen(
            [*granian, application],
            cwd=ROOT,
            env=self._environment(database, environment),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        self._stack.callback(_stop, process)
        _wait_for_port(port, process)
        return Server(port, process)

    def _environment(self, database: str, overrides: dict[str, str]) -> dict[str, str]:
        bench = {"DATABASE_URL": self.url(database), "BENCH_REDIS": f"redis://127.0.0.1:{self.redis.port}/0"}
        return os.environ | ENVIRONMENT | bench | overrides


@contextmanager
def staged() -> Iterator[Stage]:
    programs = find_programs()
    if programs is None or not shutil.which("redis-server"):
        sys.exit(f"{NEEDS} And Redis: apt-get install redis-server.")
    settings = {"max_connections": "40", "shared_buffers": "512MB", "autovacuum": "off", "max_wal_size": "4GB"}
    with postgresql(programs, free_port(), **settings) as cluster, ExitStack() as stack:
        port = free_port()
        redis = subprocess.Popen(
            ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""], stdout=subprocess.DEVNULL
        )
        stack.callback(_stop, redis)
        _wait_for_port(port, redis)
        stage = Stage(cluster, Server(port, redis), cluster.directory, stack)
        stage.run("manage.py", "collectstatic", "--no-input", "--verbosity=0", database="postgres")
        yield stage


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"{process.args!r} does not listen on its port")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def processor_seconds(pid: int) -> float:
    """Return the processor time of all threads of a process, to the nanosecond; 0 if the process has ended."""
    try:
        threads = [task.read_text() for task in Path(f"/proc/{pid}/task").glob("*/schedstat")]
    except FileNotFoundError:
        return 0
    return sum(int(thread.split()[0]) for thread in threads) / 1e9


def resident_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def private_mib(pid: int) -> float:
    """Return the memory of a process that no other process shares."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Private_")) / 1024
