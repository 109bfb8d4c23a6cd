from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from authlib.integrations.requests_client import OAuth2Session
from django.conf import settings as django_settings
from django.core.cache import caches

from oauth.models import Application
from tests.helpers import sign_in
from tests.processes import TIMEOUT
from workspaces.models import User

CALLBACK = "http://127.0.0.1/callback"
ALL_SCOPES = "openid profile email workspace:read workspace:write api-keys:manage"


class Browser:
    """A browser that can submit forms, signed in as `user` if there is one.

    It gets a session without the sign-in form: a server of several tests would limit how often one person signs in.
    """

    def __init__(self, site: str, user: User | None = None) -> None:
        self.site = site
        self.session = requests.Session()
        if user is not None:
            name = django_settings.SESSION_COOKIE_NAME
            self.session.cookies.set(name, sign_in(user).cookies[name].value)

    def sign_in(self, user: User) -> None:
        """Sign in with the form."""
        role = user.email.partition("@")[0]
        response = self.session.get(f"{self.site}/sign-in/")
        self.send(response, f"{self.site}/sign-in/", username=user.email, password=f"{role}-password")

    def open(self, url: str) -> requests.Response:
        return self.session.get(url, allow_redirects=False)

    def send(self, response: requests.Response, url: str, **fields: str) -> requests.Response:
        """Submit the form in `response` to `url`, with its hidden inputs and `fields`."""
        inputs = re.findall(r'<input type="hidden" name="([^"]+)"(?: value="([^"]*)")?', response.text)
        form = {name: unescape(value) for name, value in inputs} | fields
        return self.session.post(url, form, headers={"Referer": url}, allow_redirects=False)

    def allow(self, url: str) -> str:
        """Allow the request on the consent page at `url` and return the URL of the redirect."""
        return self.decide(url, allow="yes")

    def refuse(self, url: str) -> str:
        """Deny the request on the consent page at `url` and return the URL of the redirect."""
        return self.decide(url)

    def decide(self, url: str, **decision: str) -> str:
        response = self.send(self.open(url), url, **decision)
        assert response.is_redirect, f"{response.status_code} {response.text}"
        return response.headers["Location"]

    def decide_device(self, user_code: str, **decision: str) -> requests.Response:
        response = self.session.get(f"{self.site}/app/auth/device", params={"user_code": user_code})
        return self.send(response, f"{self.site}/app/auth/device/decision", **decision)


def code_in(location: str) -> str:
    return parse_qs(urlsplit(location).query)["code"][0]


def error_in(location: str) -> str:
    return parse_qs(urlsplit(location).query)["error"][0]


@pytest.fixture
def site(live_server: Any, django_db_serialized_rollback: None, monkeypatch: pytest.MonkeyPatch, settings: Any) -> str:
    caches["forms"].clear()  # resets the counts of sign-in attempts
    set_base_url(settings, live_server.url)
    monkeypatch.setenv("AUTHLIB_INSECURE_TRANSPORT", "1")  # plain HTTP on loopback
    return str(live_server.url)


def set_base_url(settings: Any, url: str) -> None:
    settings.BASE_URL = url
    settings.OAUTH2_PROVIDER = settings.OAUTH2_PROVIDER | {
        "OIDC_ISS_ENDPOINT": url,
        "OAUTH2_PROTECTED_RESOURCE_DOCUMENTATION": f"{url}/docs/api/",
    }


@pytest.fixture
def metadata(site: str) -> dict[str, Any]:
    return dict(requests.get(f"{site}/.well-known/oauth-authorization-server", timeout=TIMEOUT).json())


@pytest.fixture
def browser(site: str, owner: User, workspace: Any) -> Iterator[Browser]:
    """The owner's browser."""
    browser = Browser(site, owner)
    with browser.session:
        yield browser


@pytest.fixture
def application(db: None) -> Application:
    """A public client."""
    return make_application("Dashboards")


@pytest.fixture
def client(application: Application) -> Iterator[OAuth2Session]:
    with session_of(application) as client:
        yield client


def make_application(name: str, **fields: Any) -> Application:
    fields = {
        "scopes": ALL_SCOPES.split(),
        "client_type": Application.CLIENT_PUBLIC,
        "authorization_grant_type": Application.GRANT_AUTHORIZATION_CODE,
        "redirect_uris": CALLBACK,
    } | fields
    application: Application = Application.objects.create(name=name, **fields)
    return application


def session_of(application: Application, secret: str | None = None, **options: Any) -> OAuth2Session:
    options = {"scope": ALL_SCOPES, "redirect_uri": CALLBACK, "code_challenge_method": "S256"} | options
    options.setdefault("token_endpoint_auth_method", "client_secret_basic" if secret else "none")
    return OAuth2Session(application.client_id, secret, **options)
