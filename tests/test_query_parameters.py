"""Every route of the API rejects unknown query parameters: without its misspelled filter, a list has too much."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.urls import include, path
from rest_framework.request import Request
from rest_framework.response import Response

from apikeys import keys
from onehorizon.checks import api_routes
from onehorizon.openapi import schema
from tests.helpers import Api, make_token
from workspaces import quota
from workspaces.api import ApiView
from workspaces.models import User, Workspace

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]

TASKS = "/workspaces/current/tasks"


class ForgetfulView(ApiView):
    """A view that declares no query parameters."""

    def get(self, request: Request) -> Response:
        return Response({"page": request.query_params.get("page")})


urlpatterns = [path("api/v1/forgetful", ForgetfulView.as_view()), path("", include("onehorizon.urls"))]


def operations() -> Iterator[tuple[str, str, set[str]]]:
    """Yield the method, the path and the documented query parameters of every operation."""
    for route, methods in schema()["paths"].items():
        for method, operation in methods.items():
            documented = {item["name"] for item in operation.get("parameters", []) if item["in"] == "query"}
            yield method.upper(), re.sub(r"\{(\w+)\}", "current", route.removeprefix("/api/v1")), documented
    yield "GET", "/openapi.json", set()
    yield "GET", "/forgetful", set()


@pytest.mark.parametrize(
    ("method", "route", "documented"), [pytest.param(*item, id=f"{item[0]} {item[1]}") for item in operations()]
)
def test_every_operation_rejects_parameters_that_are_not_documented(
    method: str, route: str, documented: set[str], owner: User, workspace: Workspace
) -> None:
    api = Api(make_token(owner))

    for name in ("page", "statuses", "limit[]", "Limit", "format"):
        response = api.request(method, f"{route}?{name}=2")
        assert response.status_code == 400
        assert response.json()["message"] == f"Invalid fields: {name}."
        (sentence,) = response.json()["errors"][name]
        known, _, names = sentence.partition(": ")
        assert known == "Unknown query parameter. " + ("Use one of" if documented else "This operation has none.")
        assert set(re.findall(r"\w+", names)) == documented
    for name in documented:
        assert "Unknown" not in str(api.request(method, f"{route}?{name}=1").json().get("errors"))
    if method == "GET":
        assert api.request("HEAD", f"{route}?page=2").status_code == 400


@pytest.mark.parametrize("name", ["status[]", "status[0]", "kind[0]"])
def test_brackets_in_the_name_of_a_list_are_explained(name: str, api: Api) -> None:
    response = api.get(f"{TASKS}?{name}=open")

    sentence = f"Unknown query parameter. Send {name.partition('[')[0]}=… once for each value, without brackets."
    assert response.json()["errors"] == {name: [sentence]}


def test_the_guard_covers_every_route() -> None:
    covered = {route for _, route, _ in operations()}

    for route in api_routes():
        assert "^" in route or re.sub(r"<[^>]*>", "current", f"/{route}").removeprefix("/api/v1") in covered


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("page=2&statuses=open&limit=5", ["page", "statuses"]),
        ("limit=0&page=2", ["page"]),
        ("page", ["page"]),
        ("%70age=2", ["page"]),
        ("status%5B%5D=open", ["status[]"]),
        ("filter[status]=open", ["filter[status]"]),
        ("limit=5&limit=5", ["limit"]),
        ("userId=u_1&userId=u_2", ["userId"]),
        ("all=true&all=false", ["all"]),
        ("limit=5;page=2", ["limit"]),
        # names that are not repeated
        ("=5", ["query"]),
        ("%00=5", ["query"]),
        ("<script>=1", ["query"]),
        ("line%0Abreak=1", ["query"]),
        ("%F0%9F%94%91=1", ["query"]),
        ("a" * 41 + "=1", ["query"]),
        ("{secret}", ["query"]),
        ("{secret}=1&page=2", ["page", "query"]),
        ("{masked}=1", ["query"]),
        ("{token}=1", ["query"]),
    ],
)
def test_the_error_names_the_parameters_but_repeats_no_secret(
    query: str, names: list[str], owner: User, secret: str, api: Api
) -> None:
    token = make_token(owner)
    query_string = query.format(secret=secret, masked=secret[:24], token=token)

    response = api.get(f"{TASKS}?{query_string}")

    assert response.status_code == 400
    assert sorted(response.json()["errors"]) == names
    for part in (secret[:17], token):
        assert part not in response.content.decode()


def test_the_error_is_bounded(api: Api) -> None:
    response = api.get(f"{TASKS}?" + "&".join(f"filter{number}=1" for number in range(900)))

    assert response.status_code == 400
    assert len(response.json()["errors"]) == 10


def test_unknown_parameters_count_against_the_quota_and_come_after_the_other_checks(
    api: Api, workspace: Workspace, elsewhere: Workspace
) -> None:
    assert Api().get("/me?page=2").status_code == 401
    assert Api(keys.generate().secret).get("/me?page=2").status_code == 401
    assert api.get("/workspaces/current/api-keys?page=2").status_code == 403
    assert api.get("/nowhere?page=2").status_code == 404
    assert api.request("PUT", f"{TASKS}?page=2").status_code == 405
    assert quota.status(workspace.pk, workspace.tier).windows[0].remaining == 197


def test_empty_parts_of_a_query_string_are_no_parameters(api: Api) -> None:
    assert [api.get(f"/me{query}").status_code for query in ("?", "?&", "?&&")] == [200] * 3


@pytest.mark.parametrize("limit", ["%2B5", "+5", "%205", "5%20", "5.0", "1_0", "%D9%A5", "0x5", "5%0A", "%EF%BC%95"])
def test_a_limit_has_plain_digits_only(limit: str, api: Api) -> None:
    response: Any = api.get(f"{TASKS}?limit={limit}")

    assert response.status_code == 400
    assert response.json()["errors"] == {"limit": ["Send a whole number from 1 to 200."]}
