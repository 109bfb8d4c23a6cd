"""The database stores a digest of the session key, so a copy of the table cannot be used to sign in.

Sessions of staff end sooner than others.
"""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.conf import settings
from django.contrib.sessions.models import Session
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from time_machine import TimeMachineFixture

from core.sessions import STAFF_MAX_AGE, STAFF_MAX_IDLE
from tests.helpers import sign_in
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


# ---- staff ----

MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)


@pytest.fixture
def clock(time_machine: TimeMachineFixture) -> TimeMachineFixture:
    """A clock that stands still until a test calls `shift`."""
    time_machine.move_to(timezone.now(), tick=False)
    return time_machine


def writes_a_session(client: Client, **headers: str) -> bool:
    with CaptureQueriesContext(connection) as queries:
        assert client.get("/workspaces/", headers=headers).status_code == 200
    return any('UPDATE "django_session"' in query["sql"] for query in queries)


def test_a_staff_session_ends_eight_hours_after_sign_in_however_much_it_is_used(
    operator: User, clock: TimeMachineFixture
) -> None:
    client = sign_in(operator)
    for _ in range(23):
        clock.shift(20 * MINUTE)
        assert is_signed_in(client)

    clock.shift(20 * MINUTE - SECOND)
    assert is_signed_in(client)
    clock.shift(SECOND)
    assert not is_signed_in(client)


def test_a_staff_session_ends_after_thirty_minutes_without_a_page(operator: User, clock: TimeMachineFixture) -> None:
    client = sign_in(operator)

    clock.shift(STAFF_MAX_IDLE - SECOND)
    assert is_signed_in(client)
    clock.shift(STAFF_MAX_IDLE)
    assert not is_signed_in(client)
    assert not Session.objects.exists()


def test_pages_that_the_browser_loads_are_recorded_once_a_minute(operator: User, clock: TimeMachineFixture) -> None:
    client = sign_in(operator)

    assert not writes_a_session(client)
    clock.shift(MINUTE)
    assert writes_a_session(client, sec_fetch_mode="navigate")
    assert not writes_a_session(client, sec_fetch_mode="navigate")
    clock.shift(MINUTE - SECOND)
    assert not writes_a_session(client)
    clock.shift(SECOND)
    assert writes_a_session(client)


def test_requests_of_scripts_do_not_extend_a_staff_session(operator: User, clock: TimeMachineFixture) -> None:
    """The list of keys refreshes its quota every 5 seconds."""
    client = sign_in(operator)
    for _ in range(3):
        clock.shift(9 * MINUTE)
        assert not writes_a_session(client, sec_fetch_mode="cors")

    clock.shift(3 * MINUTE)
    assert not is_signed_in(client)


@pytest.mark.parametrize("url", ["/admin/", "/admin/workspaces/user/?q=owner", "/workspaces/"])
def test_after_the_end_of_a_staff_session_the_user_signs_in_and_returns_to_the_page(
    url: str, operator: User, clock: TimeMachineFixture
) -> None:
    client = sign_in(operator)
    clock.shift(STAFF_MAX_IDLE)

    sign_in_page, _ = client.get(url, follow=True).redirect_chain[-1]
    form = {"username": operator.email, "password": "operator-password"}
    response = client.post(sign_in_page, form, follow=True)

    assert sign_in_page.startswith("/sign-in/?next=")
    assert response.status_code == 200
    assert response.redirect_chain == [(url, 302)]


def test_other_sessions_do_not_end_sooner_until_their_user_becomes_staff(
    owner: User, workspace: Workspace, clock: TimeMachineFixture
) -> None:
    client = sign_in(owner)
    clock.shift(STAFF_MAX_AGE)
    assert not writes_a_session(client)

    User.objects.filter(pk=owner.pk).update(is_staff=True)

    assert not is_signed_in(client)


def test_a_staff_session_of_an_earlier_release_has_ended(operator: User) -> None:
    client = sign_in(operator)
    session = client.session
    del session["signed_in_at"], session["seen_at"]
    session.save()

    assert not is_signed_in(client)
