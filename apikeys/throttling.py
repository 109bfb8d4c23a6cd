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
from core.metrics import count_quota_rejection
from core.ratelimits import RateLimited
from workspaces.access import Principal


class QuotaThrottle(BaseThrottle):
    """Counts requests against the quota of the principal: its workspace's for an API key, the person's for a token.

    Requests without a principal pass. A request counts once, however often it is checked. Rejected ones don't count.
    """

    def allow_request(self, request: Request, view: object) -> bool:
        """Return True, or raise `RateLimited`: after False, DRF would answer with its own message."""
        if not isinstance(request.auth, Principal):
            return True
        decision = request.auth.count_request()
        if not decision.admitted:
            tier = decision.status.tier
            count_quota_rejection(tier)
            raise RateLimited(f"{tier} rate limit exceeded", decision.retry_after)
        return True


class FailureLimit:
    """A sliding-window limit on failed authentications per client IP, in this process.

    Allows `APIKEYS_FAILURES_PER_MINUTE` failures per minute. IPv6 clients are limited by their /64 network. Remembers
    at most `MAX_CLIENTS` clients and drops the least recently used first.
    """

    SECONDS = 60
    MAX_CLIENTS = 10_000

    def __init__(self) -> None:
        self._failures: TTLCache[str, deque[float]] = TTLCache(self.MAX_CLIENTS, self.SECONDS)
        self._lock = threading.Lock()

    def count(self, client_ip: str | None) -> None:
        """Count one failure. Raises `RateLimited`, without counting it, if the limit is already reached.

        Call this after an authentication has failed, so that the limit never affects a valid credential.
        """
        network = network_of(client_ip)
        with self._lock:
            times = self._check(network)
            times.append(time.monotonic())
            self._failures[network] = times

    def check(self, client_ip: str | None) -> None:
        """Raise `RateLimited` if the limit is reached. Call this before an authentication that takes Argon2."""
        with self._lock:
            self._check(network_of(client_ip))

    def _check(self, network: str) -> deque[float]:
        """Return the times of the network's last failures, oldest first, in seconds of the monotonic clock.

        Raises `RateLimited` if the limit is reached.
        """
        limit = settings.APIKEYS_FAILURES_PER_MINUTE
        times = self._failures.get(network) or deque(maxlen=limit)
        if len(times) == limit:
            wait = times[0] + self.SECONDS - time.monotonic()
            if wait > 0:
                raise RateLimited("too many failed authentications", math.ceil(wait))
        return times

    def clear(self) -> None:
        with self._lock:
            self._failures.clear()


failures = FailureLimit()  # of bearer tokens
client_failures = FailureLimit()  # of OAuth clients, counted separately
