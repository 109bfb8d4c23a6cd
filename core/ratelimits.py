"""The exception for an exceeded rate limit, and coarse limits on the pages' forms."""

import logging
from collections.abc import Callable
from typing import Any, TypeVar

from django.core.cache import caches
from django.core.cache.backends.locmem import LocMemCache
from django.http import HttpRequest
from django_ratelimit.core import get_usage
from rest_framework.exceptions import Throttled

from core.client_ip import client_ip, network_of

Result = TypeVar("Result")

logger = logging.getLogger("onehorizon.ratelimits")


class RateLimited(Throttled):
    """A rate limit was exceeded. `wait` is the number of whole seconds, at least 1, until there is room again.

    DRF's stock exception handler answers it with 429, this message, and `Retry-After`.
    """

    wait: int

    def __init__(self, problem: str, wait: int) -> None:
        super().__init__(detail=f"{problem}, retry in {wait} second{'' if wait == 1 else 's'}")
        self.wait = wait


def limit_form(request: HttpRequest, group: str, key: str, rate: str) -> None:
    """Counts a form's use under `key` (an account, a person; `ip` for the client's address), `rate` such as `10/5m`.

    Raises `RateLimited`. For people at a page; API requests have an exact quota of their own (workspaces.quota).
    """
    counted = network_of(client_ip(request)) if key == "ip" else key
    usage = get_usage(request, group=group, key=lambda *_: counted, rate=rate, increment=True)
    if usage and usage["should_limit"]:
        raise RateLimited("too many attempts", max(int(usage["time_left"]), 1))


class SharedOrOwnCache(LocMemCache):
    """What django-ratelimit counts in: the cache that the hosts share, and this process's memory while that is away.

    So a form neither fails nor loses its limit for want of the cache; the limit is then each process's own.
    """

    def add(self, key: str, *args: Any, **options: Any) -> bool:
        return _tried(caches["default"].add, super().add, key, *args, **options)

    def incr(self, key: str, *args: Any, **options: Any) -> int:
        """Raises `ValueError` where there is no such key, as every cache does."""
        return _tried(caches["default"].incr, super().incr, key, *args, **options)


def _tried(shared: Callable[..., Result], own: Callable[..., Result], *args: Any, **options: Any) -> Result:
    try:
        return shared(*args, **options)
    except ValueError:
        raise
    except Exception as error:  # every cache's client has errors of its own
        logger.warning("the shared cache is away, this process counts by itself: %s", error)
        return own(*args, **options)
