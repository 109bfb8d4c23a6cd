"""Metrics of the last housekeeping run, which took place in another process, perhaps on another host."""

import logging
import threading
import time
from collections.abc import Iterable

from django.db import Error, connection
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from onehorizon.models import HousekeepingRun

logger = logging.getLogger("onehorizon.housekeeping")

READ_INTERVAL = 60.0  # seconds


class HousekeepingCollector(Collector):
    """Reports the last run as a thread of its own has read it, so that a scrape never waits for the database.

    While the database is unavailable, the run that was read before is reported. Before the first run, nothing is.
    """

    def __init__(self) -> None:
        self._run: HousekeepingRun | None = None
        threading.Thread(target=self._keep_reading, name="housekeeping-metrics", daemon=True).start()

    def collect(self) -> Iterable[Metric]:
        run = self._run
        if run is None:
            return
        prefix = "onehorizon_housekeeping"
        finished_at = run.finished_at.timestamp()
        yield GaugeMetricFamily(f"{prefix}_success_timestamp_seconds", "End of the last successful run.", finished_at)
        yield GaugeMetricFamily(f"{prefix}_seconds", "Duration of the last successful run.", run.seconds)
        rows = GaugeMetricFamily(f"{prefix}_rows", "Rows that the last successful run deleted.", labels=["part"])
        for part, number in run.rows.items():
            rows.add_metric([part], number)
        yield rows

    def _keep_reading(self) -> None:
        while True:
            self._read()
            time.sleep(READ_INTERVAL)

    def _read(self) -> None:
        try:
            self._run = HousekeepingRun.objects.first()
        except Error as error:
            logger.warning("the last housekeeping run could not be read: %s", error)
        except Exception:  # the thread must not end: the metric would keep its value until the process ends
            logger.exception("the last housekeeping run could not be read")
        finally:
            connection.close()  # returns it to the pool
