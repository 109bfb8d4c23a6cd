"""Chromium follows the redirects from the consent page to an application: the Content-Security-Policy allows them."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import urlencode

import pytest
from django.conf import settings
from playwright.sync_api import Browser, Page, expect

from tests.helpers import commits, sign_in
from tests.oauth.conftest import make_application
from tests.oauth.program import CHALLENGE
from workspaces.models import User, Workspace

pytestmark = [commits, pytest.mark.one_database("what Chromium does with a redirect")]


class Website(BaseHTTPRequestHandler):
    """A website that receives the code on one host and has its pages on another."""

    def do_GET(self) -> None:
        is_callback = self.path.startswith("/callback?code=")
        self.send_response(302 if is_callback else 200)
        if is_callback:
            self.send_header("Location", f"http://localhost:{self.server.server_port}/home")  # type: ignore[attr-defined]
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def website() -> Iterator[int]:
    """The port of a website."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Website) as server:
        Thread(target=server.serve_forever).start()
        yield server.server_port
        server.shutdown()


@pytest.fixture
def page(browser: Browser, site: str, owner: User, workspace: Workspace) -> Iterator[Page]:
    """A page of the signed-in owner."""
    session = sign_in(owner).cookies[settings.SESSION_COOKIE_NAME].value
    with browser.new_context() as context:
        context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": session, "url": site}])
        yield context.new_page()


def open_consent(page: Page, site: str, redirect_uri: str) -> None:
    application = make_application("App", redirect_uris=redirect_uri)
    parameters = {"client_id": application.client_id, "redirect_uri": redirect_uri, "response_type": "code"}
    page.goto(f"{site}/app/auth/authorize?{urlencode(parameters | {'code_challenge': CHALLENGE})}")


@pytest.mark.parametrize("redirect_uri", ["com.example.app:/callback", "http://[::1]:49152/callback"])
def test_the_redirect_to_a_native_app_is_followed(page: Page, site: str, redirect_uri: str) -> None:
    """The app is not installed, so the request of the redirect fails. If the policy blocks it, there is none."""
    open_consent(page, site, redirect_uri)

    with page.expect_event("requestfailed") as failed:
        page.get_by_role("button", name="Allow").click(no_wait_after=True)

    assert failed.value.url.startswith(f"{redirect_uri}?code=")


def test_the_redirects_of_an_application_to_another_host_are_followed(page: Page, site: str, website: int) -> None:
    open_consent(page, site, f"http://127.0.0.1:{website}/callback")

    page.get_by_role("button", name="Allow").click()

    expect(page).to_have_url(f"http://localhost:{website}/home")
