"""Clients find the authorization server by its metadata. Its URLs don't depend on the host of the request."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.test import Client

from oauth.models import Application
from tests.helpers import sign_in
from tests.oauth.conftest import make_application, set_base_url
from tests.oauth.program import Program
from workspaces.models import User

BASE_URL = "https://onehorizon.example"
HOSTS = ["onehorizon.example", "other.example"]


@pytest.fixture
def _two_hosts(settings: Any) -> None:
    settings.ALLOWED_HOSTS = HOSTS
    set_base_url(settings, BASE_URL)


@pytest.mark.usefixtures("_two_hosts")
def test_the_issuer_and_the_endpoints_are_the_same_on_every_host() -> None:
    first, second = (Client().get("/.well-known/oauth-authorization-server", headers={"host": host}) for host in HOSTS)

    assert first.json() == second.json()
    assert first.json()["issuer"] == BASE_URL
    endpoints = {name: url for name, url in first.json().items() if name.endswith("_endpoint")}
    assert {name: urlsplit(url).path for name, url in endpoints.items()} == {
        "authorization_endpoint": "/app/auth/authorize",
        "token_endpoint": "/app/auth/token",
        "revocation_endpoint": "/app/auth/revoke",
        "device_authorization_endpoint": "/app/auth/device",
    }
    assert all(url.startswith(f"{BASE_URL}/") for url in endpoints.values())


@pytest.mark.usefixtures("_two_hosts")
@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("scope", ["openid", "unknown"])
def test_authorization_responses_name_the_same_issuer_on_every_host(owner: User, host: str, scope: str) -> None:
    program = Program(make_application("Dashboards"), sign_in(owner))

    response = program.browser.post(
        "/app/auth/authorize", program.request(scope) | {"allow": "yes"}, headers={"host": host}
    )

    assert parse_qs(urlsplit(response["Location"]).query)["iss"] == [BASE_URL]


@pytest.mark.usefixtures("_two_hosts")
@pytest.mark.parametrize("host", HOSTS)
def test_a_terminal_shows_the_same_url_on_every_host(db: None, host: str) -> None:
    terminal = Program(Application.objects.get(client_id="terminal"), Client())

    codes = terminal.start_device(headers={"host": host}).json()

    assert codes["verification_uri"] == f"{BASE_URL}/app/auth/device"
    assert codes["verification_uri_complete"] == f"{BASE_URL}/app/auth/device?user_code={codes['user_code']}"
