"""A worker that is killed, and a server that is stopped."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from bench.cluster import Cluster
from tests.processes import TIMEOUT, wait_until
from tests.system.faults.conftest import TASKS, Site, serving, wait_for_lock


def test_a_worker_killed_in_a_request_affects_no_other_request(cluster: Cluster, site: Site) -> None:
    before = site.workers()
    title = f"Killed {time.monotonic_ns()}"
    with cluster.open_transaction("LOCK TABLE workspaces_task"):
        pending = site.in_background(TASKS, {"title": title})
        wait_for_lock(cluster)
        (worker,) = [pid for pid in before if waits_for_lock(cluster, pid)]
        os.kill(worker, signal.SIGKILL)
        broken = pending()
        # The kernel closes its sockets one after another, perhaps the listening one last.
        wait_until(lambda: worker not in site.workers(), site.log.read_text)
        others = [site.request().status for _ in range(8)]

    assert broken.status == 0
    assert others == [200] * 8
    wait_until(lambda: len(site.workers()) >= 2, site.log.read_text)
    site.wait_until_available()
    assert cluster.query("SELECT count(*) FROM workspaces_task WHERE title = %s", title) == [(0,)]


def waits_for_lock(cluster: Cluster, pid: int) -> bool:
    """Return whether a connection of this worker waits for a lock. Client ports identify its connections."""
    targets = [str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()]
    inodes = {target[8:-1] for target in targets if target.startswith("socket:[")}
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    ports = [int(line[1].partition(":")[2], 16) for line in lines if line[9] in inodes]
    waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND client_port = ANY(%s)"
    return bool(cluster.query(waiting, ports))


def test_a_server_that_is_stopped_finishes_its_requests(cluster: Cluster, secret: str, tmp_path: Path) -> None:
    title = f"Last {time.monotonic_ns()}"
    with serving(cluster.url, secret, tmp_path / "log") as site:
        site.wait_until_available()
        with cluster.open_transaction("LOCK TABLE workspaces_task") as holder:
            pending = site.in_background(TASKS, {"title": title})
            wait_for_lock(cluster)
            site.process.terminate()
            time.sleep(0.7)
            assert site.process.poll() is None
            holder.rollback()
            response = pending()
        code = site.process.wait(TIMEOUT)

    assert (response.status, code) == (201, 0)
    assert cluster.query("SELECT count(*) FROM workspaces_task WHERE title = %s", title) == [(1,)]
    assert site.request().status == 0
