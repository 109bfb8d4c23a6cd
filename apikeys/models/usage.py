"""How many requests each key sent in each hour."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import orjson
from django.conf import settings
from django.db import connection, models, transaction
from django.db.models import F, Q, Sum
from django.utils import timezone

from apikeys.models.api_keys import ApiKey
from core.db.batches import BATCH_SIZE
from workspaces.models import Workspace

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)

_ROWS = {
    "postgresql": """
        json_to_recordset(%(rows)s)
        AS counted (api_key_id text, hour bigint, admitted bigint, rejected bigint, client_errors bigint,
                    server_errors bigint)
    """,
    "sqlite": """
        (SELECT json_extract(value, '$.api_key_id') AS api_key_id, json_extract(value, '$.hour') AS hour,
                json_extract(value, '$.admitted') AS admitted, json_extract(value, '$.rejected') AS rejected,
                json_extract(value, '$.client_errors') AS client_errors,
                json_extract(value, '$.server_errors') AS server_errors
         FROM json_each(%(rows)s)) AS counted
    """,
}
_HOUR = {"postgresql": "to_timestamp(counted.hour)", "sqlite": "datetime(counted.hour, 'unixepoch')"}
# In one order, so that processes that add to the same rows wait for each other instead of deadlocking.
_ADD = {
    vendor: f"""
        INSERT INTO apikeys_apikeyusage AS stored
            (workspace_id, hour, api_key_id, admitted, rejected, client_errors, server_errors)
        SELECT apikey.workspace_id, {_HOUR[vendor]}, apikey.id, counted.admitted, counted.rejected,
               counted.client_errors, counted.server_errors
        FROM {rows} JOIN apikeys_apikey AS apikey ON apikey.id = counted.api_key_id
        WHERE true
        ORDER BY 1, 2, 3
        ON CONFLICT (workspace_id, hour, api_key_id) DO UPDATE SET
            admitted = stored.admitted + excluded.admitted,
            rejected = stored.rejected + excluded.rejected,
            client_errors = stored.client_errors + excluded.client_errors,
            server_errors = stored.server_errors + excluded.server_errors
    """  # noqa: S608, constants
    for vendor, rows in _ROWS.items()
}


class Counts(NamedTuple):
    """Numbers of requests. `client_errors` (4xx) and `server_errors` (5xx) are among those that were admitted."""

    admitted: int = 0
    rejected: int = 0  # because the quota was exceeded
    client_errors: int = 0
    server_errors: int = 0

    @property
    def requests(self) -> int:
        return self.admitted + self.rejected

    @classmethod
    def sum(cls, counts: Iterable[Counts]) -> Counts:
        return cls(*map(sum, zip(*counts, strict=True)))


_SUMS = {name: Sum(name, default=0) for name in Counts._fields}


class Interval(models.TextChoices):
    HOUR = "hour"
    DAY = "day"  # in UTC

    @property
    def length(self) -> timedelta:
        return HOUR if self is Interval.HOUR else DAY

    def start_of(self, moment: datetime) -> datetime:
        """Return the start of the interval that contains `moment`."""
        start = moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        return start if self is Interval.HOUR else start.replace(hour=0)


class Period(NamedTuple):
    """A whole number of intervals, from `start` up to but not including `end`."""

    start: datetime
    end: datetime
    interval: Interval

    @classmethod
    def containing(cls, start: datetime, end: datetime, interval: Interval) -> Period:
        """Return the intervals that overlap the time from `start` to `end`."""
        last = interval.start_of(end)
        return cls(interval.start_of(start), last if last == end else last + interval.length, interval)

    @classmethod
    def last(cls, number: int, interval: Interval) -> Period:
        """Return the last `number` intervals. The current one is the last of them."""
        end = interval.start_of(timezone.now()) + interval.length
        return cls(end - number * interval.length, end, interval)

    @classmethod
    def last_day(cls) -> Period:
        """Return the last 24 hours, by the hour."""
        return cls.last(24, Interval.HOUR)

    @property
    def starts(self) -> list[datetime]:
        """The start of each interval."""
        number = (self.end - self.start) // self.interval.length
        return [self.start + index * self.interval.length for index in range(number)]


class ApiKeyUsageQuerySet(models.QuerySet["ApiKeyUsage"]):
    def in_period(self, period: Period) -> ApiKeyUsageQuerySet:
        return self.filter(hour__gte=period.start, hour__lt=period.end)

    def by_interval(self, period: Period) -> list[tuple[datetime, Counts]]:
        """Return the counts of each interval of the period, the oldest first, with zeros for those without requests."""
        counts = dict.fromkeys(period.starts, Counts())
        for hour, *numbers in self.in_period(period).order_by().values_list("hour").annotate(**_SUMS):
            start = period.interval.start_of(hour)  # SQLite would run Python too, once for each row
            counts[start] = Counts.sum([counts[start], Counts(*numbers)])
        return list(counts.items())

    def by_key_and_interval(self, period: Period, keys: Collection[str]) -> dict[str, list[tuple[datetime, Counts]]]:
        """Return what `by_interval` returns, for each of these keys. For periods of hours."""
        rows = self.in_period(period).filter(api_key_id__in=keys).order_by()
        series: dict[str, dict[datetime, Counts]] = {key: {} for key in keys}
        for api_key_id, hour, *numbers in rows.values_list("api_key_id", "hour", *Counts._fields):
            series[api_key_id][hour] = Counts(*numbers)
        return {
            key: [(start, counts.get(start, Counts())) for start in period.starts] for key, counts in series.items()
        }

    def by_key(self) -> list[tuple[str, Counts]]:
        """Return the id and counts of each key, the busiest first."""
        return self._busiest("api_key_id")

    def busiest_keys(self, number: int) -> list[tuple[str, Counts]]:
        return self._busiest("api_key_id", number)

    def busiest_workspaces(self, number: int) -> list[tuple[str, Counts]]:
        return self._busiest("workspace_id", number)

    def _busiest(self, field: str, number: int | None = None) -> list[tuple[str, Counts]]:
        """Return `number` ids and their counts: the most requests, admitted and rejected together, first."""
        rows = self.order_by().values_list(field).annotate(**_SUMS)
        rows = rows.order_by(-(F("admitted") + F("rejected")), field)[:number]
        return [(pk, Counts(*numbers)) for pk, *numbers in rows]


_BaseManager = models.Manager.from_queryset(ApiKeyUsageQuerySet)  # named, because mypy can't read a call as a base


class ApiKeyUsageManager(_BaseManager["ApiKeyUsage"]):
    def add(self, counts: Mapping[tuple[str, int], Sequence[int]]) -> None:
        """Add numbers of requests to the rows of their keys and hours, in one statement.

        `counts` are `Counts` by a key's id and the start of an hour, in seconds since the Unix epoch.
        """
        rows = [
            {"api_key_id": api_key_id, "hour": hour, **dict(zip(Counts._fields, numbers, strict=True))}
            for (api_key_id, hour), numbers in counts.items()
        ]
        with connection.cursor() as cursor:
            cursor.execute(_ADD[connection.vendor], {"rows": orjson.dumps(rows).decode()})


class ApiKeyUsage(models.Model):
    """The requests of one key in one hour. See "Usage" in docs/architecture.md."""

    # The workspace comes first: its rows are read together, and can move to another database together.
    pk = models.CompositePrimaryKey("workspace_id", "hour", "api_key_id")
    # Without constraints: they would make a write wait for a locked workspace. `add` only adds rows of existing keys.
    workspace = models.ForeignKey(
        Workspace, on_delete=models.PROTECT, related_name="usage", db_index=False, db_constraint=False
    )
    hour = models.DateTimeField(editable=False)  # its start
    api_key = models.ForeignKey(
        ApiKey, on_delete=models.PROTECT, related_name="usage", db_index=False, db_constraint=False
    )
    admitted = models.BigIntegerField(default=0, editable=False)
    rejected = models.BigIntegerField(default=0, editable=False)
    client_errors = models.BigIntegerField(default=0, editable=False)
    server_errors = models.BigIntegerField(default=0, editable=False)

    objects = ApiKeyUsageManager()

    class Meta:
        default_permissions = ()  # who may see a key in the admin sees its usage
        indexes = [models.Index(fields=["hour"], name="api_key_usage_by_hour")]  # to delete old rows

    def __str__(self) -> str:
        return f"{self.admitted} admitted requests of {self.api_key_id} in the hour from {self.hour}"


def delete_old_usage() -> Iterator[int]:
    """Delete the rows whose hour ended before the last `APIKEYS_USAGE_DAYS`, and yield their number after each batch.

    See `core.db.batches.in_batches`.
    """
    last = timezone.now() - settings.APIKEYS_USAGE_DAYS * DAY - HOUR
    old = ApiKeyUsage.objects.filter(hour__lte=last).order_by("hour", "workspace_id", "api_key_id")
    while batch := list(old.values_list("hour", "workspace_id", "api_key_id")[:BATCH_SIZE]):
        hour, workspace_id, api_key_id = batch[-1]
        up_to_last = Q(workspace_id__lt=workspace_id) | Q(workspace_id=workspace_id, api_key_id__lte=api_key_id)
        with transaction.atomic():
            yield old.filter(Q(hour__lt=hour) | Q(up_to_last, hour=hour)).delete()[0]
