"""The primary: what it has used, the quotas in it, and how many requests it can authenticate and count."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import IO, Any

from psycopg import Connection

from bench.contenders import SET_QUOTA
from bench.stage import Stage, processor_seconds


@dataclass
class Tier:
    name: str
    requests: int
    burst: int
    seconds: int = 900
    burst_seconds: int = 60

    @property
    def used(self) -> list[float]:
        """The ages in seconds of the admissions of a quota that is 80 % used, steadily, and not in the last minute.

        For a tier with slots, only the newest: `SET_SLOTS` sets the totals.
        """
        if self.requests >= SLOTS_FROM:
            return [0]
        count = self.requests * 4 // 5
        return [61 + 800 * number / count for number in range(count)]

    @property
    def used_up(self) -> list[float]:
        return [1 + number / 1000 for number in range(self.burst)] + self.used


STANDARD, THOUSAND, LARGE = Tier("standard", 200, 40), Tier("thousand", 1000, 250), Tier("large", 1_000_000, 200_000)
SLOTS_FROM = 1001  # requests
# Quotas with admissions in each slot, 80 % used.
SET_SLOTS = """
    UPDATE workspaces_quota SET
        admissions = admissions[1:1],
        layout = ARRAY[%(requests)s, %(seconds)s, %(burst)s, %(burst_seconds)s],
        main_totals = ARRAY(SELECT %(requests)s / 258 * 4 / 5 * n FROM generate_series(0, 258) AS n),
        burst_totals = ARRAY(SELECT %(burst)s / 258 * 4 / 5 * n FROM generate_series(0, 258) AS n)
    WHERE subject = ANY(%(subjects)s)
"""


class Primary:
    """The benchmark's own connection to a database, which is excluded from what the server has used."""

    def __init__(self, stage: Stage, connection: Connection[Any]) -> None:
        self.stage = stage
        self.connection = connection

    def execute(self, statement: str, **params: Any) -> list[Any]:
        cursor = self.connection.execute(statement, params or None)
        return cursor.fetchall() if cursor.description else []

    def processor_seconds(self) -> float:
        processes = set(self.stage.cluster.processes()) - {self.connection.info.backend_pid}
        return sum(map(processor_seconds, processes))

    def wal_bytes(self) -> int:
        return int(self.execute("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")[0][0])

    def quota_bytes(self) -> int:
        return int(self.execute("SELECT pg_total_relation_size('workspaces_quota')")[0][0])

    def set_quotas(self, subjects: Sequence[str], tier: Tier, ages: Sequence[float]) -> None:
        """Set the quotas of this tier to admissions of these ages in seconds."""
        for subject in subjects:
            self.execute(SET_QUOTA, subject=subject, ages=list(ages))
        if tier.requests >= SLOTS_FROM:
            self.execute(SET_SLOTS, **vars(tier), subjects=list(subjects))

    def set_tier(self, tier: Tier, subjects: Sequence[str]) -> None:
        """Move the workspaces to a tier, which is created if it doesn't exist."""
        self.execute(
            """
            INSERT INTO workspaces_tier (name, requests, seconds, burst_requests, burst_seconds)
            VALUES (%(name)s, %(requests)s, %(seconds)s, %(burst)s, %(burst_seconds)s) ON CONFLICT DO NOTHING
            """,
            **vars(tier),
        )
        self.execute(
            "UPDATE workspaces_workspace SET tier_id = %(name)s WHERE id = ANY(%(subjects)s)",
            name=tier.name,
            subjects=list(subjects),
        )


@contextmanager
def primary(stage: Stage, database: str) -> Iterator[Primary]:
    with Connection.connect(stage.url(database), autocommit=True) as connection:
        yield Primary(stage, connection)


PER_SLICE = 1200  # statements
HOT = 200  # statements for one workspace before its quota is reset
CONNECTIONS = (1, 2, 8)


@dataclass
class Slice:
    """Per statement: seconds, processor seconds of PostgreSQL, bytes of its log, and growth of the table of quotas."""

    seconds: float
    processor: float
    wal: float
    growth: float


@dataclass
class Load:
    """A kind of statement on some connections, and the measured slices."""

    label: str
    connections: int
    part: slice  # of the secrets, and of their workspaces
    tier: Tier
    ages: list[float]  # of the admissions in each quota before a burst
    is_admitted: bool = True
    slices: list[Slice] = field(default_factory=list)

    @property
    def burst(self) -> int:
        return HOT if self.part.stop - self.part.start == 1 else PER_SLICE


class Admissions:
    """Processes that authenticate keys and count requests, each on one connection: `bench.capacity.admissions`."""

    def __init__(self, stage: Stage, secrets: list[str]) -> None:
        self.processes = [
            stage.start("-m", "bench.capacity.admissions", database="many") for _ in range(max(CONNECTIONS))
        ]
        self._answers(json.dumps(secrets), len(self.processes))

    def run(self, load: Load) -> tuple[float, int]:
        """Run a burst, and return the seconds that it took, and the number of admitted requests."""
        number = load.burst // load.connections
        answers = self._answers(json.dumps([load.part.start, load.part.stop, number]), load.connections)
        return max(seconds for seconds, _ in answers), sum(admitted for _, admitted in answers)

    def _answers(self, line: str, processes: int) -> list[tuple[float, int]]:
        used = self.processes[:processes]
        for process in used:
            stdin = pipe(process.stdin)
            stdin.write(line + "\n")
            stdin.flush()
        return [json.loads(pipe(process.stdout).readline()) for process in used]

    def close(self) -> None:
        for process in self.processes:
            process.communicate()


def pipe(stream: IO[str] | None) -> IO[str]:
    assert stream
    return stream


def admissions(stage: Stage, seeded: dict[str, list[str]], rounds: int) -> Iterator[str]:
    """Yield the lines of a table: what authenticating and counting a request costs the primary, without HTTP."""
    workspaces = [f"w_{50 * number:026}" for number in range(402)]  # of the first 402 secrets
    loads = [
        Load(label, connections, part, tier, ages, is_admitted)
        for label, part, tier, ages, is_admitted in (
            ("standard, 400 workspaces", slice(0, 400), STANDARD, STANDARD.used, True),
            ("standard, 400 workspaces, rejected", slice(0, 400), STANDARD, STANDARD.used_up, False),
            ("1,000 requests, 1 workspace", slice(400, 401), THOUSAND, THOUSAND.used, True),
            ("1,000,000 requests, 1 workspace", slice(401, 402), LARGE, LARGE.used, True),
        )
        for connections in CONNECTIONS
    ]
    with primary(stage, "many") as server:
        server.set_tier(STANDARD, workspaces[:400])
        server.set_tier(THOUSAND, workspaces[400:401])
        server.set_tier(LARGE, workspaces[401:])
        runner = Admissions(stage, seeded["secrets"][:402])
        for number in range(rounds):
            for load in loads[:: -1 if number % 2 else 1]:
                load.slices.append(measure(server, load, workspaces[load.part], runner))
        runner.close()
    yield "| | connections | statements/s | processor ms | per processor second | WAL, bytes | table growth, bytes |"
    yield "|---" * 7 + "|"
    for load in loads:
        seconds, processor, wal, growth = (
            median(getattr(item, name) for item in load.slices) for name in ("seconds", "processor", "wal", "growth")
        )
        yield (
            f"| {load.label} | {load.connections} | {1 / seconds:,.0f} | {1000 * processor:.3f} | {1 / processor:,.0f}"
            f" | {wal:.0f} | {growth:,.0f} |"
        )


def measure(server: Primary, load: Load, subjects: Sequence[str], runner: Admissions) -> Slice:
    total = Slice(0, 0, 0, 0)
    for _ in range(PER_SLICE // load.burst):
        server.set_quotas(subjects, load.tier, load.ages)
        processor, wal, size = server.processor_seconds(), server.wal_bytes(), server.quota_bytes()
        seconds, admitted = runner.run(load)
        assert admitted == (load.burst if load.is_admitted else 0), (load.label, admitted)
        total.seconds += seconds / PER_SLICE
        total.processor += (server.processor_seconds() - processor) / PER_SLICE
        total.wal += (server.wal_bytes() - wal) / PER_SLICE
        total.growth += (server.quota_bytes() - size) / PER_SLICE
    return total
