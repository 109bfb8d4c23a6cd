import logging
import re
import secrets
import time
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.core.exceptions import BadRequest, DisallowedHost, ImproperlyConfigured, RequestDataTooBig
from django.core.handlers.exception import convert_exception_to_response
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.utils.module_loading import import_string

from core.client_ip import client_ip, sent_by_trusted_proxy
from core.db.faults import OTHER
from core.logs import bind, redact, request_fields
from core.metrics import UNMATCHED, count_unavailable, observe_queue, observe_request
from core.requests import BodyTooSlow, receive_body
from onehorizon.errors import (
    api_error_response,
    incomplete_response,
    json_error_response,
    method_not_allowed,
    not_found,
    page_error_response,
)
from onehorizon.paths import is_file, is_for_programs, is_oauth_endpoint
from workspaces.access import Principal

GetResponse = Callable[[HttpRequest], HttpResponse]

logger = logging.getLogger("onehorizon.requests")

REQUEST_ID = re.compile(r"[0-9A-Za-z_-]{8,64}")
HTTPS_REQUIRED = "Send this request over https, and replace the key if it had one: plain HTTP is not encrypted."
OAUTH_HTTPS_REQUIRED = (
    "Send this request over https, and replace the secrets and tokens in it: plain HTTP is not encrypted."
)
LOAD_NOTHING = "default-src 'none'; frame-ancestors 'none'"  # a Content-Security-Policy that loads nothing
PAGE_METHODS = ("GET", "HEAD", "POST", "OPTIONS")
MAX_LOGGED_PATH = 2000  # characters


class DefaultHeadersMiddleware:
    """Adds the headers that every response needs, and forbids caching of all but static files.

    The outermost middleware, so that static files, probes, redirects and early errors have them too. A page has its own
    Content-Security-Policy from `CSPMiddleware`. While DEBUG is on, that skips every 404 and 500, because Django's own
    pages for them have inline styles.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        is_static_file = is_file(request.path) and response.has_header("Cache-Control")
        if not is_static_file:  # their caching headers are WhiteNoise's
            response["Cache-Control"] = "no-store"
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        if not (settings.DEBUG and response.status_code in (404, 500)):
            response.headers.setdefault("Content-Security-Policy", LOAD_NOTHING)
        return response


class RequestLogMiddleware:
    """Logs one line for each request, and adds the request's id, route and principal to every other line of it.

    The line has the method, path, client IP, status and duration, and never a query string. A 503 is a warning with its
    cause.

    A well-formed X-Request-Id from the client is kept, so that the client's log and ours can be compared. One that
    contains a key, or text that looks like a part of one, is replaced.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        observe_queue(request)
        started = time.perf_counter()
        request_id = request.META.get("HTTP_X_REQUEST_ID", "")
        if not REQUEST_ID.fullmatch(request_id) or redact(request_id) != request_id:
            request_id = secrets.token_hex(16)
        with request_fields(requestId=request_id, route=UNMATCHED) as fields:
            response = self.get_response(request)
            response["X-Request-Id"] = request_id
            if not is_file(request.path):
                seconds = time.perf_counter() - started
                observe_request(request, response, seconds)
                if response.status_code == 503:
                    count_unavailable(fields.setdefault("cause", OTHER))
                self._log(request, response, seconds)
        return response

    def process_view(self, request: HttpRequest, view: Any, args: Any, kwargs: Any) -> None:
        bind(route=request.resolver_match.route)  # type: ignore[union-attr]  # set before this hook is called

    def _log(self, request: HttpRequest, response: HttpResponse, seconds: float) -> None:
        path = request.path[:MAX_LOGGED_PATH]
        fields = {
            "method": request.method,
            "path": path,
            "status": response.status_code,
            "ms": round(seconds * 1000, 1),
            "clientIp": client_ip(request),
        }
        level = logging.WARNING if response.status_code == 503 else logging.INFO
        logger.log(level, "%s %s", request.method, path.encode("unicode_escape").decode(), extra=fields)


class ForwardedMiddleware:
    """Removes X-Forwarded-Proto unless a trusted proxy sent it, so that Django can trust the header."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if not sent_by_trusted_proxy(request):
            request.META.pop("HTTP_X_FORWARDED_PROTO", None)
        return self.get_response(request)


class PrincipalMiddleware:
    """Counts every response to a principal, and adds the headers that each has, such as RateLimit, also to a 429."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        principal: Principal | None = getattr(request, "principal", None)
        if principal is not None:
            principal.count_response(response.status_code)
            for name, value in principal.headers().items():
                response[name] = value
        return response


class ApiMiddleware:
    """Adds the headers that all responses for programs share, and rejects unknown hosts and plain HTTP.

    Programs use the paths under /api/ and some OAuth endpoints. Without a Content-Length the server would send the
    body in chunks.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response
        self.https_only: bool = settings.SECURE_SSL_REDIRECT

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if not is_for_programs(request):
            return self.get_response(request)
        response = self._rejection(request) or self.get_response(request)
        response["Content-Security-Policy"] = LOAD_NOTHING
        if response.status_code != 204:  # a 204 must not have a Content-Length (RFC 9110, 8.6)
            response["Content-Length"] = str(len(response.content))
        return response

    def _rejection(self, request: HttpRequest) -> HttpResponse | None:
        """Return a 400 for an unknown host and a 403 for plain HTTP, else None.

        A client would follow a redirect to https: it would send its key in clear on every request, and nobody would
        notice.
        """
        try:
            request.get_host()
        except DisallowedHost:
            return json_error_response(request, 400, "This host name is not served here.")
        if self.https_only and not request.is_secure():
            message = OAUTH_HTTPS_REQUIRED if is_oauth_endpoint(request) else HTTPS_REQUIRED
            return json_error_response(request, 403, message)
        return None

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Handle exceptions outside DRF's views too, so that DEBUG's HTML page is never returned."""
        return api_error_response(exception, request) if is_for_programs(request) else None


class BodyMiddleware:
    """Reads the body before anyone is authenticated, and rejects one that is too large or too slow.

    So credentials, roles and quotas are checked when the request is complete, and no transaction waits for a client.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        try:
            receive_body(request)
        except (BadRequest, BodyTooSlow, RequestDataTooBig) as error:
            return incomplete_response(error, request)
        return self.get_response(request)


class PageMiddleware:
    """Runs `settings.PAGE_MIDDLEWARE`, the middleware that only pages need, and skips it for requests of programs.

    That middleware may define `__call__`, `process_request` and `process_response`, but none of `OTHER_HOOKS`, which
    only Django calls. Errors are rendered in the product's layout.
    """

    OTHER_HOOKS = ("process_view", "process_exception", "process_template_response")

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response
        handler: Any = self._get_view_response
        for path in reversed(settings.PAGE_MIDDLEWARE):
            middleware = import_string(path)(handler)
            for hook in self.OTHER_HOOKS:
                if hasattr(middleware, hook):
                    raise ImproperlyConfigured(f"{path} has {hook}: move it from PAGE_MIDDLEWARE to MIDDLEWARE.")
            handler = convert_exception_to_response(middleware)  # as Django does for MIDDLEWARE
        self.get_page_response: GetResponse = handler

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request) if is_for_programs(request) else self.get_page_response(request)

    def _get_view_response(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if response.status_code == 405:
            return method_not_allowed(request, response["Allow"])
        if settings.DEBUG and response.status_code == 404 and request.resolver_match is None:
            return not_found(request, Http404())  # instead of DEBUG's page, which lists all URL patterns
        return response

    def process_view(self, request: HttpRequest, view: Any, args: Any, kwargs: Any) -> HttpResponse | None:
        """Reject methods that no page supports.

        `CsrfViewMiddleware` would answer that the form is out of date, and Django's generic views handle PUT as POST.
        """
        if request.method in PAGE_METHODS or is_for_programs(request):
            return None
        return HttpResponseNotAllowed(supported_methods(view))

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        return None if is_for_programs(request) else page_error_response(exception, request)


def supported_methods(view: Callable[..., Any]) -> list[str]:
    """Return the methods that the view of a page supports. A function, such as a view of the admin, supports all."""
    view_class = getattr(view, "view_class", None)
    if view_class is None:
        return list(PAGE_METHODS)
    handlers = {method: "get" if method == "HEAD" else method.lower() for method in PAGE_METHODS}
    names = view_class.http_method_names
    return [method for method in PAGE_METHODS if method.lower() in names and hasattr(view_class, handlers[method])]
