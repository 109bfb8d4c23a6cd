"""The database stores a digest of the session key, so a copy of the table signs nobody in."""

from __future__ import annotations

import pytest
from django.conf import settings
from django.contrib.sessions.models import Session
from django.test import Client

from workspaces.models import User, Workspace

pytestmark = pytest.mark.django_db


def signed_in(user: User) -> Client:
    client = Client()
    answer = client.post("/sign-in/", {"username": user.email, "password": "owner-password"})
    assert answer.status_code == 302
    return client


def holder_of(session_key: str) -> Client:
    client = Client()
    client.cookies[settings.SESSION_COOKIE_NAME] = session_key
    return client


def key_of(client: Client) -> str:
    return client.cookies[settings.SESSION_COOKIE_NAME].value


def is_let_in(client: Client) -> bool:
    return client.get("/workspaces/").status_code == 200


def test_the_session_tables_values_can_not_be_used_to_sign_in(owner: User, workspace: Workspace) -> None:
    client = signed_in(owner)
    stored = Session.objects.get().pk

    assert is_let_in(client)
    assert is_let_in(holder_of(key_of(client)))
    assert stored != key_of(client)
    assert not is_let_in(holder_of(stored))


def test_signing_out_deletes_the_session(owner: User, workspace: Workspace) -> None:
    client = signed_in(owner)
    key = key_of(client)

    client.post("/sign-out/")

    assert not Session.objects.exists()
    assert not is_let_in(holder_of(key))


def test_signing_in_creates_a_new_session_key_and_deletes_the_old_row(owner: User, workspace: Workspace) -> None:
    client = signed_in(owner)
    before = key_of(client)
    client.post("/sign-in/", {"username": owner.email, "password": "owner-password"})

    client.post(
        "/settings/password/",
        {
            "old_password": "owner-password",
            "new_password1": "another-long-one",
            "new_password2": "another-long-one",
        },
    )

    assert key_of(client) != before
    assert Session.objects.count() == 1
    assert is_let_in(client)
    assert not is_let_in(holder_of(before))
