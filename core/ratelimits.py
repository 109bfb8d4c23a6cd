"""The exception for an exceeded rate limit, and approximate rate limits for the forms on pages."""

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
    """A rate limit was exceeded. `wait` is the delay until a retry, in whole seconds, at least 1.

    DRF's stock exception handler returns a 429 with this message and `Retry-After`.
    """

    wait: int

    def __init__(self, problem: str, wait: int) -> None:
        super().__init__(detail=f"{problem}, retry in {wait} second{'' if wait == 1 else 's'}")
        self.wait = wait


def limit_form(request: HttpRequest, group: str, key: str, rate: str) -> None:
    """Count a submission of the form `group` by `key`: an account, a person, or `ip` for the client IP's network.

    `rate` is a number of submissions and a time, such as `10/5m`. Raise `RateLimited` if it is exceeded. This is for
    pages only: API requests have an exact quota (`workspaces.quota`).
    """
    subject = network_of(client_ip(request)) if key == "ip" else key
    usage = get_usage(request, group=group, key=lambda *_: subject, rate=rate, increment=True)
    if usage and usage["should_limit"]:
        raise RateLimited("too many attempts", max(int(usage["time_left"]), 1))


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
