"""The workspace's quota as a DRF throttle class, and the limit on failed authentications per client IP."""

import math
import threading
import time
from collections import deque

from cachetools import TTLCache
from django.conf import settings
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from core.client_ip import network_of
from core.metrics import count_quota_refusal
from core.ratelimits import RateLimited
from workspaces.access import Principal


class QuotaThrottle(BaseThrottle):
    """Admits or rejects a request by the quota that its principal shares: a workspace's, or a person's own.

    Requests without a principal pass. A request counts once, however often it is checked, and not at all if rejected.
    """

    def allow_request(self, request: Request, view: object) -> bool:
        """Raises `RateLimited`, whose message and delay DRF would otherwise replace by its own."""
        if not isinstance(request.auth, Principal):
            return True
        decision = request.auth.count_request()
        if not decision.admitted:
            tier = decision.status.tier
            count_quota_refusal(tier)
            raise RateLimited(f"{tier} rate limit exceeded", decision.retry_after)
        return True


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
        block = network_of(address)
        with self._lock:
            times = self._require_room(block)
            times.append(time.monotonic())
            self._failures[block] = times

    def require_room(self, address: str | None) -> None:
        """For what costs too much to be tried once more. Raises `RateLimited` where the minute is full."""
        with self._lock:
            self._require_room(network_of(address))

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
