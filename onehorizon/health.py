"""Health checks for load balancers and supervisors: `/healthz` (liveness) and `/readyz` (readiness)."""

import logging
from collections.abc import Callable
from functools import cache

from django.db import DatabaseError, InterfaceError, connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.http import HttpRequest, HttpResponse, JsonResponse

from core.db.faults import cause_of
from onehorizon.errors import RETRY_AFTER_SECONDS, error_response

logger = logging.getLogger("onehorizon.health")


class HealthMiddleware:
    """Answers `/healthz` and `/readyz` before the middleware that redirects, checks hosts and logs.

    A probe may use any host name, because the response contains nothing of the request.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        probe = PROBES.get(request.path)
        if probe is None:
            return self.get_response(request)
        if request.method in ("GET", "HEAD"):
            response = probe()
        else:
            response = error_response(405, "Use GET.")
            response["Allow"] = "GET, HEAD"
        return response


def alive() -> HttpResponse:
    """Return 200. The database is not checked: if it is unavailable, restarting this process doesn't help."""
    return JsonResponse({"status": "ok"})


def ready() -> HttpResponse:
    """Return 200 if the database responds and has all migrations of this release, else 503.

    The time limits of requests apply (see docs/architecture.md).
    """
    try:
        has_migrations = is_migrated()
    except (DatabaseError, InterfaceError) as error:
        logger.warning("not ready: %s", error, extra={"cause": cause_of(error)})
        return _not_ready("The database is unavailable.")
    if not has_migrations:
        return _not_ready("Database migrations have not been applied yet.")
    return JsonResponse({"status": "ok"})


def is_migrated() -> bool:
    """Return whether the database has all migrations of this release."""
    return _latest_migrations() <= MigrationRecorder(connection).applied_migrations().keys()


@cache
def _latest_migrations() -> set[tuple[str, str]]:
    """Return the app and name of each app's latest migration. A newer release may have applied more."""
    return set(MigrationLoader(None).graph.leaf_nodes())


def _not_ready(message: str) -> HttpResponse:
    response = error_response(503, message)
    response["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return response


PROBES = {"/healthz": alive, "/readyz": ready}
