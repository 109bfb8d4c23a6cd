"""No table contains a credential in clear."""

from __future__ import annotations

from typing import Any

import pytest
import requests
from django.core.exceptions import ValidationError
from django.db import connection

from oauth.models import Application
from tests.oauth.conftest import Browser, code_in, make_application, session_of
from tests.oauth.test_authorization_code import AuthorizationCodeFlow
from tests.oauth.test_device import Terminal
from tests.processes import TIMEOUT


def test_no_token_code_or_client_secret_is_stored_in_clear(
    browser: Browser, metadata: dict[str, Any], site: str
) -> None:
    client_secret = "a-client-secret-to-look-for"
    application = make_application("Server", client_type=Application.CLIENT_CONFIDENTIAL, client_secret=client_secret)
    flow = AuthorizationCodeFlow(session_of(application, client_secret), browser, metadata)
    first = flow.token(flow.browser.allow(flow.url()))
    second = flow.refresh(first["refresh_token"])
    waiting_code = code_in(flow.browser.allow(flow.url()))
    codes = Terminal(metadata).start().json()
    created = requests.post(
        f"{site}/api/v1/workspaces/current/api-keys",
        headers={"Authorization": f"Bearer {second['access_token']}", "Idempotency-Key": "the-idempotency-key"},
        json={"description": "CI"},
        timeout=TIMEOUT,
    )

    stored = stored_text()

    assert "a-client-secret" not in stored
    assert created.json()["apiKeyId"] in stored
    for secret in (
        *(token[name] for token in (first, second) for name in ("access_token", "refresh_token")),
        waiting_code,
        codes["device_code"],
        codes["user_code"],
        created.json()["secret"],
        "the-idempotency-key",
    ):
        assert secret not in stored


def test_a_client_secret_is_hashed_like_a_password(db: None, settings: Any) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.Argon2PasswordHasher"]

    application = make_application("Server", client_type=Application.CLIENT_CONFIDENTIAL, client_secret="s3cret")

    assert application.client_secret.startswith("argon2$argon2id$")


def stored_text() -> str:
    """Return the text of all rows of all tables."""
    with connection.cursor() as cursor:
        rows: list[Any] = []
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f'SELECT * FROM "{table}"')
            rows += cursor.fetchall()
    return "\n".join(map(repr, rows))


@pytest.mark.django_db
@pytest.mark.parametrize(
    "fields",
    [{"hash_client_secret": False}, {"skip_authorization": True}, {"authorization_grant_type": "implicit"}],
)
def test_an_application_can_not_weaken_the_rules(fields: dict[str, Any]) -> None:
    application = Application(
        name="Reports",
        client_type="public",
        authorization_grant_type="authorization-code",
        redirect_uris="https://a.example/cb",
    )
    application.full_clean()
    for name, value in fields.items():
        setattr(application, name, value)

    with pytest.raises(ValidationError):
        application.full_clean()
