"""Error reports contain no secret, neither on DEBUG's page nor in the handler that Django offers for emails."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.core import mail
from django.test import Client
from django.utils.log import AdminEmailHandler

from apikeys.models import StoredSecret
from oauth.models import DeviceGrant
from tests.helpers import Api, make_token, send_form
from tests.oauth.conftest import make_application
from tests.sweep import sweep
from workspaces.models import User, Workspace

pytestmark = pytest.mark.django_db

Fail = Callable[[User, Workspace, Any], str]


def browser(user: User) -> Client:
    client = Client(raise_request_exception=False)
    client.force_login(user)
    return client


def creating_a_key_on_the_page(owner: User, workspace: Workspace, settings: Any) -> str:
    settings.APIKEYS_MAX_ACTIVE = "twenty"
    fields = {"description": "CI", "expiry": "never", "idempotency_key": "0" * 32}
    response = browser(owner).post(
        f"/w/{workspace.pk}/settings/developer/api-keys/add/?key=a-secret-in-a-query", fields
    )
    return response.content.decode()


def creating_a_key_over_rest(owner: User, workspace: Workspace, settings: Any) -> str:
    settings.APIKEYS_MAX_ACTIVE = "twenty"
    response = Api(make_token(owner)).post("/workspaces/current/api-keys", {"description": "CI"})
    return str(response.content.decode())


def hashing_a_secret(owner: User, workspace: Workspace, settings: Any) -> str:
    settings.APIKEYS_ARGON2_TIME_COST = "much"
    response = Api(make_token(owner)).post("/workspaces/current/api-keys", {"description": "CI"})
    return str(response.content.decode())


def signing_in(owner: User, workspace: Workspace, settings: Any) -> str:
    settings.PASSWORD_HASHERS = ["no.such.Hasher"]
    client = Client(raise_request_exception=False)
    response = client.post(
        "/sign-in/?next=a-secret-in-a-query", {"username": owner.email, "password": "owner-password"}
    )
    return response.content.decode()


def signing_in_with_a_broken_redirect(owner: User, workspace: Workspace, settings: Any) -> str:
    settings.LOGIN_REDIRECT_URL = "no-such-page"
    client = Client(raise_request_exception=False)
    return client.post("/sign-in/", {"username": owner.email, "password": "owner-password"}).content.decode()


def issuing_a_token(owner: User, workspace: Workspace, settings: Any) -> str:
    application = make_application("Terminal", authorization_grant_type="urn:ietf:params:oauth:grant-type:device_code")
    codes = DeviceGrant.start(application.client_id, "openid")
    DeviceGrant.objects.update(status=DeviceGrant.AUTHORIZED)  # without a user
    fields = {
        "grant_type": "urn:ietf:params:oauth:grant-type:device_code",
        "client_id": application.client_id,
        "device_code": codes.device_code,
    }
    client = Client(raise_request_exception=False)
    return str(send_form("/app/auth/token", fields, client).content.decode())


def opening_the_device_page(owner: User, workspace: Workspace, settings: Any) -> str:
    codes = DeviceGrant.start(make_application("Terminal").client_id, "openid")
    settings.OAUTH2_PROVIDER = {**settings.OAUTH2_PROVIDER, "SCOPES": ["openid"]}
    return browser(owner).get(f"/app/auth/device?user_code={codes.user_code}").content.decode()


FAILURES: list[Fail] = [
    creating_a_key_on_the_page,
    creating_a_key_over_rest,
    hashing_a_secret,
    signing_in,
    signing_in_with_a_broken_redirect,
    issuing_a_token,
    opening_the_device_page,
]


def test_no_logger_emails_reports() -> None:
    """Django's default settings do. The documents must not promise emails, and nothing must send them unnoticed."""
    loggers = map(logging.getLogger, [None, *logging.root.manager.loggerDict])

    assert not [log for log in loggers if any(isinstance(handler, AdminEmailHandler) for handler in log.handlers)]


@pytest.fixture
def _mailed(settings: Any) -> Iterator[None]:
    """Email the reports of pages and of the API. The settings don't, but the handler shows every part of a report."""
    settings.ADMINS = [("Operators", "operators@example.com")]
    handler = AdminEmailHandler(include_html=True)
    handler.setLevel(logging.ERROR)
    loggers = [logging.getLogger("django"), logging.getLogger("onehorizon")]
    for logger in loggers:
        logger.addHandler(handler)
    yield
    for logger in loggers:
        logger.removeHandler(handler)


@pytest.mark.usefixtures("_mailed")
@pytest.mark.parametrize("debug", [True, False], ids=["debug on", "debug off"])
@pytest.mark.parametrize("fail", FAILURES, ids=lambda fail: fail.__name__)
def test_no_report_contains_a_secret(
    fail: Fail, debug: bool, owner: User, workspace: Workspace, secret: str, settings: Any
) -> None:
    settings.DEBUG = debug
    stored = StoredSecret.objects.get().hash

    page = fail(owner, workspace, settings)

    reports = [
        page,
        *(f"{message.subject} {message.body} {getattr(message, 'alternatives', '')}" for message in mail.outbox),
    ]
    assert any("Traceback" in report for report in reports)
    secrets = [*sweep.secrets, stored, django_settings.SECRET_KEY, "a-secret-in-a-query"]
    assert len(secrets) > 5
    assert [value for value in secrets for report in reports if value in report] == []


def test_a_report_contains_the_exception_and_the_types_of_variables(
    owner: User, workspace: Workspace, settings: Any
) -> None:
    settings.DEBUG = True

    page = creating_a_key_on_the_page(owner, workspace, settings)

    assert "TypeError" in page
    assert "create_key" in page
    assert "&lt;class &#x27;str&#x27;&gt;" in page
    assert "description" in page
