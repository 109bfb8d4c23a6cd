"""docs/oauth.md names the errors that the server returns, and no others."""

from __future__ import annotations

import re

import pytest
from django.test import Client

from oauth.models import Application
from oauth.server import DEVICE_CODE
from tests.helpers import sign_in
from tests.oauth.conftest import make_application
from tests.oauth.program import Program, redirected_error
from tests.processes import ROOT
from workspaces.models import User, Workspace


def errors_in(heading: str) -> set[str]:
    """Return the errors in the first column of the table under a heading of the page."""
    text = (ROOT / "docs/oauth.md").read_text().partition(f"### {heading}\n")[2].partition("\n#")[0]
    cells = re.findall(r"^\| ([^|]+) \|", text, re.MULTILINE)
    return set(re.findall(r"`([a-z_]+)`", " ".join(cells[1:])))


@pytest.fixture
def program(application: Application, owner: User, workspace: Workspace) -> Program:
    return Program(application, sign_in(owner))


@pytest.fixture
def terminal(owner: User, workspace: Workspace) -> Program:
    return Program(make_application("Terminal", authorization_grant_type=DEVICE_CODE), sign_in(owner))


def test_the_page_names_the_errors_of_the_authorization_endpoint(program: Program, terminal: Program) -> None:
    url, parameters = "/app/auth/authorize", program.request("openid")
    unchallenged = {name: value for name, value in parameters.items() if not name.startswith("code_challenge")}

    responses = [
        program.decide("openid"),
        program.open("everything"),
        program.browser.get(url, unchallenged),
        program.browser.get(url, parameters | {"response_type": "none"}),
        program.browser.get(url, parameters | {"prompt": "none"}),
        Client().get(url, parameters | {"prompt": "none"}),
        terminal.open("openid"),
    ]

    assert {redirected_error(response) for response in responses} == errors_in("In the browser")


def test_the_page_names_the_errors_of_the_other_endpoints(program: Program, terminal: Program) -> None:
    narrow = program.tokens("openid")["refresh_token"]
    code = {"grant_type": "authorization_code", "code": program.code()}

    responses = [
        program.exchange("unknown"),
        program.refresh("unknown"),
        program.refresh(narrow, scope="openid email"),
        program.start_device(),
        terminal.start_device("everything"),
        terminal.exchange("unknown"),
        program.post("token", grant_type="password"),
        program.post("token"),
        program.post("token", None, **code),
        program.post("revoke"),
        program.post("token", None, client_id="nobody", **code),
    ]

    assert {response.json()["error"] for response in responses} == errors_in("In responses to your program")
    assert {response.status_code for response in responses} == {400, 401}
