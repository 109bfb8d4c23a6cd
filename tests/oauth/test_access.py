"""Access to each API route by role and by scope; every route declares its scopes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.urls import URLPattern, URLResolver, get_resolver

from apikeys.models import ApiKey
from apikeys.permissions import PrincipalRequired, ScopeRequired
from onehorizon.openapi import SchemaView
from tests.helpers import RESOURCE_METADATA, Api, make_key, make_token
from workspaces.access import Scopes
from workspaces.api import UnknownPathView
from workspaces.models import Task, User, Workspace

pytestmark = pytest.mark.django_db

ROUTES = [
    # method, path, body, the scope that a person's token needs, the status of a permitted request
    ("GET", "/me", None, None, 200),
    ("GET", "/workspaces", None, "workspace:read", 200),
    ("GET", "/workspaces/{workspace}", None, "workspace:read", 200),
    ("GET", "/workspaces/{workspace}/members", None, "workspace:read", 200),
    ("GET", "/workspaces/{workspace}/tasks", None, "workspace:read", 200),
    ("POST", "/workspaces/{workspace}/tasks", {"title": "New"}, "workspace:write", 201),
    ("GET", "/workspaces/{workspace}/tasks/{task}", None, "workspace:read", 200),
    ("PATCH", "/workspaces/{workspace}/tasks/{task}", {"title": "Changed"}, "workspace:write", 200),
    ("DELETE", "/workspaces/{workspace}/tasks/{task}", None, "workspace:write", 204),
    ("GET", "/workspaces/{workspace}/api-keys", None, "api-keys:manage", 200),
    ("POST", "/workspaces/{workspace}/api-keys", {"description": "New"}, "api-keys:manage", 201),
    ("GET", "/workspaces/{workspace}/api-keys/{api_key}", None, "api-keys:manage", 200),
    ("PATCH", "/workspaces/{workspace}/api-keys/{api_key}", {"description": "Changed"}, "api-keys:manage", 200),
    ("DELETE", "/workspaces/{workspace}/api-keys/{api_key}", None, "api-keys:manage", 204),
    ("POST", "/workspaces/{workspace}/api-keys/{api_key}/rotate", {}, "api-keys:manage", 200),
    ("DELETE", "/workspaces/{workspace}/api-keys/{api_key}/previous-secret", None, "api-keys:manage", 204),
]
SCOPES = ["openid", "profile", "email", "workspace:read", "workspace:write", "api-keys:manage"]


@pytest.fixture
def ids(workspace: Workspace, elsewhere: Workspace, api_key: ApiKey) -> dict[str, str]:
    task = Task.objects.create_task(workspace, title="Write the table")
    return {"workspace": workspace.pk, "task": task.pk, "api_key": api_key.pk}


@pytest.fixture
def cast(owner: User, admin: User, member: User, outsider: User, elsewhere: Workspace) -> dict[str, str]:
    """Return a token or key of each client. The tokens have all scopes."""
    people = {"owner": owner, "admin": admin, "member": member, "outsider": outsider}
    return {name: make_token(person) for name, person in people.items()} | {"other key": make_key(elsewhere)[1]}


@pytest.mark.parametrize(("method", "path", "body", "scope", "status"), ROUTES)
def test_each_client_gets_the_expected_status(
    cast: dict[str, str], ids: dict[str, str], secret: str, method: str, path: str, body: Any, scope: Any, status: int
) -> None:
    in_workspace, manages_keys = "{workspace}" in path, "api-keys" in path
    expected = {
        "nobody": 401,
        "member": 403 if manages_keys else status,
        "outsider": 404 if in_workspace else status,
        "key": 403 if manages_keys else status,
        "other key": 403 if manages_keys else 404 if in_workspace else status,
        "admin": status,
        "owner": status,
    }
    if method == "DELETE" and not manages_keys:
        expected |= {"key": 404, "admin": 404, "owner": 404}  # the member's request has deleted the task

    statuses = {
        name: Api((cast | {"key": secret}).get(name)).request(method, path.format(**ids), body).status_code
        for name in expected
    }

    assert statuses == expected


@pytest.mark.parametrize(("method", "path", "body", "scope", "status"), ROUTES)
def test_a_token_needs_the_scope_of_the_route(
    owner: User, ids: dict[str, str], method: str, path: str, body: Any, scope: str | None, status: int
) -> None:
    for token_scope in SCOPES:
        response = Api(make_token(owner, token_scope)).request(method, path.format(**ids), body)
        if scope in (None, token_scope):
            assert response.status_code == status
        else:
            assert response.status_code == 403
            assert response.json()["message"] == f"This requires an access token with the scope {scope}."
            assert response["WWW-Authenticate"] == (
                f'Bearer realm="onehorizon", error="insufficient_scope", scope="{scope}", {RESOURCE_METADATA}'
            )


@pytest.mark.parametrize("workspace_id", ["current", "w_00000000000000000000000000", "nonsense"])
@pytest.mark.parametrize(
    "path",
    [
        *("", "/key_00000000000000000000000000", "/nonsense", "/{api_key}", "/{api_key}/rotate", "/nonsense/rotate"),
        *("/{api_key}/previous-secret", "/nonsense/previous-secret"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE"])
def test_a_key_gets_the_same_403_for_existing_and_unknown_keys(
    api: Api, ids: dict[str, str], workspace_id: str, path: str, method: str
) -> None:
    response = api.request(method, f"/workspaces/{workspace_id}/api-keys{path.format(**ids)}", {"description": ""})

    assert response.status_code == 403
    assert response.json() == {
        "code": 403,
        "message": "API keys can't manage API keys: this needs an OAuth token of an owner or admin.",
    }


def api_views(patterns: list[Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for pattern in patterns:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from api_views(pattern.url_patterns, route)
        elif isinstance(pattern, URLPattern) and route.startswith("api/v1/"):
            callback: Any = pattern.callback
            yield route, getattr(callback, "cls", None) or callback.view_class


def test_every_route_of_the_api_declares_its_scopes() -> None:
    routes = dict(api_views(get_resolver().url_patterns))

    assert routes
    for route, view in routes.items():
        assert view is not UnknownPathView
        assert isinstance(getattr(view, "scopes", None), Scopes), route
        if view is not SchemaView:
            assert {PrincipalRequired, ScopeRequired} <= set(view.permission_classes), route
