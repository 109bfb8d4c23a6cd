"""An application may request the scopes in its list only."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.test import Client

from oauth.models import Application
from tests.helpers import Api, make_token, sign_in
from tests.oauth.conftest import ALL_SCOPES, make_application
from tests.oauth.program import Program, redirected_error
from workspaces.models import User, Workspace

WITHOUT_KEYS = ["openid", "profile", "email", "workspace:read", "workspace:write"]


@pytest.fixture
def browser(owner: User, workspace: Workspace) -> Client:
    return sign_in(owner)


@pytest.fixture
def program(browser: Client) -> Program:
    return Program(make_application("Dashboards", scopes=["workspace:read", "workspace:write"]), browser)


def limit(program: Program, *scopes: str) -> None:
    Application.objects.filter(client_id=program.client_id).update(scopes=list(scopes))


def test_a_new_application_may_not_request_to_manage_keys(db: None) -> None:
    application = Application.objects.create(client_type="public", authorization_grant_type="authorization-code")

    assert application.scopes == WITHOUT_KEYS


def test_an_application_of_an_earlier_release_may_request_every_scope(db: None) -> None:
    """The first migration created this one."""
    assert set(Application.objects.get(client_id="terminal").scopes) == set(ALL_SCOPES.split())


@pytest.mark.django_db
@pytest.mark.parametrize("scopes", [[], ["workspace:read", "everything"], ["workspace:read api-keys:manage"]])
def test_a_list_with_unknown_scopes_or_without_any_is_rejected(scopes: list[str]) -> None:
    application = Application(client_type="public", authorization_grant_type="authorization-code", scopes=scopes)

    with pytest.raises(ValidationError) as rejected:
        application.full_clean(exclude=["redirect_uris"])

    assert "scopes" in rejected.value.message_dict


@pytest.mark.parametrize("scope", ["api-keys:manage", "workspace:read api-keys:manage", "everything"])
def test_another_scope_is_rejected_before_sign_in_and_on_the_consent_form(program: Program, scope: str) -> None:
    nobody = Program(Application.objects.get(name="Dashboards"), Client())

    responses = [nobody.open(scope), program.open(scope), program.decide(scope, allow="yes")]

    assert [redirected_error(response) for response in responses] == ["invalid_scope"] * 3


def test_a_request_without_a_scope_needs_the_default_scope(program: Program) -> None:
    assert program.open(None).status_code == 200

    limit(program, "workspace:write")

    assert redirected_error(program.open(None)) == "invalid_scope"


def test_a_terminal_can_not_request_another_scope(browser: Client) -> None:
    application = make_application(
        "Script", authorization_grant_type=Application.GRANT_DEVICE_CODE, scopes=["workspace:read"]
    )
    terminal = Program(application, browser)

    rejected = terminal.start_device("workspace:read api-keys:manage")

    assert (rejected.status_code, rejected.json()["error"]) == (400, "invalid_scope")
    assert terminal.start_device("workspace:read").status_code == 200


def test_a_removed_scope_is_not_granted_by_an_earlier_consent(program: Program, browser: Client) -> None:
    both = "workspace:read workspace:write"
    code, tokens = program.code(both), program.tokens(both)
    terminal = Program(Application.objects.get(client_id="terminal"), browser)
    device = terminal.start_device(both).json()
    terminal.decide_device(device["user_code"], allow="yes")

    for application in (program, terminal):
        limit(application, "workspace:read")

    responses: list[Any] = [
        program.exchange(code),
        program.refresh(tokens["refresh_token"]),
        terminal.poll(device["device_code"]),
    ]
    assert [(response.status_code, response.json()["error"]) for response in responses] == [(400, "invalid_scope")] * 3
    narrower = program.refresh(tokens["refresh_token"], scope="workspace:read")
    assert narrower.json()["scope"] == "workspace:read"


def test_an_access_token_loses_a_removed_scope_from_the_next_request_on(owner: User, workspace: Workspace) -> None:
    person = Api(make_token(owner))
    assert person.get("/workspaces/current/api-keys").status_code == 200

    Application.objects.filter(client_id="tests").update(scopes=["workspace:read"])

    response = person.get("/workspaces/current/api-keys")
    assert response.status_code == 403
    assert 'error="insufficient_scope"' in response["WWW-Authenticate"]
    assert person.get("/me").json()["scopes"] == ["workspace:read"]


def test_the_metadata_lists_every_scope(db: None) -> None:
    metadata = Client().get("/.well-known/oauth-authorization-server").json()

    assert set(metadata["scopes_supported"]) == set(ALL_SCOPES.split())
