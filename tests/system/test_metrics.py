"""Prometheus metrics of servers with several processes."""

from __future__ import annotations

import re
import socket
import struct
import time
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from django.db import connection
from prometheus_client.parser import text_string_to_metric_families

from apikeys.models import StoredSecret
from tests.helpers import commits, stretch_windows
from tests.processes import TIMEOUT, database_url, fetch, free_port, server, wait_until
from workspaces.models import Workspace

# The metrics of granian that docs/operations.md explains.
GRANIAN = {
    "granian_blocking_queue",
    "granian_blocking_threads",
    "granian_blocking_busy_cumulative",
    "granian_blocking_idle_cumulative",
}
Samples = Counter[tuple[str, frozenset[tuple[str, str]]]]


def metrics_urls(log: Path, count: int) -> list[str]:
    """Wait until `count` processes have logged the URLs of their metrics, and return the URLs."""

    def logged_urls() -> list[str]:
        urls = re.findall(r"metrics at (http://\S+/metrics)", log.read_text())
        return urls if len(urls) >= count else []

    return wait_until(logged_urls, log.read_text)


def scrape(urls: list[str]) -> Samples:
    """Return all samples, summed over the processes."""
    samples: Samples = Counter()
    for url in urls:
        status, _, body = fetch(url)
        assert status == 200
        for family in text_string_to_metric_families(body.decode()):
            for sample in family.samples:
                samples[sample.name, frozenset(sample.labels.items())] += sample.value  # type: ignore[assignment]
    return samples


def exported_by_granian(port: int) -> set[str]:
    """Return the names of granian's metrics of its workers; none before it has collected them."""
    return set(re.findall(r"^(\w+)\{worker=", fetch(f"http://127.0.0.1:{port}/metrics")[2].decode(), re.MULTILINE))


def value(samples: Samples, name: str, **labels: str) -> float:
    """Return the sum of the samples with this name and these labels."""
    return sum(
        number
        for (metric, sample_labels), number in samples.items()
        if metric == name and labels.items() <= dict(sample_labels).items()
    )


def send_with_start(url: str, *starts: str) -> None:
    """Send a request for each X-Request-Start."""
    for start in starts:
        with urllib.request.urlopen(urllib.request.Request(url, headers={"X-Request-Start": start}), timeout=TIMEOUT):
            pass


def disconnect(url: str) -> None:
    """Send a part of a request and reset the connection."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), TIMEOUT) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.sendall(b"GET /metrics HTTP/1.1\r\n")


@commits
def test_each_process_exports_its_own_metrics(secret: str, workspace: Workspace, tmp_path: Path) -> None:
    stretch_windows()
    StoredSecret.objects.update(shared_proof=None)
    log = tmp_path / "log"
    port = free_port()
    granian = {
        "GRANIAN_METRICS_ENABLED": "true",
        "GRANIAN_METRICS_PORT": str(port),
        "GRANIAN_METRICS_SCRAPE_INTERVAL": "1",
    }
    with server(log, workers=2, METRICS_ADDRESS="127.0.0.1:0", TRUSTED_PROXIES="127.0.0.1", **granian) as site:
        now = time.time()
        send_with_start(f"{site}/sign-in/", f"t={now - 2:.3f}")
        send_with_start(
            f"{site}/sign-in/", f"t={now + TIMEOUT:.3f}", "t=soon", f"{now:.3f}", f"t={now:.3f}e9", "t=1e999"
        )
        tasks = f"{site}/api/v1/workspaces/{workspace.pk}/tasks"
        statuses = Counter(fetch(tasks, secret)[0] for _ in range(43))
        fetch(tasks, f"{secret[:-1]}{'a' if secret[-1] != 'a' else 'b'}")
        fetch(f"{tasks}/1", "one_nonsense")
        fetch(tasks, "x" * 30)
        urls = metrics_urls(log, 2)
        samples = scrape(urls)
        of_granian = wait_until(lambda: exported_by_granian(port))
        disconnect(urls[0])
        wait_until(lambda: "ConnectionResetError" in log.read_text(), log.read_text)

    assert "WARNING onehorizon.metrics: a request for metrics failed: ConnectionResetError" in log.read_text()
    assert "Traceback" not in log.read_text()
    assert statuses == {200: 40, 429: 3}
    route = "api/v1/workspaces/<str:workspace_id>/tasks"
    counted = {
        (path, status): value(samples, "onehorizon_requests_total", route=path, status=status)
        for path, status in [(route, "200"), (route, "429"), (route, "401"), (f"{route}/<str:task_id>", "401")]
    }
    assert counted == {
        (route, "200"): 40,
        (route, "429"): 3,
        (route, "401"): 2,
        (f"{route}/<str:task_id>", "401"): 1,
    }
    assert value(samples, "onehorizon_request_seconds_count", route=route, method="GET") == 40
    assert value(samples, "onehorizon_quota_rejections_total", tier="standard") == 3
    outcomes = {
        (kind, outcome): value(samples, "onehorizon_authentications_total", kind=kind, outcome=outcome)
        for kind in ("api_key", "access_token")
        for outcome in ("authenticated", "rejected")
    }
    assert outcomes == {
        ("api_key", "authenticated"): 43,
        ("api_key", "rejected"): 2,
        ("access_token", "authenticated"): 0,
        ("access_token", "rejected"): 1,
    }
    hits, shared, misses = (
        value(samples, "onehorizon_proofs_total", outcome=outcome) for outcome in ("hit", "shared", "miss")
    )
    assert hits + shared + misses == 43
    assert 1 <= shared + misses <= 2, "one in each process that received the key"
    assert misses == 1, "the first process saved a shared proof"
    assert value(samples, "onehorizon_argon2_seconds_count") == misses
    assert value(samples, "onehorizon_queue_seconds_count") == 1, "malformed and future times are ignored"
    assert value(samples, "onehorizon_queue_seconds_sum") >= 2
    assert not [name for name, _ in samples if "backup" in name], "BACKUP_DIR is not set"
    assert of_granian >= GRANIAN
    assert value(samples, "onehorizon_pool_max") == (32 if connection.vendor == "postgresql" else 0)


@commits
@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="SQLite has no pool")
def test_a_thread_that_ends_returns_its_connection(secret: str, workspace: Workspace, tmp_path: Path) -> None:
    """granian ends idle threads. A connection that isn't returned would be missing from the pool permanently."""
    log = tmp_path / "log"
    with server(log, METRICS_ADDRESS="127.0.0.1:0", GRANIAN_BLOCKING_THREADS_IDLE_TIMEOUT="5") as site:
        (url,) = metrics_urls(log, 1)
        tasks = f"{site}/api/v1/workspaces/{workspace.pk}/tasks"
        with psycopg.connect(database_url()) as holder, ThreadPoolExecutor(4) as threads:
            holder.execute("LOCK TABLE workspaces_task")
            pending = [threads.submit(fetch, tasks, secret) for _ in range(4)]
            wait_for_in_use(url, 2)
            probe = fetch(url.replace("/metrics", "/healthz"))
            waiting = [future for future in pending if not future.done()]
            holder.rollback()
            statuses = {future.result()[0] for future in pending}
        wait_for_in_use(url, 1)

        assert probe[0::2] == (200, b'{"status": "ok"}'), "while every thread is busy"
        assert waiting
        assert statuses <= {200, 503}, "503 if the test took so long that the time limit for locks ended a request"
        assert fetch(tasks, secret)[0] == 200


def wait_for_in_use(url: str, connections: int) -> None:
    wait_until(lambda: value(scrape([url]), "onehorizon_pool_in_use") == connections)


@commits
def test_labels_are_bounded_and_identify_nobody(secret: str, workspace: Workspace, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with server(log, METRICS_ADDRESS="127.0.0.1:0") as site:
        send_with_start(f"{site}/sign-in/", "t=1.000")
        for path in ("/api/v1/me", "/api/v1/nowhere/1", "/nowhere/2", f"/w/{workspace.pk}/", "/static/nothing.css"):
            fetch(f"{site}{path}", secret)
        with socket.create_connection(("127.0.0.1", int(site.rpartition(":")[2])), TIMEOUT) as raw:
            raw.sendall(b"BREW /api/v1/me HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            while raw.recv(4096):
                pass
        exposed = fetch(metrics_urls(log, 1)[0])[2].decode()

    assert 'route="unmatched"' in exposed
    assert 'method="other"' in exposed
    assert "onehorizon_queue_seconds_count 0.0" in exposed, "no trusted proxy sent X-Request-Start"
    assert not [name for name in ("nowhere", workspace.pk, secret, secret.split("_")[1], "BREW") if name in exposed]


@commits
def test_without_metrics_address_no_port_serves_metrics(secret: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with server(log) as site:
        assert fetch(f"{site}/metrics")[0] == 404
        assert fetch(f"{site}/api/v1/me", secret)[0] == 200

    assert "metrics at" not in log.read_text()


@commits
def test_a_process_uses_the_next_port_if_one_is_in_use(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        log = tmp_path / "log"
        with server(log, METRICS_ADDRESS=f"127.0.0.1:{port}"):
            url = metrics_urls(log, 1)[0]

    assert int(re.findall(r":(\d+)/", url)[0]) > port


def test_a_metrics_address_that_can_not_be_bound_does_not_stop_the_server(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with server(log, METRICS_ADDRESS="192.0.2.1:9401") as site:
        assert fetch(f"{site}/metrics")[0] == 404

    assert "no metrics: 192.0.2.1:9401 could not be bound" in log.read_text()
