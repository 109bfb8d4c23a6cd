"""Redirect URIs: which ones an application can have, and which ones match (RFC 8252, for native apps)."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.test import Client

from oauth.models import Application
from tests.admin.browser import Page
from tests.admin.pages import add_url
from tests.helpers import sign_in
from tests.oauth.conftest import code_in, make_application
from tests.oauth.program import VERIFIER, Program, redirected_error
from workspaces.models import User, Workspace

LOOPBACK = ["http://127.0.0.1", "http://[::1]", "http://localhost"]
APP = ["com.example.app:/callback", "com.example.app://callback"]


def problem_of(redirect_uri: str, client_type: str = Application.CLIENT_PUBLIC) -> str | None:
    application = Application(
        name="Reports",
        client_type=client_type,
        authorization_grant_type=Application.GRANT_AUTHORIZATION_CODE,
        redirect_uris=redirect_uri,
    )
    try:
        application.full_clean()
    except ValidationError as error:
        return " ".join(error.message_dict["redirect_uris"])
    return None


@pytest.mark.django_db
@pytest.mark.parametrize(
    "redirect_uri",
    [
        "https://app.example.com/callback?a=b",
        "https://xn--bcher-kva.example/%C3%BC",
        "https://[2001:db8::1]/",
        *(f"{uri}:3000/callback" for uri in LOOPBACK),
        *LOOPBACK,
        *APP,
    ],
)
def test_these_redirect_uris_are_accepted(redirect_uri: str) -> None:
    assert problem_of(redirect_uri) is None


@pytest.mark.django_db
@pytest.mark.parametrize(
    "redirect_uri",
    [
        *(
            "http://app.example.com/callback",
            "http://127.0.0.1.evil.example/callback",
            "http://localhost.evil.example/",
        ),
        *("javascript:alert(1)", "data:text/html,x", "file:///etc/passwd", "vbscript:x", "blob:https://a.example/x"),
        *("app:/callback", "myapp://callback", "com.example.:/callback", "com..app:/callback", ".example:/callback"),
        *("com.example.app:callback", "com.example.app:", "com.example.app:///callback", "com.example.app:/a#b"),
        *("https:/callback", "https://", "https://a.example/#x", "https://a@b.example/", "https://a.example:port/"),
        *("https://a;b.example/", "https://a.example,b/", "https://a.example:/", "https://localhost./", "a.b:/\x01"),
        *("https://b\u00fccher.example/", "https://a.example/\u00fc", "https://a.example/%", 'https://a.example/"'),
        *("/callback", "callback", "//a.example/callback", "http://[::1/", "https://*.example.com/"),
    ],
)
def test_these_redirect_uris_are_rejected(redirect_uri: str) -> None:
    problem = problem_of(f"https://app.example.com/ {redirect_uri}")

    assert problem is not None
    assert redirect_uri in problem


@pytest.mark.django_db
def test_a_comma_after_a_redirect_uri_is_explained() -> None:
    problem = problem_of("https://a.example/, https://b.example/")

    assert problem == "https://a.example/,: Separate redirect URIs by spaces or line breaks, not by commas."


@pytest.mark.django_db
def test_a_confidential_client_has_no_private_use_scheme() -> None:
    problem = problem_of(APP[0], Application.CLIENT_CONFIDENTIAL)

    assert problem == f"{APP[0]}: Only a public client, such as a mobile app, can have a private-use scheme."


def test_the_admin_says_which_redirect_uris_are_accepted(admin_client: Client) -> None:
    form = Page.open(admin_client, add_url(Application)).form()
    fields: dict[str, Any] = {"name": "App", "client_type": "public", "authorization_grant_type": "authorization-code"}

    page = admin_client.get(add_url(Application)).content.decode()
    rejected = form.send(admin_client, **fields, redirect_uris="myapp://callback")
    accepted = form.send(admin_client, **fields, redirect_uris=APP[0])

    assert "a private-use scheme such as com.example.app:/callback." in page
    assert "myapp://callback: Use https, http on a loopback host" in rejected.content.decode()
    assert accepted.redirect_chain
    assert Application.objects.get(name="App").redirect_uris == APP[0]


@pytest.fixture
def program(owner: User, workspace: Workspace) -> Program:
    uris = " ".join([*(f"{uri}/callback" for uri in LOOPBACK), *APP])
    return Program(make_application("App", redirect_uris=uris), sign_in(owner))


def authorize(program: Program, redirect_uri: str, **parameters: str) -> Any:
    parameters = program.request("openid") | {"redirect_uri": redirect_uri} | parameters
    return program.browser.post("/app/auth/authorize", parameters)


@pytest.mark.parametrize("redirect_uri", [*(f"{uri}:49152/callback" for uri in LOOPBACK), *APP])
def test_a_native_app_gets_code_tokens_and_errors(program: Program, redirect_uri: str) -> None:
    allowed = authorize(program, redirect_uri, allow="yes")
    denied = authorize(program, redirect_uri)
    invalid = program.browser.get("/app/auth/authorize", program.request("everything") | {"redirect_uri": redirect_uri})

    form = {"grant_type": "authorization_code", "code_verifier": VERIFIER, "redirect_uri": redirect_uri}
    tokens = program.post("token", None, code=code_in(allowed["Location"]), **form)

    assert tokens.status_code == 200
    assert {response["Location"].partition("?")[0] for response in (allowed, denied, invalid)} == {redirect_uri}
    assert redirected_error(denied) == "access_denied"
    assert redirected_error(invalid) == "invalid_scope"


@pytest.mark.parametrize(
    "redirect_uri",
    [
        *("http://127.0.0.1:49152/other", "http://127.0.0.2:49152/callback", "http://localhost.:49152/callback"),
        *("https://localhost:49152/callback", "com.example.app:/other", "com.example.other:/callback"),
    ],
)
def test_another_redirect_uri_shows_an_error_page(program: Program, redirect_uri: str) -> None:
    response = program.browser.get("/app/auth/authorize", program.request("openid") | {"redirect_uri": redirect_uri})

    assert (response.status_code, response.headers.get("Location")) == (400, None)
