"""Faults of PostgreSQL: responses stay correct, no request hangs, and service recovers without a restart.

No test has an upper limit in seconds, because the machine may be busy. Without our timeouts, each fault would last
until the test ends it, or until the kernel gives up after about 15 minutes: longer than the test's client waits.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from statistics import median
from typing import Any

import psycopg
import pytest

from bench.cluster import Cluster
from tests.processes import wait_until
from tests.system.faults.conftest import TASKS, Response, Site, traffic, wait_for_lock

UNAVAILABLE = {"code": 503, "message": "The database is temporarily unavailable, retry shortly."}


def assert_unavailable(response: Response) -> None:
    assert (response.status, response.json) == (503, UNAVAILABLE)
    assert response.headers["retry-after"] == "5"
    assert response.headers["content-type"] == "application/json"


def restart(cluster: Cluster, responses: list[Response]) -> None:
    with cluster.stopped():
        wait_until(lambda: 503 in {response.status for response in list(responses)})


def crash(cluster: Cluster, responses: list[Response]) -> None:
    with cluster.stopped("immediate"):
        time.sleep(0.5)


def disconnect(cluster: Cluster, responses: list[Response]) -> None:
    cluster.terminate_connections()


@pytest.mark.parametrize("fault", [restart, crash, disconnect])
def test_a_fault_causes_only_503_and_loses_no_acknowledged_write(
    fault: Callable[[Cluster, list[Response]], None], cluster: Cluster, site: Site
) -> None:
    with traffic(site) as responses:
        wait_until(lambda: {response.status for response in list(responses)} >= {200, 201})
        fault(cluster, responses)
        site.wait_until_available()
        recovered = time.monotonic()
        wait_until(lambda: any(response.began > recovered for response in list(responses)))

    for response in responses:
        if response.status in (200, 201):
            assert "ratelimit" in response.headers  # counted against the quota
        else:
            assert_unavailable(response)
    assert {response.status for response in responses if response.began > recovered} <= {200, 201}
    if fault is restart:
        assert Counter(response.status for response in responses)[503] > 0
    acknowledged = [response.headers["sent"] for response in responses if response.status == 201]
    times_written = Counter(title for (title,) in cluster.query("SELECT title FROM workspaces_task"))
    assert acknowledged
    assert {times_written[title] for title in acknowledged} == {1}
    assert set(times_written.values()) == {1}


def test_an_idle_connection_that_died_fails_no_request(cluster: Cluster, site: Site) -> None:
    for _ in range(3):
        cluster.terminate_connections()
        assert [site.request().status for _ in range(4)] == [200] * 4


@pytest.mark.parametrize("disconnected", [True, False], ids=["disconnected", "connected"])
def test_a_standby_is_not_used_as_the_primary(cluster: Cluster, site: Site, disconnected: bool) -> None:
    def alter_system(change: str) -> None:
        with cluster.connect() as connection:
            connection.execute(f"ALTER SYSTEM {change}")
            connection.execute("SELECT pg_reload_conf()")

    alter_system("SET default_transaction_read_only = on")
    try:
        if disconnected:  # as by most failovers
            cluster.terminate_connections()
        site.wait_until_every_worker_responds(503)
        responses = [site.request() for _ in range(4)]
    finally:
        alter_system("RESET default_transaction_read_only")

    for response in responses:
        assert_unavailable(response)
        assert site.cause(response) == "read_only"
    site.wait_until_available()


def test_a_statement_in_progress_fails_with_its_server(cluster: Cluster, site: Site) -> None:
    title = f"Halfway {time.monotonic_ns()}"
    with cluster.open_transaction("LOCK TABLE workspaces_task"):
        pending = site.in_background(TASKS, {"title": title})
        wait_for_lock(cluster)
        cluster.stop("immediate")
        assert_unavailable(pending())
        cluster.start()

    site.wait_until_available()
    assert cluster.query("SELECT count(*) FROM workspaces_task WHERE title = %s", title) == [(0,)]


def test_a_silent_server_times_out(cluster: Cluster, site: Site) -> None:
    site.request()
    with cluster.frozen():
        pending = [site.in_background() for _ in range(6)]
        responses = [wait_for_response() for wait_for_response in pending]
        later = site.request()

    for response in responses:
        assert_unavailable(response)
    assert_unavailable(later)
    site.wait_until_available()


def test_probes_and_pages_work_while_postgresql_is_unavailable(cluster: Cluster, site: Site) -> None:
    with cluster.stopped():
        first = site.request()  # waits for the timeout; later requests of its worker wait less
        health, ready, page, api = site.get("/healthz"), site.get("/readyz"), site.get("/sign-in/"), site.request()
        malformed = site.request(secret="one_nothing")
        api_seconds = [site.request().seconds for _ in range(8)]
        probe_seconds = [site.get("/healthz").seconds for _ in range(4)]
    site.wait_until_available()

    assert (health.status, ready.status, page.status, api.status, malformed.status) == (200, 503, 200, 503, 401)
    assert ready.json == {"code": 503, "message": "The database is unavailable."}
    assert ready.headers["retry-after"] == "5"
    assert (site.cause(first), site.cause(api)) == ("unavailable", "unavailable")
    assert median(api_seconds) < first.seconds / 2  # one request in each of the two workers waits for the timeout
    assert median(probe_seconds) < first.seconds / 2
    assert [site.get("/readyz").status for _ in range(4)] == [200] * 4


def test_a_page_that_needs_the_database_gets_503(cluster: Cluster, site: Site) -> None:
    with cluster.stopped():
        metadata = site.get("/.well-known/oauth-authorization-server")
        page = site.get("/app/auth/authorize?client_id=x&response_type=code")

    assert metadata.status == 200
    assert (page.status, page.headers["retry-after"]) == (503, "5")
    assert page.headers["content-type"].startswith("text/html")


def test_requests_get_503_when_postgresql_is_out_of_connections(cluster: Cluster, site: Site) -> None:
    ((maximum,),) = cluster.query("SELECT setting::integer FROM pg_settings WHERE name = 'max_connections'")
    with ExitStack() as stack:
        ours = open_all_connections(cluster, stack)
        while len(ours) < maximum:  # the site has the others, and may connect again before we do
            pids = [connection.info.backend_pid for connection in ours]
            ours[0].execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE backend_type = 'client backend' AND pid <> ALL(%s)",
                [pids],
            )
            ours += open_all_connections(cluster, stack)
        responses = [site.request() for _ in range(3)]

    for response in responses:
        assert_unavailable(response)
        assert site.cause(response) == "too_many_connections"
    site.wait_until_available()


def open_all_connections(cluster: Cluster, stack: ExitStack) -> list[psycopg.Connection[Any]]:
    """Open connections until the server has no more, and return them. They stay open until `stack` is closed."""
    connections: list[psycopg.Connection[Any]] = []
    while True:
        try:
            connections.append(stack.enter_context(cluster.connect()))
        except psycopg.OperationalError:
            return connections


def test_slow_statements_finish_and_endless_ones_time_out(cluster: Cluster, site: Site) -> None:
    cluster.query(
        """
        CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN PERFORM pg_sleep(CASE NEW.title WHEN 'Endless' THEN 60 ELSE 2 END); RETURN NEW; END $$;
        CREATE TRIGGER slow BEFORE INSERT ON workspaces_task FOR EACH ROW EXECUTE FUNCTION slow();
        """
    )
    try:
        endless = site.in_background(TASKS, {"title": "Endless"})
        slow = site.request(TASKS, {"title": "Slow"})
        timed_out = endless()
    finally:
        cluster.query("DROP FUNCTION slow CASCADE")

    assert slow.status == 201
    assert slow.seconds >= 2
    assert_unavailable(timed_out)
    assert site.cause(timed_out) == "statement_timeout"
    assert cluster.query(
        "SELECT title, count(*) FROM workspaces_task WHERE title IN ('Slow', 'Endless') GROUP BY 1"
    ) == [("Slow", 1)]
