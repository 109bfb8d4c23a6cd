"""The geometry of bar charts of usage. `templates/apikeys/_usage_chart.html` draws them as SVG.

A chart is as many units wide as it has bars, and 100 units high.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from itertools import groupby
from typing import Any, NamedTuple

from apikeys.models import ApiKeyUsageQuerySet, Counts, Interval, Period

HEIGHT = 100
MIN_HEIGHT = 2  # so that one request among millions is still visible
BAR_WIDTH = 0.8

SPARKLINE_HEIGHT, SPARKLINE_MIN_HEIGHT, SPARKLINE_BAR_WIDTH = 24, 2, 4
BUSY_SHARE = 0.25  # of the requests of the busiest interval

Points = Sequence[tuple[datetime, Counts]]  # as `ApiKeyUsage.objects.by_interval` returns them


def time_label(moment: datetime, interval: Interval) -> str:
    """Return the time in UTC, such as `Fri 27 Nov, 03:00`, or `Fri 27 Nov` if it is that of a day."""
    return f"{moment.astimezone(UTC):{'%a %-d %b, %H:%M' if interval is Interval.HOUR else '%a %-d %b'}}"


@dataclass(frozen=True)
class Bar:
    start: datetime
    label: str  # the start of what it covers
    counts: Counts
    is_busiest: bool = False


@dataclass(frozen=True)
class Tick:
    """A label of the time axis, at the start of a part of it. All parts are equally wide."""

    start: datetime
    label: str
    format: str  # the value of `data-moment` in app.js, which shows an hour in the user's time zone


@dataclass(frozen=True)
class UsageChart:
    """A bar for each interval: admitted requests, and rejected ones above them.

    `name` is unique on the page. `per_bar` is the number of intervals in each bar.
    """

    name: str
    interval: Interval
    points: Points
    per_bar: int = 1

    @property
    def unit(self) -> str:
        """What one bar covers, such as `hour`, `4 hours` or `day`."""
        return self.interval if self.per_bar == 1 else f"{self.per_bar} {self.interval}s"

    @property
    def is_in_utc(self) -> bool:
        """Whether the bars are days. app.js shows hours in the user's time zone."""
        return self.interval is Interval.DAY

    @cached_property
    def total(self) -> Counts:
        return Counts.sum(counts for _, counts in self.points)

    @cached_property
    def bars(self) -> list[Bar]:
        """All bars, the oldest first. One of them is the busiest, unless there are no requests."""
        starts = range(0, len(self.points), self.per_bar)
        groups = [self.points[start : start + self.per_bar] for start in starts]
        bars = [
            Bar(group[0][0], time_label(group[0][0], self.interval), Counts.sum(counts for _, counts in group))
            for group in groups
        ]
        busiest = max(bars, key=lambda bar: bar.counts.requests, default=None)
        return [replace(bar, is_busiest=bar is busiest and bool(bar.counts.requests)) for bar in bars]

    @cached_property
    def maximum(self) -> int:
        return max((bar.counts.requests for bar in self.bars), default=0)

    @property
    def busy_bars(self) -> list[Bar]:
        """The bars with requests, the newest first."""
        return [bar for bar in reversed(self.bars) if bar.counts.requests]

    @property
    def ticks(self) -> list[Tick]:
        """The start of each seventh of the time, or of another part if the bars can't be divided by seven."""
        number = next((number for number in (7, 6, 5, 4) if len(self.bars) % number == 0), 1)
        starts = [bar.start for bar in self.bars[:: len(self.bars) // number or 1]]
        if self.interval is Interval.DAY:
            return [Tick(start, f"{start:%-d %b}", "") for start in starts]
        if len(self.points) <= 24:
            return [Tick(start, f"{start:%H:%M}", "clock") for start in starts]
        return [Tick(start, f"{start:%a %H:%M}", "weekday") for start in starts]

    @property
    def busy_time(self) -> BusyTime | None:
        return BusyTime.of(self.points, self.interval)

    @cached_property
    def paths(self) -> Paths:
        return bar_paths([bar.counts for bar in self.bars], self.maximum)


@dataclass(frozen=True)
class BusyTime:
    """When a key was busy: the intervals around the busiest one with at least `BUSY_SHARE` of its requests."""

    first: datetime  # the start of the first interval
    last: datetime  # the start of the last interval
    interval: Interval
    may_be_earlier: bool  # the first interval is the first of all
    continues: bool  # until now

    @classmethod
    def of(cls, points: Points, interval: Interval) -> BusyTime | None:
        """Return the busy time, or None without requests. The last of the points is the current interval."""
        numbers = [counts.requests for _, counts in points]
        if not any(numbers):
            return None
        first = last = numbers.index(max(numbers))
        is_busy = [number >= BUSY_SHARE * numbers[first] for number in numbers]
        while first > 0 and is_busy[first - 1]:
            first -= 1
        while last < len(numbers) - 1 and is_busy[last + 1]:
            last += 1
        # busy in the current interval, or in the one before with requests in the current one
        continues = last == len(numbers) - 1 or (last == len(numbers) - 2 and numbers[-1] > 0)
        return cls(points[first][0], points[last][0], interval, first == 0, continues)

    @property
    def is_one_day(self) -> bool:
        return self.interval is Interval.DAY and self.first == self.last

    @property
    def end(self) -> datetime:
        """The end of the last hour, or the start of the last day: as people say "to 6:00" and "to Friday"."""
        return self.last + self.interval.length if self.interval is Interval.HOUR else self.last

    @property
    def first_label(self) -> str:
        return time_label(self.first, self.interval)

    @property
    def end_label(self) -> str:
        return time_label(self.end, self.interval)


class ChartPeriod(NamedTuple):
    """A period that people can choose: the last `number` intervals, with `per_bar` of them in each bar."""

    name: str
    number: int
    interval: Interval
    per_bar: int = 1


PERIODS = {  # by the value of `usage` in the URL of a page
    "24h": ChartPeriod("24 hours", 24, Interval.HOUR),
    "7d": ChartPeriod("7 days", 7 * 24, Interval.HOUR, per_bar=4),
    "30d": ChartPeriod("30 days", 30, Interval.DAY),
}


@dataclass(frozen=True)
class ChosenUsage:
    """The chart of the period that a query string chooses, for the template `apikeys/_usage.html`."""

    period: ChartPeriod
    chart: UsageChart
    periods = PERIODS

    @classmethod
    def of(cls, rows: ApiKeyUsageQuerySet, params: Mapping[str, Any]) -> ChosenUsage:
        """Return the chart of these rows. An absent or invalid period is the first of `PERIODS`."""
        period = PERIODS.get(params.get("usage", ""), PERIODS["24h"])
        points = rows.by_interval(Period.last(period.number, period.interval))
        return cls(period, UsageChart("usage", period.interval, points, period.per_bar))


@dataclass(frozen=True)
class Paths:
    """The bars as SVG path data: the admitted requests, and the rejected ones above them."""

    admitted: str
    rejected: str
    width: int


def bar_paths(series: Sequence[Counts], maximum: int) -> Paths:
    """Return the bars of these counts. A bar with `maximum` requests is as high as the chart."""
    admitted, rejected = [], []
    for index, counts in enumerate(series):
        lower, upper = heights(counts, maximum)
        if lower:
            admitted.append(_rectangle(index, HEIGHT, lower))
        if upper:
            rejected.append(_rectangle(index, HEIGHT - lower, upper))
    return Paths("".join(admitted), "".join(rejected), len(series))


def sparkline_paths(series: Sequence[Counts], maximum: int) -> Paths:
    """Return a small chart without gaps between the bars, which takes few bytes. Its unit is a CSS pixel.

    The path of the rejected requests includes the admitted ones, which are drawn over it. It is empty if no request was
    rejected.
    """
    scale = SPARKLINE_HEIGHT / HEIGHT
    parts = [heights(counts, maximum, SPARKLINE_MIN_HEIGHT / scale) for counts in series]
    admitted = _steps([round(lower * scale) for lower, _ in parts])
    rejected = _steps([round((lower + upper) * scale) for lower, upper in parts])
    width = SPARKLINE_BAR_WIDTH * len(series)
    return Paths(admitted, rejected if any(upper for _, upper in parts) else "", width)


def _steps(levels: Sequence[int]) -> str:
    runs = [(level, len(list(run))) for level, run in groupby(levels)]
    steps = [f"V{SPARKLINE_HEIGHT - level}h{SPARKLINE_BAR_WIDTH * length}" for level, length in runs]
    return f"M0 {SPARKLINE_HEIGHT}{''.join(steps)}V{SPARKLINE_HEIGHT}z"


def heights(counts: Counts, maximum: int, min_height: float = MIN_HEIGHT) -> tuple[float, float]:
    """Return the heights of the admitted and the rejected requests. Only 0 requests have the height 0."""

    def height(number: int) -> float:
        return max(round(HEIGHT * number / maximum, 1), min_height) if number else 0

    upper = min(height(counts.rejected), HEIGHT - min_height if counts.admitted else HEIGHT)
    return round(min(height(counts.admitted), HEIGHT - upper), 1), upper


def _rectangle(index: int, bottom: float, height: float) -> str:
    left = index + (1 - BAR_WIDTH) / 2
    return f"M{left:.1f} {bottom:.4g}v-{height:.4g}h{BAR_WIDTH}v{height:.4g}z"
