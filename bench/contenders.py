"""Who is measured, and how each is brought to the same state before a burst of requests."""

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
# Whoever is in steady use of their quota: 160 admissions in the last 15 minutes, of which none in the last one.
USED = [61.0 + 5 * n for n in range(160)]
# The same with 40 more just now: refused.
USED_UP = [1 + n / 100 for n in range(40)] + USED

SET_QUOTA = """
    INSERT INTO workspaces_quota (subject, admissions)
    SELECT %(subject)s, ARRAY(
        SELECT (extract(epoch FROM clock_timestamp() - age * interval '1 s') * 1000000)::bigint
        FROM unnest(%(ages)s::float[]) AS age ORDER BY age
    )
    ON CONFLICT (subject) DO UPDATE SET admissions = excluded.admissions
"""


@dataclass
class Usage:
    """Processor seconds by kind of process."""

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
        self.one, self.two = Client(self.server.port, 1), Client(self.server.port, 2)

    def burst(self, client: Client, requests: int = BURST) -> Burst:
        self.reset()
        burst = client.send(list(islice(self.requests, requests)))
        assert burst.statuses == {self.status}, (self.name, burst.statuses, burst.body)
        return burst


@dataclass
class Sample:
    """One slice: throughput and processor time by two connections, latencies by one."""

    per_second: float
    usage: Usage  # of a request
    latencies: list[float]


class Meter:
    """Measures slices. The stage's own connections to PostgreSQL are not counted."""

    BURSTS = 2

    def __init__(self, stage: Stage, own: set[int]) -> None:
        self.stage = stage
        self.own = own

    def usage(self, contender: Contender) -> Usage:
        database = sum(map(processor_seconds, set(self.stage.cluster.processes()) - self.own))
        return Usage(contender.server.processor_seconds(), database, self.stage.redis.processor_seconds())

    def take(self, contender: Contender) -> None:
        contender.burst(contender.two, 12)  # what the others have put out of the processor's caches comes back
        latencies = contender.burst(contender.one).latencies
        seconds, usage = 0.0, Usage(0, 0, 0)
        for _ in range(self.BURSTS):
            contender.reset()
            requests = list(islice(contender.requests, BURST))
            before = self.usage(contender)
            burst = contender.two.send(requests)
            usage += self.usage(contender) - before
            assert burst.statuses == {contender.status}, (contender.name, burst.statuses, burst.body)
            seconds += burst.seconds
        count = BURST * self.BURSTS
        each = Usage(usage.python / count, usage.database / count, usage.redis / count)
        contender.samples.append(Sample(count / seconds, each, latencies))


@dataclass
class Seeds:
    """What the two databases hold that can be used (see `bench.seed` and `bench.peers.seed`)."""

    few: dict[str, list[str]]
    many: dict[str, list[str]]
    peers: dict[str, Any]


def seeds(stage: Stage) -> Seeds:
    for database in ("few", "many"):
        stage.cluster.ask(f"CREATE DATABASE {database}")
    few, many = (stage.run("-m", "bench.seed", name, database=name) for name in ("few", "many"))
    return Seeds(few, many, stage.run("-m", "bench.peers.seed", database="few"))


@contextmanager
def contenders(stage: Stage, seeds: Seeds) -> Iterator[tuple[dict[str, Contender], Meter]]:
    ours = stage.serve("onehorizon.wsgi:application", database="few")
    among_many = stage.serve("onehorizon.wsgi:application", database="many")
    floor = stage.serve("bench.floor:application", database="few")
    unguarded = stage.serve("onehorizon.wsgi:application", database="few", DJANGO_SETTINGS_MODULE="bench.open_settings")
    peers = stage.serve("bench.peers.wsgi:application", database="few", DJANGO_SETTINGS_MODULE="bench.peers.settings")

    with Connection.connect(stage.url("few"), autocommit=True) as connection:
        cache = RedisCache(f"redis://127.0.0.1:{stage.redis.port}/0", {})
        own = {connection.info.backend_pid}

        def quota(ages: Sequence[float]) -> Callable[[], object]:
            terms: dict[str, Any] = {"subject": seeds.few["workspaces"][0], "ages": list(ages)}
            return lambda: connection.execute(SET_QUOTA, terms)

        def throttles(ident: str) -> Callable[[], object]:
            def reset() -> None:
                now = time.time()
                cache.clear()
                cache.set(f"throttle_200_{ident}", [now - age for age in USED], 900)

            return reset

        with_keys = [get(OURS, f"Bearer {secret}") for secret in seeds.few["secrets"]]
        # One key of each of 2,000 workspaces, then the next key of each: no two requests in a row have anything alike.
        everybody = [get(OURS, f"Bearer {secret}") for secret in seeds.many["secrets"]]
        api_key, knox = f"Api-Key {seeds.peers['apiKey']}", f"Token {seeds.peers['knox']}"
        nothing = lambda: None  # noqa: E731
        found = [
            Contender("ours", ours, cycle(with_keys), quota(USED)),
            Contender("ours, 1,000,000 keys", among_many, cycle(everybody[:2000]), nothing),
            Contender("ours, refused (429)", ours, cycle(with_keys), quota(USED_UP), 429),
            Contender("ours, invented key (401)", ours, invented(), nothing, 401),
            Contender("ours without authentication and quota", unguarded, cycle([get(OURS)]), nothing),
            Contender("floor", floor, cycle(with_keys), quota(USED)),
            Contender("stock, .values()", peers, cycle([get("/values")]), nothing),
            Contender("stock, ModelSerializer", peers, cycle([get("/serializer")]), nothing),
            Contender("djangorestframework-api-key", peers, cycle([get("/api-key", api_key)]), nothing),
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
        require_alike(found)
        yield {contender.name: contender for contender in found}, Meter(stage, own)


def invented() -> Iterator[bytes]:
    """Well-formed keys that nobody has."""
    while True:
        yield get(OURS, f"Bearer {keys.generate().secret}")


def require_alike(found: list[Contender]) -> None:
    """Warms each contender up, and sees to it that all who serve tasks serve the same JSON."""
    answers = {}
    for contender in found:
        requests = 2000 if "1,000,000" in contender.name else BURST
        burst = contender.burst(contender.two, requests)
        if contender.status == 200 and "1,000,000" not in contender.name:
            answers[contender.name] = json.loads(burst.body)
    first = answers["ours"]
    assert len(first["tasks"]) == 20
    assert [name for name, answer in answers.items() if answer != first] == []
