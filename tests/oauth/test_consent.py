"""A user is asked once for each authorization, and the consent page names the workspaces that it is about."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django.utils.html import strip_tags
from oauth2_provider.models import RefreshToken
from time_machine import TimeMachineFixture

from core.admin import change_url
from oauth.models import Application
from tests.admin.browser import Page
from tests.helpers import BY_TEST, make_staff, make_workspace, sign_in
from tests.oauth.conftest import ALL_SCOPES, CALLBACK, code_in, make_application
from tests.oauth.program import Program, redirected_error
from workspaces.models import AuditEvent, Role, User, Workspace

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


def asks(program: Program, scope: str = SCOPE, **parameters: str) -> bool:
    """Return whether the user has to decide. Otherwise the application gets a code."""
    response = program.open(scope, **parameters)
    if response.status_code == 302:
        assert code_in(response["Location"])
        assert response["Location"].startswith(program.redirect_uri)
    return bool(response.status_code == 200)


# ---- who is remembered ----


def test_what_was_allowed_is_not_asked_again(web: Program) -> None:
    assert asks(web)
    tokens = web.tokens(SCOPE)

    response = web.open(SCOPE)

    assert response.status_code == 302
    again = web.exchange(code_in(response["Location"])).json()
    assert set(again["scope"].split()) == set(SCOPE.split())
    assert web.refresh(tokens["refresh_token"]).status_code == 200, "the first authorization stays valid"


@pytest.mark.parametrize(
    ("client_type", "redirect_uri", "asked"),
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
def test_only_a_client_with_an_https_redirect_uri_is_remembered(
    browser: Client, client_type: str, redirect_uri: str, asked: bool
) -> None:
    """On the user's device, another program may use the client's id, and its secret (RFC 8252, section 8.6)."""
    application = make_application(
        "Dashboards", client_type=client_type, client_secret=SECRET, redirect_uris=redirect_uri
    )
    credentials = {"client_secret": SECRET} if client_type == "confidential" else {}
    program = Program(application, browser, redirect_uri, **credentials)
    assert program.tokens(SCOPE)["access_token"]

    assert asks(program) is asked
    assert asks(program, approval_prompt="auto") is asked


def test_another_redirect_uri_of_the_same_client_is_asked(browser: Client) -> None:
    application = make_application("Dashboards", redirect_uris=f"{CALLBACK} {HTTPS_CALLBACK}")
    assert Program(application, browser, HTTPS_CALLBACK).tokens(SCOPE)

    assert asks(Program(application, browser, CALLBACK))
    assert not asks(Program(application, browser, HTTPS_CALLBACK))


def test_another_user_and_another_application_are_asked(web: Program, admin: User, browser: Client) -> None:
    web.tokens(SCOPE)
    other = make_application("Other", client_type="confidential", redirect_uris=HTTPS_CALLBACK)

    assert asks(Program(other, browser, HTTPS_CALLBACK))
    web.browser = sign_in(admin)
    assert asks(web)


# ---- what is remembered ----


def test_fewer_scopes_are_not_asked_and_more_are(web: Program) -> None:
    web.tokens(SCOPE)

    assert not asks(web, "workspace:read")
    assert asks(web, f"{SCOPE} email")
    assert asks(web, "api-keys:manage")


def test_a_scope_that_the_application_lost_is_rejected(web: Program) -> None:
    web.tokens(SCOPE)
    Application.objects.filter(client_id=web.client_id).update(scopes=["workspace:read"])

    assert redirected_error(web.open(SCOPE)) == "invalid_scope"


def test_a_client_can_have_the_user_asked(web: Program) -> None:
    web.tokens(SCOPE)

    assert asks(web, prompt="consent")


def test_without_a_page_only_a_remembered_client_gets_a_code(web: Program) -> None:
    assert redirected_error(web.open(SCOPE, prompt="none")) == "consent_required"
    web.tokens(SCOPE)

    assert code_in(web.open(SCOPE, prompt="none")["Location"])
    assert redirected_error(web.open(ALL_SCOPES, prompt="none")) == "consent_required"


def test_an_authorization_without_the_page_is_in_the_audit_log(web: Program, owner: User) -> None:
    web.tokens(SCOPE)
    web.open("workspace:read")

    again, first = AuditEvent.objects.filter(action="application.allowed")
    assert first.details == {"application": web.client_id, "scope": SCOPE}
    assert again.details == {"application": web.client_id, "scope": "workspace:read", "remembered": True}
    assert (again.actor, again.subject, again.client_ip) == (owner, owner.pk, "127.0.0.1")
    assert again.sentence == f"Allowed {web.client_id} again, without the consent page: workspace:read"


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
def test_after_the_end_of_the_authorization_the_user_is_asked(
    web: Program, end: Callable[[Program, dict[str, str]], None]
) -> None:
    tokens = web.tokens(SCOPE)
    assert not asks(web)

    end(web, tokens)

    assert asks(web)


def test_a_code_that_was_never_exchanged_is_not_an_authorization(web: Program) -> None:
    web.code(SCOPE)

    assert asks(web)


@pytest.mark.usefixtures("_frozen_clock")
def test_the_user_is_asked_when_the_refresh_token_has_expired(
    web: Program, owner: User, time_machine: TimeMachineFixture
) -> None:
    tokens = web.tokens(SCOPE)
    answers = []
    for days in (29, 29, 29, 2, 3):  # each refresh adds 30 days, to at most 90 after the authorization
        time_machine.shift(timedelta(days=days))
        web.browser.force_login(owner)
        answers.append(asks(web))
        if days == 29:
            tokens = web.refresh(tokens["refresh_token"]).json()

    assert answers == [False, False, False, False, True]


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
    assert asks(web)
    assert web.refresh(tokens["refresh_token"]).json() == {"error": "invalid_grant"}


@pytest.mark.usefixtures("_frozen_clock")
def test_the_user_is_asked_when_the_application_was_not_used(
    web: Program, owner: User, time_machine: TimeMachineFixture
) -> None:
    web.tokens(SCOPE)

    time_machine.shift(timedelta(days=31))

    web.browser.force_login(owner)
    assert asks(web)


def test_a_refresh_keeps_the_authorization_and_may_narrow_it(web: Program) -> None:
    tokens = web.refresh(web.tokens(SCOPE)["refresh_token"]).json()
    assert not asks(web)

    web.refresh(tokens["refresh_token"], scope="workspace:read")

    assert not asks(web, "workspace:read")
    assert asks(web)


# ---- the page ----


def names_on(page: Any) -> list[str]:
    """Return the lines of the page about what the application gets access to."""
    assert page.status_code == 200
    access = re.sub(r"(?s).*?<section class=\"access\">(.*)</section>.*", r"\1", page.content.decode())
    lines = re.sub(r"</(h2|li|p)>", "\n", access)
    return [line for line in (strip_tags(line).strip() for line in lines.splitlines()) if line]


def pages(browser: Client, scope: str) -> list[list[str]]:
    """Return the lines of the consent pages of an application and of a terminal."""
    application = Program(make_application("Dashboards"), browser)
    terminal = Program(Application.objects.get(client_id="terminal"), browser)
    user_code = terminal.start_device(scope).json()["user_code"]
    return [
        names_on(page) for page in (application.open(scope), browser.get("/app/auth/device", {"user_code": user_code}))
    ]


def test_the_page_names_five_workspaces_and_the_number_of_the_others(owner: User, browser: Client) -> None:
    for number in range(39):
        make_workspace(owner, slug=f"team-{number:02}")

    for lines in pages(browser, "workspace:read"):
        assert lines == [
            "It will be able to:",
            "Read the tasks and the members of your workspaces",
            "Tasks and members in these workspaces:",
            "Acme as owner",
            *(f"Team-0{number} as owner" for number in range(4)),
            "and 35 more",
        ]


def test_the_page_loads_only_the_workspaces_that_it_names(owner: User, browser: Client) -> None:
    def statements() -> list[str]:
        with CaptureQueriesContext(
            connection,
        ) as queries:
            assert Program(Application.objects.get(name="Dashboards"), browser).open(ALL_SCOPES).status_code == 200
        return [query["sql"] for query in queries if "workspaces_membership" in query["sql"]]

    make_application("Dashboards")
    few = statements()
    for number in range(20):
        make_workspace(owner, slug=f"team-{number:02}")

    many = statements()
    assert len(many) == len(few) == 2
    assert all("LIMIT 5" in statement for statement in many)


def test_the_page_lists_workspaces_for_keys_where_the_user_can_manage_them(
    admin: User, workspace: Workspace, outsider: User
) -> None:
    make_workspace(outsider, slug="elsewhere").add_member(admin, Role.MEMBER, by=BY_TEST)

    for lines in pages(sign_in(admin), "workspace:read api-keys:manage"):
        assert lines[3:] == [
            "Tasks and members in these workspaces:",
            "Acme as admin",
            "Elsewhere as member",
            "API keys in these workspaces:",
            "Acme as admin",
        ]
    for lines in pages(sign_in(admin), "api-keys:manage"):
        assert lines[2:] == ["API keys in these workspaces:", "Acme as admin"]


def test_the_page_has_one_list_if_the_user_can_manage_all_keys(browser: Client) -> None:
    for lines in pages(browser, "workspace:read api-keys:manage"):
        assert lines[3:] == ["Tasks, members and API keys in these workspaces:", "Acme as owner"]


@pytest.mark.parametrize(
    ("scope", "sentences"),
    [
        ("openid email", []),
        (
            "workspace:read",
            ["Tasks and members in these workspaces:", "None. You are not a member of any workspace yet."],
        ),
        (
            "api-keys:manage",
            ["API keys in these workspaces:", "None. You are not an owner or admin of any workspace."],
        ),
    ],
)
def test_the_page_says_if_no_workspace_is_concerned(outsider: User, scope: str, sentences: list[str]) -> None:
    for lines in pages(sign_in(outsider), scope):
        assert lines[1 + len(scope.split()) :] == sentences
