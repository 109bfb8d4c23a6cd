"""The web hosts of an installation, and nginx in front of them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.cluster import children
from tests.processes import ROOT, free_port, process, program, wait_until, wait_until_listening
from tests.system.cluster.client import Client
from tests.system.cluster.services import substitute
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

    directory: Path
    port: int
    hosts: list[Host]
    process: subprocess.Popen[bytes] = field(init=False)

    @property
    def client(self) -> Client:
        return Client(self.port, tls=True)

    @property
    def log(self) -> Path:
        return self.directory / "nginx.log"

    def write_upstream(self, drained: Host | None = None) -> None:
        """Write the file with the web hosts. A drained host gets no new requests."""
        text = (ROOT / "deploy/nginx/onehorizon-upstream.conf").read_text()
        example = re.search(r"^ *server 127\.0\.0\.1:8000\b(.*);$", text, flags=re.MULTILINE)
        assert example
        text = re.sub(r"^ *server .*;\n", "", text, flags=re.MULTILINE)
        servers = [f"server 127.0.0.1:{host.port}{example[1]}{' down' * (host is drained)};" for host in self.hosts]
        text = text.replace("upstream onehorizon {", "\n".join(["upstream onehorizon {", *servers]))
        (self.directory / "onehorizon-upstream.conf").write_text(text)

    def reload(self) -> None:
        """Load the configuration. Return when no process with the one before accepts connections."""
        before = set(children(self.process.pid))
        self.process.send_signal(signal.SIGHUP)
        wait_until(lambda: not before & set(children(self.process.pid)), self.log.read_text)

    @contextmanager
    def drained(self, host: Host) -> Iterator[None]:
        """Send no requests to a host during the block."""
        self.write_upstream(drained=host)
        self.reload()
        yield
        self.write_upstream()
        self.reload()


@contextmanager
def nginx(hosts: list[Host], directory: Path) -> Iterator[Proxy]:
    """Run nginx with the configuration of `deploy/` in front of the hosts."""
    port = free_port()
    proxy = Proxy(directory, port, hosts)
    key, certificate = directory / "privkey.pem", directory / "fullchain.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-subj", "/CN=127.0.0.1", "-days", "1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    replacements = {
        r"listen \[::\].*;\n": "",
        r"listen 80 ": f"listen 127.0.0.1:{free_port()} ",
        r"listen 443 ": f"listen 127.0.0.1:{port} ",
        r"/etc/letsencrypt/live/onehorizon/": f"{directory}/",
        r"/var/log/nginx/": f"{directory}/",
    }
    (directory / "onehorizon.conf").write_text(substitute("deploy/nginx/onehorizon.conf", replacements))
    proxy.write_upstream()
    temporary = "".join(
        f"{name}_temp_path {directory}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (directory / "nginx.conf").write_text(
        f"daemon off; pid {directory}/nginx.pid; worker_processes 1; events {{}} "
        f"http {{ {temporary} include {directory}/onehorizon*.conf; }}"
    )
    path = program("nginx", install="apt-get install nginx")
    with process([path, "-c", str(directory / "nginx.conf")], proxy.log) as started:
        wait_until_listening(port, started, proxy.log)
        proxy.process = started
        yield proxy
