"""What may be set, but is told to who runs this in production: by `check --deploy`, and by each process that serves.

What must not be set stops the start, in `onehorizon.settings`.
"""

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Warning, register

PRODUCTION = "production"
OF_ONE_PROCESS = {
    "django.core.cache.backends.locmem.LocMemCache",
    "django.core.cache.backends.dummy.DummyCache",
}


@register(PRODUCTION, deploy=True)
def shared_cache(**_: Any) -> list[CheckMessage]:
    """The limits on sign-in and on other forms are counted in the cache."""
    if settings.DEBUG or settings.CACHES["default"]["BACKEND"] not in OF_ONE_PROCESS:
        return []
    return [
        Warning(
            "CACHE_URL names no shared cache: each process counts attempts to sign in for itself.",
            hint="With several processes, name one that they share.",
            id="onehorizon.W001",
        )
    ]
