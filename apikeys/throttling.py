"""How requests draw on a principal's quota, and how often an address may fail to authenticate."""

import math
import threading
import time
from collections import deque

from cachetools import TTLCache
from django.conf import settings
from django.http import HttpRequest

from onehorizon.client import block_of
from onehorizon.metrics import count_quota_refusal
from onehorizon.ratelimits import RateLimited
from workspaces.access import Principal


def admit(request: HttpRequest, principal: Principal) -> None:
    """Counts the request on the principal's quota, and leaves the decision on it as `quota`, for the answer's fields.

    Raises `RateLimited`, which words the delay as we document it, instead of DRF's `Throttled`.
    """
    decision = principal.admit()
    request.quota = decision  # type: ignore[attr-defined]
    if not decision.admitted:
        count_quota_refusal(decision.tier)
        raise RateLimited(f"{decision.tier} rate limit exceeded", decision.retry_after)


class FailureLimit:
    """How many failed authentications an address is told about, a minute, in this process.

    `count` is asked only after an authentication failed, so it can't delay or refuse a request with a right key.
    Bounded: `ADDRESSES` at most, the least recent goes first.
    """

    SECONDS = 60
    ADDRESSES = 10_000

    def __init__(self) -> None:
        self._failures: TTLCache[str, deque[float]] = TTLCache(self.ADDRESSES, self.SECONDS)
        self._lock = threading.Lock()

    def count(self, address: str | None) -> None:
        """Notes a failure. Raises `RateLimited` where the minute is full; those aren't counted."""
        block = block_of(address)
        with self._lock:
            times = self._require_room(block)
            times.append(time.monotonic())
            self._failures[block] = times

    def require_room(self, address: str | None) -> None:
        """For what costs too much to be tried once more. Raises `RateLimited` where the minute is full."""
        with self._lock:
            self._require_room(block_of(address))

    def _require_room(self, block: str) -> deque[float]:
        now = time.monotonic()
        most = settings.APIKEYS_FAILURES_PER_MINUTE
        times = self._failures.get(block) or deque(maxlen=most)
        if len(times) == most and times[0] > now - self.SECONDS:
            delay = math.ceil(times[0] + self.SECONDS - now)
            raise RateLimited("too many failed authentications", max(delay, 1))
        return times

    def clear(self) -> None:
        with self._lock:
            self._failures.clear()


failures = FailureLimit()  # of bearer tokens
client_failures = FailureLimit()  # of OAuth clients, with which the others have nothing to do
