"""Headers that every response has, whoever answers the request; plain HTTP; cookies of production."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

NOTHING = "default-src 'none'; frame-ancestors 'none'"
STATIC = "/static/css/app.css"


@pytest.fixture
def https_only(settings: Any) -> None:
    """Settings of production: https is required, and the proxy at 127.0.0.1 says who used it."""
    settings.SECURE_SSL_REDIRECT = True


# ---- nosniff and a Content-Security-Policy ----


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("method", "path", "host", "status"),
    [
        ("GET", "/healthz", "10.0.0.9", 200),
        ("GET", "/readyz", "10.0.0.9", 200),
        ("POST", "/healthz", "testserver", 405),
        ("GET", STATIC, "testserver", 200),
        ("HEAD", STATIC, "testserver", 200),
        ("POST", STATIC, "testserver", 405),
        ("GET", "/static/nowhere.css", "testserver", 404),
        ("GET", "/", "testserver", 302),
        ("GET", "/sign-in/", "testserver", 200),
        ("GET", "/sign-in/", "evil.example", 400),
        ("GET", "/sign-in/?" + "a&" * 1001, "testserver", 400),
        ("PUT", "/sign-in/", "testserver", 405),
        ("GET", "/api/docs", "testserver", 200),
        ("GET", "/api/docs", "evil.example", 400),
        ("GET", "/api/v1/me", "testserver", 401),
        ("GET", "/api/v1/me", "evil.example", 400),
        ("POST", "/app/auth/token", "testserver", 400),
        ("GET", "/.well-known/oauth-authorization-server", "testserver", 200),
    ],
)
def test_every_response_has_nosniff_and_a_policy(method: str, path: str, host: str, status: int) -> None:
    response = Client(headers={"Host": host}).generic(method, path)
    response.close()

    assert response.status_code == status
    assert response["X-Content-Type-Options"] == "nosniff"
    assert {"default-src 'none'", "frame-ancestors 'none'"} <= set(response["Content-Security-Policy"].split("; "))
    assert "unsafe" not in response["Content-Security-Policy"]


@pytest.mark.usefixtures("https_only")
@pytest.mark.parametrize("host", ["testserver", "evil.example"])
def test_a_redirect_to_https_and_an_early_400_have_them_too(host: str) -> None:
    response = Client(headers={"Host": host}).get("/sign-in/")

    assert response.status_code == (301 if host == "testserver" else 400)
    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["Content-Security-Policy"] == NOTHING


@pytest.mark.django_db
def test_a_page_keeps_its_own_policy(client: Client) -> None:
    assert "style-src 'self'" in client.get("/sign-in/")["Content-Security-Policy"]
    assert client.get("/healthz")["Content-Security-Policy"] == NOTHING
    assert client.get("/api/v1/me")["Content-Security-Policy"] == NOTHING


@pytest.mark.django_db
def test_the_error_pages_of_debug_keep_their_inline_styles(settings: Any, client: Client) -> None:
    settings.DEBUG = True

    assert "Content-Security-Policy" not in client.get("/nowhere/")
    assert client.get("/api/nowhere")["Content-Security-Policy"] == NOTHING
