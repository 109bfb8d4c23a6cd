"""PostgreSQL fails in every way: responses stay correct, none waits for ever, and service recovers without a restart.

Nothing here is measured in seconds, because the machine may be busy. Without our timeouts each of these faults would
last as long as the test lets it, or the kernel's quarter of an hour: longer than the test's client waits.
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
from tests.processes import manage, wait_until
from tests.system.faults.conftest import TASKS, Answer, Site, traffic, wait_for_a_lock

AWAY = {"code": 503, "message": "The database is temporarily unavailable, retry shortly."}


def assert_away(answer: Answer) -> None:
    assert (answer.status, answer.json) == (503, AWAY)
    assert answer.headers["retry-after"] == "5"
    assert answer.headers["content-type"] == "application/json"


def restart(cluster: Cluster, answers: list[Answer]) -> None:
    with cluster.stopped():
        wait_until(lambda: 503 in {answer.status for answer in list(answers)})


def crash(cluster: Cluster, answers: list[Answer]) -> None:
    with cluster.stopped("immediate"):
        time.sleep(0.5)


def cut(cluster: Cluster, answers: list[Answer]) -> None:
    cluster.terminate_connections()


@pytest.mark.parametrize("fault", [restart, crash, cut])
def test_traffic_survives(fault: Callable[[Cluster, list[Answer]], None], cluster: Cluster, site: Site) -> None:
    with traffic(site) as answers:
        wait_until(lambda: {answer.status for answer in list(answers)} >= {200, 201})
        fault(cluster, answers)
        site.wait_until_back()
        served = time.monotonic()
        wait_until(lambda: any(answer.began > served for answer in list(answers)))

    for answer in answers:
        if answer.status in (200, 201):
            assert "ratelimit" in answer.headers  # admitted, and counted
        else:
            assert_away(answer)
    assert {answer.status for answer in answers if answer.began > served} <= {200, 201}
    if fault is restart:
        assert Counter(answer.status for answer in answers)[503] > 0
    acknowledged = [answer.headers["sent"] for answer in answers if answer.status == 201]
    times_written = Counter(title for (title,) in cluster.query("SELECT title FROM workspaces_task"))
    assert acknowledged
    assert {times_written[title] for title in acknowledged} == {1}
    assert set(times_written.values()) == {1}


def test_an_idle_connection_that_died_fails_no_request(cluster: Cluster, site: Site) -> None:
    for _ in range(3):
        cluster.terminate_connections()
        assert [site.ask().status for _ in range(4)] == [200] * 4


@pytest.mark.parametrize("cut", [True, False], ids=["cut", "not cut"])
def test_a_standby_is_not_used_as_the_primary(cluster: Cluster, site: Site, cut: bool) -> None:
    def make(change: str) -> None:
        with cluster.connect() as connection:
            connection.execute(f"ALTER SYSTEM {change}")
            connection.execute("SELECT pg_reload_conf()")

    make("SET default_transaction_read_only = on")
    try:
        if cut:  # as most failovers do
            cluster.terminate_connections()
        site.wait_until_every_worker_answers(503)
        answers = [site.ask() for _ in range(4)]
    finally:
        make("RESET default_transaction_read_only")

    for answer in answers:
        assert_away(answer)
    site.wait_until_back()


def test_a_statement_in_progress_fails_with_its_server(cluster: Cluster, site: Site) -> None:
    title = f"Halfway {time.monotonic_ns()}"
    with cluster.open_transaction("LOCK TABLE workspaces_task"):
        answer = site.in_background(TASKS, {"title": title})
        wait_for_a_lock(cluster)
        cluster.stop("immediate")
        assert_away(answer())
        cluster.start()

    site.wait_until_back()
    assert cluster.query("SELECT count(*) FROM workspaces_task WHERE title = %s", title) == [(0,)]


def test_a_silent_server_times_out(cluster: Cluster, site: Site) -> None:
    site.ask()
    with cluster.frozen():
        pending = [site.in_background() for _ in range(6)]
        answers = [answer() for answer in pending]
        later = site.ask()

    for answer in answers:
        assert_away(answer)
    assert_away(later)
    site.wait_until_back()


def test_probes_and_pages_work_while_it_is_unavailable(cluster: Cluster, site: Site) -> None:
    with cluster.stopped():
        in_vain = site.ask()  # which waits for the rest
        alive, ready, page, api = site.get("/healthz"), site.get("/readyz"), site.get("/sign-in/"), site.ask()
        malformed = site.ask(secret="one_nothing")
        waited = [site.ask().seconds for _ in range(8)]
        probed = [site.get("/healthz").seconds for _ in range(4)]
    site.wait_until_back()

    assert (alive.status, ready.status, page.status, api.status, malformed.status) == (200, 503, 200, 503, 401)
    assert ready.json == {"code": 503, "message": "The database is unavailable."}
    assert ready.headers["retry-after"] == "5"
    assert median(waited) < in_vain.seconds / 2  # each of two workers waits in vain once
    assert median(probed) < in_vain.seconds / 2
    assert [site.get("/readyz").status for _ in range(4)] == [200] * 4


def test_a_page_that_needs_the_database_is_503(cluster: Cluster, site: Site) -> None:
    with cluster.stopped():
        request = site.get("/.well-known/oauth-authorization-server")
        page = site.get("/app/auth/authorize?client_id=x&response_type=code")

    assert request.status == 200
    assert (page.status, page.headers["retry-after"]) == (503, "5")
    assert page.headers["content-type"].startswith("text/html")


def test_out_of_connections(cluster: Cluster, site: Site) -> None:
    with ExitStack() as held:
        mine = take_all(cluster, held)
        pids = [connection.info.backend_pid for connection in mine]
        mine[0].execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> ALL(%s)", [pids])
        while not take_all(cluster, held):  # as soon as they are free
            pass
        refused = [site.ask() for _ in range(3)]

    for answer in refused:
        assert_away(answer)
    site.wait_until_back()


def take_all(cluster: Cluster, held: ExitStack) -> list[psycopg.Connection[Any]]:
    taken: list[psycopg.Connection[Any]] = []
    while True:
        try:
            taken.append(held.enter_context(cluster.connect()))
        except psycopg.OperationalError:
            return taken


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
        slow = site.ask(TASKS, {"title": "Slow"})
        cut_short = endless()
    finally:
        cluster.query("DROP FUNCTION slow CASCADE")

    assert slow.status == 201
    assert slow.seconds >= 2
    assert_away(cut_short)
    assert cluster.query(
        "SELECT title, count(*) FROM workspaces_task WHERE title IN ('Slow', 'Endless') GROUP BY 1"
    ) == [("Slow", 1)]


def test_a_locked_workspace_delays_no_other(cluster: Cluster, site: Site) -> None:
    """Its quota is a row of its own. Who waits for that row is told to come back, and isn't let in unchecked."""
    site.ask()
    other = other_secret(cluster)
    held = (
        "SELECT 1 FROM workspaces_quota q JOIN workspaces_workspace w ON w.id = q.subject "
        "WHERE w.slug = 'demo' FOR UPDATE"
    )
    with cluster.open_transaction(held):
        stuck = site.in_background()
        wait_for_a_lock(cluster)
        others = [site.ask(secret=other) for _ in range(20)]
        answer = stuck()

    assert {other.status for other in others} == {200}
    assert_away(answer)
    assert answer.seconds > 2
    assert median(other.seconds for other in others) < answer.seconds / 4
    assert site.ask().status == 200


def other_secret(cluster: Cluster) -> str:
    result = manage("create_api_key", "elsewhere", "--description=Neighbour", DATABASE_URL=cluster.url)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()
