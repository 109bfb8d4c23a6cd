"""The database stores a digest of the session key, so a copy of the table cannot be used to sign in."""

from __future__ import annotations

import pytest
from django.conf import settings
from django.contrib.sessions.models import Session
from django.test import Client

from workspaces.models import User, Workspace

pytestmark = pytest.mark.django_db


def sign_in_with_password(user: User) -> Client:
    client = Client()
    response = client.post("/sign-in/", {"username": user.email, "password": "owner-password"})
    assert response.status_code == 302
    return client


def client_with(session_key: str) -> Client:
    client = Client()
    client.cookies[settings.SESSION_COOKIE_NAME] = session_key
    return client


def session_key_of(client: Client) -> str:
    return client.cookies[settings.SESSION_COOKIE_NAME].value


def is_signed_in(client: Client) -> bool:
    return client.get("/workspaces/").status_code == 200


def test_the_session_tables_values_can_not_be_used_to_sign_in(owner: User, workspace: Workspace) -> None:
    client = sign_in_with_password(owner)
    stored = Session.objects.get().pk

    assert is_signed_in(client)
    assert is_signed_in(client_with(session_key_of(client)))
    assert stored != session_key_of(client)
    assert not is_signed_in(client_with(stored))


def test_signing_out_deletes_the_session(owner: User, workspace: Workspace) -> None:
    client = sign_in_with_password(owner)
    key = session_key_of(client)

    client.post("/sign-out/")

    assert not Session.objects.exists()
    assert not is_signed_in(client_with(key))


def test_signing_in_creates_a_new_session_key_and_deletes_the_old_row(owner: User, workspace: Workspace) -> None:
    client = sign_in_with_password(owner)
    before = session_key_of(client)
    client.post("/sign-in/", {"username": owner.email, "password": "owner-password"})

    client.post(
        "/settings/password/",
        {
            "old_password": "owner-password",
            "new_password1": "another-long-one",
            "new_password2": "another-long-one",
        },
    )

    assert session_key_of(client) != before
    assert Session.objects.count() == 1
    assert is_signed_in(client)
    assert not is_signed_in(client_with(before))
