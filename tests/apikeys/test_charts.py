"""The bars of a chart of usage: their heights, and what they say."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from django.template.loader import render_to_string

from apikeys.charts import UsageChart, bar_paths, heights, sparkline_paths
from apikeys.models import Counts, Interval
from apikeys.models.usage import DAY, HOUR

START = datetime(2026, 11, 26, 10, tzinfo=UTC)
NONE = Counts()


def hourly(*series: Counts, per_bar: int = 1) -> UsageChart:
    points = [(START + index * HOUR, counts) for index, counts in enumerate(series)]
    return UsageChart("usage", Interval.HOUR, points, per_bar)


@pytest.mark.parametrize(
    ("counts", "maximum", "expected"),
    [
        (Counts(), 0, (0, 0)),
        (Counts(), 10, (0, 0)),
        (Counts(10), 10, (100, 0)),
        (Counts(0, 10), 10, (0, 100)),
        (Counts(4, 6), 10, (40, 60)),
        (Counts(3, 2), 10, (30, 20)),
        (Counts(1, 1), 10_000_000_000, (2, 2)),
        (Counts(9_999_999_999, 1), 10_000_000_000, (98, 2)),
        (Counts(1, 9_999_999_999), 10_000_000_000, (2, 98)),
    ],
)
def test_heights_are_proportional_and_few_requests_are_visible(
    counts: Counts, maximum: int, expected: tuple[float, float]
) -> None:
    assert heights(counts, maximum) == expected


def test_rejected_requests_are_above_the_admitted_ones() -> None:
    paths = bar_paths([NONE, Counts(3, 1), Counts(0, 2)], 4)

    assert paths.width == 3
    assert paths.admitted == "M1.1 100v-75h0.8v75z"
    assert paths.rejected == "M1.1 25v-25h0.8v25zM2.1 100v-50h0.8v50z"


def test_a_sparkline_has_steps_of_the_admitted_and_of_all_requests() -> None:
    paths = sparkline_paths([NONE, NONE, Counts(3, 1), Counts(0, 2), NONE], 4)

    assert paths.width == 20
    assert paths.admitted == "M0 24V24h8V6h4V24h8V24z"
    assert paths.rejected == "M0 24V24h8V0h4V12h4V24h4V24z"
    assert sparkline_paths([NONE, Counts(1)], 1).rejected == ""


def test_one_request_among_billions_is_visible_in_a_sparkline() -> None:
    paths = sparkline_paths([Counts(1, 1), Counts(10_000_000_000)], 10_000_000_000)

    assert paths.admitted == "M0 24V22h4V0h4V24z"
    assert paths.rejected == "M0 24V20h4V0h4V24z"


def test_a_bar_can_cover_several_intervals() -> None:
    chart = hourly(Counts(1, 2), Counts(3, 0, 1, 1), NONE, NONE, Counts(1), NONE, per_bar=2)

    assert [(bar.start.hour, bar.counts) for bar in chart.bars] == [
        (10, Counts(4, 2, 1, 1)),
        (12, NONE),
        (14, Counts(1)),
    ]
    assert (chart.maximum, chart.total, chart.unit) == (6, Counts(5, 2, 1, 1), "2 hours")


def test_the_busiest_bar_is_the_one_with_most_admitted_and_rejected_requests() -> None:
    chart = hourly(Counts(5), Counts(1, 7), Counts(6))

    assert [bar.is_busiest for bar in chart.bars] == [False, True, False]
    assert not any(bar.is_busiest for bar in hourly(NONE, NONE).bars)


@pytest.mark.parametrize(
    ("interval", "number", "per_bar", "labels"),
    [
        (Interval.HOUR, 24, 1, ["10:00", "14:00", "18:00", "22:00", "02:00", "06:00"]),
        (Interval.HOUR, 168, 4, [f"{day} 10:00" for day in ("Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed")]),
        (Interval.DAY, 30, 1, ["26 Nov", "1 Dec", "6 Dec", "11 Dec", "16 Dec", "21 Dec"]),
        (Interval.HOUR, 1, 1, ["10:00"]),
        (Interval.HOUR, 0, 1, []),
    ],
)
def test_the_axis_has_a_few_times(interval: Interval, number: int, per_bar: int, labels: list[str]) -> None:
    points = [(START + index * interval.length, NONE) for index in range(number)]

    assert [tick.label for tick in UsageChart("usage", interval, points, per_bar).ticks] == labels


def test_bars_and_rows_have_the_same_figures_with_separators() -> None:
    chart = hourly(NONE, Counts(10_000_000_000, 9_000, 1_234, 5), Counts(2))

    html = render_to_string("apikeys/_usage_chart.html", {"chart": chart, "title": "Requests"})

    assert html.count('type="radio"') == html.count('<th scope="row">') == 2
    for text in ("<b>10,000,000,000</b> admitted", "<b>9,000</b> rejected", "<td>10,000,000,000</td><td>9,000</td>"):
        assert html.count(text) == 1
    assert "<td>1,234</td><td>5</td>" in html
    assert "style=" not in html
    assert "Thu 26 Nov, 11:00" in html
    assert "of 10,000,000,002 admitted and 9,000 rejected requests, by hour" in html


def test_days_are_in_utc_whatever_the_users_time_zone() -> None:
    chart = UsageChart("usage", Interval.DAY, [(START.replace(hour=0) + DAY, Counts(1))])

    html = render_to_string("apikeys/_usage_chart.html", {"chart": chart, "title": "Requests"})

    assert "data-moment" not in html
    assert "Days in UTC" in html
    assert ">Fri 27 Nov</time>" in html
