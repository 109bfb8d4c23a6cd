"""Large limits, as pure functions: slots compared with a count of every admission, and conversions of rows."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from workspaces.quota import SECOND, Limit, Row
from workspaces.quota.rows import layout_of, max_admissions
from workspaces.quota.slots import LAST, SLOTS, TOTALS, Slots, slot_length, totals_of
from workspaces.quota.windows import MAX_EXACT, Limits

DAY = 24 * 3600
START = 1_800_000_000 * SECOND
# Lengths of windows: not divisible by the number of slots, the shortest, and the longest one of use.
seconds_drawn = st.sampled_from([1, 2, 7, 60, 900, 30 * DAY])
limits_drawn = st.builds(Limit, st.just("some"), requests=st.integers(1, 6), seconds=seconds_drawn)


@st.composite
def arrivals_drawn(draw: st.DrawFn, seconds: int) -> list[int]:
    """Times within four windows: anywhere, on the edges of slots, and a window after one another."""
    window, length = seconds * SECOND, slot_length(seconds * SECOND)
    edges = st.builds(
        lambda slots, offset: slots * length + offset, st.integers(0, 4 * SLOTS), st.sampled_from([-1, 0, 1])
    )
    gaps = st.lists(
        st.one_of(st.integers(0, window), edges, st.sampled_from([0, window - 1, window, 3 * window])), max_size=40
    )
    now, arrivals = START + draw(st.integers(0, 2 * length)), []
    for gap in draw(gaps):
        now += max(gap, 0) // draw(st.sampled_from([1, 1, 4, 30]))
        arrivals.append(now)
    return arrivals


def new_slots(limit: Limit, now: int) -> Slots:
    length = slot_length(limit.window)
    return Slots(length, now // length, [0] * TOTALS)


def record(slots: Slots, now: int) -> Slots:
    return Slots(slots.length, now // slots.length, slots.recorded(now))


def count(times: list[int], after: int) -> int:
    return sum(time > after for time in times)


@settings(deadline=None)
@given(st.data(), limits_drawn)
def test_no_span_admits_more_than_the_limit_and_waits_are_at_most_a_slot_longer(
    data: st.DataObject, limit: Limit
) -> None:
    slots, admitted = new_slots(limit, START), list[int]()
    for now in data.draw(arrivals_drawn(limit.seconds)):
        usage = slots.usage(now, limit)

        # Never fewer than those in the window, and never more than those in the window and a slot.
        assert count(admitted, now - limit.window) <= usage.used
        assert usage.used <= count(admitted, now - limit.window - slots.length)
        if usage.used < limit.requests:
            admitted.append(now)
            slots = record(slots, now)
            assert slots.totals[0] == 0
            assert len(slots.totals) == TOTALS
            assert all(earlier <= later for earlier, later in pairwise(slots.totals))

    for start in admitted:
        assert sum(start <= time < start + limit.window for time in admitted) <= limit.requests


@settings(deadline=None)
@given(st.data(), limits_drawn, st.integers(1, 6))
def test_one_more_request_is_left_at_the_time_that_is_shown_and_not_before(
    data: st.DataObject, limit: Limit, lowered: int
) -> None:
    slots, arrivals = new_slots(limit, START), data.draw(arrivals_drawn(limit.seconds))
    for time in arrivals:
        if slots.usage(time, limit).used < limit.requests:
            slots = record(slots, time)
    now = max([START, *arrivals])
    for shown in (limit, limit._replace(requests=min(lowered, limit.requests))):
        used, free_at = slots.usage(now, shown)
        if used:
            assert now < free_at <= now + shown.window + slots.length
            assert min(slots.usage(free_at - 1, shown).used, shown.requests) == min(used, shown.requests)
            assert slots.usage(free_at, shown).used < min(used, shown.requests)


@settings(deadline=None)
@given(st.data(), limits_drawn)
def test_totals_that_are_updated_are_those_that_are_counted_anew(data: st.DataObject, limit: Limit) -> None:
    slots, arrivals = new_slots(limit, START), data.draw(arrivals_drawn(limit.seconds))
    for time in arrivals:
        slots = record(slots, time)

    counted = totals_of([(time, 1) for time in arrivals], slots.newest, slots.length)
    assert slots.totals == counted
    assert totals_of(slots.runs(), slots.newest, slots.length) == counted


def test_a_window_never_touches_more_slots_than_there_are() -> None:
    for seconds in [*range(1, 3000), 30 * DAY, 2**31 - 1]:
        window, length = seconds * SECOND, slot_length(seconds * SECOND)
        for now in (START // length * length, START // length * length + length - 1):
            oldest = (now - window + 1) // length
            assert now // length - oldest + 1 <= LAST
        assert length <= window / SLOTS


# ---- rows ----

large = st.integers(MAX_EXACT + 1, 3000)
small = st.integers(1, 40)
tiers_drawn = st.builds(
    lambda requests, seconds, burst, burst_seconds: (
        Limit("drawn", requests, seconds),
        Limit("burst", burst, min(seconds, burst_seconds)),
    ),
    st.one_of(small, large),
    seconds_drawn,
    st.one_of(small, large),
    seconds_drawn,
)
# Each step: the fraction of the main window that passes, and how many requests then arrive at once.
steps_drawn = st.lists(
    st.tuples(st.sampled_from([0, 0.001, 0.004, 0.1, 0.5, 1.01]), st.sampled_from([1, 2, 45, 700])),
    min_size=1,
    max_size=6,
)


def run(limits: Limits, steps: list[tuple[float, int]]) -> tuple[Row, list[int]]:
    """Return the row after these requests, and the time of each one that was admitted."""
    row, now, admitted = Row().converted(limits, START), START, list[int]()
    for wait, requests in steps:
        now += int(wait * limits[0].window)
        for _ in range(requests):
            if is_admitted(row, limits, now):
                row = row.recorded(limits, now)
                admitted.append(now)
    return row, admitted


def is_admitted(row: Row, limits: Limits, now: int) -> bool:
    usages = row.usages(limits, now)
    return all(usage.used < limit.requests for usage, limit in zip(usages, limits, strict=True))


def known(row: Row) -> int:
    """Return how many admissions a row knows."""
    totals = [totals[LAST] - totals[0] for totals in (row.main_totals, row.burst_totals) if totals]
    return max([len(row.admissions), *totals])


@settings(max_examples=50, deadline=None)
@given(tiers_drawn, tiers_drawn, steps_drawn, st.sampled_from([0, 0.001, 0.3, 0.9]), st.floats(0, 1.2))
def test_after_another_tier_the_row_counts_all_that_it_knew_and_for_as_long(
    before: Limits, after: Limits, steps: list[tuple[float, int]], wait: float, later: float
) -> None:
    row, admitted = run(before, steps)
    changed_at = max([START, *admitted]) + int(wait * before[0].window)
    converted = row.converted(after, changed_at)

    assert converted.is_current(after, changed_at)
    assert converted.layout == layout_of(after)
    assert len(converted.admissions) <= max_admissions(after)
    assert list(converted.admissions) == sorted(converted.admissions, reverse=True)
    for limit, index in zip(after, (0, 1), strict=True):
        now = changed_at + int(later * limit.window)
        used = converted.usages(after, now)[index].used
        in_window = count(admitted, now - limit.window)
        assert min(used, limit.requests) >= min(in_window, known(row), limit.requests)
        # None counts for more than a window and a slot from now on.
        assert converted.usages(after, changed_at + limit.window + slot_length(limit.window))[index].used == 0


@settings(max_examples=50, deadline=None)
@given(tiers_drawn, steps_drawn)
def test_a_row_that_is_converted_to_its_own_layout_counts_as_before(
    limits: Limits, steps: list[tuple[float, int]]
) -> None:
    row, admitted = run(limits, steps)
    now = admitted[-1]

    converted = row.converted(limits, now)

    assert list(converted.admissions) == list(row.admissions)
    before, after = row.usages(limits, now), converted.usages(limits, now)
    assert after[1] == before[1]
    assert after[0].used >= before[0].used
    if row.layout is None:  # slots of the burst may end later than those of the main limit
        assert after[0] == before[0]


def test_another_main_limit_leaves_the_slots_of_the_burst_as_precise() -> None:
    """A slot of a burst takes a quarter of a second here, and one of the main limit three hours."""
    burst = Limit("burst", 3000, 60)
    month = (Limit("month", 100_000, 30 * DAY), burst)
    raised = (Limit("month", 200_000, 30 * DAY), burst)
    row, _ = run(month, [(0, 10), (30 / (30 * DAY), 5), (1000 / (30 * DAY), 2), (30 / (30 * DAY), 3)])
    now = row.admissions[0]

    converted = row.converted(raised, now)

    assert [usage.used for usage in converted.usages(raised, now)] == [20, 5]
    assert converted.usages(raised, now)[1] == row.usages(month, now)[1]
    assert converted.usages(raised, now + 31 * SECOND)[1].used == 3


@settings(max_examples=50, deadline=None)
@given(tiers_drawn, steps_drawn, st.sampled_from([1, 3, 60, DAY]))
def test_admissions_in_the_future_count_as_now(limits: Limits, steps: list[tuple[float, int]], seconds: int) -> None:
    row, admitted = run(limits, steps)
    now = admitted[-1] - seconds * SECOND
    assert not row.is_current(limits, now)

    converted = row.converted(limits, now)

    assert converted.is_current(limits, now)
    assert converted.admissions[0] == now
    for limit, usage in zip(limits, converted.usages(limits, now), strict=True):
        in_window = sum(min(time, now) > now - limit.window for time in admitted)
        assert min(usage.used, limit.requests) >= min(in_window, known(row), limit.requests)
        assert usage.free_at <= now + limit.window + slot_length(limit.window)


@settings(max_examples=20, deadline=None)
@given(tiers_drawn, tiers_drawn, steps_drawn, steps_drawn)
def test_no_span_admits_more_than_the_new_limit_after_a_change(
    before: Limits, after: Limits, steps: list[tuple[float, int]], more: list[tuple[float, int]]
) -> None:
    row, admitted = run(before, steps)
    now = max([START, *admitted])
    admitted = admitted[len(admitted) - known(row) :]
    at_change = len(admitted)
    row = row.converted(after, now)
    for wait, requests in more:
        now += int(wait * after[0].window)
        for _ in range(requests):
            if is_admitted(row, after, now):
                row = row.recorded(after, now)
                admitted.append(now)

    for limit in after:
        for time in admitted[at_change:]:
            assert sum(time - limit.window < other <= time for other in admitted) <= limit.requests
