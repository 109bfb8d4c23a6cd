"""Headers that every response has, whichever part returns it; plain HTTP; cookies in production."""

from __future__ import annotations

from ipaddress import ip_network
from itertools import product
from typing import Any

import pytest
from django.test import Client

from tests.helpers import Api, sign_in
from tests.onehorizon.test_settings import PRODUCTION, read_settings
from workspaces.models import User, Workspace

LOAD_NOTHING = "default-src 'none'; frame-ancestors 'none'"
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
        ("GET", "/favicon.ico", "testserver", 200),
        ("GET", "/robots.txt", "testserver", 200),
        ("POST", "/robots.txt", "testserver", 405),
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
        ("GET", "/.well-known/oauth-protected-resource", "testserver", 200),
        ("GET", "/.well-known/security.txt", "testserver", 404),
        ("POST", "/.well-known/security.txt", "testserver", 405),
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
    assert response["Content-Security-Policy"] == LOAD_NOTHING


@pytest.mark.django_db
def test_a_page_keeps_its_own_policy(client: Client) -> None:
    assert "style-src 'self'" in client.get("/sign-in/")["Content-Security-Policy"]
    assert client.get("/healthz")["Content-Security-Policy"] == LOAD_NOTHING
    assert client.get("/api/v1/me")["Content-Security-Policy"] == LOAD_NOTHING


@pytest.mark.django_db
def test_the_error_page_of_debug_keeps_its_inline_styles(settings: Any) -> None:
    settings.DEBUG = True
    settings.LOGIN_URL = "no-such-page"
    client = Client(raise_request_exception=False)

    assert "Content-Security-Policy" not in client.get("/workspaces/")
    assert client.get("/api/nowhere")["Content-Security-Policy"] == LOAD_NOTHING


# ---- plain HTTP ----


@pytest.mark.usefixtures("https_only")
@pytest.mark.parametrize("path", ["/me", "/workspaces", "/workspaces/current/tasks", "/nowhere", "/openapi.json"])
def test_plain_http_under_api_is_403_with_and_without_a_key(path: str, api: Api) -> None:
    message = "Send this request over https, and replace the key if it had one: plain HTTP is not encrypted."
    for method, caller in product(("GET", "HEAD", "POST", "DELETE"), (api, Api())):
        response = caller.request(method, path)

        assert (response.status_code, response.has_header("Location")) == (403, False)
        assert response["Cache-Control"] == "no-store"
        assert not response.has_header("RateLimit")  # the key was not looked up
        assert method == "HEAD" or response.json() == {"code": 403, "message": message}


@pytest.mark.usefixtures("https_only")
def test_plain_http_on_unknown_paths_under_api_is_403(client: Client) -> None:
    assert [client.get(path).status_code for path in ("/api", "/api/", "/api/v2/me")] == [403, 403, 403]


@pytest.mark.usefixtures("https_only")
@pytest.mark.parametrize("path", ["/sign-in/", "/api/docs", "/.well-known/oauth-authorization-server", STATIC])
def test_pages_and_public_documents_are_redirected_to_https(path: str) -> None:
    response = Client().get(path)

    assert (response.status_code, response["Location"]) == (301, f"https://testserver{path}")


@pytest.mark.usefixtures("https_only")
def test_a_proxy_that_terminates_tls_reaches_the_api(settings: Any, api: Api) -> None:
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

    assert api.get("/me", headers={"X-Forwarded-Proto": "https"}).status_code == 403  # not a trusted proxy
    settings.TRUSTED_PROXIES = [ip_network("127.0.0.1")]
    assert api.get("/me", headers={"X-Forwarded-Proto": "https"}).status_code == 200


# ---- cookies and sign-out ----


@pytest.fixture
def secure_cookies(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    production = read_settings(monkeypatch, **PRODUCTION)
    for name in ("SESSION_COOKIE_NAME", "SESSION_COOKIE_SECURE", "CSRF_COOKIE_NAME", "CSRF_COOKIE_SECURE"):
        setattr(settings, name, production[name])


@pytest.mark.usefixtures("secure_cookies", "workspace")
def test_secure_cookies_are_bound_to_this_host(owner: User) -> None:
    """Browsers accept a `__Host-` cookie only if it is secure, for all paths, and without a domain."""
    browser = Client(enforce_csrf_checks=True)
    browser.get("/sign-in/", secure=True)
    form = {"username": owner.email, "password": "owner-password"}
    form["csrfmiddlewaretoken"] = browser.cookies["__Host-csrftoken"].value

    assert browser.post("/sign-in/", form, secure=True, headers={"Referer": "https://testserver/"}).status_code == 302

    assert set(browser.cookies) == {"__Host-sessionid", "__Host-csrftoken", "__Host-device"}
    for cookie in browser.cookies.values():
        assert (cookie["secure"], cookie["path"], cookie["domain"]) == (True, "/", "")
    assert browser.get("/workspaces/", secure=True).status_code == 200


def test_without_https_cookies_have_plain_names(owner: User, workspace: Workspace) -> None:
    browser = Client()
    browser.post("/sign-in/", {"username": owner.email, "password": "owner-password"})

    assert {"sessionid", "device"} <= set(browser.cookies)


@pytest.mark.parametrize("path", ["/sign-out/", "/admin/logout/"])
def test_signing_out_clears_what_the_browser_stored_but_not_the_device_cookie(path: str, operator: User) -> None:
    response = sign_in(operator).post(path)

    assert (response.status_code, response["Location"]) == (302, "/sign-in/?signed-out=true")
    assert response["Clear-Site-Data"] == '"cache", "storage"'
    assert response.cookies["sessionid"]["max-age"] == 0


@pytest.mark.parametrize("path", ["/sign-out/", "/admin/logout/", "/workspaces/"])
def test_other_responses_clear_nothing(path: str, operator: User) -> None:
    assert "Clear-Site-Data" not in sign_in(operator).get(path)
