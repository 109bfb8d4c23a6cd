from __future__ import annotations

import re
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Browser, expect

from tests.helpers import commits, sign_in
from tests.oauth.conftest import make_application
from tests.oauth.program import Program
from workspaces.models import User, Workspace

CALLBACK = "https://dashboards.example/callback"
SCOPE = "openid workspace:read"


@commits
@pytest.mark.parametrize("javascript", [True, False])
def test_a_user_who_signs_in_for_a_known_application_is_redirected_to_it(
    browser: Browser, site: str, owner: User, workspace: Workspace, javascript: bool
) -> None:
    """Chromium applies the Content-Security-Policy of the sign-in form to the redirects after it."""
    program = Program(make_application("Dashboards", redirect_uris=CALLBACK), sign_in(owner), CALLBACK)
    assert program.tokens(SCOPE)["access_token"]

    with browser.new_context(java_script_enabled=javascript) as context:
        context.route(f"{CALLBACK}*", lambda route: route.fulfill(body="Welcome back"))  # the application
        page = context.new_page()
        page.goto(f"{site}/app/auth/authorize?{urlencode(program.request(SCOPE))}")
        page.get_by_label("Email").fill(owner.email)
        page.get_by_label("Password").fill("owner-password")
        page.get_by_role("button", name="Sign in").click()

        expect(page).to_have_url(re.compile(rf"{re.escape(CALLBACK)}\?code="))
        expect(page.get_by_text("Welcome back")).to_be_visible()
