"""Usage by hour, by day and by key."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from apikeys.models import ApiKey, ApiKeyUsage, Counts, Interval, Period
from tests.helpers import make_key
from workspaces.models import Workspace

pytestmark = pytest.mark.django_db

MIDNIGHT = datetime(2026, 3, 2, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def add(api_key: ApiKey, hour: datetime, *numbers: int) -> None:
    ApiKeyUsage.objects.add({(api_key.pk, int(hour.timestamp())): numbers})


def test_each_interval_has_its_counts_or_zeros(api_key: ApiKey, workspace: Workspace) -> None:
    other, _ = make_key(workspace)
    add(api_key, MIDNIGHT - HOUR, 1, 0, 0, 0)
    add(api_key, MIDNIGHT, 10, 1, 2, 3)
    add(other, MIDNIGHT, 20, 2, 4, 6)
    add(other, MIDNIGHT + 23 * HOUR, 5, 0, 1, 0)
    add(api_key, MIDNIGHT + 2 * DAY, 7, 7, 7, 0)
    usage = ApiKeyUsage.objects.filter(workspace=workspace)

    assert usage.by_interval(Period(MIDNIGHT, MIDNIGHT + 3 * DAY, Interval.DAY)) == [
        (MIDNIGHT, Counts(35, 3, 7, 9)),
        (MIDNIGHT + DAY, Counts()),
        (MIDNIGHT + 2 * DAY, Counts(7, 7, 7, 0)),
    ]
    assert usage.by_interval(Period(MIDNIGHT - HOUR, MIDNIGHT + 2 * HOUR, Interval.HOUR)) == [
        (MIDNIGHT - HOUR, Counts(admitted=1)),
        (MIDNIGHT, Counts(30, 3, 6, 9)),
        (MIDNIGHT + HOUR, Counts()),
    ]


def test_the_busiest_key_is_first(api_key: ApiKey, workspace: Workspace) -> None:
    rejected, _ = make_key(workspace)
    add(api_key, MIDNIGHT, 10, 0, 0, 0)
    add(api_key, MIDNIGHT + HOUR, 10, 0, 0, 0)
    add(rejected, MIDNIGHT, 1, 30, 0, 0)
    period = Period(MIDNIGHT, MIDNIGHT + DAY, Interval.HOUR)

    by_key = ApiKeyUsage.objects.filter(workspace=workspace).in_period(period).by_key()

    assert by_key == [(rejected.pk, Counts(1, 30)), (api_key.pk, Counts(20))]
