"""The command of `make run`, as a process: it prints a `curl` command that works."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from onehorizon import demo
from tests.helpers import remaining
from tests.processes import TIMEOUT, fetch, free_port, manage, process, program, wait_until_listening

ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+")
SECRET = re.compile(r"one_[0-9A-Za-z]{12}_[0-9A-Za-z]{49}")


@dataclass(frozen=True)
class Quickstart:
    shown: str
    database_url: str

    @property
    def address(self) -> str:
        match = ADDRESS.search(self.shown)
        assert match is not None, self.shown
        return match[0]

    @property
    def secret(self) -> str:
        match = SECRET.search(self.shown)
        assert match is not None, self.shown
        return match[0]

    def get(self, path: str, secret: str | None = None) -> tuple[int, dict[str, str], bytes]:
        return fetch(f"{self.address}/api/v1{path}", secret or self.secret)


@contextmanager
def quickstart(directory: Path) -> Iterator[Quickstart]:
    """Runs the command, until it answers, with a database in `directory`."""
    url, log, port = f"sqlite:///{directory / 'onehorizon.sqlite3'}", directory / "output", free_port()
    arguments = [sys.executable, "manage.py", "quickstart", "--port", str(port)]
    with process(arguments, log, DATABASE_URL=url) as started:
        wait_until_listening(port, started, log)
        yield Quickstart(log.read_text(), url)


def test_it_prints_a_url_a_sign_in_a_key_and_a_curl_command_that_works(tmp_path: Path) -> None:
    program("curl", install="apt-get install curl")
    with quickstart(tmp_path) as started:
        lines = [line.strip() for line in started.shown.splitlines()]
        export, curl = (next(line for line in lines if line.startswith(word)) for word in ("export ", "curl "))
        answer = subprocess.run(
            ["bash", "-c", f"{export}\n{curl}"], capture_output=True, text=True, timeout=TIMEOUT, check=True
        )

    assert f"One Horizon   {started.address}/" in lines
    assert re.search(r"^Sign in +owner@example\.com +[0-9a-f]{16}$", "\n".join(lines), re.MULTILINE)
    assert f"API key       {started.secret}" in lines
    assert curl == (f'curl {started.address}/api/v1/workspaces/current/tasks -H "Authorization: Bearer $ONE_API_KEY"')
    assert {task["title"] for task in json.loads(answer.stdout)["tasks"]} == {title for title, *_ in demo.TASKS}


def test_the_forty_first_request_and_a_revoked_key_are_rejected(tmp_path: Path) -> None:
    with quickstart(tmp_path) as started:
        began = time.monotonic()
        admitted = 0
        while (answer := started.get("/workspaces/current/tasks"))[0] == 200:
            admitted += 1
        assert admitted == 40 or time.monotonic() - began > 60
        status, headers, body = answer
        seconds = int({name.lower(): value for name, value in headers.items()}["retry-after"])
        possible = remaining(60, began)

        revoked = manage("revoke_api_key", "-", stdin=started.secret, DATABASE_URL=started.database_url)
        after = started.get("/workspaces/current/tasks")

    assert status == 429
    assert seconds in possible
    assert json.loads(body) == {
        "code": 429,
        "message": f"standard rate limit exceeded, retry in {seconds} seconds",
    }
    assert (revoked.returncode, after[0]) == (0, 401)
    assert json.loads(after[2]) == {"code": 401, "message": "The API key or access token is not valid."}


def test_a_second_run_keeps_the_data_and_the_keys(tmp_path: Path) -> None:
    with quickstart(tmp_path) as first:
        body = json.dumps({"title": "Still here"}).encode()
        headers = {"Authorization": f"Bearer {first.secret}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{first.address}/api/v1/workspaces/current/tasks", body, headers)
        with urllib.request.urlopen(request, timeout=TIMEOUT) as created:
            assert created.status == 201

    with quickstart(tmp_path) as second:
        answers = [second.get("/workspaces/current/tasks", secret) for secret in (first.secret, second.secret)]

    assert second.secret != first.secret
    for status, _, tasks in answers:
        assert status == 200
        titles = [task["title"] for task in json.loads(tasks)["tasks"]]
        assert titles[0] == "Still here"
        assert len(titles) == len(demo.TASKS) + 1
    sign_in = re.compile(r"Sign in.*")
    assert sign_in.findall(first.shown) == sign_in.findall(second.shown)


def test_a_port_in_use_is_one_sentence_before_anything_is_created(tmp_path: Path) -> None:
    database = tmp_path / "onehorizon.sqlite3"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = manage("quickstart", "--port", str(port), DATABASE_URL=f"sqlite:///{database}")

    assert (refused.returncode, refused.stdout) == (1, "")
    assert (
        refused.stderr
        == f"CommandError: Port {port} is already in use. Use another: make run PORT={port % 65535 + 1}\n"
    )
    assert not database.exists()


@pytest.mark.parametrize("port", ["0", "65536", "-1"])
def test_an_invalid_port_is_one_sentence(tmp_path: Path, port: str) -> None:
    refused = manage("quickstart", f"--port={port}", DATABASE_URL=f"sqlite:///{tmp_path / 'onehorizon.sqlite3'}")

    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == f"CommandError: Invalid port {port}: use a number from 1 to 65535.\n"
