"""Table 3: every route declares authentication, permission and throttle; rejected requests count against the quota."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.http import HttpRequest, HttpResponse
from django.urls import clear_url_caches, include, path
from rest_framework.authentication import SessionAuthentication
from rest_framework.decorators import api_view
from rest_framework.permissions import AllowAny, BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apikeys.permissions import PrincipalRequired
from onehorizon.checks import api_routes, guarded_api_views, problem_of
from onehorizon.openapi import SchemaView
from tests.helpers import Api, make_key
from workspaces import quota
from workspaces.api import ApiView, ApiViewSet, UnknownPathView
from workspaces.models import Workspace


def missing(view: Callable[..., Any]) -> list[str]:
    """Return what a view fails to declare. The initkwargs were passed to `as_view()` and override the class."""
    if problem := problem_of(view):
        return [problem]
    cls: Any = view.cls  # type: ignore[attr-defined]
    if not issubclass(cls, ApiView):
        return ["does not extend ApiView"]
    instance = cls(**view.initkwargs)  # type: ignore[attr-defined]
    is_public = cls in (SchemaView, UnknownPathView)
    declared = {
        "permission": is_public
        or any(isinstance(permission, PrincipalRequired) for permission in instance.get_permissions()),
        "order of the checks": cls.initial in (ApiView.initial, UnknownPathView.initial),
        "dispatch": cls.dispatch is APIView.dispatch,
    }
    return [name for name, is_declared in declared.items() if not is_declared]


@pytest.mark.parametrize("route", api_routes())
def test_every_route_declares_authentication_throttle_and_permission(route: str) -> None:
    assert missing(api_routes()[route]) == []


def test_api_routes_returns_the_routes() -> None:
    assert {"api/v1/me", "api/v1/workspaces/<str:workspace_id>/tasks/<str:task_id>"} <= set(api_routes())
    assert list(api_routes().values())[-1].cls is UnknownPathView  # type: ignore[attr-defined]


class NeverAllowed(BasePermission):
    def has_permission(self, request: Request, view: object) -> bool:
        return False


class ForbiddenView(ApiView):
    permission_classes = [PrincipalRequired, NeverAllowed]


class OpenView(ApiView):
    permission_classes = [AllowAny]


class UnauthenticatedView(ApiView):
    authentication_classes = []


class UnlimitedView(ApiView):
    throttle_classes = []


class OtherAuthenticationView(APIView):
    authentication_classes = [SessionAuthentication]


class OwnOrderView(ApiView):
    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        self.check_permissions(request)


class PlainView(APIView):
    pass


class ListViewSet(ApiViewSet):
    def list(self, request: Request) -> Response:
        return Response({})


def plain_function(request: HttpRequest) -> HttpResponse:
    return HttpResponse("open to all")


@api_view(["GET"])
def decorated_function(request: Request) -> Response:
    return Response({})


careless = [
    path("function", plain_function),
    path("plain", PlainView.as_view()),
    path("open", OpenView.as_view()),
    path("unauthenticated", UnauthenticatedView.as_view()),
    path("unlimited", UnlimitedView.as_view()),
    path("other-authentication", OtherAuthenticationView.as_view()),
    path("decorated-function", decorated_function),
    path("own-order", OwnOrderView.as_view()),
    path("initkwargs", ListViewSet.as_view({"get": "list"}, permission_classes=[])),
]
urlpatterns = [
    path("api/v1/forbidden", ForbiddenView.as_view()),
    path("api/v1/careless/", include(careless)),
    path("api/docs.json", plain_function),
    path("", include("onehorizon.urls")),
]


PROBLEMS = {
    "function": "is not a DRF view",
    "plain": "does not extend ApiView",
    "open": "permission",
    "unauthenticated": "does not use ApiKeyAuthentication",
    "unlimited": "does not use QuotaThrottle",
    "other-authentication": "does not use ApiKeyAuthentication",
    "decorated-function": "does not extend ApiView",
    "own-order": "order of the checks",
    "initkwargs": "permission",
}


@pytest.mark.parametrize(("name", "problem"), PROBLEMS.items())
def test_an_incomplete_declaration_is_detected(name: str, problem: str) -> None:
    assert missing(api_routes(__name__)[f"api/v1/careless/{name}"]) == [problem]


@pytest.mark.urls(__name__)
def test_the_system_check_names_each_view_that_is_not_guarded() -> None:
    errors = guarded_api_views()

    assert {error.id for error in errors} == {"onehorizon.E001"}
    assert [error.msg for error in errors] == [
        "The view at /api/v1/careless/function is not a DRF view.",
        "The view at /api/v1/careless/unauthenticated does not use ApiKeyAuthentication.",
        "The view at /api/v1/careless/unlimited does not use QuotaThrottle.",
        "The view at /api/v1/careless/other-authentication does not use ApiKeyAuthentication.",
        "The view at /api/docs.json is not a DRF view.",
    ]


def test_the_system_check_is_part_of_manage_py_check(capsys: pytest.CaptureFixture[str], settings: Any) -> None:
    call_command("check")
    settings.ROOT_URLCONF = __name__
    clear_url_caches()
    try:
        with pytest.raises(SystemCheckError, match="careless/function is not a DRF view"):
            call_command("check")
    finally:
        clear_url_caches()


TASKS = "/workspaces/current/tasks"
FORM = {"data": "title=Ship", "content_type": "application/x-www-form-urlencoded"}
HUGE = {"data": b'{"title":"' + b"a" * (1024 * 1024) + b'"}', "content_type": "application/json"}
CUT = {"data": b'{"title":', "content_type": "application/json"}

REJECTED: dict[str, tuple[int, str, str, dict[str, Any]]] = {
    "no permission": (403, "GET", "/forbidden", {}),
    "unknown path": (404, "GET", "/nowhere", {}),
    "unknown path outside /api/v1": (404, "GET", "/../v2/me", {}),
    "absent task": (404, "GET", f"{TASKS}/tsk_00000000000000000000000000", {}),
    "another workspace": (404, "GET", "/workspaces/{elsewhere}/tasks", {}),
    "unsupported method": (405, "PUT", TASKS, {}),
    "not acceptable": (406, "GET", TASKS, {"headers": {"Accept": "text/html"}}),
    "unknown path, not acceptable": (406, "GET", "/nowhere", {"headers": {"Accept": "text/html"}}),
    "too large": (413, "POST", TASKS, HUGE),
    "unsupported type": (415, "POST", TASKS, FORM),
    "malformed": (400, "POST", TASKS, CUT),
    "invalid query": (400, "GET", f"{TASKS}?limit=0", {}),
    "invalid field": (400, "POST", TASKS, {"data": b'{"title":""}', "content_type": "application/json"}),
}


@pytest.mark.django_db
@pytest.mark.urls(__name__)
@pytest.mark.parametrize(("status", "method", "url", "options"), REJECTED.values(), ids=REJECTED.keys())
def test_a_rejected_request_counts_against_the_quota_and_has_its_headers(
    status: int, method: str, url: str, options: dict[str, Any], api: Api, elsewhere: Workspace
) -> None:
    response = api.request(method, url.format(elsewhere=elsewhere.pk), **options)

    assert response.status_code == status
    assert response.json()["code"] == status
    assert response["RateLimit-Policy"] == '"standard";q=200;w=900, "burst";q=40;w=60'
    assert response["RateLimit"] == '"standard";r=199;t=900, "burst";r=39;t=60'
    assert api.get("/me")["RateLimit"].startswith('"standard";r=198;')


@pytest.mark.django_db
@pytest.mark.urls(__name__)
@pytest.mark.parametrize(("status", "method", "url", "options"), REJECTED.values(), ids=REJECTED.keys())
def test_over_quota_nothing_else_is_checked(
    status: int, method: str, url: str, options: dict[str, Any], api: Api, workspace: Workspace
) -> None:
    for _ in range(40):
        quota.admit(workspace.pk, workspace.tier)

    response = api.request(method, url.format(elsewhere="w_0"), **options)

    assert response.status_code == 429
    assert response["RateLimit"].endswith('"burst";r=0;t=' + response["Retry-After"])


@pytest.mark.django_db
@pytest.mark.urls(__name__)
def test_a_request_without_a_key_counts_against_no_quota(api: Api, elsewhere: Workspace) -> None:
    stranger = Api(make_key(elsewhere)[1])

    for response in (Api().get("/me"), Api().get("/nowhere"), stranger.get("/me")):
        assert response.has_header("RateLimit") == (response.status_code == 200)

    assert api.get("/me")["RateLimit"].startswith('"standard";r=199;')
