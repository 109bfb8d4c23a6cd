"""Applications and tokens in the admin."""

import re
from typing import Any

import pytest
from django.contrib.auth.hashers import check_password
from django.contrib.auth.models import Permission
from django.db import IntegrityError
from django.test import Client
from oauth2_provider.models import AccessToken, RefreshToken

import oauth.admin
from core.admin import change_url, changelist_url
from oauth.models import Application, revoke_token
from tests.admin.browser import Page
from tests.admin.pages import INDEX, add_url
from tests.helpers import BY_TEST, Api, failing_events, html_of, make_token, sign_in
from tests.oauth.conftest import make_application
from tests.oauth.program import Program
from workspaces.models import AuditEvent, User, Workspace

pytestmark = pytest.mark.django_db

CLIENT_ID = "reports-" + "x" * 92  # longer than the subject of an audit event can be

NEW: dict[str, Any] = {
    "name": "Reports",
    "client_id": CLIENT_ID,
    "client_secret": "a-secret-that-was-shown-in-the-form",
    "client_type": "confidential",
    "authorization_grant_type": "authorization-code",
    "redirect_uris": "https://reports.example.com/back",
    "scopes": ["workspace:read", "workspace:write"],
}


def choose(client: Client, model: Any, **fields: Any) -> Page:
    """Choose the action that revokes a token, for the only one unless `fields` say otherwise."""
    action = {"action": "revoke", "_selected_action": model.objects.values_list("pk", flat=True)[0]}
    response = client.post(changelist_url(model), action | fields)
    return Page(changelist_url(model), response.content.decode())


def revoke(client: Client, model: Any = AccessToken) -> Any:
    """Revoke the only token, and confirm it."""
    return choose(client, model).form("Revoke token").send(client)


def test_an_application_is_created_and_its_secret_is_stored_hashed(admin_client: Client, operator: User) -> None:
    response = Page.open(admin_client, add_url(Application)).form().send(admin_client, **NEW)

    created = Application.objects.get(client_id=CLIENT_ID)
    assert response.status_code == 200
    assert check_password(NEW["client_secret"], created.client_secret)
    event = AuditEvent.objects.get(action="application.created")
    assert (event.actor, event.subject) == (operator, str(created.pk))
    assert created.scopes == NEW["scopes"]
    text = response.content.decode() + str(event.details) + str(dict(admin_client.session))
    assert NEW["client_secret"] not in text
    assert created.client_secret not in text


def test_a_new_application_has_the_client_id_and_the_secret_that_the_form_showed(admin_client: Client) -> None:
    form = Page.open(admin_client, add_url(Application)).form()
    shown = dict(form.fields)
    generated = ("client_id", "client_secret")

    form.send(admin_client, **{name: value for name, value in NEW.items() if name not in generated})

    created = Application.objects.get(name="Reports")
    assert created.client_id == shown["client_id"]
    assert check_password(shown["client_secret"], created.client_secret)


@pytest.mark.parametrize("redirect", ["http://reports.example.com/back", "not an address", ""])
def test_an_invalid_redirect_uri_is_rejected(admin_client: Client, redirect: str) -> None:
    form = Page.open(admin_client, add_url(Application)).form()
    response = form.send(admin_client, **NEW | {"redirect_uris": redirect})

    assert "errorlist" in response.content.decode()
    assert not Application.objects.filter(client_id=CLIENT_ID).exists()


def test_the_form_explains_its_fields_and_links_the_guide(admin_client: Client) -> None:
    page = admin_client.get(add_url(Application)).content.decode()

    for text in (
        "it is stored hashed and can't be shown again",
        "a server, which can keep a secret",
        "when the application requests access",
        "a private-use scheme such as com.example.app:/callback",
    ):
        assert text in page
    link = re.search(r'<a href="([^"#]+)#(registering-an-application)">', page)
    assert link
    assert f'id="{link[2]}"' in admin_client.get(link[1]).content.decode()


def test_the_scope_to_manage_keys_has_to_be_chosen(admin_client: Client) -> None:
    page = admin_client.get(add_url(Application)).content.decode()

    checked = re.findall(r'name="scopes" value="([^"]+)"[^>]* checked', page)
    assert checked == ["openid", "profile", "email", "workspace:read", "workspace:write"]
    assert 'name="scopes" value="api-keys:manage"' in page


def test_the_scopes_of_an_application_are_changed_with_an_event(admin_client: Client, operator: User) -> None:
    admin_client.post(add_url(Application), NEW)
    application = Application.objects.get(client_id=CLIENT_ID)
    fields = {"name": "Reports", "redirect_uris": NEW["redirect_uris"]}

    admin_client.post(change_url(application), fields | {"scopes": ["workspace:read", "api-keys:manage"]})
    rejected = [admin_client.post(change_url(application), fields | {"scopes": scopes}) for scopes in ([], ["all"])]

    application.refresh_from_db()
    assert application.scopes == ["workspace:read", "api-keys:manage"]
    assert all("errorlist" in response.content.decode() for response in rejected)
    event = AuditEvent.objects.get(action="application.changed")
    assert (event.actor, event.details) == (operator, {"changes": {"scopes": [NEW["scopes"], application.scopes]}})


def test_revoking_an_access_token_ends_its_refresh_token(
    admin_client: Client, owner: User, workspace: Workspace
) -> None:
    program = Program(make_application("Dashboards"), sign_in(owner))
    tokens = program.tokens()

    revoke(admin_client)

    assert RefreshToken.objects.get().revoked is not None
    assert program.refresh(tokens["refresh_token"]).json() == {"error": "invalid_grant"}


@pytest.mark.parametrize(
    ("permissions", "is_allowed"),
    [
        (["oauth2_provider.delete_accesstoken", "oauth2_provider.delete_refreshtoken"], True),
        (["apikeys.revoke_apikey"], False),
        (["oauth2_provider.change_accesstoken", "oauth2_provider.change_refreshtoken"], False),
    ],
)
@pytest.mark.parametrize("model", [AccessToken, RefreshToken])
def test_revoking_tokens_needs_the_permission_for_tokens(
    plain_staff: User, owner: User, workspace: Workspace, model: Any, permissions: list[str], is_allowed: bool
) -> None:
    make_token(owner)
    application, token = Application.objects.get(client_id="tests"), AccessToken.objects.get()
    RefreshToken.objects.create(user=owner, token="refresh", application=application, access_token=token)
    for name in [*permissions, "oauth2_provider.view_accesstoken", "oauth2_provider.view_refreshtoken"]:
        app_label, _, codename = name.partition(".")
        plain_staff.user_permissions.add(Permission.objects.get(content_type__app_label=app_label, codename=codename))
    client = sign_in(plain_staff)

    page = client.get(changelist_url(model)).content.decode()
    choose(client, model, confirmed="Revoke token")

    assert ("Revoke selected tokens" in page) == is_allowed
    assert AccessToken.objects.exists() != is_allowed


@pytest.mark.parametrize("role", ["support", "operator"])
def test_support_and_operators_can_revoke_tokens(
    role: str, owner: User, workspace: Workspace, request: pytest.FixtureRequest
) -> None:
    make_token(owner)
    client = sign_in(request.getfixturevalue(role))

    revoke(client)

    assert not AccessToken.objects.exists()


def test_a_revoked_token_is_rejected_from_the_next_request_on(
    admin_client: Client, operator: User, owner: User, workspace: Workspace
) -> None:
    api = Api(make_token(owner))
    assert api.get("/me").status_code == 200

    response = revoke(admin_client)

    assert "1 token revoked." in response.content.decode()
    assert api.get("/me").status_code == 401
    event = AuditEvent.objects.get(action="accesstoken.revoked")
    assert (event.actor, event.subject) == (operator, owner.pk)


def test_tokens_are_found_by_email_in_any_case(admin_client: Client, owner: User) -> None:
    make_token(owner)

    page: Any = admin_client.get(changelist_url(AccessToken, q="Owner@Example.com"))

    assert [token.user for token in page.context["cl"].result_list] == [owner]


@pytest.mark.parametrize("model", [AccessToken, RefreshToken])
def test_a_token_is_revoked_once_and_with_its_event(owner: User, workspace: Workspace, model: Any) -> None:
    make_token(owner)
    access_token = AccessToken.objects.get()
    RefreshToken.objects.create(
        user=owner, token="refresh", application=Application.objects.get(client_id="tests"), access_token=access_token
    )

    with failing_events(), pytest.raises(IntegrityError, match="no event"):
        revoke_token(model.objects.get(), by=BY_TEST)
    assert AccessToken.objects.exists()
    assert RefreshToken.objects.get().revoked is None

    token, same_token = model.objects.get(), model.objects.get()
    assert revoke_token(token, by=BY_TEST)
    assert not AccessToken.objects.exists()
    assert not revoke_token(same_token, by=BY_TEST)
    event = AuditEvent.objects.get(action__endswith="token.revoked")
    assert (event.action, event.subject) == (f"{model._meta.model_name}.revoked", owner.pk)
    assert event.details == {"application": "tests"}


def test_a_short_client_secret_is_rejected(admin_client: Client) -> None:
    form = Page.open(admin_client, add_url(Application)).form()
    response = form.send(admin_client, **NEW | {"client_secret": "s3cret"})

    assert "at least 32 characters" in response.content.decode()
    assert not Application.objects.filter(client_id=CLIENT_ID).exists()


def test_a_tokens_history_shows_the_events_of_its_user(admin_client: Client, owner: User, workspace: Workspace) -> None:
    make_token(owner)
    history = change_url(AccessToken.objects.get()).removesuffix("change/") + "history/"

    assert admin_client.get(history)["Location"] == changelist_url(AuditEvent, subject=owner.pk)


def test_a_tokens_history_needs_the_permission_to_view_it(plain_staff: User, owner: User, workspace: Workspace) -> None:
    """Its redirect contains the id of the user."""
    make_token(owner)
    history = change_url(AccessToken.objects.get()).removesuffix("change/") + "history/"

    assert sign_in(plain_staff).get(history).status_code == 403


def test_all_tokens_of_a_search_are_revoked_after_a_confirmation(
    admin_client: Client, owner: User, member: User, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oauth.admin, "NAMED_TOKENS", 1)
    for user in (owner, owner, member):
        make_token(user)
    found = changelist_url(AccessToken, q=owner.email)
    chosen = AccessToken.objects.filter(user=owner)[0].pk

    fields = {"action": "revoke", "_selected_action": chosen, "select_across": "1"}
    html = html_of(admin_client.post(found, fields))

    assert AccessToken.objects.count() == 3
    assert "Revoke 2 tokens?" in html
    assert re.findall(r"<li>(owner.*|and others)</li>", html) == ["owner@example.com: tests", "and others"]
    response = Page(found, html).form("Revoke tokens").send(admin_client)
    assert "2 tokens revoked." in html_of(response)
    assert [token.user for token in AccessToken.objects.all()] == [member]


def test_the_events_of_tokens_can_be_listed(admin_client: Client, owner: User, workspace: Workspace) -> None:
    make_token(owner)
    revoke(admin_client)

    listed = admin_client.get(changelist_url(AuditEvent, action="accesstoken.revoked"))

    assert "1 audit event" in listed.content.decode()


def test_a_changed_application_keeps_its_secret(admin_client: Client) -> None:
    Page.open(admin_client, add_url(Application)).form().send(admin_client, **NEW)
    created = Application.objects.get(client_id=CLIENT_ID)

    Page.open(admin_client, change_url(created)).form().send(admin_client, name="Reports 2")

    changed = Application.objects.get(client_id=CLIENT_ID)
    assert (changed.name, changed.client_secret) == ("Reports 2", created.client_secret)
    assert AuditEvent.objects.latest("id").details == {"changes": {"name": ["Reports", "Reports 2"]}}


def test_no_object_has_a_view_on_site(admin_client: Client) -> None:
    """`Application` has a `get_absolute_url`, whose page the toolkit serves only where its own views are used."""
    page = Page.open(admin_client, change_url(Application.objects.get(client_id="terminal")))

    assert not [link for link in page.links if link.startswith(f"{INDEX}r/")]
    assert admin_client.get(f"{INDEX}r/1/1/").status_code == 404


@pytest.mark.parametrize("app", ["oauth", "oauth2_provider"])
def test_applications_and_tokens_are_in_one_section(admin_client: Client, support: User, app: str) -> None:
    def sections(client: Client, url: str) -> dict[str, list[str]]:
        response: Any = client.get(url)
        return {item["name"]: [model["name"] for model in item["models"]] for item in response.context["app_list"]}

    models = ["Access tokens", "Applications", "Refresh tokens"]
    for client in (admin_client, sign_in(support)):
        assert sections(client, INDEX)["OAuth"] == models
        assert list(sections(client, INDEX)) == ["API keys", "OAuth", "Workspaces"]
        assert sections(client, f"{INDEX}{app}/") == {"OAuth": models}
    assert "OAuth administration" in admin_client.get(f"{INDEX}{app}/").content.decode()
    assert (
        f'<a href="{INDEX}oauth2_provider/">OAuth</a>' in admin_client.get(changelist_url(AccessToken)).content.decode()
    )


def test_staff_who_may_only_view_tokens_see_them_in_the_section(plain_staff: User) -> None:
    plain_staff.user_permissions.add(Permission.objects.get(codename="view_accesstoken"))

    response: Any = sign_in(plain_staff).get(INDEX)

    assert [(item["name"], len(item["models"])) for item in response.context["app_list"]] == [("OAuth", 1)]
