"""Too much of something: the exception, and the coarse limits on the page's forms."""

from django.http import HttpRequest
from django_ratelimit.core import get_usage


class RateLimited(Exception):
    """Too much of something; `retry_after`, in whole seconds, is when there is room again."""

    def __init__(self, what: str, retry_after: int) -> None:
        super().__init__(f"{what}, retry in {retry_after} second{'' if retry_after == 1 else 's'}")
        self.retry_after = retry_after


def limit_form(request: HttpRequest, group: str, key: str, rate: str) -> None:
    """Counts a form's use under `key` (an account, a person; `ip` for the client's address), `rate` such as `10/5m`.

    Raises `RateLimited`. For people at a page; API requests have an exact quota of their own (apikeys.quota).
    """
    usage = get_usage(request, group=group, key=key if key == "ip" else lambda *_: key, rate=rate, increment=True)
    if usage and usage["should_limit"]:
        raise RateLimited("too many attempts", max(int(usage["time_left"]), 1))
