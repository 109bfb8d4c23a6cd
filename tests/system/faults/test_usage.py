"""Usage is exact when PostgreSQL restarts, and when a COMMIT gets no answer."""

from __future__ import annotations

import re
import select
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from apikeys.keys import parse
from bench.cluster import Cluster
from tests.processes import TIMEOUT, manage, wait_until
from tests.system.faults.conftest import Response, serving, traffic

# Longer than the test: a busy machine may need more than the seconds of the other tests for the last write.
PATIENT = ("--workers-kill-timeout", str(TIMEOUT))
UNWRITTEN, WRITTEN_AGAIN = "could not write the usage of API keys", "the usage of API keys is written again"


@pytest.fixture
def own_secret(cluster: Cluster, secret: str) -> str:
    """The secret of a key that only this test uses: workers of earlier tests may still write usage of the other one."""
    result = manage("create_api_key", "demo", "--description=Usage", DATABASE_URL=cluster.url)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def stored(cluster: Cluster, secret: str) -> tuple[int, ...]:
    """Return the numbers of requests of a key: admitted, rejected, client errors, server errors."""
    columns = ("admitted", "rejected", "client_errors", "server_errors")
    sums = ", ".join(f"coalesce(sum({column}), 0)::bigint" for column in columns)
    of_key = f"api_key_id = (SELECT id FROM apikeys_apikey WHERE key_id = '{parse(secret)}')"
    [row] = cluster.query(f"SELECT {sums} FROM apikeys_apikeyusage WHERE {of_key}")
    return tuple(row)


def counts_of(responses: list[Response]) -> tuple[int, ...]:
    """Return the same numbers by a client's own count: a request was admitted if the response has its quota."""
    statuses = Counter(response.status for response in responses if "ratelimit" in response.headers)
    return (statuses.total(), 0, 0, statuses[500] + statuses[503])


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_usage_is_exact_after_a_restart_of_postgresql(
    mode: str, cluster: Cluster, own_secret: str, tmp_path: Path
) -> None:
    with serving(cluster.url, own_secret, tmp_path / "log", options=PATIENT) as site:
        assert [site.request().status for _ in range(20)] == [200] * 20
        wait_until(lambda: stored(cluster, own_secret)[0] == 20)
        with traffic(site) as responses:
            wait_until(lambda: len(responses) >= 50)
            with cluster.stopped(mode):
                wait_until(lambda: UNWRITTEN in site.log.read_text(), site.log.read_text)
            wait_until(lambda: WRITTEN_AGAIN in site.log.read_text(), site.log.read_text)
        site.process.terminate()
        assert site.process.wait(TIMEOUT) == 0

    assert {response.status for response in responses} >= {200, 201, 503}
    admitted, *others = counts_of(responses)
    assert stored(cluster, own_secret) == (20 + admitted, *others)


@contextmanager
def stopped(cluster: Cluster) -> Iterator[None]:
    with cluster.stopped("immediate"):
        yield


@contextmanager
def frozen(cluster: Cluster) -> Iterator[None]:
    with cluster.frozen():
        yield


@pytest.mark.parametrize("unavailable", [stopped, frozen])
def test_a_process_that_ends_without_a_database_logs_what_is_missing(
    unavailable: Callable[[Cluster], AbstractContextManager[None]], cluster: Cluster, own_secret: str, tmp_path: Path
) -> None:
    with (
        serving(cluster.url, own_secret, tmp_path / "log", workers=1, options=PATIENT) as site,
        cluster.open_transaction("LOCK TABLE apikeys_apikeyusage"),
    ):
        assert [site.request().status for _ in range(12)] == [200] * 12
        with unavailable(cluster):
            site.process.terminate()
            code = site.process.wait(TIMEOUT)

    assert code == 0
    assert re.findall(r"ERROR onehorizon\.usage: (.*requests)", site.log.read_text()) == [
        "the usage of API keys lacks 12 requests"
    ]
    assert stored(cluster, own_secret) == (0, 0, 0, 0)


@dataclass
class Proxy:
    """Forwards connections to PostgreSQL. The answers to the next `drop` COMMITs of writes are lost."""

    target: int
    listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))
    drop: int = 0

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    def accept(self) -> None:
        with suppress(OSError):  # closed at the end of the test
            while True:
                client, _ = self.listener.accept()
                threading.Thread(target=self.forward, args=[client], daemon=True).start()

    def forward(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self.target)) as server, suppress(OSError):
            is_commit = False
            while True:
                readable, _, _ = select.select([client, server], [], [])
                if client in readable:
                    if not (data := client.recv(65_536)):
                        return
                    is_commit = b"COMMIT" in data
                    server.sendall(data)
                if server in readable:
                    if not (data := server.recv(65_536)):
                        return
                    if is_commit and self.drop:
                        self.drop -= 1
                        return  # the transaction is committed
                    client.sendall(data)


@pytest.fixture
def proxy(cluster: Cluster) -> Iterator[Proxy]:
    proxy = Proxy(cluster.port)
    thread = threading.Thread(target=proxy.accept, daemon=True)
    thread.start()
    yield proxy
    proxy.listener.shutdown(socket.SHUT_RDWR)
    proxy.listener.close()
    thread.join(TIMEOUT)


def test_a_write_is_not_repeated_if_only_the_answer_to_its_commit_was_lost(
    cluster: Cluster, own_secret: str, proxy: Proxy, tmp_path: Path
) -> None:
    url = cluster.url.replace(str(cluster.port), str(proxy.port))
    with serving(url, own_secret, tmp_path / "log", workers=1, options=PATIENT) as site:
        statuses = [site.request().status for _ in range(20)]
        wait_until(lambda: stored(cluster, own_secret)[0] == 20)

        def has_failed() -> bool:
            statuses.append(site.request().status)  # so that there is something to commit
            return UNWRITTEN in site.log.read_text()

        proxy.drop = 1
        wait_until(has_failed, site.log.read_text)
        committed = stored(cluster, own_secret)[0]
        statuses += [site.request().status for _ in range(3)]
        wait_until(lambda: WRITTEN_AGAIN in site.log.read_text(), site.log.read_text)
        site.process.terminate()
        assert site.process.wait(TIMEOUT) == 0

    assert proxy.drop == 0
    assert set(statuses) == {200}
    assert 20 < committed < len(statuses)
    assert stored(cluster, own_secret) == (len(statuses), 0, 0, 0)
