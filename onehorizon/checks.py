"""System checks for misconfigurations that Django doesn't check.

Invalid settings raise `ImproperlyConfigured` in `onehorizon.settings` instead.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

from django.apps import apps
from django.conf import settings
from django.contrib.staticfiles.finders import get_finders
from django.contrib.staticfiles.storage import staticfiles_storage
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.core.exceptions import ImproperlyConfigured
from django.urls import URLResolver, get_resolver
from rest_framework.views import APIView

from apikeys.authentication import ApiKeyAuthentication
from apikeys.throttling import QuotaThrottle
from onehorizon.paths import API_DOCS, is_below_api

PRODUCTION = "production"
PER_PROCESS_CACHES = {
    "django.core.cache.backends.locmem.LocMemCache",
    "django.core.cache.backends.dummy.DummyCache",
}


@register(PRODUCTION, deploy=True)
def shared_cache(**_: Any) -> list[CheckMessage]:
    """Warn if the cache, which counts forms and failed authentications, is not shared between processes."""
    if settings.DEBUG or settings.CACHES["default"]["BACKEND"] not in PER_PROCESS_CACHES:
        return []
    return [
        Warning(
            "CACHE_URL is not a shared cache: each process counts sign-ins and failed authentications for itself.",
            hint="If you run several processes, set CACHE_URL to a cache that they share.",
            id="onehorizon.W001",
        )
    ]


def require_static_files() -> None:
    """Raise `ImproperlyConfigured` if `collectstatic` was not run for this release: pages would return 500.

    For servers only. Commands don't need the files, and one of them collects them.
    """
    collected: dict[str, str] | None = getattr(staticfiles_storage, "hashed_files", None)
    if collected is None:  # while DEBUG is on, files are served from where they are
        return
    ignored = apps.get_app_config("staticfiles").ignore_patterns  # type: ignore[attr-defined]  # as collectstatic
    if any(name not in collected for finder in get_finders() for name, _ in finder.list(ignored)):
        raise ImproperlyConfigured("Static files are missing or old: run manage.py collectstatic --no-input.")


@register(Tags.urls)
def guarded_api_views(**_: Any) -> list[CheckMessage]:
    """Check that every view under /api/ authenticates API keys and counts their requests against the quota."""
    return [
        Error(
            f"The view at /{route} {problem}.",
            hint="Extend workspaces.api.ApiView and keep its authentication and throttle classes.",
            id="onehorizon.E001",
        )
        for route, view in api_routes().items()
        if (problem := problem_of(view))
    ]


def problem_of(view: Callable[..., Any]) -> str:
    """Return what is wrong with a view, or an empty string."""
    view_class = getattr(view, "cls", None)
    if view_class is None or not issubclass(view_class, APIView):
        return "is not a DRF view"
    instance = view_class(**view.initkwargs)  # type: ignore[attr-defined]  # set by `as_view`
    if not any(isinstance(authenticator, ApiKeyAuthentication) for authenticator in instance.get_authenticators()):
        return "does not use ApiKeyAuthentication"
    if not any(isinstance(throttle, QuotaThrottle) for throttle in instance.get_throttles()):
        return "does not use QuotaThrottle"
    return ""


def api_routes(urlconf: str | None = None) -> dict[str, Callable[..., Any]]:
    """Return the views under /api/ by route. Routes are written as in the URLconf."""
    return {
        route: view
        for route, view in routes(get_resolver(urlconf), "")
        if is_below_api(literal_part(route)) and route != API_DOCS
    }


def literal_part(route: str) -> str:
    """Return the path of a route up to its first parameter: `/api/v1/tasks/`. Regular expressions have a `^` before."""
    return "/" + re.split(r"[^\w/.-]", route.removeprefix("^"))[0]


def routes(resolver: URLResolver, prefix: str) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield each route of a resolver, with `prefix` before it, and its view."""
    for pattern in resolver.url_patterns:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from routes(pattern, route)
        else:
            yield route, pattern.callback
