import logging
import re
import time
import uuid
from collections.abc import Callable

from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, HttpResponse

from onehorizon.client import client_address, sent_by_trusted_proxy
from onehorizon.errors import error_response, is_api, page_for
from onehorizon.logs import redact

GetResponse = Callable[[HttpRequest], HttpResponse]

logger = logging.getLogger("onehorizon.requests")

REQUEST_ID = re.compile(r"[0-9A-Za-z_-]{8,64}")


class RequestLogMiddleware:
    """One line a request: who called what, from where, how it ended, how long it took. Never a query string.

    A caller's own well-formed X-Request-Id is kept, so that their log and ours can be laid side by side; not one that
    holds a key.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        started = time.perf_counter()
        given = request.headers.get("X-Request-Id", "")
        request_id = given if REQUEST_ID.fullmatch(given) and redact(given) == given else uuid.uuid4().hex
        response = self.get_response(request)
        response["X-Request-Id"] = request_id
        if request.path.startswith(settings.STATIC_URL):
            return response
        fields: dict[str, object] = {
            "method": request.method,
            "path": request.path,
            "status": response.status_code,
            "ms": round((time.perf_counter() - started) * 1000, 1),
            "address": client_address(request),
            "requestId": request_id,
            **getattr(request, "log_fields", {}),
        }
        logger.info(
            "%s %s %s",
            request.method,
            request.path.encode("unicode_escape").decode(),
            _pairs(fields),
            extra=fields,
        )
        return response


def _pairs(fields: dict[str, object]) -> str:
    return " ".join(f"{name}={value}" for name, value in fields.items() if name not in ("method", "path"))


class ForwardedMiddleware:
    """Drops an X-Forwarded-Proto that no trusted proxy has sent, so that Django may believe the header."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if not sent_by_trusted_proxy(request):
            request.META.pop("HTTP_X_FORWARDED_PROTO", None)
        return self.get_response(request)


class ApiMiddleware:
    """What holds for every answer under /api/: nothing is cached, and an unknown host is told so in the envelope."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if not is_api(request):
            return self.get_response(request)
        try:
            request.get_host()
        except DisallowedHost:
            response = error_response(400, "This host name is not served here.")
        else:
            response = self.get_response(request)
        response["Cache-Control"] = "no-store"
        return response

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """What even the API's views let through, lest DEBUG's HTML answer it."""
        if not is_api(request):
            return None
        logger.exception("unhandled error", exc_info=exception)
        return error_response(500, "Something went wrong on our side.")


class PageMiddleware:
    """What holds for every page: nothing of it is kept by a cache, and its failures wear the product's dress."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        response["Cache-Control"] = "no-store"
        return response

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        return page_for(request, exception)
