"""Table 2: client x route x method -> status."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import pytest

from onehorizon.checks import api_routes
from tests.helpers import BY_TEST, Api, lift_quota, make_key
from workspaces.ids import new_id
from workspaces.models import Task, User, Workspace

pytestmark = pytest.mark.django_db

TASKS = "/workspaces/{workspace}/tasks"
TASK = "/workspaces/{workspace}/tasks/{task}"
CURRENT_TASKS = "/workspaces/current/tasks"
CURRENT_TASK = "/workspaces/current/tasks/{task}"
A_TASK = {"title": "Ship"}
A_KEY = {"description": "Deploys"}

# `key` and `revoked` are keys of the workspace in the path, `stranger` is a key of another workspace, and `nobody`
# sends no key.
# fmt: off
TABLE = [
    # method    path                                body     key  stranger revoked nobody
    ("GET",    "/me",                               None,    200, 200,     401,    401),
    ("GET",    "/workspaces",                       None,    200, 200,     401,    401),
    ("GET",    "/workspaces/{workspace}",           None,    200, 404,     401,    401),
    ("GET",    "/workspaces/current",               None,    200, 200,     401,    401),
    ("GET",    "/workspaces/{workspace}/members",   None,    200, 404,     401,    401),
    ("GET",    "/workspaces/current/members",       None,    200, 200,     401,    401),
    ("GET",    "/workspaces/{workspace}/usage",     None,    200, 404,     401,    401),
    ("GET",    "/workspaces/current/usage",         None,    200, 200,     401,    401),
    ("GET",    TASKS,                               None,    200, 404,     401,    401),
    ("GET",    CURRENT_TASKS,                       None,    200, 200,     401,    401),
    ("POST",   TASKS,                               A_TASK,  201, 404,     401,    401),
    ("POST",   CURRENT_TASKS,                       A_TASK,  201, 201,     401,    401),
    ("GET",    TASK,                                None,    200, 404,     401,    401),
    ("GET",    CURRENT_TASK,                        None,    200, 404,     401,    401),
    ("PATCH",  TASK,                                A_TASK,  200, 404,     401,    401),
    ("PATCH",  CURRENT_TASK,                        A_TASK,  200, 404,     401,    401),
    ("DELETE", TASK,                                None,    204, 404,     401,    401),
    ("DELETE", CURRENT_TASK,                        None,    204, 404,     401,    401),
]
PUBLIC: list[tuple[str, str, Any, int, int, int, int]] = [
    ("GET",    "/openapi.json",                     None,    200, 200,     401,    200),
]
# A key can't manage keys. It gets 403 even for a key that doesn't exist.
KEY_MANAGEMENT = [
    ("GET",    "/workspaces/{workspace}/api-keys",                 None,    403, 403,     401,    401),
    ("POST",   "/workspaces/{workspace}/api-keys",                 A_KEY,   403, 403,     401,    401),
    ("GET",    "/workspaces/{workspace}/api-keys/{api_key}",       None,    403, 403,     401,    401),
    ("PATCH",  "/workspaces/{workspace}/api-keys/{api_key}",       A_KEY,   403, 403,     401,    401),
    ("DELETE", "/workspaces/{workspace}/api-keys/{api_key}",       None,    403, 403,     401,    401),
    ("POST",   "/workspaces/{workspace}/api-keys/{api_key}/rotate",              {},   403, 403, 401,    401),
    ("DELETE", "/workspaces/{workspace}/api-keys/{api_key}/previous-secret",     None, 403, 403, 401,    401),
    ("GET",    "/workspaces/{workspace}/api-keys/{api_key}/usage", None,    403, 403,     401,    401),
    ("GET",    "/workspaces/current/api-keys",                     None,    403, 403,     401,    401),
    ("POST",   "/workspaces/current/api-keys",                     A_KEY,   403, 403,     401,    401),
    ("GET",    "/workspaces/current/api-keys/{api_key}",           None,    403, 403,     401,    401),
    ("PATCH",  "/workspaces/current/api-keys/{api_key}",           A_KEY,   403, 403,     401,    401),
    ("DELETE", "/workspaces/current/api-keys/{api_key}",           None,    403, 403,     401,    401),
    ("POST",   "/workspaces/current/api-keys/{api_key}/rotate",                  {},   403, 403, 401,    401),
    ("DELETE", "/workspaces/current/api-keys/{api_key}/previous-secret",         None, 403, 403, 401,    401),
    ("GET",    "/workspaces/current/api-keys/{api_key}/usage",     None,    403, 403,     401,    401),
]
# fmt: on
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
PATHS = sorted({path for _, path, *_ in TABLE})
SUPPORTED = {(method, path) for method, path, *_ in TABLE} | {("HEAD", path) for path in PATHS}
UNSUPPORTED = [(method, path) for path in PATHS for method in METHODS if (method, path) not in SUPPORTED]


@dataclass(frozen=True)
class Cast:
    ids: dict[str, str]
    key: Api
    stranger: Api
    revoked: Api
    nobody: Api


@pytest.fixture
def task(workspace: Workspace, member: User) -> Task:
    return Task.objects.create_task(workspace, title="Billing page", user=member)


@pytest.fixture
def cast(api: Api, workspace: Workspace, elsewhere: Workspace, task: Task) -> Cast:
    revoked, revoked_secret = make_key(workspace, "Revoked")
    revoked.revoke(by=BY_TEST)
    ids = {"workspace": workspace.pk, "task": task.pk, "api_key": revoked.pk}
    return Cast(ids, api, Api(make_key(elsewhere)[1]), Api(revoked_secret), Api())


@pytest.mark.parametrize(
    ("method", "path", "body", "key", "stranger", "revoked", "nobody"), TABLE + KEY_MANAGEMENT + PUBLIC
)
def test_each_caller_gets_the_expected_status(
    method: str, path: str, body: Any, key: int, stranger: int, revoked: int, nobody: int, cast: Cast
) -> None:
    """The key comes last, because it may delete the task: the others must be rejected while it exists."""
    clients = {"nobody": cast.nobody, "revoked": cast.revoked, "stranger": cast.stranger, "key": cast.key}

    statuses = {
        name: client.request(method, path.format(**cast.ids), body).status_code for name, client in clients.items()
    }

    assert statuses == {"nobody": nobody, "revoked": revoked, "stranger": stranger, "key": key}


def test_the_table_has_every_route() -> None:
    """If this fails, add a row for the new route."""
    in_table = {re.sub(r"\{\w+\}|current", "<>", path) for _, path, *_ in TABLE + KEY_MANAGEMENT + PUBLIC}
    routes = {re.sub(r"<[^>]*>", "<>", route.removeprefix("api/v1")) for route in api_routes() if "^" not in route}

    assert in_table == routes


@pytest.mark.parametrize(("method", "path"), UNSUPPORTED)
def test_an_unsupported_method_is_405_for_a_key_and_401_for_others(method: str, path: str, cast: Cast) -> None:
    path = path.format(**cast.ids)

    response = cast.key.request(method, path)

    assert response.status_code == 405
    assert response["Allow"]
    assert method not in response["Allow"].split(", ")
    assert cast.nobody.request(method, path).status_code == 401
    assert cast.revoked.request(method, path).status_code == 401


@pytest.mark.parametrize("path", PATHS)
def test_head_is_get_without_the_body(path: str, cast: Cast) -> None:
    is_supported = ("GET", path) in SUPPORTED

    response = cast.key.request("HEAD", path.format(**cast.ids))

    assert response.status_code == (200 if is_supported else 405)
    assert response.content == b""


@pytest.mark.parametrize(("method", "path", "body"), [row[:3] for row in TABLE if "{workspace}" in row[1]])
def test_another_workspace_looks_exactly_like_an_absent_one(method: str, path: str, body: Any, cast: Cast) -> None:
    existing = cast.stranger.request(method, path.format(**cast.ids), body)
    absent = cast.stranger.request(method, path.format(workspace=new_id("w"), task=new_id("tsk")), body)
    malformed = cast.stranger.request(method, path.format(workspace="demo", task="1"), body)

    assert existing.status_code == absent.status_code == malformed.status_code == 404
    assert existing.content == absent.content == malformed.content
    assert list(existing.headers) == list(absent.headers) == list(malformed.headers)


@pytest.mark.parametrize(("method", "path", "body"), [row[:3] for row in TABLE if row[1] == CURRENT_TASK])
def test_another_workspaces_task_looks_exactly_like_an_absent_one(
    method: str, path: str, body: Any, cast: Cast
) -> None:
    existing = cast.stranger.request(method, path.format(**cast.ids), body)
    absent = cast.stranger.request(method, path.format(task=new_id("tsk")), body)
    malformed = cast.stranger.request(method, path.format(task="1"), body)

    assert existing.status_code == absent.status_code == malformed.status_code == 404
    assert existing.content == absent.content == malformed.content


def test_invalid_input_to_another_workspace_is_404(cast: Cast) -> None:
    response = cast.stranger.patch(TASK.format(**cast.ids), {"title": ""})

    assert response.status_code == 404


def test_a_key_of_another_workspace_changes_nothing(cast: Cast, task: Task, elsewhere: Workspace) -> None:
    before = Task.objects.values().get(pk=task.pk)
    lift_quota(elsewhere)

    for method, path, body, *_ in TABLE:
        cast.stranger.request(method, path.format(**cast.ids), body)

    assert Task.objects.values().get(pk=task.pk) == before
    assert list(Task.objects.filter(workspace=cast.ids["workspace"])) == [task]


def test_a_task_under_another_workspaces_url_is_404(api: Api, task: Task, elsewhere: Workspace) -> None:
    """The task id is valid for this key, but the workspace id is one that the key has no access to."""
    assert api.get(f"/workspaces/{elsewhere.pk}/tasks/{task.pk}").status_code == 404
    assert api.get(f"/workspaces/{elsewhere.pk}/tasks").status_code == 404


def test_a_key_lists_only_its_own_workspace(cast: Cast, workspace: Workspace, elsewhere: Workspace) -> None:
    key_ids = [item["workspaceId"] for item in cast.key.get("/workspaces").json()["workspaces"]]
    stranger_ids = [item["workspaceId"] for item in cast.stranger.get("/workspaces").json()["workspaces"]]

    assert key_ids == [workspace.pk]
    assert stranger_ids == [elsewhere.pk]


def test_current_is_the_workspace_of_the_key(cast: Cast, workspace: Workspace, elsewhere: Workspace) -> None:
    assert cast.key.get("/workspaces/current").json() == cast.key.get(f"/workspaces/{workspace.pk}").json()
    assert cast.key.get("/workspaces/current").json()["workspaceId"] == workspace.pk
    assert cast.stranger.get("/workspaces/current").json()["workspaceId"] == elsewhere.pk


def test_all_members_of_the_workspace_are_listed_with_their_roles(
    api: Api, owner: User, admin: User, member: User
) -> None:
    members = api.get("/workspaces/current/members").json()["members"]

    assert members == [
        {"userId": owner.pk, "name": "Owner", "email": "owner@example.com", "role": "owner"},
        {"userId": admin.pk, "name": "Admin", "email": "admin@example.com", "role": "admin"},
        {"userId": member.pk, "name": "Member", "email": "member@example.com", "role": "member"},
    ]


@pytest.mark.parametrize("alias", ["Current", "CURRENT", "current ", "me", "acme", "0", "%00", "w_", "..", "*"])
def test_current_is_the_only_alias_for_a_workspace(alias: str, api: Api) -> None:
    assert api.get(f"/workspaces/{alias}/tasks").status_code == 404


@pytest.mark.parametrize("path", ["/me/", "/workspaces/", "/workspaces/current/", "/workspaces/current/tasks/"])
def test_a_path_with_a_trailing_slash_is_404(path: str, api: Api) -> None:
    assert api.get(path).status_code == 404
