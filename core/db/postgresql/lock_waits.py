"""Finds out which lock a PostgreSQL session waits for, and which sessions hold it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg

INTERVAL = 0.1  # seconds

# The lock, and the transactions that hold it or were first in its queue. Those of ordinary requests are left out: they
# end in a moment. The text of their statements is left out too, since it can contain personal data and hashes. A role
# that can't see other roles' sessions gets only process ids and names.
WAIT_QUERY = """
    SELECT
        CASE
            WHEN locktype = 'virtualxid' THEN 'for earlier transactions to end'
            WHEN relation IS NULL THEN 'for a lock on a row'
            ELSE format('for a lock on %%s (%%s)', relation::regclass, mode)
        END,
        ARRAY(
            SELECT format('process %%s (%%s)', pid, concat_ws(', ',
                coalesce(nullif(application_name, ''), backend_type), state,
                'in a transaction since ' || to_char(xact_start AT TIME ZONE 'UTC', 'HH24:MI:SS') || ' UTC'
            ))
            FROM pg_stat_activity
            WHERE pid = ANY (pg_blocking_pids(waiting.pid))
                AND (xact_start IS NULL OR xact_start < clock_timestamp() - interval '0.2 s')
            ORDER BY xact_start
        )
    FROM pg_locks AS waiting
    WHERE pid = %(pid)s AND NOT granted
"""


class LockWatcher:
    """Calls `report` when a session waits for a lock, and again when another session blocks it.

    The argument completes a sentence: "for a lock on workspaces_task (AccessExclusiveLock), blocked by process 4711 …".
    """

    def __init__(self, pid: int, report: Callable[[str], None]) -> None:
        self.pid = pid
        self.report = report
        self.latest = "for a lock"  # what was reported last
        self._stop = threading.Event()

    @contextmanager
    def running(self, conn_params: dict[str, Any]) -> Iterator[None]:
        """Watch during the block, from another thread with a connection of its own."""
        thread = threading.Thread(target=self._watch, args=[conn_params], daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    def _watch(self, conn_params: dict[str, Any]) -> None:
        with (
            suppress(psycopg.OperationalError),  # nothing is reported without a connection
            psycopg.Connection.connect(**conn_params | {"autocommit": True}) as connection,
        ):
            while not self._stop.wait(INTERVAL):
                for wait, holders in connection.execute(WAIT_QUERY, {"pid": self.pid}):
                    text = f"{wait}, blocked by {' and '.join(holders)}"
                    if holders and text != self.latest:
                        self.latest = text
                        self.report(text)
