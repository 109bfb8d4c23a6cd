"""Clients find the authorization server by its metadata. Its URLs don't depend on the host of the request."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from authlib.common.security import generate_token
from django.test import Client

from oauth.models import Application, default_scopes
from tests.helpers import sign_in
from tests.oauth.conftest import Browser, make_application, session_of, set_base_url
from tests.oauth.program import Program
from tests.processes import TIMEOUT
from workspaces.models import User, Workspace

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


# ---- the metadata of the API as a protected resource (RFC 9728) ----


@pytest.mark.usefixtures("_two_hosts")
@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("path", ["", "/api/v1"])
def test_the_metadata_of_the_api_is_at_the_urls_that_clients_construct(path: str, host: str) -> None:
    """A client that knows only the host uses the first, one that knows the URL of the API uses the second."""
    metadata = Client().get(f"/.well-known/oauth-protected-resource{path}", headers={"host": host})

    assert metadata["Content-Type"] == "application/json"
    assert metadata.json() == {
        "resource": f"{BASE_URL}{path}",
        "authorization_servers": [BASE_URL],
        "scopes_supported": ["openid", "profile", "email", "workspace:read", "workspace:write"],
        "bearer_methods_supported": ["header"],
        "resource_name": "One Horizon API",
        "resource_documentation": f"{BASE_URL}/docs/api/",
    }


@pytest.mark.parametrize("token", [None, "one_wrong", "wrong"])
def test_from_the_challenge_a_client_gets_access_to_the_api(
    site: str, browser: Browser, workspace: Workspace, token: str | None
) -> None:
    """As an MCP client does: with its client id, the URL of the API, and the parameter `resource` (RFC 8707)."""
    api = f"{site}/api/v1"
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    challenge = requests.get(f"{api}/me", headers=headers, timeout=TIMEOUT).headers["WWW-Authenticate"]
    url = challenge.partition('resource_metadata="')[2].removesuffix('"')
    resource = requests.get(url, timeout=TIMEOUT).json()
    [issuer] = resource["authorization_servers"]
    server = requests.get(f"{issuer}/.well-known/oauth-authorization-server", timeout=TIMEOUT).json()
    assert (resource["resource"], server["issuer"]) == (api, issuer)
    application = make_application("Assistant", scopes=default_scopes())

    with session_of(application, scope=" ".join(resource["scopes_supported"])) as client:
        endpoints = server["authorization_endpoint"], server["token_endpoint"]
        verifier = generate_token(48)
        url, _ = client.create_authorization_url(endpoints[0], code_verifier=verifier, resource=api)
        location = browser.allow(url)
        client.fetch_token(endpoints[1], authorization_response=location, code_verifier=verifier, resource=api)
        client.refresh_token(endpoints[1], resource=api)
        tasks = client.get(f"{api}/workspaces/current/tasks", timeout=TIMEOUT)

    assert (tasks.status_code, tasks.json()["tasks"]) == (200, [])
