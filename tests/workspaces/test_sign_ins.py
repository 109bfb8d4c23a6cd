"""Sign-ins (also failed ones), sign-outs and password changes can be traced to the account."""

from __future__ import annotations

from typing import Any

import pytest
from django.db.models.signals import pre_save
from django.test import Client

from tests.helpers import sign_in
from workspaces.models import AuditEvent, User

NEW_PASSWORD = "correct horse battery"


def send_sign_in(username: str, password: str) -> Client:
    client = Client(REMOTE_ADDR="203.0.113.7")
    client.post("/sign-in/", {"username": username, "password": password})
    return client


def change_password(user: User) -> Any:
    form = {"old_password": "owner-password", "new_password1": NEW_PASSWORD, "new_password2": NEW_PASSWORD}
    return sign_in(user).post("/settings/password/", form, REMOTE_ADDR="203.0.113.7")


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[Any, ...]]:
    """Return the message, level, user and client IP of each line."""
    names = ("message", "levelname", "user", "clientIp")
    return [
        tuple(getattr(record, name) for name in names)
        for record in caplog.records
        if record.name == "onehorizon.sign_ins"
    ]


def test_signing_in_and_out_is_logged(owner: User, caplog: pytest.LogCaptureFixture) -> None:
    browser = send_sign_in("Owner@example.com", "owner-password")
    browser.post("/sign-out/")
    browser.post("/sign-out/")

    assert lines(caplog) == [
        ("signed in", "INFO", owner.pk, "203.0.113.7"),
        ("signed out", "INFO", owner.pk, "203.0.113.7"),
    ]
    assert owner.email not in caplog.text


@pytest.mark.parametrize("is_active", [True, False])
def test_a_failed_sign_in_is_logged_with_the_account(
    owner: User, is_active: bool, caplog: pytest.LogCaptureFixture
) -> None:
    User.objects.filter(pk=owner.pk).update(is_active=is_active)

    send_sign_in("OWNER@example.com", "a wrong guess" if is_active else "owner-password")

    assert lines(caplog) == [("sign-in failed", "WARNING", owner.pk, "203.0.113.7")]


@pytest.mark.parametrize("username", ["my other password", "nobody@example.com", "x" * 1000])
def test_text_typed_into_the_email_field_is_not_logged(
    owner: User, username: str, caplog: pytest.LogCaptureFixture
) -> None:
    """People type their password into the field for the email."""
    send_sign_in(username, "owner-password")

    records = [record for record in caplog.records if record.name == "onehorizon.sign_ins"]
    assert [record.__dict__["user"] for record in records] in ([], ["unknown"])
    assert all(username not in str(record.__dict__) for record in caplog.records)


def test_a_changed_password_writes_an_event(owner: User) -> None:
    assert change_password(owner).status_code == 302

    event = AuditEvent.objects.get(action="user.password_changed")
    assert (event.subject, event.actor, event.via, event.client_ip) == (owner.pk, owner, "page", "203.0.113.7")
    assert event.details == {}


def test_a_rejected_password_writes_no_event(owner: User) -> None:
    form = {"old_password": "wrong", "new_password1": NEW_PASSWORD, "new_password2": NEW_PASSWORD}

    assert sign_in(owner).post("/settings/password/", form).status_code == 200

    assert not AuditEvent.objects.filter(action="user.password_changed").exists()


def test_changing_the_password_keeps_concurrent_changes(owner: User) -> None:
    """An operator deactivates the user after the request has read them."""

    def deactivate(sender: Any, instance: User, **_: Any) -> None:
        if instance.has_usable_password() and instance.check_password(NEW_PASSWORD):
            pre_save.disconnect(deactivate, User)
            User.objects.filter(pk=owner.pk).update(is_active=False)

    pre_save.connect(deactivate, User)

    change_password(owner)

    owner.refresh_from_db()
    assert owner.check_password(NEW_PASSWORD)
    assert not owner.is_active
