"""REST requests with a person's token: identity, workspaces and quota."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from oauth2_provider.models import AccessToken

from tests.helpers import BY_TEST, RESOURCE_METADATA, Api, make_token, make_workspace
from workspaces.models import Role, Task, User, Workspace

INVALID_TOKEN = {"code": 401, "message": "The API key or access token is not valid."}


@pytest.fixture
def person(member: User, workspace: Workspace) -> Api:
    """A client of the REST API with the member's token."""
    return Api(make_token(member))


def test_me_describes_the_person_and_the_token(person: Api, member: User, workspace: Workspace) -> None:
    me = person.get("/me").json()

    assert me["quota"]["limits"][0] | {"resetAfter": 0} == {
        "name": "standard",
        "requests": 200,
        "seconds": 900,
        "remaining": 199,
        "resetAfter": 0,
    }
    assert me == {
        "kind": "user",
        "userId": member.pk,
        "name": "Member",
        "email": "member@example.com",
        "role": "member",
        "scopes": ["api-keys:manage", "email", "openid", "profile", "workspace:read", "workspace:write"],
        "workspace": me["workspace"],
        "quota": me["quota"],
    }
    assert me["workspace"]["workspaceId"] == workspace.pk


def test_name_and_email_require_their_scopes(member: User, workspace: Workspace) -> None:
    assert not {"name", "email"} & Api(make_token(member, "openid")).get("/me").json().keys()


def test_current_is_the_only_workspace_or_the_one_chosen_last(person: Api, member: User, workspace: Workspace) -> None:
    assert person.get("/workspaces/current").json()["workspaceId"] == workspace.pk
    second = make_workspace(member, "second")

    response = person.get("/workspaces/current")
    assert response.status_code == 400
    assert response.json()["message"] == (
        f"Choose one of your workspaces: Acme ({workspace.pk}), Second ({second.pk})."
    )
    me = person.get("/me").json()
    assert (me["workspace"], me["role"]) == (None, None)

    member.choose(second)
    assert person.get("/workspaces/current").json()["workspaceId"] == second.pk
    assert person.get("/me").json()["role"] == "owner"


def test_a_person_lists_their_workspaces(person: Api, workspace: Workspace, elsewhere: Workspace) -> None:
    assert [item["workspaceId"] for item in person.get("/workspaces").json()["workspaces"]] == [workspace.pk]


def test_only_its_owner_can_see_a_private_task(person: Api, member: User, owner: User, workspace: Workspace) -> None:
    task = Task.objects.create_task(workspace, title="Mine", visibility="private", user=member)
    path = f"/workspaces/current/tasks/{task.pk}"

    assert person.get(path).json()["title"] == "Mine"
    assert [item["taskId"] for item in person.get("/workspaces/current/tasks").json()["tasks"]] == [task.pk]
    assert Api(make_token(owner)).get(path).status_code == 404


def test_a_person_who_has_left_the_workspace_gets_404(person: Api, member: User, workspace: Workspace) -> None:
    workspace.memberships.get(user=member).leave(by=BY_TEST)

    assert person.get(f"/workspaces/{workspace.pk}/tasks").status_code == 404


def test_each_person_has_their_own_quota(
    person: Api, api: Api, member: User, owner: User, workspace: Workspace
) -> None:
    for _ in range(40):
        assert person.get("/me").status_code == 200

    assert person.get("/me").status_code == 429
    assert Api(make_token(member)).get("/me").status_code == 429
    assert api.get("/me").status_code == 200
    assert Api(make_token(owner)).get("/me")["RateLimit"].startswith('"standard";r=199')


def test_all_invalid_tokens_get_the_same_response(member: User, workspace: Workspace) -> None:
    expired, inactive = make_token(member), make_token(make_workspace_of_one().members.get())
    AccessToken.objects.filter(user=member).update(expires=timezone.now() - timedelta(seconds=1))
    User.objects.filter(email="gone@example.com").update(is_active=False)

    for bearer in (expired, inactive, "a" * 30, "a", "é" * 30, "x" * 10_000, f"one_{expired}"):
        response = Api(bearer).get("/me")
        assert (response.status_code, response.json()) == (401, INVALID_TOKEN), bearer
        assert response["WWW-Authenticate"] == f'Bearer realm="onehorizon", error="invalid_token", {RESOURCE_METADATA}'


def make_workspace_of_one() -> Workspace:
    gone = User.objects.create_user("gone@example.com", "Gone")
    return make_workspace(gone, "gone")


def test_a_malformed_token_is_rejected_without_a_query(db: None, django_assert_num_queries: Any) -> None:
    for bearer in ("x" * 29, "x" * 31, "x" * 29 + "-", "Bearer"):
        with django_assert_num_queries(0):
            assert Api(bearer).get("/me").status_code == 401


def test_failures_are_limited_per_client_ip(person: Api, settings: Any) -> None:
    settings.APIKEYS_FAILURES_PER_MINUTE = 2

    assert [Api("a" * 30).get("/me").status_code for _ in range(3)] == [401, 401, 429]
    assert person.get("/me").status_code == 200


def test_the_role_is_read_on_each_request(person: Api, member: User, workspace: Workspace) -> None:
    assert person.get("/workspaces/current/api-keys").status_code == 403
    workspace.memberships.get(user=member).change_role(Role.ADMIN, by=BY_TEST)

    assert person.get("/workspaces/current/api-keys").status_code == 200
