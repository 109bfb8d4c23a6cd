"""A temporary PostgreSQL server, for the benchmarks and for tests that stop and kill it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

NEEDS = "This needs PostgreSQL's server and setpriv: apt-get install postgresql util-linux."


def find_programs() -> Path | None:
    """Return the directory with the programs of the newest installed PostgreSQL, or None if it can't be started."""
    paths = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name.partition(".")[0]))
    return paths[-1] if paths and shutil.which("setpriv") else None


def children(pid: int) -> list[int]:
    """Return the ids of the child processes."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def as_postgres() -> list[str]:
    """Return the command prefix for programs that refuse to run as root, such as PostgreSQL and PgBouncer."""
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []


@dataclass
class Cluster:
    """A PostgreSQL server on a free port, in its own directory, as an unprivileged user."""

    programs: Path
    directory: Path
    port: int
    settings: dict[str, str]

    @property
    def url(self) -> str:
        return f"postgres://postgres@127.0.0.1:{self.port}/postgres"

    def run(self, program: str, *arguments: str) -> None:
        output = self.directory / "output"
        with output.open("wb") as log:
            result = subprocess.run(
                [*as_postgres(), str(self.programs / program), "-D", str(self.directory / "data"), *arguments],
                cwd=self.directory,
                stdout=log,
                stderr=subprocess.STDOUT,
                timeout=120,
            )
        assert result.returncode == 0, output.read_text()

    def create(self) -> None:
        self.own_directory()
        self.run("initdb", "-U", "postgres", "--auth=trust", "-E", "UTF8", "--locale=C", "--no-sync")

    def own_directory(self) -> None:
        """Give the directory to the user that the server runs as."""
        if os.geteuid() == 0:
            shutil.chown(self.directory, "postgres")

    def start(self) -> None:
        # Without fsync: only processes are killed, never the machine, so the operating system keeps what they wrote.
        settings = {"listen_addresses": "127.0.0.1", "fsync": "off"} | self.settings
        options = [f"-p {self.port} -k {self.directory}", *(f"-c {name}={value}" for name, value in settings.items())]
        self.run("pg_ctl", "-w", "-s", "-l", str(self.directory / "log"), "-o", " ".join(options), "start")

    @property
    def is_running(self) -> bool:
        return (self.directory / "data/postmaster.pid").exists()

    def stop(self, mode: str = "fast") -> None:
        """Stop the server: `fast` rolls back and closes connections, `immediate` is a crash."""
        self.run("pg_ctl", "-w", "-s", "-m", mode, "stop")

    def connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.url, autocommit=True, connect_timeout=60)

    def query(self, statement: Any, *params: Any) -> list[Any]:
        """Run a statement in its own transaction and return its rows."""
        with self.connect() as connection:
            cursor = connection.execute(statement, params or None)
            return cursor.fetchall() if cursor.description else []

    def terminate_connections(self) -> None:
        """Terminate every connection, as a failover does, and wait until all have ended."""
        self.query("SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")

    @contextmanager
    def open_transaction(self, statement: str) -> Iterator[psycopg.Connection[Any]]:
        """Run `statement` in a transaction that stays open until the end of the block, and is then rolled back."""
        connection = psycopg.connect(self.url)
        try:
            connection.execute(statement)
            yield connection
        finally:
            connection.close()

    def processes(self) -> list[int]:
        """Return the ids of the server's processes."""
        postmaster = int((self.directory / "data/postmaster.pid").read_text().split()[0])
        return [postmaster, *children(postmaster)]

    def kill(self) -> None:
        """Kill all processes, as if the machine stopped."""
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        (self.directory / "data/postmaster.pid").unlink()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop the processes with SIGSTOP during the block. Their sockets stay open."""
        pids = self.processes()
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

    @contextmanager
    def stopped(self, mode: str = "fast") -> Iterator[None]:
        """Stop the server during the block."""
        self.stop(mode)
        try:
            yield
        finally:
            self.start()


@contextmanager
def postgresql(programs: Path, port: int, **settings: str) -> Iterator[Cluster]:
    """Start a new server with these settings. It is deleted at the end of the block."""
    with tempfile.TemporaryDirectory(prefix="onehorizon-", ignore_cleanup_errors=True) as directory:
        cluster = Cluster(programs, Path(directory), port, settings)
        cluster.create()
        cluster.start()
        try:
            yield cluster
        finally:
            if cluster.is_running:
                cluster.stop("immediate")
