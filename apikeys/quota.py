"""The quota: two sliding windows, decided and recorded by one atomic statement on the database's own clock.

A subject (a workspace; a person) has one row: the times of its admissions, newest first, in whole microseconds of the
Unix epoch, as many as its tier's largest limit. With a limit of 40 in 60 s, a request is admitted when the 40th newest
admission is 60 s old or older, which bounds *every* span of 60 s, not just those on a window's grid. Refused requests
leave no trace. In PostgreSQL the table is UNLOGGED: it is as quick as memory, and a crash of the database empties it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from django.db import connection

from workspaces.models import Tier

TABLE = "apikeys_quota"
SECOND = 1_000_000  # in microseconds, the unit of every time in this module


@dataclass(frozen=True, slots=True)
class Limit:
    name: str
    requests: int
    seconds: int


@dataclass(frozen=True, slots=True)
class Window:
    """How a limit stands: requests left, and seconds until one more is (0 where nothing is counted)."""

    limit: Limit
    remaining: int
    reset: int


@dataclass(frozen=True, slots=True)
class Decision:
    """`retry_after`: seconds, rounded up, after which a lone client is admitted; 0 where this one was."""

    tier: str
    admitted: bool
    retry_after: int
    windows: tuple[Window, ...]

    def headers(self) -> dict[str, str]:
        """The fields of draft-ietf-httpapi-ratelimit-headers."""
        return {
            "RateLimit-Policy": ", ".join(
                f'"{w.limit.name}";q={w.limit.requests};w={w.limit.seconds}' for w in self.windows
            ),
            "RateLimit": ", ".join(f'"{w.limit.name}";r={w.remaining};t={w.reset}' for w in self.windows),
        }

    def describe(self) -> dict[str, Any]:
        """The same for `GET /me`; seconds and requests."""
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


def limits_of(tier: Tier) -> tuple[Limit, Limit]:
    return (
        Limit(tier.name, tier.requests, tier.seconds),
        Limit("burst", tier.burst_requests, tier.burst_seconds),
    )


# ---- the decision, pure ----


def delay(admissions: Sequence[int], now: int, limits: Sequence[Limit]) -> int:
    """Microseconds until a request is admitted; 0 or less: it is admitted now. `admissions` are newest first."""
    return max(
        (
            admissions[limit.requests - 1] + limit.seconds * SECOND - now
            for limit in limits
            if len(admissions) >= limit.requests
        ),
        default=0,
    )


def window(admissions: Sequence[int], now: int, limit: Limit) -> Window:
    counted = sum(1 for time in admissions if time > now - limit.seconds * SECOND)
    if not counted:
        return Window(limit, limit.requests, 0)
    # The admission whose leaving makes room for one more: the oldest counted, unless the limit was lowered since.
    leaving = admissions[min(counted, limit.requests) - 1] + limit.seconds * SECOND
    return Window(limit, max(limit.requests - counted, 0), _seconds_up(leaving - now))


def _seconds_up(microseconds: int) -> int:
    return max(-(-microseconds // SECOND), 1)


# ---- the statement ----

_NOW = {
    "postgresql": "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint",
    # Milliseconds; SQLite takes the time once a statement, after the statement has the write lock.
    "sqlite": "(CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER) * 1000)",
}

# `greatest` and `max` keep the list in order should the clock step back. SQLite can't slice: it drops up to two
# times for the one it adds, so a list that was longer than a lowered tier's limit shrinks with each admission.
_ADMIT = {
    "postgresql": """
        INSERT INTO {table} AS quota (subject, admissions) VALUES (%(subject)s, ARRAY[{now}])
        ON CONFLICT (subject) DO UPDATE
            SET admissions = (greatest({now}, quota.admissions[1]) || quota.admissions)[1:%(keep)s]
            WHERE coalesce(quota.admissions[%(requests)s] <= {now} - %(span)s, true)
              AND coalesce(quota.admissions[%(burst_requests)s] <= {now} - %(burst_span)s, true)
        RETURNING admissions
    """,
    "sqlite": """
        INSERT INTO {table} AS quota (subject, admissions) VALUES (%(subject)s, json_array({now}))
        ON CONFLICT (subject) DO UPDATE
            SET admissions = json_remove(
                '[' || max({now}, json_extract(quota.admissions, '$[0]')) || ',' || substr(quota.admissions, 2),
                '$[' || %(keep)s || ']',
                '$[' || %(keep)s || ']'
            )
            WHERE coalesce(json_extract(quota.admissions, '$[' || (%(requests)s - 1) || ']') <= {now} - %(span)s, 1)
              AND coalesce(
                    json_extract(quota.admissions, '$[' || (%(burst_requests)s - 1) || ']') <= {now} - %(burst_span)s,
                    1
                  )
        RETURNING admissions
    """,
}


def admit(subject: str, tier: Tier) -> Decision:
    """Counts one request of `subject` if there is room for it."""
    main, burst = limits_of(tier)
    statement = _ADMIT[connection.vendor].format(table=TABLE, now=_NOW[connection.vendor])
    parameters: dict[str, str | int] = {
        "subject": subject,
        "keep": max(main.requests, burst.requests),
        "requests": main.requests,
        "span": main.seconds * SECOND,
        "burst_requests": burst.requests,
        "burst_span": burst.seconds * SECOND,
    }
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        rows = cursor.fetchall()
    if not rows:
        return standing(subject, tier)
    admissions = _times(rows[0][0])
    windows = tuple(window(admissions, admissions[0], limit) for limit in (main, burst))
    return Decision(tier.name, admitted=True, retry_after=0, windows=windows)


def standing(subject: str, tier: Tier) -> Decision:
    """How the quota stands, counting nothing. `admitted` is False: nobody was."""
    limits = limits_of(tier)
    admissions, now = _read(subject)
    windows = tuple(window(admissions, now, limit) for limit in limits)
    return Decision(tier.name, False, _seconds_up(delay(admissions, now, limits)), windows)


def clear(subject: str) -> None:
    """Gives `subject` its whole quota back."""
    with connection.cursor() as cursor:
        cursor.execute(f"DELETE FROM {TABLE} WHERE subject = %s", [subject])  # noqa: S608, a constant


def _read(subject: str) -> tuple[Sequence[int], int]:
    statement = f"SELECT (SELECT admissions FROM {TABLE} WHERE subject = %s), {_NOW[connection.vendor]}"  # noqa: S608
    with connection.cursor() as cursor:
        cursor.execute(statement, [subject])
        stored, now = cursor.fetchone()
    return _times(stored), now


def _times(stored: str | list[int] | None) -> Sequence[int]:
    if isinstance(stored, str):
        times: list[int] = orjson.loads(stored)
        return times
    return stored or []
