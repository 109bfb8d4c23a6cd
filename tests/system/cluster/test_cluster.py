"""Two web hosts behind nginx, and PostgreSQL with a hot standby: requests to any host, upgrades, and a failover."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass

import pytest

from tests.processes import manage, wait_until
from tests.system.cluster.client import ME, Traffic, traffic
from tests.system.cluster.installation import Installation
from tests.system.cluster.standby import set_synchronous

pytestmark = pytest.mark.one_database("starts its own PostgreSQL")

REQUESTS_FOR_EVERY_WORKER = 20  # to one host with two workers: all reach the same one with a probability of 1 in 2¹⁹


def test_the_quota_is_exact_across_hosts(cluster: Installation) -> None:
    clients = [cluster.proxy.client, *(host.client for host in cluster.hosts)]
    requests = [(client, secret) for client in clients for secret in cluster.seeded.counted] * 20
    with ThreadPoolExecutor(12) as threads:
        responses = list(threads.map(lambda request: request[0].get(ME, request[1]), requests))

    assert Counter(response.status for response in responses) == {200: 40, 429: 80}


def test_a_key_works_and_is_revoked_at_the_next_request_on_every_host(cluster: Installation) -> None:
    first, second = (host.client for host in cluster.hosts)
    token = cluster.seeded.token

    def statuses(secret: str) -> set[int]:
        clients = [first, second, cluster.proxy.client] * REQUESTS_FOR_EVERY_WORKER
        return {client.get(ME, secret).status for client in clients}

    created = first.post(cluster.api_keys, token, {"description": "Revoked soon"})
    with_key = statuses(created.json["secret"])
    revoked = second.delete(f"{cluster.api_keys}/{created.json['apiKeyId']}", token)
    afterwards = statuses(created.json["secret"])

    assert (created.status, revoked.status) == (201, 204)
    assert (with_key, afterwards) == ({200}, {401})


def test_a_rolling_upgrade_fails_no_request(cluster: Installation) -> None:
    with background(cluster) as recorded:
        for host in cluster.hosts:
            with cluster.proxy.drained(host):
                host.stop()
                host.start()
                host.wait_until_ready()
            wait_for_responses(recorded, 40)

    assert {response.status for response in recorded.responses} == {200, 201, 204}


@dataclass
class Failover:
    recorded: Traffic
    killed: float
    promoted: float
    restarted: set[int]  # processes


@pytest.fixture(scope="module")
def failover(cluster: Installation) -> Failover:
    """Kill the primary and promote the standby, with synchronous replication and under load."""
    set_synchronous(cluster.primary, on=True)
    processes = set(cluster.processes())
    with background(cluster) as recorded:
        wait_until(lambda: len(recorded.revoked) >= 5)
        killed = time.monotonic()
        cluster.fail_over()
        promoted = time.monotonic()
        wait_until(lambda: {200, 201, 204} <= set(recorded.statuses_after(promoted)))
        for host in cluster.hosts:
            host.wait_until_ready()
    return Failover(recorded, killed, promoted, processes - set(cluster.processes()))


def test_a_failover_loses_no_acknowledged_change_and_needs_no_restart(
    cluster: Installation, failover: Failover
) -> None:
    recorded = failover.recorded
    later = [response for response in recorded.responses if response.ended > failover.killed]
    rejected = [response for response in later if response.status not in (200, 201, 204)]
    last = max(response.ended for response in rejected)
    sys.stdout.write(f"{len(rejected)} times 503, the last {last - failover.promoted:.1f} s after the promotion\n")
    assert {response.status for response in rejected} == {503}
    assert {response.headers.get("retry-after") for response in rejected} == {"5"}
    assert failover.restarted == set()
    assert cluster.lost(recorded) == (set(), set())
    revoked = [recorded.created[api_key_id] for api_key_id in recorded.revoked]
    assert {cluster.proxy.client.get(ME, secret).status for secret in revoked} == {401}


@pytest.mark.usefixtures("failover")
def test_servers_and_commands_start_while_the_first_database_host_is_unavailable(cluster: Installation) -> None:
    host = cluster.hosts[0]
    with cluster.proxy.drained(host):
        host.stop()
        host.start()
        host.wait_until_ready()
    listed = manage("list_api_keys", "counted", "--json", DATABASE_URL=cluster.database_url, PGOPTIONS="", DEBUG="on")

    assert "could not be checked" not in host.log.read_text()
    assert listed.returncode == 0, listed.stderr
    assert len(json.loads(listed.stdout)["apiKeys"]) == 2


def background(cluster: Installation) -> AbstractContextManager[Traffic]:
    seeded = cluster.seeded
    return traffic(cluster.proxy.client, seeded.busy, seeded.secret, seeded.token)


def wait_for_responses(recorded: Traffic, count: int) -> None:
    """Wait for responses to requests that are sent from now on."""
    now = time.monotonic()
    wait_until(lambda: len(recorded.statuses_after(now)) >= count)
