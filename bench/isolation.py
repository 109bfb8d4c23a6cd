"""Whether one workspace slows another: how long one's requests take while the other's are refused in a flood.

The flood comes from processes of its own, lest it slow the client that measures. All share the machine's processors:
what the flood takes of them is part of the figure.
"""

import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from statistics import quantiles

from psycopg import Connection

from bench.contenders import OURS, SET_QUOTA, USED_UP, Seeds
from bench.load import Client, get
from bench.stage import Stage

SLICES = 10  # of each kind
SECONDS = 3  # of a slice
PAUSE = 0.005  # between the requests of the one who is measured
FLOOD = 100  # requests a second, 150 times what the tier admits
FLOODERS = 2

LIFT = """
    INSERT INTO workspaces_tier (name, requests, seconds, burst_requests, burst_seconds)
        VALUES ('lifted', 10000, 900, 10000, 60);
    UPDATE workspaces_workspace SET tier_id = 'lifted' WHERE id = 'w_' || lpad('0', 26, '0')
"""
FLOODED = f"w_{50:026}"  # whose the second of the known keys is; the first is of the workspace that is lifted


@dataclass
class Isolation:
    """Latencies in seconds."""

    quiet: list[float] = field(default_factory=list)
    flooded: list[float] = field(default_factory=list)
    refused: int = 0

    @property
    def ratio(self) -> float:
        return p99(self.flooded) / p99(self.quiet)


def p99(latencies: list[float]) -> float:
    return quantiles(latencies, n=100)[98]


def isolation(stage: Stage, seeds: Seeds) -> Isolation:
    own, other = (get(OURS, f"Bearer {secret}") for secret in seeds.many["secrets"][:2])
    server = stage.serve("onehorizon.wsgi:application", database="many", workers=2, threads=2)
    found = Isolation()
    with (
        Connection.connect(stage.url("many"), autocommit=True) as connection,
        ProcessPoolExecutor(FLOODERS) as flooders,
    ):
        connection.execute(LIFT)
        ask(server.port, own, time.monotonic() + SECONDS, 0)
        for number in range(2 * SLICES):
            flood = FLOODERS if number % 2 else 0
            connection.execute(SET_QUOTA, {"subject": FLOODED, "ages": USED_UP})
            end = time.monotonic() + SECONDS
            sent = [flooders.submit(ask, server.port, other, end, FLOODERS / FLOOD) for _ in range(flood)]
            (found.flooded if flood else found.quiet).extend(ask(server.port, own, end, PAUSE)[200])
            found.refused += sum(len(each.result()[429]) for each in sent)
    return found


def ask(port: int, request: bytes, end: float, pause: float) -> dict[int, list[float]]:
    """Latencies, by status, of what one connection sends until `end`, so far apart."""
    answers: dict[int, list[float]] = {200: [], 429: []}
    client = Client(port, 1)
    while time.monotonic() < end:
        burst = client.send([request])
        answers[burst.statuses.pop()] += burst.latencies
        time.sleep(pause)
    client.close()
    return answers
