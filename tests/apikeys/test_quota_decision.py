"""The quota decision as pure functions, compared with a brute-force count of every window."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from tests.apikeys.exact_windows import delay, window
from workspaces import quota
from workspaces.quota import SECOND, Limit, Status, Window

limits_drawn = st.lists(
    st.builds(Limit, st.just("some"), requests=st.integers(1, 6), seconds=st.integers(1, 12)), min_size=1, max_size=3
)
# Multiples of a quarter second fall on the edges of windows, arbitrary microseconds between them.
moments = st.one_of(
    st.integers(0, 160).map(lambda quarters: quarters * SECOND // 4),
    st.integers(0, 40 * SECOND),
)
arrivals_drawn = st.lists(moments, min_size=1, max_size=60).map(sorted)


def admissions_of(arrivals: list[int], limits: list[Limit]) -> list[int]:
    """Return the admissions, newest first, of a client that sends a request at each of `arrivals`."""
    admissions: list[int] = []
    for now in arrivals:
        if delay(admissions, now, limits) <= 0:
            admissions.insert(0, now)
            del admissions[max(limit.requests for limit in limits) :]
    return admissions


@given(arrivals_drawn, limits_drawn)
def test_a_request_is_admitted_exactly_when_every_window_has_room(arrivals: list[int], limits: list[Limit]) -> None:
    kept: list[int] = []
    admitted: list[int] = []
    for now in arrivals:
        has_room = all(
            sum(now - limit.seconds * SECOND < time <= now for time in admitted) < limit.requests for limit in limits
        )
        assert (delay(kept, now, limits) <= 0) == has_room
        if has_room:
            admitted.append(now)
            kept = [now, *kept][: max(limit.requests for limit in limits)]


@given(st.lists(st.tuples(st.sampled_from("abc"), moments), min_size=1, max_size=120), limits_drawn)
def test_no_span_exceeds_a_limit_and_other_subjects_have_no_effect(
    requests: list[tuple[str, int]], limits: list[Limit]
) -> None:
    admissions: dict[str, list[int]] = defaultdict(list)
    for subject, now in sorted(requests, key=lambda request: request[1]):
        if delay(admissions[subject], now, limits) <= 0:
            admissions[subject].insert(0, now)

    for limit in limits:
        for times in admissions.values():
            # If a span has too many admissions, so has the span that starts at the first of them.
            for start in times:
                assert sum(start <= time < start + limit.seconds * SECOND for time in times) <= limit.requests

    for subject, times in admissions.items():
        alone = admissions_of(sorted(now for other, now in requests if other == subject), limits)
        assert times[: len(alone)] == alone


@given(arrivals_drawn, limits_drawn, moments)
def test_a_single_client_is_admitted_after_the_delay_and_not_a_microsecond_earlier(
    arrivals: list[int], limits: list[Limit], pause: int
) -> None:
    admissions = admissions_of(arrivals, limits)
    now = arrivals[-1] + pause
    wait = delay(admissions, now, limits)

    if wait > 0:
        rounded_up = -(-wait // SECOND) * SECOND
        assert delay(admissions, now + wait - 1, limits) > 0
        assert delay(admissions, now + wait, limits) <= 0
        assert delay(admissions, now + rounded_up, limits) <= 0


@given(arrivals_drawn, limits_drawn)
def test_rejected_requests_are_not_counted(arrivals: list[int], limits: list[Limit]) -> None:
    """The admissions are the same with and without the rejected requests."""
    admitted: list[int] = []
    for now in arrivals:
        if delay(admitted[::-1], now, limits) <= 0:
            admitted.append(now)

    assert admissions_of(admitted, limits) == admissions_of(arrivals, limits)


@given(arrivals_drawn, limits_drawn, moments)
def test_remaining_is_the_number_of_requests_that_the_limit_alone_still_admits(
    arrivals: list[int], limits: list[Limit], pause: int
) -> None:
    admissions = admissions_of(arrivals, limits)
    now = arrivals[-1] + pause
    for limit in limits:
        admitted_now = 0
        probe = list(admissions)
        while delay(probe, now, [limit]) <= 0:
            probe.insert(0, now)
            admitted_now += 1
        assert window(admissions, now, limit).remaining == admitted_now


@given(arrivals_drawn, limits_drawn, moments)
def test_reset_is_the_first_whole_second_at_which_more_remains(
    arrivals: list[int], limits: list[Limit], pause: int
) -> None:
    admissions = admissions_of(arrivals, limits)
    now = arrivals[-1] + pause
    for limit in limits:
        current = window(admissions, now, limit)
        if current.remaining == limit.requests:
            assert current.reset == 0
            continue
        later = window(admissions, now + current.reset * SECOND, limit)
        earlier = window(admissions, now + (current.reset - 1) * SECOND, limit)
        assert 1 <= current.reset <= limit.seconds
        assert later.remaining > current.remaining
        assert earlier.remaining == current.remaining


@given(arrivals_drawn, limits_drawn, st.integers(1, 6), moments)
def test_after_a_limit_was_lowered_the_delay_and_the_reset_are_still_exact(
    arrivals: list[int], limits: list[Limit], requests: int, pause: int
) -> None:
    admissions = admissions_of(arrivals, limits)
    lowered = Limit("lowered", requests, 10)
    now = arrivals[-1] + pause
    wait, current = delay(admissions, now, [lowered]), window(admissions, now, lowered)

    assert (current.remaining == 0) == (wait > 0)
    if wait > 0:
        assert current.reset == -(-wait // SECOND)
        assert window(admissions, now + wait, lowered).remaining >= 1
        assert delay(admissions, now + wait, [lowered]) <= 0


@given(arrivals_drawn, limits_drawn, moments)
def test_admissions_in_the_future_count_as_now_and_no_delay_exceeds_the_longest_window(
    arrivals: list[int], limits: list[Limit], back: int
) -> None:
    admissions = admissions_of(arrivals, limits)
    now = arrivals[-1] - back
    as_now = [min(admission, now) for admission in admissions]

    assert delay(admissions, now, limits) == delay(as_now, now, limits)
    assert delay(admissions, now, limits) <= max(limit.seconds for limit in limits) * SECOND
    for limit in limits:
        assert window(admissions, now, limit) == window(as_now, now, limit)
        assert window(admissions, now, limit).reset <= limit.seconds


def test_an_unused_quota_is_full_and_has_no_delay() -> None:
    limit = Limit("standard", 200, 900)

    assert delay([], 0, [limit]) == 0
    assert window([], 0, limit) == Window(limit, remaining=200, reset=0)


def test_an_admission_leaves_its_window_at_the_exact_microsecond() -> None:
    limit = Limit("burst", 1, 60)

    assert delay([0], 60 * SECOND - 1, [limit]) == 1
    assert delay([0], 60 * SECOND, [limit]) == 0
    assert window([0], 60 * SECOND - 1, limit) == Window(limit, remaining=0, reset=1)
    assert window([0], 60 * SECOND, limit) == Window(limit, remaining=1, reset=0)


def test_the_status_is_rendered_as_headers_and_as_json() -> None:
    windows = (Window(Limit("standard", 200, 900), 187, 812), Window(Limit("burst", 40, 60), 39, 60))
    status = Status("standard", windows)

    assert status.headers() == {
        "RateLimit-Policy": '"standard";q=200;w=900, "burst";q=40;w=60',
        "RateLimit": '"standard";r=187;t=812, "burst";r=39;t=60',
    }
    assert status.describe() == {
        "tier": "standard",
        "limits": [
            {"name": "standard", "requests": 200, "seconds": 900, "remaining": 187, "resetAfter": 812},
            {"name": "burst", "requests": 40, "seconds": 60, "remaining": 39, "resetAfter": 60},
        ],
    }


def test_admissions_are_read_the_same_from_both_databases() -> None:
    assert quota._decoded("[2,1]") == quota._decoded([2, 1]) == [2, 1]
    assert quota._decoded(None) is None
