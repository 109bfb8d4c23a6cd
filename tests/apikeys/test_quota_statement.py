"""The SQL statement makes the same decisions as the pure functions, on a real database and with threads."""

from __future__ import annotations

import time
from collections.abc import Sequence
from uuid import uuid4

import pytest
from django.db import connection
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.apikeys.exact_windows import delay, window
from tests.helpers import BY_TEST, Api, advance_quota_clock, commits, remaining
from tests.processes import in_threads
from workspaces import quota
from workspaces.models import Tier, Workspace
from workspaces.quota import SECOND, Limit

STANDARD = Tier(name="standard", requests=200, seconds=900, burst_requests=40, burst_seconds=60)


def tier(requests: int, seconds: int, burst_requests: int, burst_seconds: int) -> Tier:
    return Tier(
        name="drawn",
        requests=requests,
        seconds=seconds,
        burst_requests=burst_requests,
        burst_seconds=burst_seconds,
    )


# Windows and waits are multiples of ten minutes, so that the time an example takes to run makes no difference.
TEN_MINUTES = 600
tiers_drawn = st.builds(
    tier,
    st.integers(1, 6),
    st.integers(3, 9).map(lambda times: times * TEN_MINUTES),
    st.integers(1, 6),
    st.integers(1, 3).map(lambda times: times * TEN_MINUTES),
)
requests_drawn = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from([0, 0, TEN_MINUTES, 2 * TEN_MINUTES])), max_size=40
)
# A negative wait is a clock that steps back.
waits_drawn = st.lists(st.integers(-2, 4).map(lambda times: times * TEN_MINUTES), min_size=1, max_size=25)


def stored(subject: str) -> Sequence[int]:
    return quota.read(subject)[0].admissions


def new_subject() -> str:
    return f"w_{uuid4().hex}"


# ---- the same decision ----


@pytest.mark.django_db
@settings(max_examples=60, deadline=None)
@given(tiers_drawn, waits_drawn)
def test_the_statement_makes_the_same_decisions_as_the_pure_functions(drawn: Tier, waits: list[int]) -> None:
    subject, limits = new_subject(), quota.limits_of(drawn)
    kept: list[int] = []
    now, began = 0, time.monotonic()
    for wait in waits:
        now += wait * SECOND
        advance_quota_clock(subject, wait)
        kept = [min(time, now) for time in kept]
        expected_delay = delay(kept, now, limits)

        decision = quota.admit(subject, drawn)

        assert decision.admitted == (expected_delay <= 0)
        if decision.admitted:
            kept = [now, *kept][: max(limit.requests for limit in limits)]
            assert decision.retry_after == 0
        else:
            assert decision.retry_after in remaining(expected_delay // SECOND, began)
            assert decision.status.retry_after == decision.retry_after
        for actual, limit in zip(decision.status.windows, limits, strict=True):
            expected = window(kept, now, limit)
            assert (actual.limit, actual.remaining) == (limit, expected.remaining)
            assert actual.reset == 0 if expected.reset == 0 else actual.reset in remaining(expected.reset, began)
        assert len(stored(subject)) == len(kept)


@pytest.mark.django_db
@settings(max_examples=30, deadline=None)
@given(tiers_drawn, requests_drawn)
def test_each_subject_has_its_own_quota(drawn: Tier, requests: list[tuple[str, int]]) -> None:
    subjects = {name: new_subject() for name in "abc"}
    admitted: dict[str, list[int]] = {name: [] for name in "abc"}
    now = 0
    for name, wait in requests:
        now += wait
        for subject in subjects.values():
            advance_quota_clock(subject, wait)
        if quota.admit(subjects[name], drawn).admitted:
            admitted[name].append(now)
        else:
            assert any(
                sum(now - limit.seconds < time for time in admitted[name]) >= limit.requests
                for limit in quota.limits_of(drawn)
            )
    for limit in quota.limits_of(drawn):
        for times in admitted.values():
            for start in times:
                assert sum(start <= time < start + limit.seconds for time in times) <= limit.requests


@pytest.mark.django_db
def test_rejected_requests_are_not_stored() -> None:
    subject = new_subject()
    for _ in range(40):
        quota.admit(subject, STANDARD)
    before = stored(subject)

    assert not any(quota.admit(subject, STANDARD).admitted for _ in range(20))
    assert stored(subject) == before


@pytest.mark.django_db
def test_the_delay_of_a_full_burst_is_exact_to_the_second() -> None:
    subject, began = new_subject(), time.monotonic()
    for _ in range(40):
        quota.admit(subject, STANDARD)
    retry_after = quota.admit(subject, STANDARD).retry_after
    assert retry_after in remaining(60, began)

    began = time.monotonic()
    advance_quota_clock(subject, retry_after - 30)
    early = quota.admit(subject, STANDARD)
    assert early.retry_after in remaining(30, began)
    advance_quota_clock(subject, 30)

    assert not early.admitted
    assert quota.admit(subject, STANDARD).admitted


@pytest.mark.django_db
def test_after_two_hundred_requests_in_fifteen_minutes_none_is_admitted_until_the_oldest_leave() -> None:
    subject, began = new_subject(), time.monotonic()
    for _ in range(5):
        assert all(quota.admit(subject, STANDARD).admitted for _ in range(40))
        advance_quota_clock(subject, 100)
    rejected = quota.admit(subject, STANDARD)
    assert rejected.retry_after in remaining(400, began)

    advance_quota_clock(subject, 400)

    assert (rejected.admitted, [window.remaining for window in rejected.status.windows]) == (False, [0, 40])
    assert sum(quota.admit(subject, STANDARD).admitted for _ in range(50)) == 40


# ---- stored admissions ----


@pytest.mark.django_db
def test_admissions_are_stored_newest_first_up_to_the_largest_limit() -> None:
    subject, small = new_subject(), tier(3, 30, 5, 10)
    for _ in range(12):
        quota.admit(subject, small)
        advance_quota_clock(subject, 10)

    times = stored(subject)

    assert list(times) == sorted(times, reverse=True)
    assert len(times) == 5


@pytest.mark.django_db
def test_stored_admissions_keep_their_order_when_the_clock_steps_back() -> None:
    subject, small = new_subject(), tier(5, 30, 5, 10)
    for _ in range(3):
        quota.admit(subject, small)
    advance_quota_clock(subject, -5)
    before = stored(subject)

    decision = quota.admit(subject, small)

    times = stored(subject)
    assert decision.admitted
    assert list(times) == sorted(times, reverse=True)
    assert len(times) == 4
    assert times[0] < before[-1]


@pytest.mark.django_db
def test_a_lowered_limit_applies_from_the_next_request_on() -> None:
    subject, began = new_subject(), time.monotonic()
    assert all(quota.admit(subject, STANDARD).admitted for _ in range(10))

    rejected = quota.admit(subject, tier(8, 900, 8, 60))

    assert not rejected.admitted
    assert rejected.retry_after in remaining(900, began)
    assert [window.remaining for window in rejected.status.windows] == [0, 0]


@pytest.mark.django_db
def test_a_raised_limit_applies_from_the_next_request_on() -> None:
    subject = new_subject()
    for _ in range(41):
        quota.admit(subject, STANDARD)

    admitted = [quota.admit(subject, tier(400, 900, 50, 60)).admitted for _ in range(11)]

    assert admitted == [True] * 10 + [False]


@pytest.mark.django_db
def test_stored_admissions_shrink_to_a_lowered_limit() -> None:
    subject = new_subject()
    for _ in range(40):
        quota.admit(subject, STANDARD)
    small = tier(4, 30, 2, 10)
    for _ in range(40):
        advance_quota_clock(subject, 60)
        assert quota.admit(subject, small).admitted

    assert len(stored(subject)) == 4


@pytest.mark.django_db
def test_a_workspaces_new_tier_applies_to_its_key_at_once(api: Api, workspace: Workspace) -> None:
    slow = Tier.objects.create(name="slow", requests=3, seconds=900, burst_requests=2, burst_seconds=60)
    assert [api.get("/me").status_code for _ in range(3)] == [200] * 3

    workspace.tier = slow
    workspace.save(update_fields=["tier"])
    lowered = api.get("/me")
    workspace.tier = Tier.objects.get(name="standard")
    workspace.save(update_fields=["tier"])

    assert lowered.status_code == 429
    assert lowered.json()["message"].startswith("slow rate limit exceeded, retry in ")
    assert api.get("/me").status_code == 200


@pytest.mark.django_db
def test_status_does_not_count_a_request() -> None:
    subject = new_subject()
    assert [window.remaining for window in quota.status(subject, STANDARD).windows] == [200, 40]
    quota.admit(subject, STANDARD)
    before = stored(subject)

    for _ in range(50):
        status = quota.status(subject, STANDARD)

    assert [window.remaining for window in status.windows] == [199, 39]
    assert [window.limit for window in status.windows] == [Limit("standard", 200, 900), Limit("burst", 40, 60)]
    assert stored(subject) == before


@pytest.mark.django_db
def test_clear_resets_the_quota_of_one_workspace_only(workspace: Workspace, elsewhere: Workspace) -> None:
    for _ in range(40):
        quota.admit(workspace.pk, STANDARD)
        quota.admit(elsewhere.pk, STANDARD)

    quota.clear(workspace, by=BY_TEST)

    assert quota.admit(workspace.pk, STANDARD).admitted
    assert not quota.admit(elsewhere.pk, STANDARD).admitted


# ---- storage ----


@pytest.mark.django_db
@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="SQLite compresses nothing")
def test_the_longest_list_of_times_is_not_compressed() -> None:
    """Compressing takes milliseconds of the database's processor, at each request."""
    subject, largest = new_subject(), tier(1000, 900, 1000, 60)
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO workspaces_quota (subject, admissions)"
            " SELECT %s, array_agg(-second) FROM generate_series(1, 999) AS second",
            [subject],
        )
        assert quota.admit(subject, largest).admitted
        cursor.execute("SELECT pg_column_size(admissions) FROM workspaces_quota WHERE subject = %s", [subject])

        assert cursor.fetchone()[0] >= 1000 * 8


# ---- concurrency ----


@commits
def test_twelve_threads_are_admitted_exactly_forty_times() -> None:
    subject = new_subject()

    def admit_ten_times() -> int:
        return sum(quota.admit(subject, STANDARD).admitted for _ in range(10))

    assert sum(map(as_int, in_threads(*[admit_ten_times] * 12))) == 40


@commits
def test_threads_are_admitted_exactly_to_the_limit_while_the_clock_steps_back() -> None:
    subject = new_subject()
    for _ in range(10):
        quota.admit(subject, STANDARD)
    advance_quota_clock(subject, -3600)

    def admit_ten_times() -> int:
        return sum(quota.admit(subject, STANDARD).admitted for _ in range(10))

    assert sum(map(as_int, in_threads(*[admit_ten_times] * 6))) == 30


def as_int(result: int | Exception) -> int:
    assert isinstance(result, int), result
    return result
