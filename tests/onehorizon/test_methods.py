"""URLs of forms answer GET with a redirect to the form's page; other methods get a 405 page."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import pytest
from django.test import Client

from apikeys.models import ApiKey
from tests.helpers import make_key, make_workspace, sign_in
from tests.test_patterns import example_path, pages
from workspaces.models import AuditEvent, User

FOR_PROGRAMS = {"/app/auth/token", "/app/auth/revoke"}  # no page has their form
# Each URL that only accepts POST, and the page that has its form. "/" leads to the keys of the current workspace.
FORMS = {
    "{keys}find/": "{keys}",
    "{keys}{key}/rename/": "{keys}{key}/",
    "/workspaces/choose/": "/workspaces/",
    "/app/auth/device/decision": "/app/auth/device",
    "/sign-out/": "/",
    "/admin/logout/": "/admin/",
    "/admin/workspaces/auditevent/export/": "/admin/workspaces/auditevent/",
}
VALUES = {"text": "x", "description": "Changed", "user_code": "BCDF-GHJK", "allow": "yes"}

for_each_form = pytest.mark.parametrize(("url", "page"), FORMS.items(), ids=FORMS)


@pytest.fixture
def api_key(operator: User) -> ApiKey:
    """A key of the operator's own workspace: the operator reaches every page."""
    return make_key(make_workspace(operator))[0]


@pytest.fixture
def ids(api_key: ApiKey) -> dict[str, str]:
    return {"keys": f"/w/{api_key.workspace_id}/settings/developer/api-keys/", "key": api_key.pk}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_no_page_answers_get_with_405(method: str, operator: User, api_key: ApiKey) -> None:
    ids = {"workspace_id": api_key.workspace_id, "api_key_id": api_key.pk}
    client = sign_in(operator)

    def status(route: str) -> int:
        path = example_path(re.sub(r"<str:(\w+)>", lambda match: ids.get(match[1], match[0]), route))
        return client.generic(method, path).status_code

    statuses = {route: status(route) for route in pages()}

    assert {f"/{route}" for route, status in statuses.items() if status == 405} == FOR_PROGRAMS
    assert client.get("/workspaces/").status_code == 200  # still signed in
    assert {status for status in statuses.values() if status >= 400} <= {400, 403, 404, 405}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@for_each_form
def test_the_url_of_a_form_redirects_to_its_page_and_changes_nothing(
    url: str, page: str, method: str, operator: User, ids: dict[str, str], api_key: ApiKey
) -> None:
    client, events = sign_in(operator), AuditEvent.objects.count()

    response = client.generic(method, url.format(**ids), query_params=VALUES)

    assert (response.status_code, response["Location"]) == (302, page.format(**ids))
    api_key.refresh_from_db()
    operator.refresh_from_db()
    assert api_key.description == "CI, production"
    assert not operator.chosen_workspace_id
    assert AuditEvent.objects.count() == events
    assert client.get("/workspaces/").status_code == 200  # still signed in


@for_each_form
def test_after_a_lost_session_a_sent_form_leads_to_its_page(
    url: str, page: str, operator: User, ids: dict[str, str]
) -> None:
    client = Client()
    lost = client.post(url.format(**ids), VALUES, follow=True)
    sign_in_url, _ = lost.redirect_chain[-1]
    assert sign_in_url.startswith("/sign-in/")

    response: Any = client.post(sign_in_url, {"username": operator.email, "password": "operator-password"}, follow=True)

    assert response.status_code == 200
    urls = [location for location, _ in response.redirect_chain]
    assert page.format(**ids) in urls or url == "/sign-out/"


@pytest.mark.parametrize(
    ("url", "allow"),
    [
        ("{keys}", "GET, HEAD, OPTIONS"),
        ("{keys}add/", "GET, HEAD, POST, OPTIONS"),
        ("/sign-in/", "GET, HEAD, POST, OPTIONS"),
        ("/app/auth/device", "GET, HEAD, POST, OPTIONS"),
        ("/admin/", "GET, HEAD, POST, OPTIONS"),
    ],
)
def test_another_method_is_405_with_a_page(url: str, allow: str, operator: User, ids: dict[str, str]) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(operator)

    for method in ("PUT", "PATCH", "DELETE", "TRACE", "BREW"):
        response = client.generic(method, url.format(**ids))

        assert (response.status_code, response["Allow"]) == (405, allow)
        assert f"This URL doesn't accept {method} requests." in unescape(response.content.decode())
        assert "frame-ancestors 'none'" in response["Content-Security-Policy"]
        assert int(response["Content-Length"]) == len(response.content)


def test_a_post_to_a_page_without_a_form_is_405_with_a_page(operator: User, ids: dict[str, str]) -> None:
    response = sign_in(operator).post(ids["keys"])

    assert (response.status_code, response["Allow"]) == (405, "GET, HEAD, OPTIONS")
    assert "This URL doesn't accept POST requests." in unescape(response.content.decode())


def test_options_lists_the_methods_of_a_page(operator: User, ids: dict[str, str]) -> None:
    assert sign_in(operator).options(ids["keys"])["Allow"] == "GET, HEAD, OPTIONS"
