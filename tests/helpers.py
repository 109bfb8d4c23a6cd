"""Helpers for all tests: an API client, the cast, the quota's clock, processes and servers, threads."""

from __future__ import annotations

import json
import math
import os
import secrets
import shutil
import socket
import subprocess
import sys
import textwrap
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from django.contrib.auth.models import Group
from django.db import connection
from django.test import Client
from django.utils import timezone
from django.utils.crypto import get_random_string
from django_ratelimit.core import _get_window
from oauth2_provider.models import AccessToken, set_token_value
from oauth2_provider.scopes import get_scopes_backend
from playwright.sync_api import Page
from rest_framework.test import APIClient

from apikeys.models import ApiKey
from oauth.models import Application
from tests.described import validate_response
from tests.sweep import sweep
from workspaces import quota
from workspaces.hashers import PasswordHasher
from workspaces.models import Actor, Role, Tier, User, Via, Workspace
from workspaces.quota import SECOND

ROOT = Path(__file__).resolve().parent.parent
# Seconds to wait before a test fails. A busy machine can take long; a passing test never waits for all of it.
TIMEOUT = 300
BY_TEST = Actor(via=Via.COMMAND)

Visit = Callable[..., Page]
Result = TypeVar("Result")
Value = TypeVar("Value")

# For tests whose rows other threads or processes read: they commit, and the database is flushed afterwards.
commits = pytest.mark.django_db(transaction=True, serialized_rollback=True)


class QuickPasswordHasher(PasswordHasher):
    """A fast hasher. A server that the tests start can verify its hashes with the real one."""

    time_cost = 1
    memory_cost = 8


class Api:
    """A client of the REST API: `Api(secret).get("/me")`. Validates each response against the OpenAPI document."""

    def __init__(self, secret: str | None = None, **headers: str) -> None:
        self.client = APIClient(raise_request_exception=False)
        if secret is not None:
            headers["Authorization"] = f"Bearer {secret}"
        self.headers = headers

    def request(self, method: str, path: str, body: Any = None, **options: Any) -> Any:
        if body is not None:
            options |= {"data": json.dumps(body), "content_type": "application/json"}
        headers = self.headers | options.pop("headers", {})
        response = self.client.generic(method, f"/api/v1{path}", headers=headers, **options)
        validate_response(method, f"/api/v1{path}", response)
        return response

    def get(self, path: str, **options: Any) -> Any:
        return self.request("GET", path, **options)

    def post(self, path: str, body: Any = None, **options: Any) -> Any:
        return self.request("POST", path, body, **options)

    def patch(self, path: str, body: Any = None, **options: Any) -> Any:
        return self.request("PATCH", path, body, **options)

    def delete(self, path: str, **options: Any) -> Any:
        return self.request("DELETE", path, **options)


def make_user(role: str) -> User:
    return User.objects.create_user(f"{role}@example.com", role.capitalize(), f"{role}-password")


def make_staff(name: str, *groups: str) -> User:
    user = make_user(name)
    user.is_staff = True
    user.save(update_fields=["is_staff"])
    user.groups.set(Group.objects.filter(name__in=groups))
    return user


def sign_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def make_workspace(owner: User, slug: str = "acme", **members: User) -> Workspace:
    workspace = Workspace.objects.create_with_owner(owner, name=slug.capitalize(), slug=slug, by=BY_TEST)
    for role, user in members.items():
        workspace.add_member(user, Role(role), by=BY_TEST)
    return workspace


def make_key(workspace: Workspace, description: str = "CI, production", **options: Any) -> tuple[ApiKey, str]:
    return ApiKey.objects.create_key(workspace, description=description, by=BY_TEST, **options)


def make_token(user: User, *scopes: str) -> str:
    """Create an access token of a person and return it; with all scopes, or with those given."""
    application, _ = Application.objects.get_or_create(
        client_id="tests", client_type="public", authorization_grant_type=Application.GRANT_AUTHORIZATION_CODE
    )
    scope = " ".join(scopes) or " ".join(get_scopes_backend().get_available_scopes())
    token = AccessToken(user=user, application=application, scope=scope, expires=timezone.now() + timedelta(hours=1))
    raw = get_random_string(30)
    set_token_value(token, raw)
    token.save()
    return raw


def advance_quota_clock(subject: str, seconds: float) -> None:
    """Let `seconds` pass for a quota, by moving its recorded admissions back: the clock is the database's."""
    shift = int(seconds * SECOND)
    if connection.vendor == "postgresql":
        shifted = "ARRAY(SELECT t - %s FROM unnest(admissions) WITH ORDINALITY AS a(t, i) ORDER BY i)"
    else:
        shifted = "(SELECT json_group_array(value - %s) FROM json_each(admissions))"
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE workspaces_quota SET admissions = {shifted} WHERE subject = %s", [shift, subject])


def stretch_windows() -> None:
    """Give every tier windows of 15 minutes, longer than a slow test, with the same numbers of requests."""
    Tier.objects.update(seconds=900, burst_seconds=900)


def exhaust_quota(workspace: Workspace, seconds: float) -> None:
    """Reject the workspace's requests for `seconds`; after that, admit 50 within 15 minutes."""
    tier, _ = Tier.objects.get_or_create(
        name="small", defaults={"requests": 50, "seconds": 900, "burst_requests": 50, "burst_seconds": 900}
    )
    Workspace.objects.filter(pk=workspace.pk).update(tier=tier)
    quota.clear(workspace.pk)
    while quota.admit(workspace.pk, tier).admitted:
        pass
    advance_quota_clock(workspace.pk, 900 - seconds)


def run_over_quota(workspace: Workspace, log: Path, run: Callable[[], object]) -> None:
    """Run a client that waits when it is over the quota, and assert that the server whose log this is rejected it once.

    A client that starts too slowly to be rejected runs again, with the quota exhausted for longer.
    """
    for seconds in (5, 15, 45):
        before = log.read_text().count("status=429")
        exhaust_quota(workspace, seconds)
        run()
        if log.read_text().count("status=429") > before:
            return
    raise AssertionError("no request was over the quota")


def remaining(seconds: int, began: float) -> range:
    """Return the range of whole seconds, rounded up, that remain of a delay of `seconds` that started after `began`.

    `began` is a `time.monotonic()`. On an idle machine that is `seconds`, or one less.
    """
    return range(max(math.floor(seconds - (time.monotonic() - began)), 1), seconds + 1)


def with_new_window(keys: Iterable[str], seconds: int) -> str:
    """Return the first of `keys` whose rate limit window has just started.

    django-ratelimit counts in fixed windows, which start at another time for each key. A test that can't stop the
    clock, because a server in another process counts, takes a key whose window won't end soon.
    """
    return next(key for key in keys if _get_window(key, seconds) - time.time() > 0.8 * seconds)


def wait_until(condition: Callable[[], Value], explain: Callable[[], str] = lambda: "") -> Value:
    """Call `condition` until it returns something true, and return that. `explain` describes a failure."""
    deadline = time.monotonic() + TIMEOUT
    while not (value := condition()):
        assert time.monotonic() < deadline, explain()
        time.sleep(0.05)
    return value


# ---- processes ----


def program(*names: str, install: str) -> str:
    """Return the path of the first of these programs that is installed.

    Otherwise skip the test with a message that names the package; in CI, where no test may be skipped, fail.
    """
    path = os.pathsep.join([os.environ["PATH"], "/usr/sbin"])  # for daemons; a user's PATH may lack it
    for name in names:
        if installed := shutil.which(name, path=path):
            return installed
    message = f"This test needs {names[0]}: {install}"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


def database_url() -> str:
    """Return the URL of the test database, for another process."""
    settings = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{settings['NAME']}"
    host, port = settings["HOST"] or "127.0.0.1", settings["PORT"] or 5432
    return f"postgres://{settings['USER']}:{settings['PASSWORD']}@{host}:{port}/{settings['NAME']}"


def environment(**overrides: str) -> dict[str, str]:
    """Return this process's environment with the test database, fast hashing and `overrides`."""
    return {
        **{name: value for name, value in os.environ.items() if name != "DJANGO_ALLOW_ASYNC_UNSAFE"},  # Playwright's
        "DATABASE_URL": database_url(),
        "APIKEYS_ARGON2_MEMORY_COST": "64",
        "APIKEYS_ARGON2_TIME_COST": "1",
        "PYTHONWARNINGS": "default",
        **overrides,
    }


def manage(*arguments: str, stdin: str = "", **overrides: str) -> subprocess.CompletedProcess[str]:
    """Run `manage.py` in a process, as an operator does."""
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=environment(**overrides),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )


def free_port() -> int:
    """Return an unused port below the range of ephemeral ports.

    The system could give an ephemeral port to another connection before the test's process binds it. The choice is
    random, but not by `random`: pytest-randomly gives it the same seed in every xdist worker.
    """
    while True:
        port = 10_000 + secrets.randbelow(20_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def wait_until_listening(port: int, started: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until `started` accepts connections on `port`. Fail with its log if it exits."""

    def listening() -> bool:
        assert started.poll() is None, log.read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    wait_until(listening, log.read_text)


@contextmanager
def process(arguments: list[str], log: Path, **overrides: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process whose output goes to `log`, and terminate it at the end of the block."""
    with log.open("wb") as output:
        started = subprocess.Popen(
            arguments, cwd=ROOT, env=environment(**overrides), stdout=output, stderr=subprocess.STDOUT
        )
        try:
            yield started
        finally:
            started.terminate()
            try:
                started.wait(10)
            except subprocess.TimeoutExpired:
                started.kill()
                started.wait()


@contextmanager
def server(log: Path, workers: int = 1, **overrides: str) -> Iterator[str]:
    """Run granian on the test database, as in production, and yield its URL."""
    sweep.watch(log)
    port = free_port()
    arguments = [str(Path(sys.executable).with_name("granian")), "--interface", "wsgi", "--host", "127.0.0.1"]
    arguments += ["--port", str(port), "--workers", str(workers), "--blocking-threads", "2"]
    with process([*arguments, "onehorizon.wsgi:application"], log, **overrides) as started:
        wait_until_responding(f"http://127.0.0.1:{port}/api/", started, log)
        yield f"http://127.0.0.1:{port}"


def wait_until_responding(url: str, started: subprocess.Popen[bytes], log: Path) -> None:
    def is_responding() -> bool:
        assert started.poll() is None, log.read_text()
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
    """Call each function in a thread of its own, all at the same moment; return their results and exceptions."""
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


def in_processes(count: int, code: str, **overrides: str) -> list[str]:
    """Run `code` in `count` Python processes with Django set up, all at the same moment, and return their outputs.

    The variable `number` in `code` is the process's number, from 0.
    """
    setup = (
        "import os, sys, django; os.environ['DJANGO_SETTINGS_MODULE'] = 'onehorizon.settings'; django.setup(); "
        "print('ready', flush=True); number = int(sys.stdin.readline())\n"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", setup + textwrap.dedent(code)],
            cwd=ROOT,
            env=environment(**overrides),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(count)
    ]
    try:
        for child in started:
            assert child.stdout is not None
            first = child.stdout.readline()
            assert first == "ready\n", first + child.stdout.read()
        for number, child in enumerate(started):
            assert child.stdin is not None
            child.stdin.write(f"{number}\n")
            child.stdin.flush()
        outputs = [child.communicate(timeout=TIMEOUT)[0] for child in started]
    finally:
        for child in started:
            child.kill()
            child.communicate()
    assert [child.returncode for child in started] == [0] * count, outputs
    return outputs


def lift_quota(workspace: Workspace) -> None:
    """Give a workspace limits that no test reaches."""
    Tier.objects.get_or_create(
        name="lifted", defaults={"requests": 10_000, "seconds": 900, "burst_requests": 10_000, "burst_seconds": 60}
    )
    Workspace.objects.filter(pk=workspace.pk).update(tier="lifted")
