"""Access to the admin: role x page -> status."""

from typing import Any

import pytest
from django.db.models import Model
from django.test import Client
from django.urls import reverse
from oauth2_provider.models import AccessToken, RefreshToken

from apikeys.models import ApiKey
from core.admin import change_url, changelist_url
from oauth.models import Application
from tests.admin.pages import BUSIEST, FIND, INDEX, MODELS, REVOKE, action_url, add_url
from tests.helpers import make_token, sign_in
from workspaces.models import AuditEvent, Tier, User, Workspace

ROLES = ["operator", "support", "plain_staff", "owner"]


@pytest.fixture
def pages(workspace: Workspace, api_key: ApiKey, owner: User) -> dict[str, str]:
    event = AuditEvent.objects.latest("id")
    tier = Tier.objects.get(pk="standard")
    make_token(owner)
    token, application = AccessToken.objects.get(), Application.objects.get(client_id="tests")
    refresh = RefreshToken.objects.create(user=owner, token="r", application=application, access_token=token)
    shown: list[Model] = [workspace, api_key, owner, tier, event, application, token, refresh]
    return {
        "index": INDEX,
        "find": FIND,
        "busiest": BUSIEST,
        "revoke": f"{REVOKE}?key={api_key.pk}",
        **{f"list {model._meta.model_name}": changelist_url(model) for model in MODELS},
        **{f"show {obj._meta.model_name}": change_url(obj) for obj in shown},
        **{f"add {model._meta.model_name}": add_url(model) for model in MODELS},
        **{f"delete {obj._meta.model_name}": action_url(obj, "delete") for obj in shown},
        **{verb: action_url(workspace, verb) for verb in ("suspend", "resume", "clear-quota")},
        "clear-quota of user": action_url(owner, "clear-quota"),
        "revoke all": reverse("admin:apikeys_apikey_revoke_all", args=[workspace.pk]),
        "password": action_url(owner, "password").replace("_5F", "_"),
        "end-access": action_url(owner, "end-access"),
    }


SUPPORT_PAGES = {
    "find",
    "busiest",
    "revoke",
    "revoke all",
    *(f"{verb} {model._meta.model_name}" for verb in ("list", "show") for model in MODELS),
}
OPERATOR_PAGES = SUPPORT_PAGES | {
    "add workspace",
    "add user",
    "add tier",
    "add application",
    "suspend",
    "resume",
    "clear-quota",
    "clear-quota of user",
    "password",
    "end-access",
}
REACHABLE: dict[str, set[str]] = {
    "operator": OPERATOR_PAGES | {"index"},
    "support": SUPPORT_PAGES | {"index"},
    "plain_staff": {"index"},
    "owner": set(),
}


@pytest.mark.parametrize("role", ROLES)
def test_each_role_reaches_its_pages_and_no_others(
    role: str, pages: dict[str, str], request: pytest.FixtureRequest
) -> None:
    client = sign_in(request.getfixturevalue(role))
    statuses = {name: client.get(url).status_code for name, url in pages.items()}
    # An owner is not staff: every page redirects to the admin's sign-in page, which returns 403.
    denied = 302 if role == "owner" else 403
    assert statuses == {name: 200 if name in REACHABLE[role] else denied for name in pages}


def test_a_user_who_is_not_staff_gets_403_and_learns_who_can_grant_access(owner: User) -> None:
    response = sign_in(owner).get(INDEX, follow=True)
    page = response.content.decode()

    assert response.status_code == 403
    assert "This page is for operators, and your account isn't one." in page
    assert "An operator or a superuser can grant access" in page
    assert 'href="/">Go to your workspace' in page


def test_staff_without_a_permission_learn_who_can_grant_it(plain_staff: User, operator: User, api_key: ApiKey) -> None:
    root = User.objects.create_superuser("root@example.com", "Root", "root-password")
    responses: list[Any] = [
        sign_in(plain_staff).get(f"{REVOKE}?key={api_key.pk}"),
        sign_in(operator).get(action_url(root, "end-access")),
    ]

    for response in responses:
        page = response.content.decode()
        assert response.status_code == 403
        assert "ask a superuser or another operator" in page
        assert "Only superusers can change a superuser's account." in page
        assert f'href="{INDEX}">Go to the admin' in page


def test_an_anonymous_user_is_redirected_to_the_sign_in_page(client: Client) -> None:
    response = client.get(changelist_url(ApiKey), follow=True)

    assert response.redirect_chain[-1][0] == f"/sign-in/?next={changelist_url(ApiKey)}"


def test_staff_without_a_group_see_nothing(plain_staff: User, workspace: Workspace) -> None:
    page = sign_in(plain_staff).get(INDEX).content.decode()

    assert "have permission to view or edit anything." in page
    assert "Find a key" not in page


def test_support_can_revoke_a_key(support: User, api_key: ApiKey) -> None:
    response = sign_in(support).post(REVOKE, {"key": api_key.pk, "reason": "Leaked"})

    api_key.refresh_from_db()
    assert response.status_code == 200
    assert api_key.revoked_by == support


@pytest.mark.parametrize("verb", ["suspend", "resume", "clear-quota", "change"])
def test_support_can_change_nothing_else(support: User, workspace: Workspace, verb: str) -> None:
    response = sign_in(support).post(action_url(workspace, verb), {"reason": "Because", "name": "Other"})

    workspace.refresh_from_db()
    assert response.status_code == 403
    assert (workspace.name, workspace.suspended_at) == ("Acme", None)


def test_staff_without_a_group_can_not_revoke_a_key(plain_staff: User, api_key: ApiKey) -> None:
    response = sign_in(plain_staff).post(REVOKE, {"key": api_key.pk, "reason": "Leaked"})

    api_key.refresh_from_db()
    assert response.status_code == 403
    assert api_key.revoked_at is None


def test_an_operator_cannot_take_over_a_superuser(admin_client: Client) -> None:
    root = User.objects.create_superuser("root@example.com", "Root", "root-password")

    responses = [
        admin_client.post(change_url(root), {"email": "mine@example.com", "name": "Mine"}),
        admin_client.post(
            action_url(root, "password").replace("_5F", "_"), {"password1": "x" * 12, "password2": "x" * 12}
        ),
        admin_client.post(action_url(root, "end-access")),
        admin_client.post(action_url(root, "clear-quota")),
    ]

    root.refresh_from_db()
    assert [response.status_code for response in responses] == [403, 403, 403, 403]
    assert root.check_password("root-password")


def test_the_admin_shows_its_name_and_environment(admin_client: Client, settings: Any) -> None:
    settings.ENVIRONMENT = "staging"

    page = admin_client.get(INDEX).content.decode()

    assert "One Horizon" in page
    assert '<span class="environment">staging</span>' in page
