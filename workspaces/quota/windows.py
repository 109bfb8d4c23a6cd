"""The limits of a tier, and what responses say about them. Without I/O, as `slots.py` and `rows.py`."""

from bisect import bisect_left
from collections.abc import Sequence
from operator import neg
from typing import Any, NamedTuple

from workspaces.models import Tier

SECOND = 1_000_000  # microseconds, the unit of times and windows in this package, unless a name says seconds
MAX_EXACT = 1000  # requests of a tier whose rows hold the time of each; rows of larger tiers count in slots


class Limit(NamedTuple):
    """At most `requests` in any span of `seconds`."""

    name: str
    requests: int
    seconds: int

    @property
    def window(self) -> int:
        return self.seconds * SECOND


Limits = tuple[Limit, Limit]


def has_slots(tier: Tier) -> bool:
    """Return whether the limits of the tier are counted in slots: both, if one is above `MAX_EXACT`."""
    return max(tier.requests, tier.burst_requests) > MAX_EXACT


def limits_of(tier: Tier) -> Limits:
    """Return the main limit, named as the tier, and the burst limit."""
    main = Limit(tier.name, tier.requests, tier.seconds)
    return main, Limit("burst", tier.burst_requests, tier.burst_seconds)


class Usage(NamedTuple):
    """The requests that count against a limit, and the time at which one more is left (irrelevant if none counts)."""

    used: int
    free_at: int


def usage_of(admissions: Sequence[int], now: int, limit: Limit) -> Usage:
    """Return the usage of an exact limit. `admissions` are newest first; those in the future count as made now."""
    used = bisect_left(admissions, limit.window - now, key=neg)  # admissions later than `now - window`
    if not used:
        return Usage(0, now)
    # One more request is left when this admission leaves the window: the oldest that counts, or a later one if the
    # limit was lowered.
    next_to_leave = admissions[min(used, limit.requests) - 1]
    return Usage(used, min(next_to_leave, now) + limit.window)


def low(limit: int) -> int:
    """Return the number below which little is left of a limit: a fifth of it."""
    return limit // 5


class Window(NamedTuple):
    """The state of a limit: requests left, and seconds until one more request is allowed (0 if the window is empty)."""

    limit: Limit
    remaining: int
    reset: int

    @property
    def low(self) -> int:
        """The number of requests below which little is left."""
        return low(self.limit.requests)

    @property
    def is_low(self) -> bool:
        return self.remaining < self.low or not self.remaining


def window_at(usage: Usage, now: int, limit: Limit) -> Window:
    """Return the state of the limit at `now`."""
    if not usage.used:
        return Window(limit, limit.requests, 0)
    seconds = -(-(usage.free_at - now) // SECOND)  # rounded up
    return Window(limit, max(limit.requests - usage.used, 0), max(seconds, 1))


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
