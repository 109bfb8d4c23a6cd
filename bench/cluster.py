"""A PostgreSQL of our own, for the tests to stop and kill and for the benchmarks to measure."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

NEEDS = "This needs PostgreSQL's server and setpriv: apt-get install postgresql util-linux."


def programs() -> Path | None:
    """Where the newest PostgreSQL of this machine has its programs; None where there is none to start."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name.partition(".")[0]))
    return found[-1] if found and shutil.which("setpriv") else None


def children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def as_postgres() -> list[str]:
    """How a command begins that must not run as root, as PostgreSQL's and PgBouncer's servers."""
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []


@dataclass
class Cluster:
    """PostgreSQL on a free port, as an unprivileged user, in a directory of its own."""

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
            done = subprocess.run(
                [*as_postgres(), str(self.programs / program), "-D", str(self.directory / "data"), *arguments],
                cwd=self.directory,
                stdout=log,
                stderr=subprocess.STDOUT,
                timeout=120,
            )
        assert done.returncode == 0, output.read_text()

    def create(self) -> None:
        if os.geteuid() == 0:
            shutil.chown(self.directory, "postgres")
        self.run("initdb", "-U", "postgres", "--auth=trust", "-E", "UTF8", "--locale=C", "--no-sync")

    def start(self) -> None:
        # Processes are killed here, never the machine: what they have written stays without fsync too.
        settings = {"listen_addresses": "127.0.0.1", "fsync": "off"} | self.settings
        options = [f"-p {self.port} -k {self.directory}", *(f"-c {name}={value}" for name, value in settings.items())]
        self.run("pg_ctl", "-w", "-s", "-l", str(self.directory / "log"), "-o", " ".join(options), "start")

    @property
    def is_running(self) -> bool:
        return (self.directory / "data/postmaster.pid").exists()

    def stop(self, mode: str = "fast") -> None:
        """`fast` rolls back and says goodbye; `immediate` is a crash."""
        self.run("pg_ctl", "-w", "-s", "-m", mode, "stop")

    def connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.url, autocommit=True, connect_timeout=60)

    def ask(self, statement: Any, *parameters: Any) -> list[Any]:
        with self.connect() as connection:
            cursor = connection.execute(statement, parameters or None)
            return cursor.fetchall() if cursor.description else []

    def cut(self) -> None:
        """Ends every connection, as a failover does, and waits until they have ended."""
        self.ask("SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")

    @contextmanager
    def holding(self, statement: str) -> Iterator[psycopg.Connection[Any]]:
        """An open transaction that has done `statement`, and that is undone with the block or a `rollback()`."""
        connection = psycopg.connect(self.url)
        try:
            connection.execute(statement)
            yield connection
        finally:
            connection.close()

    def processes(self) -> list[int]:
        postmaster = int((self.directory / "data/postmaster.pid").read_text().split()[0])
        return [postmaster, *children(postmaster)]

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Its processes stand still, and their sockets stay open."""
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
        self.stop(mode)
        try:
            yield
        finally:
            self.start()


@contextmanager
def postgresql(programs: Path, port: int, **settings: str) -> Iterator[Cluster]:
    """A new one with these settings, gone with the block."""
    with tempfile.TemporaryDirectory(prefix="onehorizon-", ignore_cleanup_errors=True) as directory:
        cluster = Cluster(programs, Path(directory), port, settings)
        cluster.create()
        cluster.start()
        try:
            yield cluster
        finally:
            if cluster.is_running:
                cluster.stop("immediate")
