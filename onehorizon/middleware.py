import logging
import re
import secrets
import time
from collections.abc import Callable
from typing import Any

from csp import middleware as csp
from django.conf import settings
from django.contrib.auth import middleware as auth
from django.contrib.messages import middleware as messages
from django.contrib.sessions import middleware as sessions
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, HttpResponse
from django.middleware import common
from django.utils.deprecation import MiddlewareMixin

from onehorizon.client import client_address, sent_by_trusted_proxy
from onehorizon.errors import error_response, is_api, page_for, refusal
from onehorizon.logs import redact
from onehorizon.metrics import count_request

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
        given = request.META.get("HTTP_X_REQUEST_ID", "")
        request_id = given if REQUEST_ID.fullmatch(given) and redact(given) == given else secrets.token_hex(16)
        response = self.get_response(request)
        response["X-Request-Id"] = request_id
        if request.path.startswith(settings.STATIC_URL):
            return response
        seconds = time.perf_counter() - started
        count_request(request, response, seconds)
        fields: dict[str, object] = {
            "method": request.method,
            "path": request.path,
            "status": response.status_code,
            "ms": round(seconds * 1000, 1),
            "address": client_address(request),
            "requestId": request_id,
            **getattr(request, "log_fields", {}),
        }
        logger.info("%s %s", request.method, request.path.encode("unicode_escape").decode(), extra=fields)
        return response


class ForwardedMiddleware:
    """Drops an X-Forwarded-Proto that no trusted proxy has sent, so that Django may believe the header."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if not sent_by_trusted_proxy(request):
            request.META.pop("HTTP_X_FORWARDED_PROTO", None)
        return self.get_response(request)


class ApiMiddleware:
    """What holds for every answer under /api/: nothing is cached, its length and the quota are told, an unknown host is
    refused. Without a length the server would send the body in chunks.
    """

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
        if (quota := getattr(request, "quota", None)) is not None:
            for name, value in quota.headers().items():
                response[name] = value
        response["Cache-Control"] = "no-store"
        response["Content-Security-Policy"] = "default-src 'none'; frame-ancestors 'none'"
        if response.status_code != 204:  # which must not have one (RFC 9110, 8.6)
            response["Content-Length"] = str(len(response.content))
        return response

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """What even the API's views let through, lest DEBUG's HTML answer it."""
        return refusal(exception, self) if is_api(request) else None


class ForPages(MiddlewareMixin):
    """Mixed into a middleware that pages need: API requests pass it by, since each costs them time for nothing."""

    def __call__(self, request: HttpRequest) -> Any:
        return self.get_response(request) if is_api(request) else super().__call__(request)


class CSPMiddleware(ForPages, csp.CSPMiddleware):
    pass


class SessionMiddleware(ForPages, sessions.SessionMiddleware):
    pass


class CommonMiddleware(ForPages, common.CommonMiddleware):
    pass


class AuthenticationMiddleware(ForPages, auth.AuthenticationMiddleware):
    pass


class MessageMiddleware(ForPages, messages.MessageMiddleware):
    pass


class PageMiddleware:
    """What holds for every page: nothing of it is kept by a cache, and its failures wear the product's dress."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        response["Cache-Control"] = "no-store"
        return response

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        return None if is_api(request) else page_for(request, exception)
