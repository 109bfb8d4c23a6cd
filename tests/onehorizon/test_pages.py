"""Error pages have the product's layout and the right status, and rejected forms change nothing."""

from __future__ import annotations

import html
import re
from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import BadRequest, PermissionDenied, SuspiciousOperation
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import path

from apikeys.models import ApiKey
from onehorizon.urls import handler400, handler403, handler404, handler500, urlpatterns
from tests.helpers import BY_TEST, sign_in
from workspaces.models import Tier, User, Workspace

__all__ = ["handler400", "handler403", "handler404", "handler500"]


def broken(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("one_8kJ2mQ4xZt7c_ is none of the reader's business")


def without_tier(request: HttpRequest) -> HttpResponse:
    raise Tier.DoesNotExist


def forbidden(request: HttpRequest) -> HttpResponse:
    raise PermissionDenied


def suspicious(request: HttpRequest) -> HttpResponse:
    raise SuspiciousOperation


def bad_request(request: HttpRequest) -> HttpResponse:
    raise BadRequest


views = [broken, without_tier, forbidden, suspicious, bad_request]
urlpatterns = [*urlpatterns, *(path(f"{view.__name__.replace('_', '-')}/", view) for view in views)]


@pytest.fixture
def owner_client(owner: User) -> Client:
    client = Client(raise_request_exception=False)
    client.force_login(owner)
    return client


@pytest.mark.parametrize(
    "route", ["add/", "find/", "{key}/rename/", "{key}/rotate/", "{key}/end-previous-secret/", "{key}/revoke/"]
)
def test_a_form_without_its_csrf_token_changes_nothing(owner: User, api_key: ApiKey, keys_url: str, route: str) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(owner)
    previous = api_key.current_secret
    api_key.rotate(overlap=timedelta(days=1), by=BY_TEST)
    form = {"description": "Forged", "expiry": "never", "idempotency_key": "a" * 32, "text": "x"}
    form |= {"overlap": "0", "replacing": api_key.current_secret.key_id, "key_id": previous.key_id}

    response = client.post(keys_url + route.format(key=api_key.pk), form)

    assert response.status_code == 403
    assert "This form is out of date" in response.content.decode()
    assert [(key.description, key.status) for key in ApiKey.objects.all()] == [("CI, production", "active")]
    assert ApiKey.objects.get().previous_secret == previous
    assert api_key.secrets.count() == 2


def test_every_post_form_has_a_csrf_token(owner_client: Client, api_key: ApiKey, keys_url: str) -> None:
    api_key.rotate(overlap=timedelta(days=1), by=BY_TEST)
    key_url = f"{keys_url}{api_key.pk}/"
    confirmations = [f"{key_url}{path}/" for path in ("rotate", "end-previous-secret", "revoke")]

    for url in (keys_url, f"{keys_url}add/", key_url, *confirmations):
        forms = re.findall(r"<form[^>]*method=\"post\".*?</form>", owner_client.get(url).content.decode(), re.DOTALL)

        assert forms
        assert all("csrfmiddlewaretoken" in form for form in forms)


@pytest.mark.parametrize("idempotency_key", ["", "x", "A" * 32, "a" * 33, "\x00" * 32])
def test_a_form_with_an_invalid_idempotency_key_shows_an_error(
    owner_client: Client, workspace: Workspace, keys_url: str, idempotency_key: str
) -> None:
    response = owner_client.post(
        f"{keys_url}add/", {"description": "CI", "expiry": "never", "idempotency_key": idempotency_key}
    )

    assert "This form is incomplete" in response.content.decode()
    assert not workspace.api_keys.exists()


@pytest.mark.parametrize(
    "query", ["?q=%00", "?page=99999999999999999999", "?page=x&status=y", "?secret=%00", "?q=_&status=all"]
)
def test_invalid_query_parameters_of_the_list_are_ignored(
    owner_client: Client, api_key: ApiKey, keys_url: str, query: str
) -> None:
    assert owner_client.get(keys_url + query).status_code == 200


@pytest.mark.parametrize("text", ["", "\x00", "x" * 501, "one_" + "A" * 400])
def test_a_search_for_nonsense_redirects_to_the_list(
    owner_client: Client, api_key: ApiKey, keys_url: str, text: str
) -> None:
    assert owner_client.post(f"{keys_url}find/", {"text": text}, follow=True).status_code == 200


@pytest.mark.parametrize(
    ("url", "status", "text"),
    [
        ("/nothing/", 404, "Not found"),
        ("/broken/", 500, "Something went wrong"),
        ("/without-tier/", 500, "Something went wrong"),
    ],
)
def test_errors_have_the_products_layout(settings: Any, owner_client: Client, url: str, status: int, text: str) -> None:
    settings.ROOT_URLCONF = __name__

    response = owner_client.get(url)

    assert response.status_code == status
    assert text in response.content.decode()
    assert "none of the reader's business" not in response.content.decode()
    assert response["Cache-Control"] == "no-store"


@pytest.mark.parametrize("debug", [False, True], ids=["debug off", "debug on"])
@pytest.mark.parametrize(
    ("method", "url", "status", "title"),
    [
        ("GET", "/nothing/", 404, "Not found"),
        ("GET", "/nothing", 404, "Not found"),
        ("POST", "/nothing/", 404, "Not found"),
        ("PUT", "/nothing/", 404, "Not found"),
        ("GET", "/static/nothing.css", 404, "Not found"),
        ("GET", "/.well-known/nothing", 404, "Not found"),
        ("GET", "/admin/nothing/", 404, "Not found"),
        ("GET", "/w/{elsewhere}/settings/developer/api-keys/", 404, "Not found"),
        ("POST", "/w/{elsewhere}/settings/developer/api-keys/add/", 404, "Not found"),
        ("GET", "/forbidden/", 403, "You don't have permission to do this"),
        ("GET", "/suspicious/", 400, "Invalid request"),
        ("GET", "/bad-request/", 400, "Invalid request"),
        ("GET", "/sign-in/?" + "a&" * 1001, 400, "Invalid request"),
    ],
)
def test_the_page_for_an_error_of_the_client_is_the_same_with_debug(
    method: str, url: str, status: int, title: str, debug: bool, settings: Any, operator: User, elsewhere: Workspace
) -> None:
    settings.ROOT_URLCONF = __name__
    settings.DEBUG = debug
    client = sign_in(operator)

    response = client.generic(method, url.format(elsewhere=elsewhere.pk))

    assert response.status_code == status
    content = response.content.decode()
    assert f"<title>{title} · One Horizon</title>" in html.unescape(content)
    assert "css/app.css" in content
    for leaked in ("Traceback", "urlpatterns", __name__, "DEBUG = True"):
        assert leaked not in content


def test_with_debug_a_bug_shows_its_traceback(settings: Any, owner_client: Client) -> None:
    settings.ROOT_URLCONF = __name__
    settings.DEBUG = True

    response = owner_client.get("/broken/")

    assert response.status_code == 500
    assert "Traceback" in response.content.decode()


@pytest.mark.parametrize("debug", [False, True], ids=["debug off", "debug on"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_missing_slash_at_the_end_is_appended(method: str, debug: bool, settings: Any, client: Client) -> None:
    settings.DEBUG = debug

    response = client.generic(method, "/sign-in?next=/workspaces/")

    assert (response.status_code, response["Location"]) == (301, "/sign-in/?next=/workspaces/")


@pytest.mark.parametrize(
    ("contact", "expected"),
    [
        ("", "contact the people who run this installation."),
        ("help+1@x.example", 'contact <a href="mailto:help+1@x.example">help+1@x.example</a>.'),
        ("https://x.example/?a&b", 'contact <a href="https://x.example/?a&amp;b">https://x.example/?a&amp;b</a>.'),
    ],
)
def test_a_person_without_a_workspace_learns_whom_to_contact(
    contact: str, expected: str, settings: Any, outsider: User
) -> None:
    settings.SUPPORT_CONTACT = contact

    page = sign_in(outsider).get("/workspaces/").content.decode()

    assert "<h1>No workspace yet</h1>" in page
    assert expected in page
    assert outsider.email in page


@pytest.mark.parametrize("debug", [False, True], ids=["debug off", "debug on"])
def test_an_unknown_host_is_rejected(debug: bool, settings: Any, owner_client: Client) -> None:
    settings.DEBUG = debug

    response = owner_client.get("/sign-in/", headers={"Host": "evil.example"})

    assert response.status_code == 400
    assert "Invalid request" in response.content.decode()


@pytest.mark.usefixtures("_frozen_clock")
def test_too_many_forms_are_429_with_retry_after(owner_client: Client, api_key: ApiKey, keys_url: str) -> None:
    responses = [owner_client.post(f"{keys_url}find/", {"text": "x"}) for _ in range(61)]

    assert [response.status_code for response in responses[-2:]] == [302, 429]
    assert 1 <= int(responses[-1]["Retry-After"]) <= 60
    assert "Too many attempts" in responses[-1].content.decode()


def test_current_redirects_to_the_workspace_list_if_no_workspace_was_chosen(outsider: User) -> None:
    client = Client()
    client.force_login(outsider)

    assert client.get("/w/current/settings/developer/api-keys/")["Location"] == "/workspaces/"


@pytest.mark.parametrize("route", ["/sign-in/", "/sign-in/?next=/sign-in/"])
def test_signing_in_does_not_redirect_to_the_sign_in_page(owner_client: Client, owner: User, route: str) -> None:
    assert owner_client.get("/sign-in/", {"next": route})["Location"] == "/"
    response = Client().post(f"/sign-in/?next={route}", {"username": owner.email, "password": "owner-password"})
    assert response["Location"] == "/"


@pytest.mark.parametrize(
    "url",
    ["/app/auth/authorize?client_id=%00&response_type=code", "/app/auth/device?user_code=%00"],
)
def test_a_nul_in_a_parameter_causes_no_error(owner_client: Client, workspace: Workspace, url: str) -> None:
    assert owner_client.get(url).status_code in (400, 404)


def test_static_files_can_be_cached_and_pages_can_not(owner_client: Client, keys_url: str) -> None:
    static = owner_client.get("/static/css/app.css")
    static.close()

    assert (static.status_code, static["Content-Type"]) == (200, 'text/css; charset="utf-8"')
    assert static["Cache-Control"].endswith("public")
    unchanged = owner_client.get("/static/css/app.css", headers={"If-Modified-Since": static["Last-Modified"]})
    assert (unchanged.status_code, unchanged["Cache-Control"]) == (304, static["Cache-Control"])
    for url in (keys_url, "/", "/sign-in/", "/api/docs", "/nowhere/", "/static/nowhere.css", "/app/auth/authorize"):
        assert owner_client.get(url)["Cache-Control"] == "no-store"


def test_a_redirect_to_https_is_not_cacheable(settings: Any) -> None:
    settings.SECURE_SSL_REDIRECT = True

    response = Client().get("/sign-in/")

    assert (response.status_code, response["Cache-Control"]) == (301, "no-store")


def test_password_managers_find_the_page_to_change_a_password(client: Client, owner_client: Client) -> None:
    """See https://www.w3.org/TR/change-password-url/, which also requires that unknown well-known URLs are a 404."""
    url, unknown = "/.well-known/change-password", "/.well-known/resource-that-should-not-exist"
    response = client.get(url)

    assert (response.status_code, response["Location"]) == (302, "/settings/password/")
    assert not response.cookies
    assert client.get(url, follow=True).redirect_chain[-1][0] == "/sign-in/?next=/settings/password/"
    assert owner_client.get(url, follow=True).redirect_chain == [("/settings/password/", 302)]
    assert client.get(unknown).status_code == 404
