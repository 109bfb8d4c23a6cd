"""Every link and every form of the admin, as a browser follows and sends them."""

from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, urlsplit, urlunsplit

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.sessions.models import Session
from django.db import transaction
from django.test import Client
from django.urls import resolve
from django.utils import timezone
from oauth2_provider.models import AccessToken, RefreshToken

from apikeys.models import ApiKey
from oauth.models import Application
from tests.admin.browser import Page
from tests.admin.pages import INDEX
from tests.helpers import BY_TEST, make_key, make_staff, make_token, make_user, make_workspace
from workspaces.models import Tier, User

# Buttons that change something although nothing was entered.
ACTS = {
    "Yes, I\N{RIGHT SINGLE QUOTATION MARK}m sure",
    "Clear quota",
    "Disable password-based authentication",
    "End sessions and tokens",
    "Export as JSON Lines",
}


@pytest.fixture
def _one_of_everything(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """At least one object of each model, in each state."""
    owner = make_user("owner")
    workspace = make_workspace(owner, admin=make_user("admin"))
    make_workspace(owner, slug="suspended").suspend("Unpaid", by=BY_TEST)
    revoked, expired, rotated = (make_key(workspace)[0] for _ in range(3))
    for _ in range(2):
        rotated.rotate(overlap=timedelta(hours=1), by=BY_TEST)
    revoked.revoke(by=BY_TEST, reason="Leaked")
    ApiKey.objects.filter(pk=expired.pk).update(expires_at=timezone.now() - timedelta(days=1))
    Tier.objects.create(name="unused", requests=9, seconds=9, burst_requests=9, burst_seconds=9)
    User.objects.create_superuser("root@example.com", "Root", "root-password")
    User.objects.create_user("inactive@example.com", "Inactive", None, is_active=False)
    make_token(owner)
    token, application = AccessToken.objects.get(), Application.objects.get(client_id="tests")
    RefreshToken.objects.create(user=owner, token="r", application=application, access_token=token)
    RefreshToken.objects.create(user=owner, token="s", application=application, revoked=timezone.now())
    Application.objects.create(
        client_id="confidential",
        name="Reports",
        client_type="confidential",
        client_secret="s" * 40,
        authorization_grant_type=Application.GRANT_AUTHORIZATION_CODE,
        redirect_uris="https://example.com/back",
    )
    for model_admin in admin.site._registry.values():
        monkeypatch.setattr(model_admin, "list_per_page", 3)


@contextmanager
def undone(client: Client) -> Iterator[None]:
    """Roll back what the block changes, and keep the client signed in."""
    cookies = client.cookies.copy()
    with transaction.atomic():
        yield
        transaction.set_rollback(True)
    client.cookies = SimpleCookie(cookies)


def rows() -> dict[str, list[Any]]:
    """Return all rows, except sessions."""
    return {
        model.__name__: list(model._default_manager.order_by("pk").values_list())
        for model in apps.get_models()
        if model is not Session
    }


class Frontier:
    """The URLs to visit: each once, and of the many that differ only in an id or a value, the first `MAX_ALIKE`."""

    MAX_ALIKE = 4

    def __init__(self, url: str) -> None:
        self.queue = deque([(url, "")])
        self.seen, self.alike = {url}, Counter[tuple[str, ...]]()

    def add(self, url: str, origin: str) -> None:
        parts = urlsplit(url)
        names = [name for name, _ in parse_qsl(parts.query, keep_blank_values=True)]
        pattern = (resolve(parts.path).view_name if parts.path.startswith(INDEX) else parts.path, *names)
        limit = 1 if "_changelist_filters" in names else self.MAX_ALIKE
        if url not in self.seen and self.alike[pattern] < limit:
            self.seen.add(url)
            self.alike[pattern] += 1
            self.queue.append((url, origin))


def crawl(client: Client, problems: list[Any]) -> Iterator[Page]:
    """Yield each page of the admin that links lead to, from the index on. Add broken links to `problems`."""
    frontier = Frontier(INDEX)
    while frontier.queue:
        url, origin = frontier.queue.popleft()
        response = client.get(url, follow=True)
        content = response.getvalue().decode()
        if response.status_code != 200:
            problems.append((origin, url, response.status_code))
        elif url.startswith(INDEX) and response["Content-Type"].startswith("text/html"):
            page = Page(url_of(response), content)
            yield page
            for link in page.links:
                # A list is visited with one filter at a time.
                if not ("?" in page.url and path_of(link) == path_of(page.url)):
                    frontier.add(link, page.url)


def path_of(url: str) -> str:
    return url.partition("?")[0]


def url_of(response: Any) -> str:
    """Return the URL of the response, after redirects."""
    request = response.request
    return str(urlunsplit(("", "", request["PATH_INFO"], request["QUERY_STRING"], "")))


@pytest.mark.parametrize("role", ["root", "operator", "support", "plain-staff"])
@pytest.mark.usefixtures("_one_of_everything")
def test_every_link_and_form_works_and_a_form_sent_unchanged_changes_nothing(role: str) -> None:
    groups = {"operator": ["operators"], "support": ["support"]}
    user = User.objects.filter(email="root@example.com").first() if role == "root" else None
    client = Client(enforce_csrf_checks=True, raise_request_exception=False)
    client.force_login(user or make_staff(role, *groups.get(role, [])))
    before, sent, problems = rows(), set[tuple[Any, ...]](), list[Any]()

    for page in crawl(client, problems):
        for form in page.forms:
            for button in form.buttons:
                target = resolve(path_of(form.url)).view_name
                shape = (target, form.method, button, *sorted({name for name, _ in form.fields}))
                if shape in sent:
                    continue
                sent.add(shape)
                with undone(client):
                    status = form.send(client, button).status_code
                    if status != 200:
                        problems.append((page.url, button, status))
                    elif button.label not in ACTS and form.method == "post" and rows() != before:
                        problems.append((page.url, button, "changed something"))
            if "_selected_action" in form.options and "?" not in page.url:
                shown = form.options["_selected_action"]
                for action in form.options["action"][1:]:
                    with undone(client):
                        status = form.send(client, action=action, _selected_action=shown).status_code
                        problems += [(page.url, action, status)] if status != 200 else []

    assert problems == []
