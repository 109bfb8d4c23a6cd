"""Map exceptions to error responses. Domain exceptions don't depend on HTTP.

Every error under /api/ has the same body: `{"code": <status>, "message": "<sentence>"}`, with `errors` by field on 400.
Errors of the OAuth endpoints for programs have the body that RFC 6749, 5.2 defines. Other errors are pages in the
product's layout.
"""

import logging
from datetime import timedelta
from typing import Any

import orjson
from django.core.exceptions import BadRequest, PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.db import DataError, InterfaceError, InternalError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from rest_framework import exceptions
from rest_framework.request import Request
from rest_framework.views import set_rollback

from apikeys.authentication import challenge, sends_key_elsewhere
from apikeys.models import ApiKey, IdempotencyKeyReused, KeyNotCreated, KeyNotRotated
from apikeys.permissions import MissingScope
from core.argon2 import TooBusy
from core.db.faults import cause_of
from core.logs import bind
from core.ratelimits import RateLimited
from core.requests import BodyTooSlow
from oauth.models import Application
from onehorizon.paths import is_for_programs, is_oauth_endpoint
from workspaces.models import Membership, NotAllowed, NoWorkspaceChosen, Task, Workspace

logger = logging.getLogger("onehorizon.errors")

NO_KEY = "No API key was sent."
INTERNAL_ERROR = "Something went wrong on our side. We've logged it."
RETRY_AFTER_SECONDS = 5  # of a 503; longer than the connection pool waits between its attempts to reconnect
# Rows that a request names but its principal can't reach. Another missing row, such as a tier, is a bug: a logged 500.
NOT_FOUND = (
    Http404,
    Workspace.DoesNotExist,
    Membership.DoesNotExist,
    Task.DoesNotExist,
    ApiKey.DoesNotExist,
    Application.DoesNotExist,
)
# Database errors that say nothing about the request, so that it can be repeated. The others (`IntegrityError`,
# `ProgrammingError`, …) are bugs: a logged 500.
UNAVAILABLE = (
    OperationalError,  # no connection, a time limit, a lock, a deadlock, a full disk
    InterfaceError,  # a closed connection
    InternalError,  # PostgreSQL has ended the transaction, such as by idle_in_transaction_session_timeout
)
OAUTH_ERRORS = {429: "temporarily_unavailable", 500: "server_error", 503: "temporarily_unavailable"}  # by status
REJECTED_VALUE = "the database rejected a value of this request: %s"  # such as a NUL character on PostgreSQL


def error_response(
    code: int, message: str, errors: dict[str, list[str]] | None = None, headers: dict[str, str] | None = None
) -> HttpResponse:
    """Return an error response of the API. `code` is the HTTP status; `errors` has the messages by field."""
    body: dict[str, Any] = {"code": code, "message": message}
    if errors:
        body["errors"] = errors
    return HttpResponse(orjson.dumps(body), status=code, headers=headers, content_type="application/json")


def json_error_response(
    request: HttpRequest | Request,
    code: int,
    message: str,
    errors: dict[str, list[str]] | None = None,
    headers: dict[str, str] | None = None,
) -> HttpResponse:
    """Return an error response for a program: of the API, or of an OAuth endpoint."""
    if not is_oauth_endpoint(request):
        return error_response(code, message, errors, headers)
    body = {"error": OAUTH_ERRORS.get(code, "invalid_request"), "error_description": message}
    return JsonResponse(body, status=code, headers=headers)


def exception_handler(error: Exception, context: dict[str, Any]) -> HttpResponse:
    """DRF's EXCEPTION_HANDLER. It handles every exception, so that an API path never returns HTML."""
    set_rollback()
    return api_error_response(error, context["request"])


def api_error_response(error: Exception, request: HttpRequest | Request) -> HttpResponse:
    """Return the response of the API, or of an OAuth endpoint for programs, to an exception."""
    headers: dict[str, str] = {}
    errors: dict[str, list[str]] | None = None
    match error:
        case exceptions.ValidationError():
            errors = flatten(error.detail)
            code, message = 400, "Invalid fields: " + ", ".join(errors) + "."
        case exceptions.NotAuthenticated():
            guide = request.build_absolute_uri(reverse("document", args=["api-keys"]))
            problem = "The API key was not sent as a bearer token." if sends_key_elsewhere(request) else NO_KEY
            message = f'{problem} Send it as "Authorization: Bearer one_…". See {guide}.'
            code, headers = error.status_code, challenge_of(error)
        case exceptions.AuthenticationFailed():
            code, message, headers = error.status_code, str(error.detail), challenge_of(error)
        case RateLimited():
            code, message = 429, str(error)
            headers["Retry-After"] = str(error.wait)
        case TooBusy():
            bind(cause=error.cause)
            code, message = 503, str(error)
            headers["Retry-After"] = str(error.wait)
        case MissingScope():
            code, message = 403, str(error)
            headers["WWW-Authenticate"] = challenge(error="insufficient_scope", scope=error.scope)
        case IdempotencyKeyReused():
            code, message = 422, str(error)
        case KeyNotCreated() | KeyNotRotated():
            code, message = 409, str(error)
        case NoWorkspaceChosen():
            code, message = 400, str(error)
        case _ if isinstance(error, NOT_FOUND):
            code, message = 404, "Not found."
        case NotAllowed():
            code, message = 403, str(error)
        case PermissionDenied():
            code, message = 403, "You don't have permission to do this."
        case BodyTooSlow():
            code, message = 408, str(error)
        case RequestDataTooBig():
            code, message = 413, "The body is too large."
        case BadRequest() | SuspiciousOperation():  # such as more parameters than DATA_UPLOAD_MAX_NUMBER_FIELDS
            code, message = 400, "The request is malformed."
        case DataError():
            logger.warning(REJECTED_VALUE, error)
            code, message = 400, "The request is malformed."
        case _ if isinstance(error, UNAVAILABLE):
            bind_cause(error)
            code, message = 503, "The database is temporarily unavailable, retry shortly."
            headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
        case exceptions.UnsupportedMediaType():
            code, message = 415, "Send the body as JSON, with the Content-Type application/json."
        case exceptions.APIException():
            code, message = error.status_code, str(error.detail)
        case _:
            logger.exception("unhandled exception")
            code, message = 500, INTERNAL_ERROR
    return json_error_response(request, code, message, errors, headers)


def bind_cause(error: Exception) -> None:
    """Add the cause of a 503 to the request's log line, which is the only line about it, and to the metrics."""
    bind(cause=cause_of(error), error=str(error))


def challenge_of(error: exceptions.APIException) -> dict[str, str]:
    """Return the `WWW-Authenticate` header that APIView set on the exception. Without one, APIView returns a 403."""
    challenge = getattr(error, "auth_header", None)
    return {"WWW-Authenticate": challenge} if challenge else {}


def flatten(detail: Any, path: str = "") -> dict[str, list[str]]:
    """Return DRF's nested errors as one level: `{"contributors.0.userId": ["…"]}`.

    Errors without a field have the key `body`.
    """
    if isinstance(detail, dict):
        items = [("" if key == "non_field_errors" else str(key), value) for key, value in detail.items()]
    elif isinstance(detail, list) and any(isinstance(item, dict | list) for item in detail):
        items = [(str(index), value) for index, value in enumerate(detail)]
    else:
        sentences = detail if isinstance(detail, list) else [detail]
        return {path or "body": [str(sentence) for sentence in sentences]} if sentences else {}
    flat: dict[str, list[str]] = {}
    for key, value in items:
        flat.update(flatten(value, ".".join(part for part in (path, key) if part)))
    return flat


# ---- errors of pages, and errors before a view runs ----


def page_error_response(error: Exception, request: HttpRequest) -> HttpResponse | None:
    """Return the error page for an exception of a page's view, or None if Django's own handling applies."""
    match error:
        case _ if isinstance(error, NOT_FOUND):
            return not_found(request, error)
        case NotAllowed():
            return permission_denied(request, error)
        case RateLimited():
            retry_at = timezone.now() + timedelta(seconds=error.wait)
            response = render(request, "429.html", {"retry_at": retry_at}, status=429)
            response["Retry-After"] = str(error.wait)
            return response
        case TooBusy():
            bind(cause=error.cause)
            return _static_page(503, "503_busy.html")
        case NoWorkspaceChosen():
            return redirect("workspaces")
        case DataError():
            logger.warning(REJECTED_VALUE, error)
            return bad_request(request, error)
        case _ if isinstance(error, UNAVAILABLE):
            bind_cause(error)
            return _static_page(503, "503.html")
    return None


def incomplete_response(error: BadRequest | BodyTooSlow | RequestDataTooBig, request: HttpRequest) -> HttpResponse:
    """Return the response to a request whose body was not received."""
    if is_for_programs(request):
        return api_error_response(error, request)
    match error:
        case BodyTooSlow():
            status = 408
        case RequestDataTooBig():
            status = 413
        case _:
            status = 400
    return _static_page(status, f"{status}.html")


def _static_page(status: int, template: str) -> HttpResponse:
    """Render a page without the request's user, which would need a database query: the database may be unavailable."""
    response = HttpResponse(render_to_string(template), status=status)
    if status == 503:
        response["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return response


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's handler400, for requests that Django rejects before a view runs, such as those for an unknown host."""
    if is_for_programs(request):
        return json_error_response(request, 400, "The request is malformed.")
    return _static_page(400, "400.html")


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's handler403. The page of the admin says who can grant permissions."""
    is_admin = request.resolver_match is not None and request.resolver_match.app_name == "admin"
    return render(request, "admin/403.html" if is_admin else "403.html", status=403)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Django's CSRF_FAILURE_VIEW."""
    return render(request, "403_csrf.html", status=403)


def method_not_allowed(request: HttpRequest, allow: str) -> HttpResponse:
    """Return the page for a 405. `allow` is the value of its Allow header."""
    response = render(request, "405.html", status=405)
    response["Allow"] = allow
    return response


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's handler404."""
    if is_for_programs(request):
        return json_error_response(request, 404, "This path does not exist.")
    return render(request, "404.html", status=404)


def server_error(request: HttpRequest) -> HttpResponse:
    """Django's handler500."""
    if is_for_programs(request):
        return json_error_response(request, 500, INTERNAL_ERROR)
    return _static_page(500, "500.html")
