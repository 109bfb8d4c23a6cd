"""The URLs of the site, and views that fail or warn."""

import warnings

from django.core.exceptions import SuspiciousOperation
from django.http import HttpRequest, HttpResponse
from django.urls import include, path
from rest_framework.request import Request
from rest_framework.response import Response

from workspaces.api import ApiView


def failing_page(request: HttpRequest, name: str) -> HttpResponse:
    raise ZeroDivisionError(f"for {request.user}")


def suspicious_page(request: HttpRequest) -> HttpResponse:
    raise SuspiciousOperation(f"by {request.user}")


def warning_page(request: HttpRequest) -> HttpResponse:
    warnings.warn(f"about {request.user}", stacklevel=1)
    return HttpResponse()


class FailingView(ApiView):
    def get(self, request: Request, name: str) -> Response:
        raise ZeroDivisionError


urlpatterns = [
    path("failing/<name>/", failing_page),
    path("suspicious/", suspicious_page),
    path("warning/", warning_page),
    path("api/v1/failing/<name>", FailingView.as_view()),
    path("", include("onehorizon.urls")),
]
handler400 = "onehorizon.errors.bad_request"
handler500 = "onehorizon.errors.server_error"
