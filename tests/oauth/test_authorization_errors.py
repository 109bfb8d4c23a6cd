"""How errors of the authorization endpoint reach the client: in the redirect, with `iss` (RFC 9207)."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.test import Client

from oauth.models import Application
from tests.helpers import sign_in
from tests.oauth.conftest import CALLBACK, make_application
from tests.oauth.program import Program
from tests.oauth.test_ended_access import ended_at_the_last_moment
from workspaces.models import User, Workspace

# A redirect URI with a query of its own, which contains the name of a parameter of the response.
WITH_QUERY = "https://app.example.com/callback?tenant=a&iss=mine"

INVALID_PARAMETERS = [
    ({"scope": "everything"}, "invalid_scope"),
    ({"code_challenge": None}, "invalid_request"),
    ({"code_challenge_method": "plain"}, "invalid_request"),
    ({"response_type": None}, "invalid_request"),
    ({"response_type": "none"}, "unsupported_response_type"),
    ({"prompt": "none"}, "login_required"),
    ({"prompt": "none consent"}, "invalid_request"),
    ({"prompt": "create"}, "invalid_request"),
    ({"max_age": "soon"}, "invalid_request"),
]


@pytest.fixture
def issuer(db: None) -> str:
    return str(Client().get("/.well-known/oauth-authorization-server").json()["issuer"])


@pytest.fixture(params=[CALLBACK, WITH_QUERY])
def redirect_uri(request: Any) -> str:
    return str(request.param)


@pytest.fixture
def program(redirect_uri: str, owner: User, workspace: Workspace) -> Program:
    return Program(make_application("Dashboards", redirect_uris=redirect_uri), sign_in(owner))


def parameters_of(program: Program, redirect_uri: str, **changes: str | None) -> dict[str, str]:
    parameters = program.request("openid") | {"redirect_uri": redirect_uri} | changes
    return {name: value for name, value in parameters.items() if value is not None}


def assert_error(response: Any, redirect_uri: str, error: str, issuer: str, part: str = "query") -> None:
    """Check that the response redirects to the client, with its own query and the parameters of an error."""
    registered, location = urlsplit(redirect_uri), urlsplit(response["Location"])
    assert location[:3] == registered[:3]
    response_parameters = parse_qs(getattr(location, part))
    expected = {"error": [error], "state": ["s"], "iss": [issuer]}
    if part == "query" and registered.query:
        expected["tenant"] = ["a"]
    response_parameters.pop("error_description", None)
    assert response_parameters == expected


@pytest.mark.parametrize(("changes", "error"), INVALID_PARAMETERS)
def test_an_invalid_request_redirects_with_the_issuer_before_and_after_sign_in(
    program: Program, redirect_uri: str, changes: dict[str, str | None], error: str, issuer: str
) -> None:
    parameters = parameters_of(program, redirect_uri, **changes)

    signed_out = Client().get("/app/auth/authorize", parameters)
    signed_in = program.browser.get("/app/auth/authorize", parameters)

    assert_error(signed_out, redirect_uri, error, issuer)
    assert_error(signed_in, redirect_uri, error.replace("login_required", "consent_required"), issuer)


def test_denied_consent_redirects_with_the_issuer(program: Program, redirect_uri: str, issuer: str) -> None:
    response = program.browser.post("/app/auth/authorize", parameters_of(program, redirect_uri))

    assert_error(response, redirect_uri, "access_denied", issuer)


@pytest.mark.parametrize("changes", [{}, {"allow": "yes", "resource": "unknown"}, {"allow": "yes"}])
def test_a_forged_consent_form_does_not_redirect_elsewhere(
    program: Program, redirect_uri: str, changes: dict[str, str]
) -> None:
    parameters = parameters_of(program, redirect_uri, **changes) | {"redirect_uri": "https://evil.example/callback"}

    response = program.browser.post("/app/auth/authorize", parameters)

    assert (response.status_code, response.headers.get("Location")) == (400, None)


def test_consent_of_a_user_whose_access_has_ended_redirects_with_the_issuer(
    program: Program, redirect_uri: str, issuer: str, owner: User
) -> None:
    with ended_at_the_last_moment(owner):
        response = program.browser.post("/app/auth/authorize", parameters_of(program, redirect_uri, allow="yes"))

    assert_error(response, redirect_uri, "access_denied", issuer)


@pytest.mark.parametrize("response_type", ["token", "id_token", "code token", "id_token token"])
def test_a_response_type_with_a_token_is_rejected_in_the_fragment(
    program: Program, redirect_uri: str, response_type: str, issuer: str
) -> None:
    """Such a client reads the fragment only (RFC 6749, 4.2.2.1)."""
    parameters = parameters_of(program, redirect_uri, response_type=response_type)

    response = Client().get("/app/auth/authorize", parameters)

    assert_error(response, redirect_uri, "unsupported_response_type", issuer, "fragment")


@pytest.mark.parametrize("decision", [{}, {"allow": "yes"}])
def test_a_client_that_wants_the_fragment_gets_code_error_and_issuer_there(
    application: Application, owner: User, workspace: Workspace, decision: dict[str, str], issuer: str
) -> None:
    program = Program(application, sign_in(owner))

    url = "/app/auth/authorize?response_mode=fragment"
    location = urlsplit(program.browser.post(url, program.request("openid") | decision)["Location"])

    assert location.query == ""
    assert set(parse_qs(location.fragment)) == {"code" if decision else "error", "state", "iss"}


@pytest.mark.django_db
@pytest.mark.parametrize("query", ["client_id=%zz", "client_id=x%", "client_id=x%00"])
def test_a_malformed_url_shows_an_error_page(query: str) -> None:
    response = Client().get(f"/app/auth/authorize?{query}")

    assert response.status_code == 400
    assert response["Content-Type"].startswith("text/html")
