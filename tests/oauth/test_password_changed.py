"""Every password change revokes the person's tokens and grants."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.hashers import PBKDF2PasswordHasher, make_password
from django.db import OperationalError
from django.test import Client
from django.utils import timezone
from oauth2_provider.models import RefreshToken

from oauth.models import Application, DeviceGrant, Grant
from tests.helpers import Api, make_token
from workspaces.models import User, Workspace

NEW_PASSWORD = "correct horse battery"


def change_on_the_page(user: User) -> None:
    browser = Client()
    browser.force_login(user)
    form = {"old_password": "owner-password", "new_password1": NEW_PASSWORD, "new_password2": NEW_PASSWORD}
    assert browser.post("/settings/password/", form).status_code == 302
    assert browser.get("/workspaces/").status_code == 200, "the browser that changed it stays signed in"


def change_as_operator(user: User) -> None:
    user.set_password(NEW_PASSWORD)
    user.save()


@pytest.fixture(autouse=True)
def _hashers(settings: Any) -> None:
    settings.PASSWORD_HASHERS = [*settings.PASSWORD_HASHERS, "django.contrib.auth.hashers.PBKDF2PasswordHasher"]


@pytest.mark.parametrize("change", [change_on_the_page, change_as_operator])
def test_tokens_codes_and_device_requests_are_revoked(
    change: Callable[[User], None], owner: User, admin: User, api: Api, workspace: Workspace
) -> None:
    person, other = Api(make_token(owner)), Api(make_token(admin))
    application, soon = Application.objects.get(client_id="tests"), timezone.now() + timedelta(minutes=1)
    refresh = RefreshToken.objects.create(user=owner, token="r" * 30, application=application)
    Grant.objects.create(user=owner, code="c" * 30, application=application, expires=soon, redirect_uri="", scope="")
    DeviceGrant.objects.create(user=owner, client_id="tests", device_code="d", user_code="u", expires=soon)
    assert person.get("/me").status_code == 200

    change(owner)

    refresh.refresh_from_db()
    assert person.get("/me").status_code == 401
    assert refresh.revoked is not None
    assert not Grant.objects.exists()
    assert not DeviceGrant.objects.exists()
    assert [client.get("/me").status_code for client in (other, api)] == [200, 200]


class DatabaseUnavailableValidator:
    """Raises as if the database became unavailable after the password was saved."""

    def validate(self, password: str, user: User | None = None) -> None:
        pass

    def password_changed(self, password: str, user: User) -> None:
        raise OperationalError


def test_a_password_is_not_changed_if_tokens_can_not_be_revoked(
    owner: User, workspace: Workspace, settings: Any
) -> None:
    person = Api(make_token(owner))
    validators = [*settings.AUTH_PASSWORD_VALIDATORS, {"NAME": f"{__name__}.DatabaseUnavailableValidator"}]
    settings.AUTH_PASSWORD_VALIDATORS = validators

    with pytest.raises(OperationalError):
        change_as_operator(owner)

    owner.refresh_from_db()
    assert owner.check_password("owner-password")
    assert person.get("/me").status_code == 200


def test_signing_in_revokes_nothing_when_it_upgrades_the_password_hash(owner: User, workspace: Workspace) -> None:
    person = Api(make_token(owner))
    User.objects.filter(pk=owner.pk).update(password=make_password("owner-password", hasher=PBKDF2PasswordHasher()))

    Client().post("/sign-in/", {"username": owner.email, "password": "owner-password"})

    owner.refresh_from_db()
    assert owner.password.startswith("argon2")
    assert person.get("/me").status_code == 200
