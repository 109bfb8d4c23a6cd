"""The quota of a principal, and the limit on failed authentications, as DRF and the views meet them."""

import ipaddress
import math
import threading
import time
from collections import deque
from typing import cast

from cachetools import TTLCache
from django.conf import settings
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from apikeys import quota
from onehorizon.ratelimits import RateLimited
from workspaces.access import Principal


class QuotaThrottle(BaseThrottle):
    """Counts each request on its principal's quota, and leaves the decision on the request for the answer's fields.

    Raises `RateLimited`, which words the delay as we document it, instead of DRF's `Throttled`.
    """

    def allow_request(self, request: Request, view: object) -> bool:
        principal = cast("Principal | None", request.auth)
        if principal is not None:
            decision = quota.admit(principal.quota_subject, principal.quota_tier)
            request.quota = decision  # type: ignore[attr-defined]
            if not decision.admitted:
                raise RateLimited(f"{decision.tier} rate limit exceeded", decision.retry_after)
        return True


class FailureLimit:
    """How many failed authentications an address is told about, a minute, in this process.

    It is asked only after an authentication failed, so it can't delay or refuse a request that carries a right key.
    An IPv6 client owns a /64, so that is what is counted. Bounded: `ADDRESSES` at most, the least recent goes first.
    """

    SECONDS = 60
    ADDRESSES = 10_000

    def __init__(self) -> None:
        self._failures: TTLCache[str, deque[float]] = TTLCache(self.ADDRESSES, self.SECONDS)
        self._lock = threading.Lock()

    def count(self, address: str | None) -> None:
        """Notes a failure. Raises `RateLimited` where the minute is full; those aren't counted."""
        now = time.monotonic()
        most = settings.APIKEYS_FAILURES_PER_MINUTE
        block = _block(address)
        with self._lock:
            times = self._failures.get(block) or deque(maxlen=most)
            if len(times) == most and times[0] > now - self.SECONDS:
                delay = math.ceil(times[0] + self.SECONDS - now)
                raise RateLimited("too many failed authentications", max(delay, 1))
            times.append(now)
            self._failures[block] = times

    def clear(self) -> None:
        with self._lock:
            self._failures.clear()


def _block(address: str | None) -> str:
    if address is None or ":" not in address:
        return address or ""
    return str(ipaddress.ip_network((address.partition("%")[0], 64), strict=False))


failures = FailureLimit()
