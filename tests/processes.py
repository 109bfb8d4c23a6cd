"""Helpers to wait, and to start processes, servers and threads."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn, TextIO, TypeVar

import psycopg
import pytest
from django.db import connection

from tests.sweep import sweep

ROOT = Path(__file__).resolve().parent.parent
# Seconds to wait before a test fails. A busy machine can take long; a passing test never waits for all of it.
TIMEOUT = 300

Result = TypeVar("Result")
Value = TypeVar("Value")


def wait_until(condition: Callable[[], Value], explain: Callable[[], str] = lambda: "") -> Value:
    """Call `condition` until it returns something true, and return that. `explain` describes a failure."""
    deadline = time.monotonic() + TIMEOUT
    while not (value := condition()):
        assert time.monotonic() < deadline, explain()
        time.sleep(0.05)
    return value


def wait_until_blocked() -> None:
    """Wait until another session of the database waits for a lock."""
    with psycopg.connect(database_url(), autocommit=True) as watcher:
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        wait_until(lambda: watcher.execute(query).fetchone() != (0,))


# ---- processes ----


def skip_without(name: str, install: str) -> NoReturn:
    """Skip the test with a message that names what to install. In CI, fail instead."""
    message = f"This test needs {name}: {install}"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


def program(*names: str, install: str) -> str:
    """Return the path of the first of these programs that is installed. Without any, skip the test; in CI, fail."""
    path = os.pathsep.join([os.environ["PATH"], "/usr/sbin"])  # daemons are in /usr/sbin, which a user's PATH may lack
    for name in names:
        if installed := shutil.which(name, path=path):
            return installed
    skip_without(names[0], install)


def npm_packages(name: str) -> Path:
    """Return the directory with the npm packages of the tests. Without the package `name`, skip the test or fail."""
    directory = ROOT / "tests/tools/node_modules"
    if not (directory / name).exists():
        skip_without(name, "make tools (with Node.js and npm)")
    return directory


def database_url() -> str:
    """Return the URL of the test database, for another process."""
    settings = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{settings['NAME']}"
    host, port = settings["HOST"] or "127.0.0.1", settings["PORT"] or 5432
    return f"postgres://{settings['USER']}:{settings['PASSWORD']}@{host}:{port}/{settings['NAME']}"


def environment(**overrides: str | None) -> dict[str, str]:
    """Return this process's environment with the test database, fast hashing and `overrides`. None unsets one."""
    variables = {
        **{name: value for name, value in os.environ.items() if name != "DJANGO_ALLOW_ASYNC_UNSAFE"},  # Playwright's
        "DATABASE_URL": database_url(),
        "APIKEYS_ARGON2_MEMORY_COST": "64",
        "APIKEYS_ARGON2_TIME_COST": "1",
        "PYTHONWARNINGS": "default",
        **overrides,
    }
    return {name: value for name, value in variables.items() if value is not None}


def manage(*arguments: str, stdin: str = "", **overrides: str | None) -> subprocess.CompletedProcess[str]:
    """Run `manage.py` in a process, as an operator does."""
    return manage_into(subprocess.PIPE, *arguments, stdin=stdin, **overrides)


def manage_into(
    output: int | TextIO, *arguments: str, stdin: str = "", **overrides: str | None
) -> subprocess.CompletedProcess[str]:
    """Run `manage.py` in a process, with its standard output redirected."""
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=environment(**overrides),
        input=stdin,
        stdout=output,
        stderr=subprocess.PIPE,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )


def free_port() -> int:
    """Return an unused port below the range of ephemeral ports.

    The system could give an ephemeral port to another connection before the test's process binds it. The port
    is chosen with `secrets`, because pytest-randomly gives `random` the same seed in every xdist worker.
    """
    while True:
        port = 10_000 + secrets.randbelow(20_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def wait_until_listening(port: int, child: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until `child` accepts connections on `port`. Fail with its log if it exits."""

    def listening() -> bool:
        assert child.poll() is None, log.read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    wait_until(listening, log.read_text)


def replace_all(text: str, replaced: dict[str, str]) -> str:
    """Replace texts in a file of deploy/, such as ports and paths. Each must be there."""
    for old, new in replaced.items():
        assert old in text, f"missing: {old}"
        text = text.replace(old, new)
    return text


@contextmanager
def process(arguments: list[str], log: Path, **overrides: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process whose output goes to `log`, and stop it with its children at the end of the block."""
    with log.open("wb") as output:
        child = subprocess.Popen(
            arguments,
            cwd=ROOT,
            env=environment(**overrides),
            stdout=output,
            stderr=subprocess.STDOUT,
            process_group=0,
        )
        try:
            yield child
        finally:
            child.terminate()
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()


@contextmanager
def server(log: Path, workers: int = 1, **overrides: str) -> Iterator[str]:
    """Run granian on the test database, as in production, and yield its URL."""
    sweep.watch(log)
    port = free_port()
    arguments = [str(Path(sys.executable).with_name("granian")), "--interface", "wsgi", "--host", "127.0.0.1"]
    arguments += ["--port", str(port), "--workers", str(workers), "--blocking-threads", "2"]
    arguments += ["--workers-kill-timeout", "1"]  # without it, a worker that is still starting ignores a stop
    arguments += ["--log-config", "deploy/granian-log.json"]
    with process([*arguments, "onehorizon.wsgi:application"], log, **overrides) as child:
        wait_until_responding(f"http://127.0.0.1:{port}/api/", child, log)
        yield f"http://127.0.0.1:{port}"


def wait_until_responding(url: str, child: subprocess.Popen[bytes], log: Path) -> None:
    def is_responding() -> bool:
        assert child.poll() is None, log.read_text()
        try:
            fetch(url)
        except OSError:
            return False
        return True

    wait_until(is_responding, lambda: f"no response from {url}:\n{log.read_text()}")


def fetch(url: str, secret: str | None = None) -> tuple[int, dict[str, str], bytes]:
    """Send a GET over the network and return status, headers and body."""
    request = urllib.request.Request(url)
    if secret is not None:
        request.add_header("Authorization", f"Bearer {secret}")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            return response.status, dict(response.headers), response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers), error.read()


# ---- concurrency ----


def in_threads(*functions: Callable[[], Result]) -> list[Result | Exception]:
    """Call all functions at the same moment, each in its own thread. Return their results and exceptions."""
    barrier = threading.Barrier(len(functions))

    def run(function: Callable[[], Result]) -> Result | Exception:
        barrier.wait(TIMEOUT)
        try:
            return function()
        except Exception as error:
            return error
        finally:
            connection.close()

    with ThreadPoolExecutor(len(functions)) as threads:
        return list(threads.map(run, functions))


def in_processes(count: int, code: str) -> list[str]:
    """Run `code` in `count` processes with Django set up, all at the same moment, and return their outputs.

    The variable `number` in `code` is the process's number, from 0.
    """
    result = subprocess.run(
        [sys.executable, "-m", "tests.forks", str(count)],
        cwd=ROOT,
        env=environment(),
        input=textwrap.dedent(code),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    outputs: list[str] = json.loads(result.stdout)
    return outputs
