"""Chromium follows the redirect from the consent page to a native app: its Content-Security-Policy allows it."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest
from django.conf import settings
from playwright.sync_api import Browser

from tests.helpers import commits, sign_in
from tests.oauth.conftest import make_application
from tests.oauth.program import CHALLENGE
from workspaces.models import User, Workspace

pytestmark = [commits, pytest.mark.one_database("what Chromium does with a redirect")]


@pytest.mark.parametrize("redirect_uri", ["com.example.app:/callback", "http://[::1]:49152/callback"])
def test_the_redirect_to_a_native_app_is_followed(
    browser: Browser, site: str, owner: User, workspace: Workspace, redirect_uri: str
) -> None:
    """The app is not installed, so the request of the redirect fails. If the policy blocks it, there is none."""
    application = make_application("App", redirect_uris=redirect_uri)
    parameters = {"client_id": application.client_id, "redirect_uri": redirect_uri, "response_type": "code"}
    session = sign_in(owner).cookies[settings.SESSION_COOKIE_NAME].value
    with browser.new_context() as context:
        context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": session, "url": site}])
        page = context.new_page()
        page.goto(f"{site}/app/auth/authorize?{urlencode(parameters | {'code_challenge': CHALLENGE})}")

        with page.expect_event("requestfailed") as failed:
            page.get_by_role("button", name="Allow").click(no_wait_after=True)

        assert failed.value.url.startswith(f"{redirect_uri}?code=")
