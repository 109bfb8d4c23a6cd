"""What a request asks of the database, as its log tells."""

import re
import time

from bench.contenders import BURST, Contender
from bench.stage import Stage


def statements(stage: Stage, contender: Contender) -> float:
    """How many statements a request takes."""
    log = stage.cluster.directory / "log"
    contender.reset()
    _log(stage, "all")
    before = log.stat().st_size
    requests = [next(contender.requests) for _ in range(BURST)]
    contender.two.send(requests)
    with log.open() as written:
        written.seek(before)
        asked = written.read()
    _log(stage, "none")
    return len(re.findall(r"LOG:  (?:statement|execute [^:]+):", asked)) / BURST


def _log(stage: Stage, what: str) -> None:
    stage.cluster.ask(f"ALTER SYSTEM SET log_statement = '{what}'")
    stage.cluster.ask("SELECT pg_reload_conf()")
    time.sleep(0.5)
