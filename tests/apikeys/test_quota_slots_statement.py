"""Large limits on a real database: both paths count every request in slots, and with threads."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from uuid import uuid4

import psycopg
import pytest
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from hypothesis import given, settings
from hypothesis import strategies as st

from apikeys import admission
from apikeys.models import StoredSecret
from tests.helpers import BY_TEST, Api, advance_quota_clock, commits, fill_quota, make_key, make_user, make_workspace
from tests.processes import database_url, in_threads
from workspaces import quota
from workspaces.models import Tier, Workspace
from workspaces.quota import SECOND, Decision, Row
from workspaces.quota.slots import LAST, TOTALS, slot_length

on_postgresql = pytest.mark.skipif(connection.vendor != "postgresql", reason="only PostgreSQL has the fast path")

DAY = 24 * 3600
# The slots of these windows take a minute and 12 seconds, so a quota's clock can be advanced by whole slots.
WINDOW, BURST_WINDOW = 256 * 60, 256 * 12
PAUSE = 1800  # advances by this end minutes before or after the end of a window


def tier(requests: int, burst_requests: int, seconds: int = WINDOW, burst_seconds: int = BURST_WINDOW) -> Tier:
    return Tier(
        name="drawn",
        requests=requests,
        seconds=seconds,
        burst_requests=burst_requests,
        burst_seconds=burst_seconds,
    )


LARGE = tier(3000, 2000)


class Client:
    """A workspace, and one way to count its requests."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.workspace = make_workspace(make_user(f"{uuid4().hex[:8]}"), uuid4().hex[:8])
        self.subject = self.workspace.pk
        self.secret = make_key(self.workspace)[1]
        StoredSecret.objects.authenticate(self.secret)

    def use(self, used: Tier) -> Tier:
        """Move the workspace to this tier."""
        values = {field: getattr(used, field) for field in ("requests", "seconds", "burst_requests", "burst_seconds")}
        Tier.objects.update_or_create(name=used.name, defaults=values)
        Workspace.objects.filter(pk=self.subject).update(tier=used.name)
        return used

    def admit(self, used: Tier) -> Decision:
        if self.path == "reference":
            return quota.admit(self.subject, used)
        principal = admission.authenticate(self.secret)
        assert principal is not None
        return principal.count_request()

    def is_recorded(self) -> int:
        """Return how many admissions the slots of the main limit have."""
        totals = quota.read(self.subject)[0].main_totals
        assert totals is not None
        return totals[LAST] - totals[0]


PATHS = ["reference", pytest.param("fused", marks=on_postgresql)]


@pytest.fixture(params=PATHS)
def client(request: pytest.FixtureRequest, db: None) -> Client:
    return Client(request.param)


@pytest.fixture
def subject(db: None) -> str:
    return f"w_{uuid4().hex}"


# ---- the decision ----

# The largest exact limit is always the same, so a row never forgets more when the tier changes.
tiers_drawn = st.builds(tier, st.sampled_from([1000, 1001, 1500, 3000]), st.sampled_from([30, 700, 1001, 1400, 4000]))
steps_drawn = st.lists(
    st.tuples(tiers_drawn, st.sampled_from([0, 1, 1, 2, 9]), st.sampled_from([1, 2, 30, 700])), min_size=1, max_size=7
)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.django_db
@settings(max_examples=25, deadline=None)
@given(steps_drawn)
def test_both_limits_are_enforced_also_after_changes_of_the_tier(path: str, steps: list[tuple[Tier, int, int]]) -> None:
    client = Client(path)
    admitted: list[int] = []  # newest first
    now = 0
    for drawn, pauses, requests in steps:
        now += pauses * PAUSE
        advance_quota_clock(client.subject, pauses * PAUSE)
        limits = quota.limits_of(client.use(drawn))
        room = [limit.requests - sum(moment > now - limit.seconds for moment in admitted) for limit in limits]

        decision = client.admit(drawn)

        assert decision.admitted == (min(room) > 0)
        if decision.admitted:
            added = min(requests, *room)
            row, database_now = quota.read(client.subject)
            for _ in range(added - 1):
                row = row.recorded(limits, database_now)
            quota.write(client.subject, row)
            admitted = [now] * added + admitted
            assert [window.remaining for window in decision.status.windows] == [left - 1 for left in room]
            room = [left - added for left in room]
        status = quota.status(client.subject, drawn)
        assert [window.remaining for window in status.windows] == [max(left, 0) for left in room]
        if not quota.has_slots(drawn):
            admitted = admitted[:1000]


@on_postgresql
@pytest.mark.django_db
@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 1000), st.sampled_from([0, 1, 500])), max_size=12),
    st.sampled_from([1, 2, 900, 30 * DAY]),
    st.sampled_from([1, 2, 60]),
    st.sampled_from([40, 2000]),
)
def test_the_fused_statement_records_and_counts_as_the_pure_functions(
    steps: list[tuple[float, int]], seconds: int, burst_seconds: int, burst_requests: int
) -> None:
    client = Client("fused")
    drawn = client.use(tier(100_000, burst_requests, seconds, min(burst_seconds, seconds)))
    limits = quota.limits_of(drawn)
    client.admit(drawn)
    client.admit(drawn)  # from here on with the statement for slots
    for slots, more in steps:
        advance_quota_clock(client.subject, slots * slot_length(limits[0].window) / SECOND)
        if more:
            row, now = quota.read(client.subject)
            for _ in range(more):
                row = row.recorded(limits, now)
            quota.write(client.subject, row)
        before, _ = quota.read(client.subject)

        with CaptureQueriesContext(connection) as captured:
            decision = client.admit(drawn)

        after, now = quota.read(client.subject)
        if decision.admitted:
            assert len(captured) == 1
            now = after.admissions[0]
            before = before.recorded(limits, now)
            assert now > 0
        assert after.layout == before.layout
        assert list(after.admissions) == list(before.admissions)
        assert (steps_of(after.main_totals), steps_of(after.burst_totals)) == (
            steps_of(before.main_totals),
            steps_of(before.burst_totals),
        )
        if decision.admitted:
            assert decision.status == quota.status_at(drawn, after.usages(limits, now), now)
        else:
            assert any(window.remaining == 0 for window in decision.status.windows)


def steps_of(totals: object) -> list[int] | None:
    """Return the number of admissions in each slot."""
    return [later - earlier for earlier, later in pairwise(totals)] if isinstance(totals, list) else None


def test_exactly_the_limit_is_admitted(client: Client) -> None:
    client.use(LARGE)
    fill_quota(client.subject, LARGE, 1997)

    assert [client.admit(LARGE).admitted for _ in range(5)] == [True] * 3 + [False] * 2
    assert client.is_recorded() == 2000
    advance_quota_clock(client.subject, PAUSE * 2)
    fill_quota(client.subject, LARGE, 998)
    assert [client.admit(LARGE).admitted for _ in range(4)] == [True] * 2 + [False] * 2


def test_a_single_client_that_waits_is_admitted(client: Client) -> None:
    quick = client.use(tier(3000, 2000, 900, 2))
    fill_quota(client.subject, quick, 2000)
    rejected = client.admit(quick)
    assert not rejected.admitted
    assert rejected.status.retry_after == rejected.retry_after

    time.sleep(rejected.retry_after)

    assert client.admit(quick).admitted


def test_a_gap_longer_than_the_window_frees_everything(client: Client) -> None:
    client.use(LARGE)
    fill_quota(client.subject, LARGE, 2000)
    advance_quota_clock(client.subject, 40 * DAY)

    decision = client.admit(LARGE)

    assert [window.remaining for window in decision.status.windows] == [2999, 1999]
    assert client.is_recorded() == 1


@pytest.mark.parametrize("seconds", [1, 30 * DAY])
def test_the_shortest_and_a_long_window_count(client: Client, seconds: int) -> None:
    drawn = client.use(tier(50_000, 40_000, seconds, 1))
    for _ in range(3):
        client.admit(drawn)
    advance_quota_clock(client.subject, seconds * 1.01 + 1)
    decision = client.admit(drawn)

    assert [window.remaining for window in decision.status.windows] == [49_999, 39_999]


def test_after_the_clock_stepped_back_admissions_count_as_made_now(client: Client) -> None:
    client.use(LARGE)
    fill_quota(client.subject, LARGE, 1998)
    advance_quota_clock(client.subject, -7 * DAY)

    assert [client.admit(LARGE).admitted for _ in range(3)] == [True, True, False]
    assert client.admit(LARGE).retry_after <= BURST_WINDOW + 12
    advance_quota_clock(client.subject, BURST_WINDOW + 24)
    assert client.admit(LARGE).status.windows[0].remaining == 999


def test_a_lowered_limit_applies_at_once_with_a_true_delay(client: Client) -> None:
    client.use(LARGE)
    fill_quota(client.subject, LARGE, 1500)
    advance_quota_clock(client.subject, PAUSE * 2)
    fill_quota(client.subject, LARGE, 300)
    lowered = client.use(tier(1200, 1100))

    rejected = client.admit(lowered)

    assert not rejected.admitted
    assert rejected.retry_after <= WINDOW - PAUSE * 2 + 60
    assert [window.remaining for window in rejected.status.windows] == [0, 800]
    advance_quota_clock(client.subject, (rejected.retry_after // 60 + 2) * 60)  # by whole slots
    assert client.admit(lowered).admitted


def test_a_request_is_counted_by_the_one_tier_and_then_by_the_other(client: Client) -> None:
    small = tier(200, 100)
    client.use(small)
    fill_quota(client.subject, small, 60)
    client.use(LARGE)
    assert [window.remaining for window in client.admit(LARGE).status.windows] == [2939, 1939]
    fill_quota(client.subject, LARGE, 30)
    client.use(small)

    assert [window.remaining for window in client.admit(small).status.windows] == [108, 8]
    row, _ = quota.read(client.subject)
    assert row[1:] == (None, None, None), "as the release before stores it"
    assert len(row.admissions) == 92


def test_status_and_rejected_requests_change_nothing(client: Client) -> None:
    client.use(LARGE)
    fill_quota(client.subject, LARGE, 2000)
    before, _ = quota.read(client.subject)

    for _ in range(3):
        assert not client.admit(LARGE).admitted
        assert quota.status(client.subject, LARGE).windows[1].remaining == 0

    assert quota.read(client.subject)[0] == before


def test_clear_resets_slots(client: Client) -> None:
    client.use(LARGE)
    fill_quota(client.subject, LARGE, 2000)

    quota.clear(client.workspace, by=BY_TEST)

    assert [window.remaining for window in client.admit(LARGE).status.windows] == [2999, 1999]


@pytest.mark.django_db
def test_only_idle_rows_with_slots_are_deleted(workspace: Workspace, elsewhere: Workspace) -> None:
    monthly = tier(5000, 4000, 30 * DAY, 60)
    monthly.save()
    for subject, idle in ((workspace.pk, 29 * DAY), (elsewhere.pk, 31 * DAY)):
        fill_quota(subject, monthly, 2000)
        advance_quota_clock(subject, idle)

    call_command("housekeeping")

    assert quota.status(workspace.pk, monthly).windows[0].remaining == 3000
    assert quota.read(elsewhere.pk)[0] == Row([])


# ---- the row ----


def steady_row(drawn: Tier, now: int, total: int) -> Row:
    """Return the row of a quota with admissions in every slot."""
    totals = list(range(total - LAST, total + 1))
    layout = [drawn.requests, drawn.seconds, drawn.burst_requests, drawn.burst_seconds]
    return Row([now], layout, totals, totals)


@on_postgresql
@pytest.mark.parametrize("burst_requests", [40, 1000, 1_000_000])
def test_a_row_has_the_same_size_for_any_limit_and_takes_no_other_table(client: Client, burst_requests: int) -> None:
    largest = client.use(tier(1_000_000, burst_requests, 900, 60))
    client.admit(largest)
    now = quota.read(client.subject)[1] - 61 * SECOND  # the burst's window is over
    quota.write(client.subject, steady_row(largest, now, 500_000))
    with connection.cursor() as cursor:
        cursor.execute("SELECT reltoastrelid::regclass FROM pg_class WHERE oid = 'workspaces_quota'::regclass")
        toast = cursor.fetchone()[0]
        cursor.execute(f"SELECT count(*) FROM {toast}")
        before = cursor.fetchone()
        assert client.admit(largest).admitted
        cursor.execute("SELECT pg_column_size(q.*) FROM workspaces_quota AS q WHERE subject = %s", [client.subject])
        assert cursor.fetchone()[0] <= 4096
        cursor.execute(f"SELECT count(*) FROM {toast}")
        assert cursor.fetchone() == before


@pytest.mark.parametrize("burst_requests", [400, 2000])
def test_totals_begin_anew_before_they_are_too_large(client: Client, burst_requests: int) -> None:
    drawn = client.use(tier(3000, burst_requests))
    client.admit(drawn)
    _, now = quota.read(client.subject)
    quota.write(client.subject, steady_row(drawn, now, 1_000_000_000 - 1))

    remaining = [client.admit(drawn).status.windows[0].remaining for _ in range(4)]

    totals = quota.read(client.subject)[0].main_totals
    assert remaining == list(range(remaining[0], remaining[0] - 4, -1))
    assert remaining[0] > 2700
    assert totals is not None
    assert len(totals) == TOTALS
    assert totals[LAST] < 1000


# ---- statements and locks ----


@on_postgresql
@commits
def test_a_full_quota_waits_for_no_lock() -> None:
    client = Client("fused")
    client.use(LARGE)
    fill_quota(client.subject, LARGE, 2000)
    api = Api(client.secret)

    with psycopg.connect(database_url()) as holder:
        holder.execute("SELECT 1 FROM workspaces_quota WHERE subject = %s FOR UPDATE", [client.subject])
        assert [api.get("/me").status_code for _ in range(3)] == [429] * 3


@pytest.fixture(params=PATHS)
def concurrent(request: pytest.FixtureRequest) -> Client:
    return Client(request.param)


def admit_in_threads(client: Client, used: Tier) -> int:
    def admit() -> int:
        return sum(client.admit(used).admitted for _ in range(15))

    results = in_threads(*[admit] * 8)
    assert all(isinstance(result, int) for result in results), results
    return sum(result for result in results if isinstance(result, int))


Prepare = Callable[[Client, Tier], Tier]


def unchanged(client: Client, used: Tier) -> Tier:
    return used


def step_back(client: Client, used: Tier) -> Tier:
    advance_quota_clock(client.subject, -3600)
    return used


def change_window(client: Client, used: Tier) -> Tier:
    return client.use(tier(used.requests, used.burst_requests, WINDOW * 2, BURST_WINDOW * 2))


def lower(client: Client, used: Tier) -> Tier:
    """To a tier without slots, of which 50 requests are left."""
    return client.use(tier(1000, 1000))


@commits
@pytest.mark.parametrize("prepare", [unchanged, step_back, change_window, lower])
def test_threads_are_admitted_exactly_to_the_limit(concurrent: Client, prepare: Prepare) -> None:
    drawn = concurrent.use(tier(3000, 1200))
    fill_quota(concurrent.subject, drawn, 950 if prepare is lower else 1150)
    used = prepare(concurrent, drawn)

    assert admit_in_threads(concurrent, used) == 50


@commits
def test_threads_that_create_the_row_are_all_counted(concurrent: Client) -> None:
    used = concurrent.use(tier(3000, 2000))

    assert admit_in_threads(concurrent, used) == 120
    assert concurrent.is_recorded() == 120
