"""The quota: two sliding windows, checked and recorded by one atomic statement on the database's clock.

A subject (a workspace or a person) has one row: the times of its admissions, newest first, in microseconds of the Unix
epoch, at most as many as its tier's larger limit. See docs/architecture.md.
"""

from bisect import bisect_left
from collections.abc import Sequence
from operator import neg
from typing import Any, NamedTuple

import orjson
from django.db import connection

from core.db.statements import fetch
from workspaces.models import Tier

SECOND = 1_000_000  # in microseconds, the unit of every time in this module


class Limit(NamedTuple):
    name: str
    requests: int
    seconds: int


class Window(NamedTuple):
    """How a limit stands: requests left, and seconds until one more is (0 where nothing is counted)."""

    limit: Limit
    remaining: int
    reset: int


class Status(NamedTuple):
    """The state of a subject's quota at one moment."""

    tier: str
    windows: tuple[Window, ...]

    def headers(self) -> dict[str, str]:
        """Return the fields of draft-ietf-httpapi-ratelimit-headers."""
        return {
            "RateLimit-Policy": ", ".join(
                f'"{w.limit.name}";q={w.limit.requests};w={w.limit.seconds}' for w in self.windows
            ),
            "RateLimit": ", ".join(f'"{w.limit.name}";r={w.remaining};t={w.reset}' for w in self.windows),
        }

    def describe(self) -> dict[str, Any]:
        """Return the same for `GET /me`, in seconds and requests."""
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
    """Whether a request was admitted, and the quota after that.

    `retry_after` is the number of whole seconds, rounded up, after which a single client is admitted; 0 if this request
    was.
    """

    admitted: bool
    retry_after: int
    status: Status


def limits_of(tier: Tier) -> tuple[Limit, Limit]:
    main = Limit(tier.name, tier.requests, tier.seconds)
    return main, Limit("burst", tier.burst_requests, tier.burst_seconds)


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
    counted = bisect_left(admissions, limit.seconds * SECOND - now, key=neg)  # those after `now` less the window
    if not counted:
        return Window(limit, limit.requests, 0)
    # The admission whose leaving makes room for one more: the oldest counted, unless the limit was lowered since.
    leaving = admissions[min(counted, limit.requests) - 1] + limit.seconds * SECOND
    return Window(limit, max(limit.requests - counted, 0), _seconds_up(leaving - now))


def _seconds_up(microseconds: int) -> int:
    return max(-(-microseconds // SECOND), 1)


# ---- the statement ----

_NOW = {
    # By way of a double, whose 53 bits hold microseconds until the year 2255; `extract` counts in slow decimals.
    "postgresql": "(date_part('epoch', clock_timestamp()) * 1000000)::bigint",
    # Milliseconds; SQLite takes the time once a statement, after the statement has the write lock.
    "sqlite": "(CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER) * 1000)",
}
NOW = _NOW["postgresql"]

_TERMS = ("keep", "requests", "span", "burst_requests", "burst_span")


def with_one_more(keep: str) -> str:
    """PostgreSQL's expression for the admissions of a row of `quota`, with one now: at most `keep` of them.

    `greatest` keeps them in order should the clock step back.
    """
    return f"ARRAY[greatest({NOW}, quota.admissions[1])] || quota.admissions[1:{keep} - 1]"


def has_room(admissions: str, requests: str, span: str, burst_requests: str, burst_span: str, now: str = NOW) -> str:
    """PostgreSQL's condition for admitting one more: spans are in microseconds."""
    return (
        f"coalesce({admissions}[{requests}] <= {now} - {span}, true)"
        f" AND coalesce({admissions}[{burst_requests}] <= {now} - {burst_span}, true)"
    )


_PARAMETERS = {term: f"%({term})s" for term in _TERMS}
_STATEMENTS = {
    "postgresql": f"""
        INSERT INTO workspaces_quota AS quota (subject, admissions) VALUES (%(subject)s, ARRAY[{NOW}])
        ON CONFLICT (subject) DO UPDATE
            SET admissions = {with_one_more("%(keep)s")}
            WHERE {has_room("quota.admissions", *(_PARAMETERS[term] for term in _TERMS[1:]))}
        RETURNING admissions
    """,  # noqa: S608, constants
    # SQLite can't slice: it drops up to two times for the one it adds, so a list that was longer than a lowered tier's
    # limit shrinks with each admission.
    "sqlite": """
        INSERT INTO workspaces_quota AS quota (subject, admissions) VALUES (%(subject)s, json_array({now}))
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
    """.format(now=_NOW["sqlite"]),  # noqa: S608, constants
}
_READ = {
    vendor: f"SELECT (SELECT admissions FROM workspaces_quota WHERE subject = %(subject)s), {now}"  # noqa: S608, constants
    for vendor, now in _NOW.items()
}


def admit(subject: str, tier: Tier) -> Decision:
    """Counts one request of `subject` if there is room for it."""
    main, burst = limits_of(tier)
    parameters = {
        "subject": subject,
        "keep": max(main.requests, burst.requests),
        "requests": main.requests,
        "span": main.seconds * SECOND,
        "burst_requests": burst.requests,
        "burst_span": burst.seconds * SECOND,
    }
    rows = fetch(_STATEMENTS[connection.vendor], parameters)
    return admitted(tier, _times(rows[0][0])) if rows else rejected(tier, *read(subject))


def admitted(tier: Tier, admissions: Sequence[int]) -> Decision:
    """Return the decision on a request that is the first of `admissions`."""
    return Decision(True, 0, status_at(tier, admissions, admissions[0]))


def rejected(tier: Tier, admissions: Sequence[int], now: int) -> Decision:
    """Return the decision on a request that the admissions before it leave no room for."""
    wait = _seconds_up(delay(admissions, now, limits_of(tier)))
    return Decision(False, wait, status_at(tier, admissions, now))


def status_at(tier: Tier, admissions: Sequence[int], now: int) -> Status:
    return Status(tier.name, tuple(window(admissions, now, limit) for limit in limits_of(tier)))


def status(subject: str, tier: Tier) -> Status:
    """Return the state of the quota without counting a request."""
    return status_at(tier, *read(subject))


def clear(subject: str) -> None:
    """Forget the admissions of `subject`, so that its whole quota is available."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM workspaces_quota WHERE subject = %s", [subject])


def read(subject: str) -> tuple[Sequence[int], int]:
    """Return the admissions of `subject`, newest first, and the database's time, in microseconds."""
    admissions, now = fetch(_READ[connection.vendor], {"subject": subject})[0]
    return _times(admissions), now


def _times(stored: str | list[int] | None) -> Sequence[int]:
    if isinstance(stored, str):
        times: list[int] = orjson.loads(stored)
        return times
    return stored or []
