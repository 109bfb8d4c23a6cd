"""The metric of the backups that `deploy/backup` writes on this machine."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from django.conf import settings
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class BackupCollector(Collector):
    """Looks for the newest backup in BACKUP_DIR when Prometheus scrapes. Without that setting, it reports nothing."""

    def collect(self) -> Iterable[Metric]:
        if settings.BACKUP_DIR is not None:
            timestamp = newest_backup(settings.BACKUP_DIR)
            yield GaugeMetricFamily("onehorizon_backup_timestamp_seconds", "Time of the newest backup.", timestamp)


def newest_backup(directory: Path) -> float:
    """Return when the newest complete backup was written, in seconds since the Unix epoch.

    0 if there is none, or if the directory is missing or can't be read: the alert must fire then too.
    """
    timestamps = [0.0]
    with suppress(OSError):
        for path in directory.iterdir():
            if path.name.startswith("onehorizon-") and path.suffix != ".part":
                with suppress(FileNotFoundError):  # deploy/backup has just deleted it
                    timestamps.append(path.stat().st_mtime)
    return max(timestamps)
