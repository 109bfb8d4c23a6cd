"""Rotation of SECRET_KEY: servers with different keys run one after another on one database."""

from __future__ import annotations

import base64
import hashlib
import secrets
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import requests

from oauth.server import DEVICE_CODE
from tests.helpers import commits
from tests.oauth.conftest import CALLBACK, Browser, code_in, make_application
from tests.processes import TIMEOUT, fetch, server
from workspaces.models import User, Workspace

pytestmark = commits

OLD, NEW = secrets.token_urlsafe(50), secrets.token_urlsafe(50)
VERIFIER = secrets.token_urlsafe(40)
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).decode().rstrip("=")


class Customer:
    """A user's browsers and OAuth client, which use one server after another."""

    def __init__(self, owner: User, workspace: Workspace) -> None:
        self.owner, self.workspace = owner, workspace
        self.application = make_application("Dashboards")

    def use(self, site: str) -> Customer:
        """Send the following requests to this server. Returns the customer itself."""
        self.site = site
        return self

    def sign_in(self) -> Browser:
        browser = Browser(self.site)
        browser.sign_in(self.owner)
        return browser

    @property
    def keys_url(self) -> str:
        return f"{self.site}/w/{self.workspace.pk}/settings/developer/api-keys/"

    def is_signed_in(self, browser: Browser) -> bool:
        return browser.open(self.keys_url).status_code == 200

    @property
    def consent_url(self) -> str:
        params = {"response_type": "code", "client_id": self.application.client_id, "redirect_uri": CALLBACK}
        params |= {"scope": "workspace:read", "state": "s", "code_challenge": CHALLENGE}
        return f"{self.site}/app/auth/authorize?{urlencode(params)}"

    def token(self, client_id: str | None = None, **fields: str) -> dict[str, Any]:
        form = {"client_id": client_id or self.application.client_id, **fields}
        response = requests.post(f"{self.site}/app/auth/token", form, timeout=TIMEOUT)
        assert response.status_code == 200, response.text
        return dict(response.json())

    def token_for(self, code: str) -> dict[str, Any]:
        return self.token(grant_type="authorization_code", code=code, redirect_uri=CALLBACK, code_verifier=VERIFIER)

    def refresh(self, token: dict[str, Any]) -> dict[str, Any]:
        return self.token(grant_type="refresh_token", refresh_token=token["refresh_token"])

    def reaches_api(self, bearer: str) -> bool:
        return fetch(f"{self.site}/api/v1/workspaces/current/tasks", bearer)[0] == 200


@pytest.fixture
def customer(owner: User, workspace: Workspace) -> Customer:
    return Customer(owner, workspace)


def test_with_the_old_key_as_a_fallback_nothing_is_invalidated(customer: Customer, secret: str, tmp_path: Path) -> None:
    with server(tmp_path / "old", SECRET_KEY=OLD) as site:
        browser = customer.use(site).sign_in()
        form = browser.open(f"{customer.keys_url}add/")
        consent = browser.open(customer.consent_url)
        token = customer.token_for(code_in(browser.allow(customer.consent_url)))
        code = code_in(browser.allow(customer.consent_url))
        terminal = requests.post(f"{site}/app/auth/device", {"client_id": "terminal"}, timeout=TIMEOUT).json()
        assert customer.reaches_api(secret)

    with server(tmp_path / "new", SECRET_KEY=NEW, SECRET_KEY_FALLBACKS=OLD) as site:
        customer.use(site)
        browser.site = site
        assert customer.reaches_api(secret)
        assert customer.reaches_api(token["access_token"])
        assert customer.reaches_api(customer.refresh(token)["access_token"])
        assert customer.reaches_api(customer.token_for(code)["access_token"])

        created = browser.send(form, f"{customer.keys_url}add/", description="Sent after the exchange", expiry="never")
        assert created.status_code == 200
        assert "Sent after the exchange" in browser.open(customer.keys_url).text
        location = browser.send(consent, customer.consent_url, allow="yes").headers["Location"]
        assert customer.reaches_api(customer.token_for(code_in(location))["access_token"])

        assert "Your terminal is connected" in browser.decide_device(terminal["user_code"], allow="yes").text
        terminal_token = customer.token("terminal", grant_type=DEVICE_CODE, device_code=terminal["device_code"])
        assert customer.reaches_api(terminal_token["access_token"])


def test_without_a_fallback_keys_and_tokens_keep_working_and_people_sign_in_again(
    customer: Customer, secret: str, tmp_path: Path
) -> None:
    with server(tmp_path / "old", SECRET_KEY=OLD) as site:
        browser, unused_browser = customer.use(site).sign_in(), customer.sign_in()
        token = customer.token_for(code_in(browser.allow(customer.consent_url)))

    with server(tmp_path / "between", SECRET_KEY=NEW, SECRET_KEY_FALLBACKS=OLD) as site:
        assert customer.use(site).is_signed_in(browser)

    with server(tmp_path / "new", SECRET_KEY=NEW) as site:
        customer.use(site)
        assert customer.reaches_api(secret)
        assert customer.reaches_api(token["access_token"])
        assert customer.reaches_api(customer.refresh(token)["access_token"])

        assert customer.is_signed_in(browser), "a session that was used during the rotation has moved to the new key"
        assert not customer.is_signed_in(unused_browser)
        assert customer.is_signed_in(customer.sign_in())
