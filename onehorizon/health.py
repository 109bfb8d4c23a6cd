"""What a load balancer and a supervisor ask, by whatever address they know the process: alive, and ready to serve?"""

import logging
from collections.abc import Callable
from functools import cache

from django.db import DatabaseError, InterfaceError, connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.http import HttpRequest, HttpResponse, JsonResponse

from onehorizon.errors import RETRY_AFTER_SECONDS, error_response

logger = logging.getLogger("onehorizon.health")


class HealthMiddleware:
    """Answers `/healthz` and `/readyz` before anything else does: no redirect, no check of the host, no log line.

    Nothing of the request is used or echoed, so any host may be named.
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
            response = error_response(405, "Ask with GET.")
            response["Allow"] = "GET, HEAD"
        response["Cache-Control"] = "no-store"
        return response


def alive() -> HttpResponse:
    """The process answers. Not a word on the database: a restart wouldn't bring it back."""
    return JsonResponse({"status": "ok"})


def ready() -> HttpResponse:
    """The database answers, within the time that any request gives it, and has every migration that this code needs."""
    try:
        migrated = _needed() <= MigrationRecorder(connection).applied_migrations().keys()
    except (DatabaseError, InterfaceError) as error:
        logger.warning("not ready: %s", error)
        return _unready("The database can't be reached.")
    if not migrated:
        return _unready("The database isn't migrated yet.")
    return JsonResponse({"status": "ok"})


@cache
def _needed() -> set[tuple[str, str]]:
    """The last migration of each app in this release; a newer release may have applied more."""
    return set(MigrationLoader(None).graph.leaf_nodes())


def _unready(why: str) -> HttpResponse:
    response = error_response(503, why)
    response["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return response


PROBES = {"/healthz": alive, "/readyz": ready}
