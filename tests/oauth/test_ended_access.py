"""When a user is deactivated, or an operator ends their access, no session, token or code of theirs works any more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import IntegrityError, OperationalError, connection
from django.test import Client

from core.admin import change_url
from oauth.models import Application
from tests.admin.pages import action_url
from tests.helpers import BY_TEST, Api, failing_events, make_staff, sign_in
from tests.oauth.program import Program, redirected_error
from workspaces.models import User, Workspace, access_ended

Change = Callable[[User], None]


def submit_user_form(user: User, **fields: str) -> None:
    operator = User.objects.filter(email="operator@example.com").first() or make_staff("operator", "operators")
    response = sign_in(operator).post(change_url(user), {"email": user.email, "name": user.name} | fields)
    assert response.status_code == 302


def reactivate(user: User) -> None:
    submit_user_form(user, is_active="on")


def deactivate_in_the_admin(user: User) -> None:
    submit_user_form(user)


def deactivate_with_save(user: User) -> None:
    user.is_active = False
    user.save()


def deactivate_with_update_fields(user: User) -> None:
    user.is_active = False
    user.save(update_fields=["is_active"])


def end_in_the_admin(user: User) -> None:
    response = sign_in(make_staff("operator", "operators")).post(action_url(user, "end-access"))
    assert response.status_code == 302


@pytest.fixture
def browser(owner: User, workspace: Workspace) -> Client:
    """A browser in which the owner has signed in with the form."""
    client = Client()
    client.post("/sign-in/", {"username": owner.email, "password": "owner-password"})
    return client


@pytest.fixture
def program(application: Application, browser: Client) -> Program:
    return Program(application, browser)


@pytest.fixture
def terminal(browser: Client) -> Program:
    return Program(Application.objects.get(client_id="terminal"), browser)


def is_signed_in(browser: Client) -> bool:
    return bool(browser.get("/workspaces/").status_code == 200)


def error_of(response: Any) -> str:
    assert response.status_code == 400, response.content
    return str(response.json()["error"])


@pytest.mark.parametrize(
    "end", [deactivate_in_the_admin, deactivate_with_save, deactivate_with_update_fields, end_in_the_admin]
)
def test_nothing_works_any_more_even_after_reactivation(
    end: Change, program: Program, terminal: Program, owner: User, api: Api
) -> None:
    tokens, code, device = program.tokens(), program.code(), terminal.start_device().json()
    terminal.decide_device(device["user_code"], allow="yes")
    person = Api(tokens["access_token"])
    assert is_signed_in(program.browser)
    assert person.get("/me").status_code == 200

    end(owner)
    reactivate(owner)

    assert not is_signed_in(program.browser)
    assert person.get("/me").status_code == 401
    assert error_of(program.refresh(tokens["refresh_token"])) == "invalid_grant"
    assert error_of(program.exchange(code)) == "invalid_grant"
    assert error_of(terminal.poll(device["device_code"])) == "invalid_grant"
    assert api.get("/me").status_code == 200, "API keys belong to the workspace"


def test_a_user_can_sign_in_again_and_stays_signed_in(owner: User, workspace: Workspace) -> None:
    owner.end_access(by=BY_TEST)

    browser = Client()
    browser.post("/sign-in/", {"username": owner.email, "password": "owner-password"})

    assert is_signed_in(browser)


def test_another_user_keeps_access(program: Program, owner: User, admin: User) -> None:
    person = Api(program.tokens()["access_token"])

    deactivate_with_save(admin)
    admin.end_access(by=BY_TEST)

    assert is_signed_in(program.browser)
    assert person.get("/me").status_code == 200


def test_a_new_secret_key_with_the_old_one_as_a_fallback_ends_no_session(
    owner: User, workspace: Workspace, settings: Any
) -> None:
    owner.end_access(by=BY_TEST)
    browser = sign_in(owner)

    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "another secret key"

    assert is_signed_in(browser)


def test_a_user_is_not_deactivated_if_the_tokens_can_not_be_revoked(program: Program, owner: User) -> None:
    def fail(**_: Any) -> None:
        raise OperationalError

    access_ended.connect(fail)
    try:
        with pytest.raises(OperationalError):
            deactivate_with_save(User.objects.get(pk=owner.pk))
    finally:
        access_ended.disconnect(fail)

    assert is_signed_in(program.browser)


def test_access_is_not_ended_if_the_audit_event_can_not_be_written(program: Program, owner: User) -> None:
    person = Api(program.tokens()["access_token"])

    with failing_events(), pytest.raises(IntegrityError, match="no event"):
        owner.end_access(by=BY_TEST)

    assert is_signed_in(program.browser)
    assert person.get("/me").status_code == 200


# ---- requests in progress ----


@contextmanager
def ended_at_the_last_moment(user: User) -> Iterator[None]:
    """Deactivate and reactivate the user right before the statement that locks the row of an active user."""
    changed = False

    def end_first(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        nonlocal changed
        if not changed and '"workspaces_user"."is_active"' in sql.partition(" WHERE ")[2]:
            changed = True
            person = User.objects.get(pk=user.pk)
            deactivate_with_save(person)
            person.is_active = True
            person.save()
        return execute(sql, params, many, context)

    with connection.execute_wrapper(end_first):
        yield
    assert changed


def test_a_code_exchanged_meanwhile_grants_nothing(program: Program, owner: User) -> None:
    code = program.code()

    with ended_at_the_last_moment(owner):
        assert error_of(program.exchange(code)) == "invalid_grant"


def test_a_refresh_meanwhile_grants_nothing(program: Program, owner: User) -> None:
    tokens = program.tokens()

    with ended_at_the_last_moment(owner):
        assert error_of(program.refresh(tokens["refresh_token"])) == "invalid_grant"


def test_a_terminal_that_polls_meanwhile_gets_no_token(terminal: Program, owner: User) -> None:
    device = terminal.start_device().json()
    terminal.decide_device(device["user_code"], allow="yes")

    with ended_at_the_last_moment(owner):
        assert error_of(terminal.poll(device["device_code"])) == "invalid_grant"


def test_a_consent_meanwhile_grants_nothing(program: Program, owner: User) -> None:
    with ended_at_the_last_moment(owner):
        assert redirected_error(program.decide("openid", allow="yes")) == "access_denied"


def test_a_terminal_that_is_approved_meanwhile_gets_nothing(terminal: Program, owner: User) -> None:
    device = terminal.start_device().json()

    with ended_at_the_last_moment(owner):
        assert terminal.decide_device(device["user_code"], allow="yes").status_code == 404

    assert error_of(terminal.poll(device["device_code"])) == "authorization_pending"


def test_a_password_that_is_changed_meanwhile_stays_the_same(browser: Client, owner: User) -> None:
    """A person who knows the old password could otherwise replace one that an operator has just set."""
    form = {"old_password": "owner-password", "new_password1": "of-an-intruder", "new_password2": "of-an-intruder"}

    with ended_at_the_last_moment(owner):
        response = browser.post("/settings/password/", form)

    assert response["Location"] == "/sign-in/?next=/settings/password/"
    assert User.objects.get(pk=owner.pk).check_password("owner-password")
    assert not is_signed_in(browser)


def test_a_sign_in_in_progress_is_ended_too(owner: User, workspace: Workspace) -> None:
    """The session starts with the user that was read before the deactivation."""
    read_before = User.objects.get(pk=owner.pk)
    deactivate_with_save(owner)
    owner.is_active = True
    owner.save()

    assert not is_signed_in(sign_in(read_before))
