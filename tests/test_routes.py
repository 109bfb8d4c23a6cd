"""Table 3: every route declares authentication and permission, and counts, also what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.urls import include, path
from rest_framework.permissions import AllowAny, BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.test import APIClient
from rest_framework.views import APIView

from apikeys import quota
from apikeys.authentication import PrincipalAuthentication
from apikeys.permissions import PrincipalRequired
from onehorizon.api import ApiView, ApiViewSet, UnknownPathView
from onehorizon.openapi import SchemaView
from tests.helpers import Api, api_routes, make_key
from workspaces.models import Workspace


def missing(view: Callable[..., Any]) -> list[str]:
    """What a view fails to declare; the initkwargs are what `as_view()` was given, and win over the class."""
    cls = getattr(view, "cls", None)
    if cls is None or not issubclass(cls, ApiView):
        return ["ApiView"]
    made = cls(**view.initkwargs)  # type: ignore[attr-defined]
    wanted = {
        "authentication": any(isinstance(each, PrincipalAuthentication) for each in made.get_authenticators()),
        "permission": cls in (SchemaView, UnknownPathView)
        or any(isinstance(each, PrincipalRequired) for each in made.get_permissions()),
        "order of the checks": cls.initial in (ApiView.initial, UnknownPathView.initial),
        "dispatch": cls.dispatch is APIView.dispatch,
    }
    return [name for name, declared in wanted.items() if not declared]


@pytest.mark.parametrize("route", api_routes())
def test_every_route_declares_authentication_and_permission(route: str) -> None:
    assert missing(api_routes()[route]) == []


def test_the_walk_finds_the_routes() -> None:
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


class OwnOrderView(ApiView):
    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        self.check_permissions(request)


class PlainView(APIView):
    authentication_classes = [PrincipalAuthentication]
    permission_classes = [PrincipalRequired]


class ListViewSet(ApiViewSet):
    def list(self, request: Request) -> Response:
        return Response({})


def plain_function(request: HttpRequest) -> HttpResponse:
    return HttpResponse("open to all")


careless = [
    path("function", plain_function),
    path("plain", PlainView.as_view()),
    path("open", OpenView.as_view()),
    path("unauthenticated", UnauthenticatedView.as_view()),
    path("own-order", OwnOrderView.as_view()),
    path("initkwargs", ListViewSet.as_view({"get": "list"}, permission_classes=[])),
]
urlpatterns = [
    path("api/v1/forbidden", ForbiddenView.as_view()),
    path("api/v1/careless/", include(careless)),
    path("", include("onehorizon.urls")),
]


@pytest.mark.parametrize(
    ("name", "forgotten"),
    [
        ("function", ["ApiView"]),
        ("plain", ["ApiView"]),
        ("open", ["permission"]),
        ("unauthenticated", ["authentication"]),
        ("own-order", ["order of the checks"]),
        ("initkwargs", ["permission"]),
    ],
)
def test_a_route_that_forgets_is_found(name: str, forgotten: list[str]) -> None:
    assert missing(api_routes(__name__)[f"api/v1/careless/{name}"]) == forgotten


@pytest.mark.django_db
@pytest.mark.urls(__name__)
def test_a_route_that_forgets_everything_is_counted_and_refuses_bad_keys_all_the_same(api: Api) -> None:
    address = "/careless/function"

    assert APIClient().get(f"/api/v1{address}").status_code == 200
    assert api.client.get(f"/api/v1{address}", headers=api.headers)["RateLimit"].startswith('"standard";r=199;')
    assert Api("one_wrong").get(address).status_code == 401


TASKS = "/workspaces/current/tasks"
FORM = {"data": "title=Ship", "content_type": "application/x-www-form-urlencoded"}
HUGE = {"data": b'{"title":"' + b"a" * (1024 * 1024) + b'"}', "content_type": "application/json"}
CUT = {"data": b'{"title":', "content_type": "application/json"}

REFUSALS: dict[str, tuple[int, str, str, dict[str, Any]]] = {
    "no permission": (403, "GET", "/forbidden", {}),
    "unknown path": (404, "GET", "/nowhere", {}),
    "unknown path outside the version": (404, "GET", "/../v2/me", {}),
    "absent task": (404, "GET", f"{TASKS}/tsk_00000000000000000000000000", {}),
    "another workspace": (404, "GET", "/workspaces/{elsewhere}/tasks", {}),
    "method not offered": (405, "PUT", TASKS, {}),
    "not acceptable": (406, "GET", TASKS, {"headers": {"Accept": "text/html"}}),
    "unknown path, not acceptable": (406, "GET", "/nowhere", {"headers": {"Accept": "text/html"}}),
    "too large": (413, "POST", TASKS, HUGE),
    "unsupported type": (415, "POST", TASKS, FORM),
    "malformed": (400, "POST", TASKS, CUT),
    "bad query": (400, "GET", f"{TASKS}?limit=0", {}),
    "bad field": (400, "POST", TASKS, {"data": b'{"title":""}', "content_type": "application/json"}),
}


@pytest.mark.django_db
@pytest.mark.urls(__name__)
@pytest.mark.parametrize(("status", "method", "address", "options"), REFUSALS.values(), ids=REFUSALS.keys())
def test_a_refused_request_counts_on_the_quota_and_says_so(
    status: int, method: str, address: str, options: dict[str, Any], api: Api, elsewhere: Workspace
) -> None:
    response = api.request(method, address.format(elsewhere=elsewhere.pk), **options)

    assert response.status_code == status
    assert response.json()["code"] == status
    assert response["RateLimit-Policy"] == '"standard";q=200;w=900, "burst";q=40;w=60'
    assert response["RateLimit"] == '"standard";r=199;t=900, "burst";r=39;t=60'
    assert api.get("/me")["RateLimit"].startswith('"standard";r=198;')


@pytest.mark.django_db
@pytest.mark.urls(__name__)
@pytest.mark.parametrize(("status", "method", "address", "options"), REFUSALS.values(), ids=REFUSALS.keys())
def test_over_quota_nothing_else_is_looked_at(
    status: int, method: str, address: str, options: dict[str, Any], api: Api, workspace: Workspace
) -> None:
    for _ in range(40):
        quota.admit(workspace.pk, workspace.tier)

    response = api.request(method, address.format(elsewhere="w_0"), **options)

    assert response.status_code == 429
    assert response["RateLimit"].endswith('"burst";r=0;t=' + response["Retry-After"])


@pytest.mark.django_db
@pytest.mark.urls(__name__)
def test_a_request_without_a_key_counts_on_no_quota(api: Api, elsewhere: Workspace) -> None:
    stranger = Api(make_key(elsewhere)[1])

    for asked in (Api().get("/me"), Api().get("/nowhere"), stranger.get("/me")):
        assert asked.has_header("RateLimit") == (asked.status_code == 200)

    assert api.get("/me")["RateLimit"].startswith('"standard";r=199;')
