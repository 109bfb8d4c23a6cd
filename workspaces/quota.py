"""The quota: two sliding windows, checked and recorded in one atomic statement, by the database's clock.

A subject (a workspace or a person) has one row: the times of its admitted requests, newest first, in microseconds since
the Unix epoch, at most as many as its tier's larger limit. See docs/architecture.md.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from operator import neg
from typing import Any, NamedTuple

import orjson
from django.db import connection, transaction
from django.db.models import Max

from core.db import contention
from core.db.batches import BATCH_SIZE
from core.db.statements import fetch
from core.metrics import count_quota_rejection
from workspaces.models import Action, Actor, AuditEvent, Tier, User, Workspace

SECOND = 1_000_000  # microseconds, the unit of admissions, `now` and `delay` in this module
IDLE_SECONDS = 24 * 3600  # a row without an admission for this time, and for the longest window, is deleted


class Limit(NamedTuple):
    """At most `requests` in any span of `seconds`."""

    name: str
    requests: int
    seconds: int


class Window(NamedTuple):
    """The state of a limit: requests left, and seconds until one more request is allowed (0 if the window is empty)."""

    limit: Limit
    remaining: int
    reset: int


class Status(NamedTuple):
    """The state of a subject's quota at one moment."""

    tier: str
    windows: tuple[Window, ...]

    @property
    def retry_after(self) -> int:
        """Seconds until a request is admitted; 0 if one is admitted now."""
        return max((window.reset for window in self.windows if not window.remaining), default=0)

    def headers(self) -> dict[str, str]:
        """Return the response headers of draft-ietf-httpapi-ratelimit-headers."""
        return {
            "RateLimit-Policy": ", ".join(
                f'"{w.limit.name}";q={w.limit.requests};w={w.limit.seconds}' for w in self.windows
            ),
            "RateLimit": ", ".join(f'"{w.limit.name}";r={w.remaining};t={w.reset}' for w in self.windows),
        }

    def describe(self) -> dict[str, Any]:
        """Return the JSON for `GET /me`. Windows and resets are in seconds."""
        return {
            "tier": self.tier,
            "limits": [
                {
                    "name": w.limit.name,
                    "requests": w.limit.requests,
                    "seconds": w.limit.seconds,
                    "remaining": w.remaining,
                    "resetAfter": w.reset,
                }
                for w in self.windows
            ],
        }


class Decision(NamedTuple):
    """Whether a request was admitted, and the state of the quota after it.

    `retry_after`: after this many whole seconds, rounded up, a request is admitted, unless another client sends one
    first. 0 if this one was admitted.
    """

    admitted: bool
    retry_after: int
    status: Status


def limits_of(tier: Tier) -> tuple[Limit, Limit]:
    """Return the main limit, named as the tier, and the burst limit."""
    main = Limit(tier.name, tier.requests, tier.seconds)
    return main, Limit("burst", tier.burst_requests, tier.burst_seconds)


# ---- the decision, without I/O ----

# `admissions` are newest first. If the database's clock has stepped back, some are in the future: they count as `now`.


def delay(admissions: Sequence[int], now: int, limits: Sequence[Limit]) -> int:
    """Return the microseconds until a request is admitted, at most the longest window; 0 or less: now."""
    return max(
        (
            min(admissions[limit.requests - 1] - now, 0) + limit.seconds * SECOND
            for limit in limits
            if len(admissions) >= limit.requests
        ),
        default=0,
    )


def window_at(admissions: Sequence[int], now: int, limit: Limit) -> Window:
    """Return the state of the limit at `now`."""
    length = limit.seconds * SECOND
    count = bisect_left(admissions, length - now, key=neg)  # admissions later than `now - length`
    if not count:
        return Window(limit, limit.requests, 0)
    # One more request is left when this admission leaves the window: the oldest that counts, or a later one if the
    # limit was lowered.
    next_to_leave = admissions[min(count, limit.requests) - 1]
    return Window(limit, max(limit.requests - count, 0), _whole_seconds(min(next_to_leave - now, 0) + length))


def _whole_seconds(microseconds: int) -> int:
    """Return the seconds, rounded up, and at least 1."""
    return max(-(-microseconds // SECOND), 1)


# ---- the statement ----

_NOW_SQL = {
    # Double precision is exact until 2255; `extract` returns `numeric`, which is slow.
    "postgresql": "(date_part('epoch', clock_timestamp()) * 1000000)::bigint",
    # Exact to the millisecond. SQLite reads its clock once per statement, after it has taken the write lock.
    "sqlite": "(CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER) * 1000)",
}
NOW_SQL = _NOW_SQL["postgresql"]


def record_sql(max_admissions: str) -> str:
    """Return PostgreSQL's expression for `quota.admissions` with the current time added, cut to `max_admissions`."""
    return f"ARRAY[{NOW_SQL}] || quota.admissions[1:{max_admissions} - 1]"


def admissible_sql(
    admissions: str, requests: str, window: str, burst_requests: str, burst_window: str, now: str = NOW_SQL
) -> str:
    """Return PostgreSQL's condition for admitting a request. Every argument is SQL; the windows are in microseconds."""
    return (
        f"coalesce({admissions}[{requests}] <= {now} - {window}, true)"
        f" AND coalesce({admissions}[{burst_requests}] <= {now} - {burst_window}, true)"
    )


# After the clock stepped back, no statement admits a request before `_STEP_BACK` has changed the times in the future,
# so the times in a row stay in order.
NOT_IN_FUTURE_SQL = f"quota.admissions[1] <= {NOW_SQL}"
_LIMIT_PARAMS = ("%(requests)s", "%(window)s", "%(burst_requests)s", "%(burst_window)s")
_ADMIT = {
    "postgresql": f"""
        INSERT INTO workspaces_quota AS quota (subject, admissions) VALUES (%(subject)s, ARRAY[{NOW_SQL}])
        ON CONFLICT (subject) DO UPDATE
            SET admissions = {record_sql("%(max_admissions)s")}
            WHERE {NOT_IN_FUTURE_SQL} AND {admissible_sql("quota.admissions", *_LIMIT_PARAMS)}
        RETURNING admissions
    """,  # noqa: S608, constants
    # SQLite has no slices. Each admission adds one time and removes up to two beyond the maximum, so that a list that
    # is too long, because the limit was lowered, becomes shorter with each admission.
    "sqlite": """
        INSERT INTO workspaces_quota AS quota (subject, admissions) VALUES (%(subject)s, json_array({now}))
        ON CONFLICT (subject) DO UPDATE
            SET admissions = json_remove(
                '[' || {now} || ',' || substr(quota.admissions, 2),
                '$[' || %(max_admissions)s || ']',
                '$[' || %(max_admissions)s || ']'
            )
            WHERE json_extract(quota.admissions, '$[0]') <= {now}
              AND coalesce(json_extract(quota.admissions, '$[' || (%(requests)s - 1) || ']') <= {now} - %(window)s, 1)
              AND coalesce(
                    json_extract(quota.admissions, '$[' || (%(burst_requests)s - 1) || ']') <= {now} - %(burst_window)s,
                    1
                  )
        RETURNING admissions
    """.format(now=_NOW_SQL["sqlite"]),  # noqa: S608, constants
}
# Changes the times in the future to the current time.
_STEP_BACK = {
    "postgresql": f"""
        UPDATE workspaces_quota AS quota
            SET admissions = ARRAY(SELECT least(time, {NOW_SQL}) FROM unnest(quota.admissions) AS time ORDER BY 1 DESC)
            WHERE subject = %(subject)s AND NOT {NOT_IN_FUTURE_SQL}
        RETURNING subject
    """,  # noqa: S608, constants
    "sqlite": """
        UPDATE workspaces_quota
            SET admissions = (SELECT json_group_array(min(value, {now})) FROM json_each(admissions))
            WHERE subject = %(subject)s AND json_extract(admissions, '$[0]') > {now}
        RETURNING subject
    """.format(now=_NOW_SQL["sqlite"]),  # noqa: S608, constants
}
_READ = {
    vendor: f"SELECT (SELECT admissions FROM workspaces_quota WHERE subject = %(subject)s), {now}"  # noqa: S608, constants
    for vendor, now in _NOW_SQL.items()
}
_SUBJECTS = "SELECT subject FROM workspaces_quota WHERE subject > %(after)s ORDER BY subject LIMIT %(limit)s"
# Locks the rows first and skips locked ones: it must not wait for one row while it has locked others.
_DELETE_IDLE = {
    "postgresql": f"""
        DELETE FROM workspaces_quota WHERE subject IN (
            SELECT subject FROM workspaces_quota AS quota
            WHERE subject BETWEEN %(first)s AND %(last)s AND quota.admissions[1] < {NOW_SQL} - %(idle)s
            FOR UPDATE SKIP LOCKED
        )
        RETURNING subject
    """,  # noqa: S608, constants
    "sqlite": """
        DELETE FROM workspaces_quota
        WHERE subject BETWEEN %(first)s AND %(last)s AND json_extract(admissions, '$[0]') < {now} - %(idle)s
        RETURNING subject
    """.format(now=_NOW_SQL["sqlite"]),  # noqa: S608, constants
}


def resource(subject: str) -> str:
    """Return the name of the quota's row for `core.db.contention`."""
    return f"the quota of {subject}"


def admit(subject: str, tier: Tier) -> Decision:
    """Record a request of `subject` if both limits admit it, and return the decision. Rejected ones don't count."""
    contention.about_to_lock(resource(subject))
    main, burst = limits_of(tier)
    params = {
        "subject": subject,
        "max_admissions": max(main.requests, burst.requests),
        "requests": main.requests,
        "window": main.seconds * SECOND,
        "burst_requests": burst.requests,
        "burst_window": burst.seconds * SECOND,
    }
    rows = fetch(_ADMIT[connection.vendor], params)
    if not rows:
        admissions, now = read(subject)
        if not is_in_future(admissions, now):
            return rejected(tier, admissions, now)
        fetch(_STEP_BACK[connection.vendor], {"subject": subject})
        rows = fetch(_ADMIT[connection.vendor], params)
    return admitted(tier, _parse(rows[0][0])) if rows else rejected(tier, *read(subject))


def is_in_future(admissions: Sequence[int], now: int) -> bool:
    """Return whether the newest admission is later than the database's time: its clock has stepped back."""
    return bool(admissions) and admissions[0] > now


def admitted(tier: Tier, admissions: Sequence[int]) -> Decision:
    """Return the decision on an admitted request, whose own time is `admissions[0]`."""
    return Decision(True, 0, status_at(tier, admissions, admissions[0]))


def rejected(tier: Tier, admissions: Sequence[int], now: int) -> Decision:
    """Return the decision on a rejected request, and count the rejection in the metrics."""
    count_quota_rejection(tier.name)
    retry_after = _whole_seconds(delay(admissions, now, limits_of(tier)))
    return Decision(False, retry_after, status_at(tier, admissions, now))


def status_at(tier: Tier, admissions: Sequence[int], now: int) -> Status:
    return Status(tier.name, tuple(window_at(admissions, now, limit) for limit in limits_of(tier)))


def status(subject: str, tier: Tier) -> Status:
    """Return the state of the quota without counting a request."""
    return status_at(tier, *read(subject))


def status_of(holder: Workspace | User) -> Status:
    """Return the state of a workspace's quota, or of the one that a person's OAuth tokens use."""
    return status(holder.pk, holder.tier if isinstance(holder, Workspace) else Tier.objects.of_people())


@transaction.atomic
def clear(holder: Workspace | User, *, by: Actor) -> None:
    """Delete the admissions of a workspace or a person, so that the full quota is available. Raise `NotAllowed`."""
    by.require_operator()
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM workspaces_quota WHERE subject = %s", [holder.pk])
    if isinstance(holder, Workspace):
        holder.record(Action.WORKSPACE_QUOTA_CLEARED, by)
    else:
        AuditEvent.objects.record(Action.USER_QUOTA_CLEARED, by, subject=holder.pk)


def delete_idle() -> Iterator[int]:
    """Delete the rows of subjects without requests in any window, and yield their number after each batch.

    See `core.db.batches.in_batches`. An admission that is recorded meanwhile keeps its row.
    """
    longest_window = Tier.objects.aggregate(longest=Max("seconds"))["longest"] or 0
    idle = max(IDLE_SECONDS, longest_window) * SECOND
    after = ""
    while rows := fetch(_SUBJECTS, {"after": after, "limit": BATCH_SIZE}):
        first, after = rows[0][0], rows[-1][0]
        yield len(fetch(_DELETE_IDLE[connection.vendor], {"first": first, "last": after, "idle": idle}))


def read(subject: str) -> tuple[Sequence[int], int]:
    """Return the admissions of `subject`, newest first, and the database's time, in microseconds."""
    admissions, now = fetch(_READ[connection.vendor], {"subject": subject})[0]
    return _parse(admissions), now


def _parse(admissions: str | list[int] | None) -> Sequence[int]:
    """Return the admissions of a row as a sequence: JSON on SQLite, an array on PostgreSQL, None without a row."""
    if isinstance(admissions, str):
        times: list[int] = orjson.loads(admissions)
        return times
    return admissions or []
