"""Requests through granian, with one worker and with two: how many per second, and what each costs."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from statistics import median

from bench.capacity.primary import LARGE, STANDARD, THOUSAND, Primary, Tier, primary
from bench.cluster import children
from bench.contenders import OURS
from bench.load import Client, get, post
from bench.stage import Server, Stage, private_mib, resident_mib

THREADS = 2  # of each worker
CONNECTIONS = 8  # of the client, for each worker
PER_SLICE = 144  # requests
HOT = 36  # requests of one workspace before its quota is reset
WARM_UP = 8  # requests with each key, so that nearly every worker has verified it
TASK = json.dumps({"title": "Webhook retries stop after redirect", "description": "The event is not sent again. " * 4})


SET_LAST_USE = "UPDATE apikeys_storedsecret SET last_used_at = {} WHERE workspace_id = ANY(%(subjects)s)"


@dataclass
class Kind:
    """A kind of request with the keys of the database `many`."""

    label: str
    part: slice  # of the keys, each of another workspace
    tier: Tier
    creates: bool = False  # a task
    saves_use: bool = False  # of the key, as the first request in a minute does

    def requests(self, keys: list[str]) -> Iterator[bytes]:
        return cycle([post(OURS, key, TASK.encode()) if self.creates else get(OURS, key) for key in keys])


ONE, SEVERAL = slice(0, 1), slice(0, PER_SLICE)
KINDS = [
    Kind("standard, 1 workspace", ONE, STANDARD),
    Kind(f"standard, {PER_SLICE} workspaces", SEVERAL, STANDARD),
    Kind("the same, and saves the last use", SEVERAL, STANDARD, saves_use=True),
    Kind("the same, but creates a task", SEVERAL, STANDARD, creates=True),
    Kind("1,000 requests, 1 workspace", slice(144, 145), THOUSAND),
    Kind("1,000,000 requests, 1 workspace", slice(145, 146), LARGE),
    Kind("1,000,000 requests, 100 workspaces", slice(146, 246), LARGE),
]
WITH_FEW_KEYS = Kind("standard, 1 workspace, 20 keys in all", ONE, STANDARD)


@dataclass
class Slice:
    """Per request: seconds, processor seconds of the web processes and of PostgreSQL, and bytes of its log."""

    seconds: float
    web: float
    database: float
    wal: float


@dataclass
class Target:
    """A web server and its database."""

    server: Server
    primary: Primary
    workers: int

    def connect(self) -> Client:
        return Client(self.server.port, CONNECTIONS * self.workers)

    def warm_up(self, keys: list[str]) -> None:
        for _ in range(WARM_UP):
            client = self.connect()
            client.send([get(OURS, key) for key in keys])
            client.close()

    def used(self) -> tuple[float, float, int]:
        return self.server.processor_seconds(), self.primary.processor_seconds(), self.primary.wal_bytes()


@dataclass
class Load:
    """A kind of request to one server, and the measured slices."""

    kind: Kind
    target: Target
    subjects: Sequence[str]  # the workspaces of the keys
    requests: Iterator[bytes]
    slices: list[Slice] = field(default_factory=list)

    def measure(self) -> None:
        burst = HOT if len(self.subjects) == 1 else PER_SLICE
        total = Slice(0, 0, 0, 0)
        client = self.target.connect()  # for each slice: granian closes idle connections
        for _ in range(PER_SLICE // burst):
            self.target.primary.set_quotas(self.subjects, self.kind.tier, self.kind.tier.used)
            if self.kind.saves_use:
                self.target.primary.execute(SET_LAST_USE.format("NULL"), subjects=self.subjects)
            requests = list(islice(self.requests, burst))
            web, database, wal = self.target.used()
            result = client.send(requests)
            web_after, database_after, wal_after = self.target.used()
            expected = 201 if self.kind.creates else 200
            assert result.statuses == {expected}, (self.kind.label, result.statuses, result.body)
            total.seconds += result.seconds / PER_SLICE
            total.web += (web_after - web) / PER_SLICE
            total.database += (database_after - database) / PER_SLICE
            total.wal += (wal_after - wal) / PER_SLICE
        client.close()
        if self.kind.saves_use:  # other kinds of requests don't
            self.target.primary.execute(SET_LAST_USE.format("now() + interval '1 hour'"), subjects=self.subjects)
        self.slices.append(total)


def requests(stage: Stage, few: dict[str, list[str]], many: dict[str, list[str]], rounds: int) -> Iterator[str]:
    """Yield the lines of two tables: what a request costs, and the memory of the processes."""
    workspaces = [f"w_{50 * number:026}" for number in range(246)]  # of the first secrets of `many`
    with primary(stage, "few") as small, primary(stage, "many") as large:
        for kind in KINDS:
            large.set_tier(kind.tier, workspaces[kind.part])
        loads = []
        for workers in (1, 2):
            target = Target(serve(stage, "few", workers), small, workers)
            keys = [f"Bearer {secret}" for secret in few["secrets"]]
            target.warm_up(keys)
            loads.append(Load(WITH_FEW_KEYS, target, few["workspaces"], WITH_FEW_KEYS.requests(keys)))
            target = Target(serve(stage, "many", workers), large, workers)
            keys = [f"Bearer {secret}" for secret in many["secrets"]]
            loads += [Load(kind, target, workspaces[kind.part], kind.requests(keys[kind.part])) for kind in KINDS]
            target.warm_up(keys[: len(workspaces)])
        for number in range(rounds):
            for load in loads[:: -1 if number % 2 else 1]:
                load.measure()
        yield from _requests_table(loads)
        yield ""
        yield from _memory_table(stage, loads[-1].target.server)


def serve(stage: Stage, database: str, workers: int) -> Server:
    return stage.serve("onehorizon.wsgi:application", database=database, workers=workers, threads=THREADS)


def _requests_table(loads: list[Load]) -> Iterator[str]:
    yield "| | workers | requests/s | web, processor ms | database, processor ms | WAL, bytes |"
    yield "|---" * 6 + "|"
    for load in loads:
        seconds, web, database, wal = (
            median(getattr(item, name) for item in load.slices) for name in ("seconds", "web", "database", "wal")
        )
        costs = f"{1 / seconds:,.0f} | {1000 * web:.2f} | {1000 * database:.2f} | {wal:,.0f}"
        yield f"| {load.kind.label} | {load.target.workers} | {costs} |"


def _memory_table(stage: Stage, server: Server) -> Iterator[str]:
    """Yield the memory after the requests: resident in the web processes, and private in PostgreSQL's processes."""
    workers = [resident_mib(pid) for pid in children(server.process.pid)]
    pids = [pid for (pid,) in stage.cluster.query("SELECT pid FROM pg_stat_activity WHERE datname = 'many'")]
    yield "| memory, MiB | |"
    yield "|---|---|"
    yield f"| granian's parent process | {resident_mib(server.process.pid):.0f} |"
    yield f"| worker | {max(workers):.0f} |"
    yield f"| connection, in PostgreSQL, without shared buffers | {median(map(private_mib, pids)):.1f} |"
