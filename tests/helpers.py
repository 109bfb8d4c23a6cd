"""Helpers for all tests: an API client, the cast, and the quota with its clock."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib.auth.models import Group
from django.db import IntegrityError, connection
from django.db.models.signals import pre_save
from django.test import Client
from django.utils import timezone
from django.utils.crypto import get_random_string
from django.utils.html import strip_tags
from django_ratelimit.core import _get_window
from oauth2_provider.models import AccessToken, set_token_value
from oauth2_provider.scopes import get_scopes_backend
from playwright.sync_api import Page
from rest_framework.test import APIClient

from apikeys.models import ApiKey, ApiKeyUsage, Counts
from oauth.models import Application
from tests.described import validate_response
from workspaces import quota
from workspaces.hashers import PasswordHasher
from workspaces.models import COMMAND_ACTOR, AuditEvent, Role, Tier, User, Workspace
from workspaces.quota import SECOND

BY_TEST = COMMAND_ACTOR

Visit = Callable[..., Page]

# The last parameter of each challenge.
RESOURCE_METADATA = 'resource_metadata="http://127.0.0.1:8000/.well-known/oauth-protected-resource/api/v1"'

# For tests whose rows other threads or processes read: they commit, and all rows are deleted afterwards.
commits = pytest.mark.django_db(transaction=True, serialized_rollback=True)


class QuickPasswordHasher(PasswordHasher):
    """A fast hasher. A server that the tests start can verify its hashes with the real one."""

    time_cost = 1
    memory_cost = 8


class Api:
    """A client of the REST API: `Api(secret).get("/me")`. Validates each response against the OpenAPI document."""

    def __init__(self, secret: str | None = None, **headers: str) -> None:
        self.client = APIClient(raise_request_exception=False)
        if secret is not None:
            headers["Authorization"] = f"Bearer {secret}"
        self.headers = headers

    def request(self, method: str, path: str, body: Any = None, **options: Any) -> Any:
        if body is not None:
            options |= {"data": json.dumps(body), "content_type": "application/json"}
        headers = self.headers | options.pop("headers", {})
        response = self.client.generic(method, f"/api/v1{path}", headers=headers, **options)
        validate_response(method, f"/api/v1{path}", response)
        return response

    def get(self, path: str, **options: Any) -> Any:
        return self.request("GET", path, **options)

    def post(self, path: str, body: Any = None, **options: Any) -> Any:
        return self.request("POST", path, body, **options)

    def patch(self, path: str, body: Any = None, **options: Any) -> Any:
        return self.request("PATCH", path, body, **options)

    def delete(self, path: str, **options: Any) -> Any:
        return self.request("DELETE", path, **options)


def make_user(role: str) -> User:
    """Create a user. Unlike `create_user`, this doesn't revoke the user's tokens, of which a new user has none."""
    user = User(email=f"{role}@example.com", name=role.capitalize())
    user.set_password(f"{role}-password")
    User.objects.bulk_create([user])
    return User.objects.get(pk=user.pk)


def make_staff(name: str, *groups: str) -> User:
    user = make_user(name)
    user.is_staff = True
    user.save(update_fields=["is_staff"])
    user.groups.set(Group.objects.filter(name__in=groups))
    return user


def sign_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def send_form(path: str, fields: dict[str, str], client: Client | None = None, **options: Any) -> Any:
    """Send a form as programs do. Django's test client would send multipart/form-data."""
    return (client or Client()).post(path, urlencode(fields), "application/x-www-form-urlencoded", **options)


def html_of(response: Any) -> str:
    html: str = response.content.decode()
    return html


def text_of(html: str) -> str:
    """Return the text of HTML as a person reads it, with single spaces."""
    text = re.sub(r"<(?!/?(?:a|b|bdi|code|em|strong|time|wbr)\b)[^>]*>", " ", html)  # inline elements end no word
    return " ".join(unescape(strip_tags(text)).split())


def focused(html: str) -> list[str]:
    """Return the ids of the elements that get the focus when the page has loaded, or the tags of those without one."""
    html = re.sub(r"<dialog.*?</dialog>", "", html, flags=re.DOTALL)
    elements = re.findall(r"<(\w+)([^>]* autofocus[^>]*)>", html)
    return [(re.findall(r' id="([^"]*)"', attributes) or [tag])[0] for tag, attributes in elements]


def make_workspace(owner: User, slug: str = "acme", **members: User) -> Workspace:
    workspace = Workspace.objects.create_with_owner(owner, name=slug.capitalize(), slug=slug, by=BY_TEST)
    for role, user in members.items():
        workspace.add_member(user, Role(role), by=BY_TEST)
    return workspace


@contextmanager
def failing_events() -> Iterator[None]:
    """Let every attempt to write an audit event fail."""

    def fail(**_: Any) -> None:
        raise IntegrityError("no event")

    pre_save.connect(fail, AuditEvent)
    try:
        yield
    finally:
        pre_save.disconnect(fail, AuditEvent)


def make_key(workspace: Workspace, description: str = "CI, production", **options: Any) -> tuple[ApiKey, str]:
    return ApiKey.objects.create_key(workspace, description=description, by=BY_TEST, **options)


def usage_of(**filters: Any) -> Counts:
    """Return the sum of the stored usage that matches these filters, such as `api_key`."""
    return Counts.sum(counts for _, counts in ApiKeyUsage.objects.filter(**filters).by_key())


def make_token(user: User, *scopes: str) -> str:
    """Create an access token of this user and return it. It has all scopes, unless some are given."""
    all_scopes = list(get_scopes_backend().get_available_scopes())
    fields = {"client_type": "public", "authorization_grant_type": Application.GRANT_AUTHORIZATION_CODE}
    application, _ = Application.objects.get_or_create(client_id="tests", defaults=fields | {"scopes": all_scopes})
    scope = " ".join(scopes or all_scopes)
    token = AccessToken(user=user, application=application, scope=scope, expires=timezone.now() + timedelta(hours=1))
    raw = get_random_string(30)
    set_token_value(token, raw)
    token.save()
    return raw


def advance_quota_clock(subject: str, seconds: float) -> None:
    """Simulate that `seconds` pass for a quota.

    A quota uses the database's clock, which a test can't set, so this moves the recorded admissions back.
    """
    shift = int(seconds * SECOND)
    if connection.vendor == "postgresql":
        shifted = "ARRAY(SELECT t - %s FROM unnest(admissions) WITH ORDINALITY AS a(t, i) ORDER BY i)"
    else:
        shifted = "(SELECT json_group_array(value - %s) FROM json_each(admissions))"
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE workspaces_quota SET admissions = {shifted} WHERE subject = %s", [shift, subject])


def fill_quota(subject: str, tier: Tier, requests: int) -> None:
    """Count this number of requests at once. The limits must admit the first one."""
    assert quota.admit(subject, tier).admitted
    limits, (row, now) = quota.limits_of(tier), quota.read(subject)
    for _ in range(requests - 1):
        row = row.recorded(limits, now)
    quota.write(subject, row)


def stretch_windows() -> None:
    """Set all windows of every tier to 15 minutes, longer than any test, and keep the numbers of requests."""
    Tier.objects.update(seconds=900, burst_seconds=900)


def lift_quota(workspace: Workspace) -> None:
    """Give a workspace limits that no test reaches."""
    Tier.objects.get_or_create(
        name="lifted", defaults={"requests": 10_000, "seconds": 900, "burst_requests": 10_000, "burst_seconds": 60}
    )
    Workspace.objects.filter(pk=workspace.pk).update(tier="lifted")


def exhaust_quota(workspace: Workspace, seconds: float) -> None:
    """Exhaust the workspace's quota for `seconds`. After that it admits 50 requests in 15 minutes."""
    tier, _ = Tier.objects.get_or_create(
        name="small", defaults={"requests": 50, "seconds": 900, "burst_requests": 50, "burst_seconds": 900}
    )
    Workspace.objects.filter(pk=workspace.pk).update(tier=tier)
    quota.clear(workspace, by=BY_TEST)
    while quota.admit(workspace.pk, tier).admitted:
        pass
    advance_quota_clock(workspace.pk, 900 - seconds)


def run_over_quota(workspace: Workspace, log: Path, run: Callable[[], object]) -> None:
    """Run a client that waits when it is over the quota, and assert that the server rejected one of its requests.

    `log` is the server's log. A client that starts too slowly to be rejected runs again, with the quota exhausted for
    longer.
    """
    for seconds in (3, 10, 30):
        before = log.read_text().count("status=429")
        exhaust_quota(workspace, seconds)
        run()
        if log.read_text().count("status=429") > before:
            return
    raise AssertionError("no request was over the quota")


def remaining(seconds: int, began: float) -> range:
    """Return the possible values, in whole seconds, for the rest of a delay of `seconds` that started after `began`.

    `began` is a value of `time.monotonic()`. On an idle machine the values are `seconds` and one less.
    """
    return range(max(math.floor(seconds - (time.monotonic() - began)), 1), seconds + 1)


def with_new_window(keys: Iterable[str], seconds: int) -> str:
    """Return the first of `keys` whose rate limit window has just started.

    django-ratelimit counts in fixed windows, which start at a different time for each key. A test can't stop the clock
    of a server in another process, so it uses a key whose window won't end soon.
    """
    return next(key for key in keys if _get_window(key, seconds) - time.time() > 0.8 * seconds)
