"""Count the requests of API keys in this process, and add the counts to the database every few seconds.

A request only adds to numbers in memory. One thread writes them, a last time when the process ends. A process that is
killed loses what it has not written. See "Usage" in docs/architecture.md.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from django.db import connection, transaction
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from apikeys.models import ApiKeyUsage
from core.db import outcomes

logger = logging.getLogger("onehorizon.usage")

WRITE_SECONDS = 5  # between two writes
MAX_ROWS = 50_000  # keys and hours in memory, and as many in an unfinished write; about 20 MB each
ROWS_PER_WRITE = 1_000
HOUR_SECONDS = 3600

Row = tuple[str, int]  # a key's id, and the start of an hour in seconds since the Unix epoch


@dataclass(slots=True)
class Batch:
    """Counts that are being written. `transaction_id`: of the last attempt, on PostgreSQL."""

    counts: dict[Row, list[int]]
    transaction_id: str | None = None

    def write(self) -> None:
        """Add the counts to the database, unless the last attempt did so without an answer. Raise a database error."""
        if self.transaction_id is not None and outcomes.was_committed(self.transaction_id):
            return
        with transaction.atomic():
            self.transaction_id = outcomes.transaction_id()
            ApiKeyUsage.objects.add(self.counts)


class Recorder:
    """The requests that this process has counted and not yet written. Thread-safe."""

    def __init__(self) -> None:
        self.lost = 0  # requests that were not counted, for lack of room
        self._lock = threading.Lock()
        self._counts: dict[Row, list[int]] = {}
        self._batches: deque[Batch] = deque()  # used by the thread that writes

    def count(self, api_key_id: str, *, admitted: bool, status: int) -> None:
        """Count a request with this key that was answered with this HTTP status."""
        row = api_key_id, int(time.time()) // HOUR_SECONDS * HOUR_SECONDS
        with self._lock:
            counts = self._counts.get(row)
            if counts is None:
                if len(self._counts) >= MAX_ROWS:
                    self.lost += 1
                    return
                counts = self._counts[row] = [0, 0, 0, 0]  # in the order of `Counts`
            if not admitted:
                counts[1] += 1
                return
            counts[0] += 1
            if status >= 500:
                counts[3] += 1
            elif status >= 400:
                counts[2] += 1

    def write(self) -> None:
        """Add all counts to the database. Raise a database error: then they stay in memory for the next attempt.

        Requests that are counted meanwhile are left for the next call: under load there would always be some.
        """
        self._write_batches()  # of the last attempt, first: until they are written, no others take memory
        with self._lock:
            counts, self._counts = self._counts, {}
        rows = list(counts.items())
        self._batches.extend(
            Batch(dict(rows[start : start + ROWS_PER_WRITE])) for start in range(0, len(rows), ROWS_PER_WRITE)
        )
        self._write_batches()

    def _write_batches(self) -> None:
        while self._batches:
            self._batches[0].write()
            self._batches.popleft()

    @property
    def pending(self) -> int:
        """The number of requests that are not written yet."""
        with self._lock:
            unwritten = [self._counts, *(batch.counts for batch in list(self._batches))]
            return sum(admitted + rejected for counts in unwritten for admitted, rejected, *_ in counts.values())


recorder = Recorder()


class UsageCollector(Collector):
    """Reports to Prometheus how much usage waits to be written, and how much is lost."""

    def collect(self) -> Iterable[Metric]:
        pending = "Requests of API keys that are counted and not yet written."
        yield GaugeMetricFamily("onehorizon_usage_pending", pending, recorder.pending)
        lost = "Requests of API keys that are missing in the usage."
        yield CounterMetricFamily("onehorizon_usage_lost", lost, recorder.lost)


# ---- the thread that writes ----


def start_writing(process: threading.Thread) -> threading.Thread:
    """Start the thread that writes the counts until the thread `process` ends, and a last time then.

    For servers, with their main thread: elsewhere nothing is written. Python waits for the last write, because the
    thread is not a daemon. Functions registered with `atexit` don't run in processes that granian has forked.
    """
    thread = threading.Thread(target=_write_while_alive, args=[process], name="usage")
    thread.start()
    return thread


def _write_while_alive(process: threading.Thread) -> None:
    is_running, has_failed = True, False
    while is_running:
        process.join(WRITE_SECONDS)
        is_running = process.is_alive()  # before the write, so that the last one has all requests
        has_failed = not _try_to_write(has_failed=has_failed)
    if has_failed:
        logger.error("the usage of API keys lacks %s requests: the process ended without a database", recorder.pending)


def _try_to_write(*, has_failed: bool) -> bool:
    """Write the counts, and return whether that succeeded. Log only the first failure, and the end of it."""
    try:
        try:
            recorder.write()
        finally:
            connection.close()  # returns it to the pool
    except Exception:  # also one that is not the database's: without this thread nothing would be written any more
        if not has_failed:
            logger.warning("could not write the usage of API keys, trying again", exc_info=True)
        return False
    if has_failed:
        logger.info("the usage of API keys is written again")
    return True
