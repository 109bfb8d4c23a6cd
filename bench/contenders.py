"""The contenders, and how each is reset to the same state before a burst of requests."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import Any

from django.core.cache.backends.redis import RedisCache
from psycopg import Connection

from apikeys import keys
from bench.load import Burst, Client, get
from bench.stage import Server, Stage, processor_seconds

OURS = "/api/v1/workspaces/current/tasks"
BURST = 36  # requests: within the tier's burst of 40
# Seconds since each admission of a quota in steady use: 160 in the last 15 minutes, none in the last minute.
USED = [61.0 + 5 * n for n in range(160)]
# The same with 40 more in the last second, so that requests are rejected.
USED_UP = [1 + n / 100 for n in range(40)] + USED

SET_QUOTA = """
    INSERT INTO workspaces_quota (subject, admissions)
    SELECT %(subject)s, ARRAY(
        SELECT (extract(epoch FROM clock_timestamp() - age * interval '1 s') * 1000000)::bigint
        FROM unnest(%(ages)s::float[]) AS age ORDER BY age
    )
    ON CONFLICT (subject) DO UPDATE SET
        admissions = excluded.admissions, layout = NULL, main_totals = NULL, burst_totals = NULL
"""


@dataclass
class Usage:
    """Processor seconds per kind of process."""

    python: float
    database: float
    redis: float

    @property
    def total(self) -> float:
        return self.python + self.database + self.redis

    def __sub__(self, other: "Usage") -> "Usage":
        return Usage(self.python - other.python, self.database - other.database, self.redis - other.redis)

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(self.python + other.python, self.database + other.database, self.redis + other.redis)


@dataclass
class Contender:
    name: str
    server: Server
    requests: Iterator[bytes]
    reset: Callable[[], object]
    status: int = 200
    samples: list["Sample"] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.one_connection, self.two_connections = Client(self.server.port, 1), Client(self.server.port, 2)

    def burst(self, client: Client, requests: int = BURST) -> Burst:
        self.reset()
        burst = client.send(list(islice(self.requests, requests)))
        assert burst.statuses == {self.status}, (self.name, burst.statuses, burst.body)
        return burst


@dataclass
class Sample:
    """One slice: throughput and processor time with two connections, latencies (in seconds) with one."""

    per_second: float
    usage: Usage  # per request
    latencies: list[float]


class Meter:
    """Measures slices. `excluded` are the PostgreSQL processes that serve the benchmark's own connections."""

    BURSTS = 2

    def __init__(self, stage: Stage, excluded: set[int]) -> None:
        self.stage = stage
        self.excluded = excluded

    def usage(self, contender: Contender) -> Usage:
        database = sum(map(processor_seconds, set(self.stage.cluster.processes()) - self.excluded))
        return Usage(contender.server.processor_seconds(), database, self.stage.redis.processor_seconds())

    def take(self, contender: Contender) -> None:
        contender.burst(contender.two_connections, 12)  # warms the processor's caches up again
        latencies = contender.burst(contender.one_connection).latencies
        seconds, usage = 0.0, Usage(0, 0, 0)
        for _ in range(self.BURSTS):
            contender.reset()
            requests = list(islice(contender.requests, BURST))
            before = self.usage(contender)
            burst = contender.two_connections.send(requests)
            usage += self.usage(contender) - before
            assert burst.statuses == {contender.status}, (contender.name, burst.statuses, burst.body)
            seconds += burst.seconds
        count = BURST * self.BURSTS
        per_request = Usage(usage.python / count, usage.database / count, usage.redis / count)
        contender.samples.append(Sample(count / seconds, per_request, latencies))


@dataclass
class Seeds:
    """The secrets and workspaces in the two databases (see `bench.seed` and `bench.peers.seed`)."""

    few: dict[str, list[str]]
    many: dict[str, list[str]]
    peers: dict[str, Any]


def seeds(stage: Stage) -> Seeds:
    for database in ("few", "many"):
        stage.cluster.query(f"CREATE DATABASE {database}")
    few, many = (stage.run("-m", "bench.seed", name, database=name) for name in ("few", "many"))
    return Seeds(few, many, stage.run("-m", "bench.peers.seed", database="few"))


@contextmanager
def contenders(stage: Stage, seeds: Seeds) -> Iterator[tuple[dict[str, Contender], Meter]]:
    ours = stage.serve("onehorizon.wsgi:application", database="few")
    among_many = stage.serve("onehorizon.wsgi:application", database="many")
    floor = stage.serve("bench.floor:application", database="few")
    without_guards = stage.serve(
        "onehorizon.wsgi:application", database="few", DJANGO_SETTINGS_MODULE="bench.open_settings"
    )
    peers = stage.serve("bench.peers.wsgi:application", database="few", DJANGO_SETTINGS_MODULE="bench.peers.settings")

    with Connection.connect(stage.url("few"), autocommit=True) as connection:
        cache = RedisCache(f"redis://127.0.0.1:{stage.redis.port}/0", {})
        excluded = {connection.info.backend_pid}

        def quota(ages: Sequence[float]) -> Callable[[], object]:
            params: dict[str, Any] = {"subject": seeds.few["workspaces"][0], "ages": list(ages)}
            return lambda: connection.execute(SET_QUOTA, params)

        def throttles(ident: str) -> Callable[[], object]:
            def reset() -> None:
                now = time.time()
                cache.clear()
                cache.set(f"throttle_200_{ident}", [now - age for age in USED], 900)

            return reset

        with_keys = [get(OURS, f"Bearer {secret}") for secret in seeds.few["secrets"]]
        # One key of each of 2,000 workspaces, so that consecutive requests share no rows.
        with_many_keys = [get(OURS, f"Bearer {secret}") for secret in seeds.many["secrets"]]
        api_key, knox = f"Api-Key {seeds.peers['apiKey']}", f"Token {seeds.peers['knox']}"
        no_reset = lambda: None  # noqa: E731
        candidates = [
            Contender("ours", ours, cycle(with_keys), quota(USED)),
            Contender("ours, 1,000,000 keys", among_many, cycle(with_many_keys[:2000]), no_reset),
            Contender("ours, rejected (429)", ours, cycle(with_keys), quota(USED_UP), 429),
            Contender("ours, invented key (401)", ours, invented(), no_reset, 401),
            Contender("ours without authentication and quota", without_guards, cycle([get(OURS)]), no_reset),
            Contender("floor", floor, cycle(with_keys), quota(USED)),
            Contender("stock, .values()", peers, cycle([get("/values")]), no_reset),
            Contender("stock, ModelSerializer", peers, cycle([get("/serializer")]), no_reset),
            Contender("djangorestframework-api-key", peers, cycle([get("/api-key", api_key)]), no_reset),
            Contender(
                "djangorestframework-api-key, two throttles",
                peers,
                cycle([get("/api-key-throttled", api_key)]),
                throttles(seeds.peers["throttled"][0]),
            ),
            Contender(
                "knox, two throttles",
                peers,
                cycle([get("/knox-throttled", knox)]),
                throttles(seeds.peers["throttled"][1]),
            ),
        ]
        require_equal_responses(candidates)
        yield {contender.name: contender for contender in candidates}, Meter(stage, excluded)


def invented() -> Iterator[bytes]:
    """Yield requests with well-formed keys that don't exist."""
    while True:
        yield get(OURS, f"Bearer {keys.generate().secret}")


def require_equal_responses(candidates: list[Contender]) -> None:
    """Warm each contender up, and check that all that serve the tasks serve the same JSON."""
    responses = {}
    for contender in candidates:
        requests = 2000 if "1,000,000" in contender.name else BURST
        burst = contender.burst(contender.two_connections, requests)
        if contender.status == 200 and "1,000,000" not in contender.name:
            responses[contender.name] = json.loads(burst.body)
    expected = responses["ours"]
    assert len(expected["tasks"]) == 20
    assert [name for name, response in responses.items() if response != expected] == []
