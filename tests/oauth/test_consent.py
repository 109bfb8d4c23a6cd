"""Remembered consent: when an authorization request shows the consent page, and when it doesn't."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone
from oauth2_provider.models import RefreshToken
from time_machine import TimeMachineFixture

from core.admin import change_url
from oauth.models import Application
from tests.admin.browser import Page
from tests.helpers import BY_TEST, make_staff, sign_in
from tests.oauth.conftest import ALL_SCOPES, CALLBACK, code_in, make_application
from tests.oauth.program import Program, redirected_error
from workspaces.models import AuditEvent, User, Workspace

HTTPS_CALLBACK = "https://dashboards.example/callback"
SECRET = "s3cret"
SCOPE = "openid workspace:read workspace:write"


@pytest.fixture
def browser(owner: User, workspace: Workspace) -> Client:
    return sign_in(owner)


@pytest.fixture
def web(browser: Client) -> Program:
    """A web application with a secret."""
    application = make_application(
        "Dashboards", client_type="confidential", client_secret=SECRET, redirect_uris=HTTPS_CALLBACK
    )
    return Program(application, browser, HTTPS_CALLBACK, client_secret=SECRET)


def needs_consent(program: Program, scope: str = SCOPE, **parameters: str) -> bool:
    """Return whether the request shows the consent page. Otherwise the application gets a code."""
    response = program.open(scope, **parameters)
    if response.status_code == 302:
        assert code_in(response["Location"])
        assert response["Location"].startswith(program.redirect_uri)
    return bool(response.status_code == 200)


# ---- for which clients ----


def test_consent_is_remembered(web: Program) -> None:
    assert needs_consent(web)
    tokens = web.tokens(SCOPE)

    response = web.open(SCOPE)

    assert response.status_code == 302
    new_tokens = web.exchange(code_in(response["Location"])).json()
    assert set(new_tokens["scope"].split()) == set(SCOPE.split())
    assert web.refresh(tokens["refresh_token"]).status_code == 200, "the first authorization stays valid"


@pytest.mark.parametrize(
    ("client_type", "redirect_uri", "expected"),
    [
        ("confidential", HTTPS_CALLBACK, False),
        ("confidential", CALLBACK, True),
        ("confidential", "com.example.dashboards:/callback", True),
        ("public", HTTPS_CALLBACK, False),
        ("public", CALLBACK, True),
        ("public", "http://[::1]/callback", True),
        ("public", "http://localhost/callback", True),
        ("public", "https://localhost/callback", True),
        ("public", "https://dashboards.localhost/callback", True),
        ("public", "https://127.0.0.1/callback", True),
        ("public", "com.example.dashboards:/callback", True),
    ],
)
def test_consent_is_remembered_only_for_an_https_redirect_uri(
    browser: Client, client_type: str, redirect_uri: str, expected: bool
) -> None:
    """On the user's device, another program may use the client's id, and its secret (RFC 8252, section 8.6)."""
    application = make_application(
        "Dashboards", client_type=client_type, client_secret=SECRET, redirect_uris=redirect_uri
    )
    credentials = {"client_secret": SECRET} if client_type == "confidential" else {}
    program = Program(application, browser, redirect_uri, **credentials)
    assert program.tokens(SCOPE)["access_token"]

    assert needs_consent(program) is expected
    assert needs_consent(program, approval_prompt="auto") is expected


def test_another_redirect_uri_of_the_same_client_needs_consent(browser: Client) -> None:
    application = make_application("Dashboards", redirect_uris=f"{CALLBACK} {HTTPS_CALLBACK}")
    assert Program(application, browser, HTTPS_CALLBACK).tokens(SCOPE)

    assert needs_consent(Program(application, browser, CALLBACK))
    assert not needs_consent(Program(application, browser, HTTPS_CALLBACK))


def test_another_user_and_another_application_need_consent(web: Program, admin: User, browser: Client) -> None:
    web.tokens(SCOPE)
    other = make_application("Other", client_type="confidential", redirect_uris=HTTPS_CALLBACK)

    assert needs_consent(Program(other, browser, HTTPS_CALLBACK))
    web.browser = sign_in(admin)
    assert needs_consent(web)


# ---- for which requests ----


def test_more_scopes_need_consent_and_fewer_do_not(web: Program) -> None:
    web.tokens(SCOPE)

    assert not needs_consent(web, "workspace:read")
    assert needs_consent(web, f"{SCOPE} email")
    assert needs_consent(web, "api-keys:manage")


def test_a_scope_that_the_application_lost_is_rejected(web: Program) -> None:
    web.tokens(SCOPE)
    Application.objects.filter(client_id=web.client_id).update(scopes=["workspace:read"])

    assert redirected_error(web.open(SCOPE)) == "invalid_scope"


def test_prompt_consent_shows_the_page(web: Program) -> None:
    web.tokens(SCOPE)

    assert needs_consent(web, prompt="consent")


def test_prompt_none_succeeds_only_with_remembered_consent(web: Program) -> None:
    assert redirected_error(web.open(SCOPE, prompt="none")) == "consent_required"
    web.tokens(SCOPE)

    assert code_in(web.open(SCOPE, prompt="none")["Location"])
    assert redirected_error(web.open(ALL_SCOPES, prompt="none")) == "consent_required"


def test_an_authorization_without_the_page_is_in_the_audit_log(web: Program, owner: User) -> None:
    web.tokens(SCOPE)
    web.open("workspace:read")

    second, first = AuditEvent.objects.filter(action="application.allowed")
    assert first.details == {"application": web.client_id, "scope": SCOPE}
    assert second.details == {"application": web.client_id, "scope": "workspace:read", "remembered": True}
    assert (second.actor, second.subject, second.client_ip) == (owner, owner.pk, "127.0.0.1")
    assert second.sentence == f"Allowed {web.client_id} again, without the consent page: workspace:read"


# ---- how it ends ----


def revoke_the_refresh_token(web: Program, tokens: dict[str, str]) -> None:
    web.revoke(tokens["refresh_token"])


def revoke_the_access_token(web: Program, tokens: dict[str, str]) -> None:
    web.revoke(tokens["access_token"])


def reuse_the_refresh_token(web: Program, tokens: dict[str, str]) -> None:
    web.refresh(tokens["refresh_token"])
    # Until 10 seconds after the refresh, it would be a repeated request.
    RefreshToken.objects.exclude(revoked=None).update(revoked=timezone.now() - timedelta(seconds=11))
    assert web.refresh(tokens["refresh_token"]).status_code == 400


def change_the_password(web: Program, tokens: dict[str, str]) -> None:
    form = {"old_password": "owner-password", "new_password1": "correct horse", "new_password2": "correct horse"}
    assert web.browser.post("/settings/password/", form).status_code == 302


def end_the_access(web: Program, tokens: dict[str, str]) -> None:
    owner = User.objects.get(name="Owner")
    owner.end_access(by=BY_TEST)
    web.browser.force_login(owner)


def change_the_scopes_of_the_application(web: Program, tokens: dict[str, str]) -> None:
    """And change them back: the user allowed the earlier application."""
    operator = sign_in(make_staff("operator", "operators"))
    url = change_url(Application.objects.get(client_id=web.client_id))
    for scopes in (["workspace:read"], ALL_SCOPES.split()):
        Page.open(operator, url).form().send(operator, scopes=scopes)
    assert Application.objects.get(client_id=web.client_id).scopes == ALL_SCOPES.split()


@pytest.mark.parametrize(
    "end",
    [
        revoke_the_refresh_token,
        revoke_the_access_token,
        reuse_the_refresh_token,
        change_the_password,
        end_the_access,
        change_the_scopes_of_the_application,
    ],
)
def test_consent_ends_with_the_authorization(web: Program, end: Callable[[Program, dict[str, str]], None]) -> None:
    tokens = web.tokens(SCOPE)
    assert not needs_consent(web)

    end(web, tokens)

    assert needs_consent(web)


def test_a_code_that_was_never_exchanged_is_not_remembered(web: Program) -> None:
    web.code(SCOPE)

    assert needs_consent(web)


@pytest.mark.usefixtures("_frozen_clock")
def test_consent_ends_when_the_refresh_token_expires(
    web: Program, owner: User, time_machine: TimeMachineFixture
) -> None:
    tokens = web.tokens(SCOPE)
    results = []
    for days in (29, 29, 29, 2, 3):  # each refresh adds 30 days, to at most 90 after the authorization
        time_machine.shift(timedelta(days=days))
        web.browser.force_login(owner)
        results.append(needs_consent(web))
        if days == 29:
            tokens = web.refresh(tokens["refresh_token"]).json()

    assert results == [False, False, False, False, True]


@pytest.mark.usefixtures("_frozen_clock")
def test_an_authorization_without_the_page_ends_90_days_after_the_consent(
    web: Program, owner: User, time_machine: TimeMachineFixture
) -> None:
    """Otherwise the application could extend it for ever. The consent before it may be one without the page too."""
    web.tokens(SCOPE)
    for _ in range(3):
        time_machine.shift(timedelta(days=29))
        web.browser.force_login(owner)
        tokens = web.exchange(code_in(web.open(SCOPE)["Location"])).json()
        tokens = web.refresh(tokens["refresh_token"]).json()

    time_machine.shift(timedelta(days=3))

    web.browser.force_login(owner)
    assert needs_consent(web)
    assert web.refresh(tokens["refresh_token"]).json() == {"error": "invalid_grant"}


@pytest.mark.usefixtures("_frozen_clock")
def test_consent_ends_if_the_application_is_not_used(
    web: Program, owner: User, time_machine: TimeMachineFixture
) -> None:
    web.tokens(SCOPE)

    time_machine.shift(timedelta(days=31))

    web.browser.force_login(owner)
    assert needs_consent(web)


def test_a_refresh_keeps_the_authorization_and_may_narrow_it(web: Program) -> None:
    tokens = web.refresh(web.tokens(SCOPE)["refresh_token"]).json()
    assert not needs_consent(web)

    web.refresh(tokens["refresh_token"], scope="workspace:read")

    assert not needs_consent(web, "workspace:read")
    assert needs_consent(web)
