from __future__ import annotations

from django.db import models
from django.utils import timezone


class HousekeepingRunManager(models.Manager["HousekeepingRun"]):
    def record(self, *, seconds: float, rows: dict[str, int]) -> None:
        """Save a run that has just ended. It replaces the one before."""
        self.update_or_create(pk=1, defaults={"finished_at": timezone.now(), "seconds": seconds, "rows": rows})


class HousekeepingRun(models.Model):
    """The last run of `manage.py housekeeping` in which no part failed. The table has at most one row."""

    id = models.SmallIntegerField(primary_key=True)
    finished_at = models.DateTimeField()
    seconds = models.FloatField()
    rows = models.JSONField()  # the number of rows that each part deleted or cleared, by its name

    objects = HousekeepingRunManager()

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(id=1), name="housekeeping_run_is_one_row")]

    def __str__(self) -> str:
        return f"{self.finished_at:%Y-%m-%d %H:%M:%S}"
