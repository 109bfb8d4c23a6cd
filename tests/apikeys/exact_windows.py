"""The state of exact limits, for tests."""

from collections.abc import Sequence

from workspaces.quota import Limit, Window, usage_of
from workspaces.quota.windows import window_at


def delay(admissions: Sequence[int], now: int, limits: Sequence[Limit]) -> int:
    """Return the microseconds until a request is admitted; 0 or less: now."""
    usages = [usage_of(admissions, now, limit) for limit in limits]
    full = (usage for usage, limit in zip(usages, limits, strict=True) if usage.used >= limit.requests)
    return max((usage.free_at - now for usage in full), default=0)


def window(admissions: Sequence[int], now: int, limit: Limit) -> Window:
    return window_at(usage_of(admissions, now, limit), now, limit)
