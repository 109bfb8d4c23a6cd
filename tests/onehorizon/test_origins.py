"""Pages of other origins may read the public documents for programs, errors included, and nothing else (CORS)."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from onehorizon.checks import api_routes
from tests.test_patterns import example_path, pages

ORIGIN = "https://app.example"
REDIRECT = "/.well-known/change-password"  # for browsers
WELL_KNOWN = [example_path(route) for route in pages() if route.startswith(".well-known/")]
DOCUMENTS = ["/api/v1/openapi.json", *(path for path in WELL_KNOWN if path != REDIRECT)]

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _security_contact(settings: Any) -> None:
    """Without it there is no security.txt."""
    settings.SECURITY_CONTACT = "security@example.com"


def headers_for_origins(response: Any) -> dict[str, str]:
    """Return the headers of CORS."""
    headers = {name.lower(): value for name, value in response.headers.items()}
    return {name: value for name, value in headers.items() if name.startswith("access-control-")}


def send(method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b"") -> Any:
    client = Client(raise_request_exception=False, headers={"Origin": ORIGIN} | (headers or {}))
    return client.generic(method, path, body)


@pytest.mark.parametrize("path", DOCUMENTS)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_page_of_any_origin_can_read_a_document(method: str, path: str) -> None:
    response = send(method, path)

    assert response.status_code == 200
    assert headers_for_origins(response) == {
        "access-control-allow-origin": "*",
        "access-control-expose-headers": "Retry-After, X-Request-Id",
    }


@pytest.mark.parametrize("path", DOCUMENTS)
def test_a_preflight_allows_the_header_of_mcp_clients_but_no_key_and_no_change(path: str) -> None:
    preflight = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "mcp-protocol-version"}
    response = send("OPTIONS", path, preflight)

    assert (response.status_code, response.content) == (200, b"")
    headers = headers_for_origins(response)
    assert headers["access-control-allow-origin"] == "*"
    assert headers["access-control-allow-methods"] == "GET, HEAD, OPTIONS"
    assert headers["access-control-allow-headers"] == "Accept, Content-Type, MCP-Protocol-Version"
    assert "access-control-allow-credentials" not in headers
    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["X-Request-Id"]


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("POST", "/api/v1/openapi.json", {}, 405),
        ("GET", "/api/v1/openapi.json", {"Authorization": "Bearer one_"}, 401),
        ("GET", "/api/v1/openapi.json", {"Accept": "text/html"}, 406),
        ("GET", "/api/v1/openapi.json", {"Host": "evil.example"}, 400),
        ("POST", "/.well-known/oauth-authorization-server", {}, 405),
        ("GET", "/.well-known/oauth-authorization-server", {"Host": "evil.example"}, 400),
        ("GET", "/.well-known/openid-configuration", {}, 404),  # clients try several names
    ],
)
def test_errors_of_documents_can_be_read_too(method: str, path: str, headers: dict[str, str], status: int) -> None:
    response = send(method, path, headers)

    assert response.status_code == status
    assert response["Access-Control-Allow-Origin"] == "*"


def test_errors_of_the_middleware_can_be_read_too(settings: Any) -> None:
    too_large = send("POST", "/.well-known/oauth-authorization-server", body=b" " * 3_000_000)
    settings.SECURE_SSL_REDIRECT = True
    plain_http = send("GET", "/api/v1/openapi.json")

    for response, status in ((too_large, 413), (plain_http, 403)):
        assert (response.status_code, response["Access-Control-Allow-Origin"]) == (status, "*")


def test_a_page_of_another_origin_can_not_use_anything_else() -> None:
    paths = {example_path(route) for route in [*api_routes(), *pages()]} - set(WELL_KNOWN)
    paths |= {REDIRECT, "/api/v1/openapi.json/", "/api/v1/openapi.json%0a"}
    preflight = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization"}

    readable = {
        path
        for path in paths
        for response in (send("GET", path), send("OPTIONS", path, preflight))
        if headers_for_origins(response)
    }

    assert readable == {"/api/v1/openapi.json"}
    assert "/api/v1/me" in paths
