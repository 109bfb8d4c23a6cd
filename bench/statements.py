"""The statements per request, counted in PostgreSQL's log."""

import re
import time

from bench.contenders import BURST, Contender
from bench.stage import Stage


def statements(stage: Stage, contender: Contender) -> float:
    """Return the average number of statements per request."""
    log = stage.cluster.directory / "log"
    contender.reset()
    _log(stage, "all")
    before = log.stat().st_size
    requests = [next(contender.requests) for _ in range(BURST)]
    contender.two_connections.send(requests)
    with log.open() as file:
        file.seek(before)
        lines = file.read()
    _log(stage, "none")
    return len(re.findall(r"LOG:  (?:statement|execute [^:]+):", lines)) / BURST


def _log(stage: Stage, statements: str) -> None:
    stage.cluster.query(f"ALTER SYSTEM SET log_statement = '{statements}'")
    stage.cluster.query("SELECT pg_reload_conf()")
    time.sleep(0.5)
