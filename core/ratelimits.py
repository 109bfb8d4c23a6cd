"""Rate limits for forms on pages and for failed authentications, and the exception for every exceeded limit."""

import logging
import math
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, TypeVar

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
    """A sliding-window limit on failed authentications per client IP, shared by all processes with one `CACHE_URL`.

    Allows `APIKEYS_FAILURES_PER_MINUTE` failures in any minute, and an IPv6 client's networks as many as `networks_of`
    says. Failures at the same moment may exceed the limit, by at most as many as there are threads. Counts in slots of
    `SLOT` seconds, by the wall clock, so a failure counts for up to `SLOT` seconds longer than a minute.
    """

    SECONDS = 60
    SLOT = 15

    def __init__(self, name: str) -> None:
        """`name` separates the counts of several limits."""
        self.name = name

    def count(self, client_ip: str | None) -> None:
        """Count one failure. Raise `RateLimited`, without counting it, if the limit is already reached.

        Call this after an authentication has failed, so that the limit never affects a valid credential.
        """
        self.check(client_ip)
        slot = int(time.time()) // self.SLOT
        for network, _ in networks_of(client_ip):
            key = self._key(network, slot)
            try:
                caches["failures"].incr(key)
            except ValueError:  # the slot's first failure
                # A slot is incremented only while it lasts, so never when it is about to expire.
                if not caches["failures"].add(key, 1, self.SECONDS + 2 * self.SLOT):
                    caches["failures"].incr(key)

    def check(self, client_ip: str | None) -> None:
        """Raise `RateLimited` if the limit is reached. Call this before an authentication that takes Argon2."""
        now = time.time()
        current = int(now) // self.SLOT
        # With the next one, for hosts whose clocks are a little ahead.
        slots = range(current - self.SECONDS // self.SLOT, current + 2)
        networks = networks_of(client_ip)
        counts = caches["failures"].get_many([self._key(network, slot) for network, _ in networks for slot in slots])
        wait = 0.0
        for network, multiple in networks:
            by_slot = [counts.get(self._key(network, slot), 0) for slot in slots]
            excess = sum(by_slot) - multiple * settings.APIKEYS_FAILURES_PER_MINUTE
            for slot, number in zip(slots, by_slot, strict=True):  # the oldest first
                if excess < 0:
                    break
                excess -= number
                wait = max(wait, (slot + 1) * self.SLOT + self.SECONDS - now)
        if wait:
            raise RateLimited("too many failed authentications", math.ceil(wait))

    def _key(self, network: str, slot: int) -> str:
        return f"failures:{self.name}:{network}:{slot}"


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
    """The cache of rate limits: the shared cache, or this process's memory while the shared one is unavailable.

    Limits are kept then too, but each process counts for itself. After a failure or a slow response, one thread at a
    time tries the shared cache again, every `PAUSE` seconds, so that a cache that hangs does not delay every request.
    """

    PAUSE = 10  # seconds
    SLOW = 0.1  # seconds

    _retry_at: ClassVar[float | None] = None  # of the monotonic clock; None while the shared cache is available
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def add(self, key: str, *args: Any, **options: Any) -> bool:
        return self._with_fallback(caches["default"].add, super().add, key, *args, **options)

    def get_many(self, keys: Iterable[str], version: int | None = None) -> dict[str, Any]:
        return self._with_fallback(caches["default"].get_many, super().get_many, list(keys), version=version)

    def incr(self, key: str, delta: int = 1, version: int | None = None) -> int:
        """Raise `ValueError` if the shared cache does not have the key. This process's memory starts at 0 then."""

        def incr_own(*args: Any, **options: Any) -> int:
            super(SharedOrOwnCache, self).add(key, 0, version=version)  # the shared cache may have had it until now
            return super(SharedOrOwnCache, self).incr(*args, **options)

        return self._with_fallback(caches["default"].incr, incr_own, key, delta, version=version)

    def _with_fallback(
        self, shared: Callable[..., Result], own: Callable[..., Result], *args: Any, **options: Any
    ) -> Result:
        if not self._may_use_shared():
            return own(*args, **options)
        started = time.monotonic()
        try:
            result = shared(*args, **options)
        except ValueError:  # no such key
            self._record(started)
            raise
        except Exception as error:  # each cache client has its own exception classes
            self._record(started, error)
            return own(*args, **options)
        self._record(started)
        return result

    @classmethod
    def _may_use_shared(cls) -> bool:
        with cls._lock:
            if cls._retry_at is None:
                return True
            if time.monotonic() < cls._retry_at:
                return False
            cls._retry_at = time.monotonic() + cls.PAUSE  # until this thread knows more
            return True

    @classmethod
    def _record(cls, started: float, error: Exception | None = None) -> None:
        now = time.monotonic()
        problem = error or (f"a response took {now - started:.1f} s" if now - started > cls.SLOW else None)
        with cls._lock:
            was_available = cls._retry_at is None
            cls._retry_at = now + cls.PAUSE if problem else None
        if problem:
            logger.warning("shared cache unavailable, this process counts for itself: %s", problem)
        elif not was_available:
            logger.info("shared cache available again")
