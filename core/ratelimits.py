"""Rate limits for forms on pages and for failed authentications, and the exception for every exceeded limit."""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from cachetools import TTLCache
from django.conf import settings
from django.core.cache import caches
from django.core.cache.backends.locmem import LocMemCache
from django.http import HttpRequest, HttpResponse
from django_ratelimit.core import get_usage
from rest_framework.exceptions import Throttled

from core.client_ip import client_ip, networks_of

Result = TypeVar("Result")

logger = logging.getLogger("onehorizon.ratelimits")


class RateLimited(Throttled):
    """A rate limit was exceeded. `wait` is the delay until a retry, in whole seconds, at least 1.

    DRF's stock exception handler returns a 429 with this message and `Retry-After`.
    """

    wait: int

    def __init__(self, problem: str, wait: int) -> None:
        super().__init__(detail=f"{problem}, retry in {wait} second{'' if wait == 1 else 's'}")
        self.wait = wait


class FailureLimit:
    """A sliding-window limit on failed authentications per client IP, in this process.

    Allows `APIKEYS_FAILURES_PER_MINUTE` failures per minute, and an IPv6 client's networks as many as `networks_of`
    says. Remembers at most `MAX_NETWORKS` networks and drops the least recently used first.
    """

    SECONDS = 60
    MAX_NETWORKS = 10_000

    def __init__(self) -> None:
        self._failures: TTLCache[str, deque[float]] = TTLCache(self.MAX_NETWORKS, self.SECONDS)
        self._lock = threading.Lock()

    def count(self, client_ip: str | None) -> None:
        """Count one failure. Raise `RateLimited`, without counting it, if the limit is already reached.

        Call this after an authentication has failed, so that the limit never affects a valid credential.
        """
        with self._lock:
            now = time.monotonic()
            for network, times in self._check(client_ip, now).items():
                times.append(now)
                self._failures[network] = times

    def check(self, client_ip: str | None) -> None:
        """Raise `RateLimited` if the limit is reached. Call this before an authentication that takes Argon2."""
        with self._lock:
            self._check(client_ip, time.monotonic())

    def _check(self, client_ip: str | None, now: float) -> dict[str, deque[float]]:
        """Return the times of the last minute's failures by network, oldest first, in seconds of the monotonic clock.

        Raise `RateLimited` if a limit is reached.
        """
        failures = {}
        for network, multiple in networks_of(client_ip):
            failures[network] = times = self._failures.get(network) or deque()
            while times and times[0] <= now - self.SECONDS:
                times.popleft()
            if len(times) >= multiple * settings.APIKEYS_FAILURES_PER_MINUTE:
                raise RateLimited("too many failed authentications", math.ceil(times[0] + self.SECONDS - now))
        return failures

    def clear(self) -> None:
        with self._lock:
            self._failures.clear()


def limit_form(request: HttpRequest, group: str, key: str, rate: str) -> None:
    """Count a submission of the form `group` by `key`, such as an account or a user's id.

    `rate` is a number of submissions and a time, such as `10/5m`. Raise `RateLimited` if it is exceeded. This is for
    pages only: API requests have an exact quota (`workspaces.quota`).
    """
    usage = get_usage(request, group=group, key=lambda *_: key, rate=rate, increment=True)
    if usage and usage["should_limit"]:
        raise RateLimited("too many attempts", max(int(usage["time_left"]), 1))


def limit_form_by_ip(request: HttpRequest, group: str, rate: str) -> None:
    """Count a submission of the form `group` by each network of the client IP. See `limit_form`."""
    number, _, period = rate.partition("/")
    for network, multiple in networks_of(client_ip(request)):
        limit_form(request, group, network, f"{int(number) * multiple}/{period}")


class LimitedFormMixin:
    """Limits how often one user submits the form of a view that requires sign-in."""

    form_limit: ClassVar[tuple[str, str]]  # the form's name and the rate, as in `limit_form`

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        group, rate = self.form_limit
        limit_form(request, group, str(request.user.pk), rate)
        return super().post(request, *args, **kwargs)  # type: ignore[misc, no-any-return]  # the view's


class SharedOrOwnCache(LocMemCache):
    """The cache of django-ratelimit: the shared cache, or this process's memory while the shared one is unavailable.

    Forms keep working then, and keep a limit, but each process counts for itself.
    """

    def add(self, key: str, *args: Any, **options: Any) -> bool:
        return _with_fallback(caches["default"].add, super().add, key, *args, **options)

    def incr(self, key: str, *args: Any, **options: Any) -> int:
        """Raise `ValueError` if the key does not exist, as every cache does."""
        return _with_fallback(caches["default"].incr, super().incr, key, *args, **options)


def _with_fallback(shared: Callable[..., Result], local: Callable[..., Result], *args: Any, **options: Any) -> Result:
    try:
        return shared(*args, **options)
    except ValueError:
        raise
    except Exception as error:  # each cache client has its own exception classes
        logger.warning("shared cache unavailable, this process counts for itself: %s", error)
        return local(*args, **options)
