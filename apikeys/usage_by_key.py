"""The usage of a workspace by key, for the list of keys.

The heaviest keys are those with the most admitted requests, which use up the quota. Elsewhere the busiest keys are
those with the most requests, admitted and rejected together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from apikeys.charts import BusyTime, Paths, Points, sparkline_paths
from apikeys.models import ApiKey, Counts, Interval, Period
from workspaces.models import Workspace

HEAVY_SHARE = 0.1
MAX_HEAVIEST = 5  # the other keys are added up


def percent(part: int, whole: int) -> str:
    """Return a share in whole percent. Only 0 is `0%`, and only the whole is `100%`."""
    share = 100 * part / whole if whole else 0
    if 0 < share < 1:
        return "<1%"
    if 99 < share < 100:
        return ">99%"
    return f"{share:.0f}%"


@dataclass(frozen=True)
class KeyUsage:
    """The requests of one key, or of several keys together (`api_key` is None)."""

    api_key: ApiKey | None
    counts: Counts
    workspace_total: Counts
    points: Points = ()
    maximum: int = 0  # of the hours of all keys, so that their bars can be compared

    @property
    def share(self) -> str:
        """The share of the workspace's admitted requests: these use up the quota."""
        return percent(self.counts.admitted, self.workspace_total.admitted)

    @property
    def share_width(self) -> str:
        """The width of the bar of the share, such as `12.5%`."""
        return f"{100 * self.counts.admitted / max(self.workspace_total.admitted, 1):.1f}%"

    @property
    def is_heavy(self) -> bool:
        """Whether it is of interest when the key was busy."""
        return self.counts.admitted >= HEAVY_SHARE * self.workspace_total.admitted

    @cached_property
    def paths(self) -> Paths:
        return sparkline_paths([counts for _, counts in self.points], self.maximum)

    @property
    def busy_time(self) -> BusyTime | None:
        return BusyTime.of(self.points, Interval.HOUR)


class UsageByKey:
    """The requests of a workspace in the last 24 hours, by key.

    `heaviest` includes revoked keys, `others` is the sum of the remaining keys with requests, and `rows` are those of
    the keys in the list, which need not have any.
    """

    def __init__(self, workspace: Workspace, listed: Sequence[ApiKey]) -> None:
        """Run three queries."""
        period = Period.last_day()
        usage = workspace.usage.in_period(period)
        by_key = sorted(usage.by_key(), key=lambda item: item[1], reverse=True)
        self.total = Counts.sum(counts for _, counts in by_key)
        counts_of = dict(by_key)
        heaviest = [api_key_id for api_key_id, _ in by_key[:MAX_HEAVIEST]]
        points_of = usage.by_key_and_interval(period, {*heaviest, *(api_key.pk for api_key in listed)})
        maximum = max((counts.requests for points in points_of.values() for _, counts in points), default=0)
        keys = workspace.api_keys.in_bulk(heaviest)

        def usage_of(api_key: ApiKey) -> KeyUsage:
            counts = counts_of.get(api_key.pk, Counts())
            return KeyUsage(api_key, counts, self.total, points_of[api_key.pk], maximum)

        self.heaviest = [usage_of(keys[api_key_id]) for api_key_id in heaviest]
        self.others = KeyUsage(None, Counts.sum(counts for _, counts in by_key[MAX_HEAVIEST:]), self.total)
        self.number_of_others = len(by_key) - len(heaviest)
        self.rows = [usage_of(api_key) for api_key in listed]
