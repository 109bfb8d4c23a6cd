"""`manage.py quickstart`, the command that `make run` runs."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from onehorizon import demo
from tests.helpers import remaining
from tests.processes import (
    ROOT,
    TIMEOUT,
    environment,
    fetch,
    free_port,
    manage,
    process,
    program,
    wait_until_listening,
)

pytestmark = pytest.mark.one_database("always uses SQLite")

URL = re.compile(r"http://127\.0\.0\.1:\d+")
SECRET = re.compile(r"one_[0-9A-Za-z]{12}_[0-9A-Za-z]{49}")


CHANGE_PASSWORD = """
from workspaces.models import User
owner = User.objects.get(email="owner@example.com")
owner.set_password("correct horse battery")
owner.save()
"""
CHECK_PASSWORD = """
from workspaces.models import User
print(User.objects.get(email="owner@example.com").check_password("correct horse battery"))
"""
REVOKE_AND_SUSPEND = """
from workspaces.models import COMMAND_ACTOR, Workspace
workspace = Workspace.objects.get(slug="demo")
for api_key in workspace.api_keys.all():
    api_key.revoke(by=COMMAND_ACTOR)
workspace.suspend("Unpaid", by=COMMAND_ACTOR)
"""


@dataclass(frozen=True)
class Quickstart:
    output: str
    database_url: str

    @property
    def url(self) -> str:
        match = URL.search(self.output)
        assert match is not None, self.output
        return match[0]

    @property
    def secret(self) -> str:
        match = SECRET.search(self.output)
        assert match is not None, self.output
        return match[0]

    def get(self, path: str, secret: str | None = None) -> tuple[int, dict[str, str], bytes]:
        return fetch(f"{self.url}/api/v1{path}", secret or self.secret)


@contextmanager
def quickstart(directory: Path) -> Iterator[Quickstart]:
    """Run the command with a database in `directory`, and yield when it accepts connections."""
    database_url, log, port = f"sqlite:///{directory / 'onehorizon.sqlite3'}", directory / "output", free_port()
    arguments = [sys.executable, "manage.py", "quickstart", "--port", str(port)]
    with process(arguments, log, DATABASE_URL=database_url) as started:
        wait_until_listening(port, started, log)
        yield Quickstart(log.read_text(), database_url)


def run_python(code: str, database_url: str) -> subprocess.CompletedProcess[str]:
    return manage("shell", "--verbosity", "0", "--command", code, DATABASE_URL=database_url)


def test_the_command_prints_a_url_a_sign_in_a_key_and_a_working_curl_command(tmp_path: Path) -> None:
    program("curl", install="apt-get install curl")
    with quickstart(tmp_path) as started:
        lines = [line.strip() for line in started.output.splitlines()]
        export, curl = (next(line for line in lines if line.startswith(word)) for word in ("export ", "curl "))
        result = subprocess.run(
            ["bash", "-c", f"{export}\n{curl}"], capture_output=True, text=True, timeout=TIMEOUT, check=True
        )
        metadata = fetch(f"{started.url}/.well-known/oauth-authorization-server")
        unknown = fetch(f"{started.url}/nowhere/")

    database = started.database_url.removeprefix("sqlite:///")
    assert lines[:3] == [f"Preparing the database {database}", "Adding the demo workspace", "Starting the server"]
    assert lines[-1] == f"Press Ctrl-C to stop the server. The data stays in {database}."
    assert f"One Horizon   {started.url}/" in lines
    assert re.search(r"^Sign in +owner@example\.com +[0-9a-f]{16}$", "\n".join(lines), re.MULTILINE)
    assert f"API key       {started.secret}" in lines
    assert curl == (f'curl {started.url}/api/v1/workspaces/current/tasks -H "Authorization: Bearer $ONE_API_KEY"')
    assert {task["title"] for task in json.loads(result.stdout)["tasks"]} == {title for title, *_ in demo.TASKS}
    assert json.loads(metadata[2])["issuer"] == started.url
    assert unknown[0] == 404
    assert b"<h1>Not found</h1>" in unknown[2]


def test_the_forty_first_request_and_a_revoked_key_are_rejected(tmp_path: Path) -> None:
    with quickstart(tmp_path) as started:
        began = time.monotonic()
        admitted = 0
        while (response := started.get("/workspaces/current/tasks"))[0] == 200:
            admitted += 1
        assert admitted == 40 or time.monotonic() - began > 60
        status, headers, body = response
        seconds = int({name.lower(): value for name, value in headers.items()}["retry-after"])
        expected_delays = remaining(60, began)

        result = manage("revoke_api_key", "-", stdin=started.secret, DATABASE_URL=started.database_url)
        after = started.get("/workspaces/current/tasks")

    assert status == 429
    assert seconds in expected_delays
    assert json.loads(body) == {
        "code": 429,
        "message": f"standard rate limit exceeded, retry in {seconds} seconds",
    }
    assert (result.returncode, after[0]) == (0, 401)
    assert json.loads(after[2]) == {"code": 401, "message": "The API key or access token is not valid."}


def test_a_second_run_keeps_the_data_and_the_key_and_shows_how_to_create_another(tmp_path: Path) -> None:
    program("curl", install="apt-get install curl")
    with quickstart(tmp_path) as first:
        body = json.dumps({"title": "Still here"}).encode()
        headers = {"Authorization": f"Bearer {first.secret}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{first.url}/api/v1/workspaces/current/tasks", body, headers)
        with urllib.request.urlopen(request, timeout=TIMEOUT) as created:
            assert created.status == 201

    with quickstart(tmp_path) as second:
        keys = manage("list_api_keys", "demo", DATABASE_URL=second.database_url).stdout.splitlines()[1:]
        status, _, tasks = second.get("/workspaces/current/tasks", first.secret)
        lines = [line.strip() for line in second.output.splitlines()]
        export, curl = (next(line for line in lines if line.startswith(word)) for word in ("export ", "curl "))
        result = subprocess.run(
            ["bash", "-c", f"{export.replace('.venv/bin/python', sys.executable)}\n{curl}"],
            cwd=ROOT,
            env=environment(DATABASE_URL=second.database_url),
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=True,
        )

    assert len(keys) == 1
    assert lines[0] == "Starting the server"
    assert f"API key       {first.secret[:16]}_…" in lines
    assert SECRET.search(second.output) is None
    for listed in (json.loads(tasks)["tasks"], json.loads(result.stdout)["tasks"]):
        assert listed[0]["title"] == "Still here"
        assert len(listed) == len(demo.TASKS) + 1
    assert status == 200
    sign_in = re.compile(r"Sign in.*")
    assert sign_in.findall(first.output) == sign_in.findall(second.output)


def test_a_run_replaces_a_revoked_key_and_keeps_a_changed_password(tmp_path: Path) -> None:
    with quickstart(tmp_path) as first:
        revoked = manage("revoke_api_key", "-", stdin=first.secret, DATABASE_URL=first.database_url)
        assert revoked.returncode == 0
        changed = run_python(CHANGE_PASSWORD, first.database_url)
        assert changed.returncode == 0

    with quickstart(tmp_path) as second:
        assert [second.get("/me", secret)[0] for secret in (first.secret, second.secret)] == [401, 200]
    kept = run_python(CHECK_PASSWORD, second.database_url)

    assert (
        "owner@example.com   with an unknown password: it was changed, or SECRET_KEY was. To set another one:\n"
        in second.output
    )
    assert " .venv/bin/python manage.py changepassword owner@example.com\n" in second.output
    assert kept.stdout == "True\n"


def test_a_workspace_that_can_not_have_another_key_does_not_prevent_the_start(tmp_path: Path) -> None:
    with quickstart(tmp_path) as first:
        pass
    assert run_python(REVOKE_AND_SUSPEND, first.database_url).returncode == 0

    with quickstart(tmp_path) as second:
        status, _, page = fetch(f"{second.url}/sign-in/")

    assert "API key       none. This workspace is suspended: “Unpaid”." in second.output
    assert "ONE_API_KEY" not in second.output
    assert (status, b"<h1>Sign in</h1>" in page) == (200, True)


def test_make_run_says_what_it_installs_only_when_it_does(tmp_path: Path) -> None:
    """With a lock that has no packages, and a command that only prints its arguments."""
    make = program("make", install="apt-get install make")
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements/production.lock").write_text("# no packages\n")
    (tmp_path / "manage.py").write_text("import sys\nprint(*sys.argv)\n")

    outputs = [
        subprocess.run(
            [make, "run", f"PYTHON={sys.executable}", "PORT=8123"],
            cwd=tmp_path,
            env=environment(MAKEFLAGS=None, MAKELEVEL=None, PYTHONWARNINGS=None),  # pip warns about itself
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT,
            check=True,
        ).stdout.splitlines()
        for _ in range(2)
    ]

    quickstart_line = "manage.py quickstart --port 8123"
    assert outputs == [
        [
            "Creating the virtual environment in .venv",
            "Installing the packages of requirements/production.lock in .venv, which can take a minute",
            quickstart_line,
        ],
        [quickstart_line],
    ]


def test_a_port_in_use_prints_one_sentence_and_creates_nothing(tmp_path: Path) -> None:
    database = tmp_path / "onehorizon.sqlite3"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = manage("quickstart", "--port", str(port), DATABASE_URL=f"sqlite:///{database}")

    assert (result.returncode, result.stdout) == (1, "")
    assert (
        result.stderr == f"CommandError: Port {port} is already in use. Use another: make run PORT={port % 65535 + 1}\n"
    )
    assert not database.exists()


@pytest.mark.parametrize("port", [0, 65536, -1])
def test_an_invalid_port_is_rejected(port: int, settings: Any) -> None:
    settings.DEBUG = True

    with pytest.raises(CommandError) as error:
        call_command("quickstart", port=port)

    assert str(error.value) == f"Invalid port {port}: use a number from 1 to 65535."
