"""Isolation: the latency of one workspace's requests during a flood of rejected requests of another workspace.

Separate processes send the flood, so that it doesn't slow down the measuring client. All share the machine's
processors, so the latency includes the processor time that the flood takes.
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
SECONDS = 3  # per slice
PAUSE = 0.005  # seconds between the measured requests
FLOOD = 100  # requests per second, 150 times what the tier admits
FLOODERS = 2

RAISE_LIMITS = """
    INSERT INTO workspaces_tier (name, requests, seconds, burst_requests, burst_seconds)
        VALUES ('unlimited', 10000, 900, 10000, 60);
    UPDATE workspaces_workspace SET tier_id = 'unlimited' WHERE id = 'w_' || lpad('0', 26, '0')
"""
FLOODED = f"w_{50:026}"  # the workspace of the second secret in `Seeds.many`; the first secret is of the measured one


@dataclass
class Isolation:
    """Latencies in seconds."""

    quiet: list[float] = field(default_factory=list)
    flooded: list[float] = field(default_factory=list)
    rejected: int = 0

    @property
    def ratio(self) -> float:
        return p99(self.flooded) / p99(self.quiet)


def p99(latencies: list[float]) -> float:
    return quantiles(latencies, n=100)[98]


def isolation(stage: Stage, seeds: Seeds) -> Isolation:
    measured, flooding = (get(OURS, f"Bearer {secret}") for secret in seeds.many["secrets"][:2])
    server = stage.serve("onehorizon.wsgi:application", database="many", workers=2, threads=2)
    results = Isolation()
    with (
        Connection.connect(stage.url("many"), autocommit=True) as connection,
        ProcessPoolExecutor(FLOODERS) as flooders,
    ):
        connection.execute(RAISE_LIMITS)
        send_until(server.port, measured, time.monotonic() + SECONDS, 0)
        for number in range(2 * SLICES):
            flood = FLOODERS if number % 2 else 0
            connection.execute(SET_QUOTA, {"subject": FLOODED, "ages": USED_UP})
            end = time.monotonic() + SECONDS
            futures = [flooders.submit(send_until, server.port, flooding, end, FLOODERS / FLOOD) for _ in range(flood)]
            latencies = results.flooded if flood else results.quiet
            latencies += send_until(server.port, measured, end, PAUSE)[200]
            results.rejected += sum(len(future.result()[429]) for future in futures)
    return results


def send_until(port: int, request: bytes, end: float, pause: float) -> dict[int, list[float]]:
    """Send requests on one connection until `end`, with a pause after each, and return the latencies by status."""
    latencies: dict[int, list[float]] = {200: [], 429: []}
    client = Client(port, 1)
    while time.monotonic() < end:
        burst = client.send([request])
        latencies[burst.statuses.pop()] += burst.latencies
        time.sleep(pause)
    client.close()
    return latencies
