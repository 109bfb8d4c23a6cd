"""The web hosts of an installation, and nginx in front of them."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.cluster import children
from tests.nginx import Nginx
from tests.processes import process, wait_until
from tests.system.cluster.client import Client
from tests.system.faults.conftest import granian


@dataclass
class Host:
    """A web host: granian with two workers."""

    name: str
    port: int
    log: Path
    environment: dict[str, str]
    process: subprocess.Popen[bytes] = field(init=False)
    _stack: ExitStack = field(default_factory=ExitStack)

    @property
    def client(self) -> Client:
        """A client that sends requests to this host directly, as the proxy does."""
        return Client(self.port, headers={"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "https"})

    def start(self) -> None:
        command = [*granian(self.port), "--respawn-interval", "5"]
        self.process = self._stack.enter_context(process(command, self.log, **self.environment))

    def stop(self) -> None:
        """Stop the server when its requests are finished."""
        self._stack.close()

    def kill(self) -> None:
        """Kill all processes, as if the machine stopped."""
        for pid in [self.process.pid, *self.workers()]:
            os.kill(pid, signal.SIGKILL)
        self.stop()

    def workers(self) -> list[int]:
        return children(self.process.pid)

    def is_ready(self) -> bool:
        return self.client.get("/readyz").status == 200

    def wait_until_ready(self) -> None:
        """Wait until each worker is ready. The kernel picks one at random."""
        wait_until(lambda: all(self.is_ready() for _ in range(10)), self.log.read_text)

    def reload(self) -> None:
        """Replace the workers one after another, and return when all are replaced."""
        before = set(self.workers())
        self.process.send_signal(signal.SIGHUP)
        wait_until(lambda: not before & set(self.workers()), self.log.read_text)


@dataclass
class Proxy:
    """nginx in front of the web hosts."""

    nginx: Nginx
    hosts: list[Host]

    @property
    def client(self) -> Client:
        return Client(self.nginx.tls_port, tls=self.nginx.tls)

    @contextmanager
    def drained(self, host: Host) -> Iterator[None]:
        """Send no requests to a host during the block."""
        ports = [each.port for each in self.hosts]
        self.nginx.write_upstream(ports, down=host.port)
        self.nginx.reload()
        yield
        self.nginx.write_upstream(ports)
        self.nginx.reload()
