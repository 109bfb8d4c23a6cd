"""The consent pages of applications and terminals name the workspaces that the application gets access to."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils.html import strip_tags

from oauth.models import Application
from tests.helpers import BY_TEST, make_workspace, sign_in
from tests.oauth.conftest import ALL_SCOPES, make_application
from tests.oauth.program import Program
from workspaces.models import Role, User, Workspace


@pytest.fixture
def browser(owner: User, workspace: Workspace) -> Client:
    return sign_in(owner)


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
        with CaptureQueriesContext(connection) as queries:
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
