"""The web processes as systemd starts them, behind nginx with the configuration that operators install."""

from __future__ import annotations

import http.client
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.nginx import HOST, Nginx, nginx
from tests.processes import ROOT, TIMEOUT, database_url, free_port, process, wait_until_responding
from tests.sweep import sweep
from tests.system.conftest import PRODUCTION

WEB = ROOT / "deploy/systemd/onehorizon-web.service"
INTERVAL = "15"  # seconds; shorter than the unit's, and longer than a worker takes to start
# nginx gives up on a client after so many seconds, to save time.
PATIENCE = {
    "client_header_timeout 10s": "client_header_timeout 2s",
    "client_body_timeout 10s": "client_body_timeout 2s",
}


def settings(unit: Path, name: str) -> list[str]:
    """Return the values of a setting of a unit of systemd, which may set it several times."""
    lines = unit.read_text().replace("\\\n", "").splitlines()
    return [line.partition("=")[2] for line in lines if line.startswith(f"{name}=")]


def command_line(unit: Path, name: str = "ExecStart") -> list[str]:
    """Return the command that a unit starts, with the programs of this virtual environment."""
    line = settings(unit, name)[0]
    return shlex.split(line.replace("/opt/onehorizon/.venv/bin/", f"{Path(sys.executable).parent}/"))


@dataclass
class Deployed:
    port: int  # of granian
    nginx: Nginx
    process: subprocess.Popen[bytes]
    slow_start: Path
    log: Path

    def connect(self, *, tls: bool = True) -> http.client.HTTPConnection:
        """Return a connection to nginx."""
        if tls:
            return http.client.HTTPSConnection(
                "127.0.0.1", self.nginx.tls_port, timeout=TIMEOUT, context=self.nginx.tls
            )
        return http.client.HTTPConnection("127.0.0.1", self.nginx.port, timeout=TIMEOUT)

    def connect_directly(self) -> http.client.HTTPConnection:
        """Return a connection to granian."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)


@pytest.fixture(scope="module")
def deployed(
    django_db_setup: None, collected: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployed]:
    directory = tmp_path_factory.mktemp("deployed")
    port, log, slow_start = free_port(), directory / "granian.log", directory / "slow"
    *command, application = command_line(WEB)
    assert application == "onehorizon.wsgi:application"
    # SQLite takes one worker. A reload of one worker is also the hardest: there is no other.
    command += ["--port", str(port), "--workers", "1", "--respawn-interval", INTERVAL]
    command += ["--workers-kill-timeout", "5", "tests.system.deploy.slow_start:application"]
    variables = {"DATABASE_URL": database_url(), "CACHE_URL": "", "TRUSTED_PROXIES": "127.0.0.1"}
    sweep.watch(log)
    with process(command, log, **PRODUCTION | collected | variables, SLOW_START=str(slow_start)) as child:
        wait_until_responding(f"http://127.0.0.1:{port}/healthz", child, log)
        with nginx(directory, [port], Path(collected["COLLECTED"]), PATIENCE) as proxy:
            yield Deployed(port, proxy, child, slow_start, log)


def send(
    connection: http.client.HTTPConnection,
    path: str,
    headers: dict[str, str],
    method: str = "GET",
    body: bytes | None = None,
) -> Any:
    """Send a request and return the response, with its content as `body`."""
    connection.request(method, path, body, {"Host": HOST} | headers)
    response: Any = connection.getresponse()
    response.body = response.read()
    connection.close()
    return response
