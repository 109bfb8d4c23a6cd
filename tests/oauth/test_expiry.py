"""`manage.py housekeeping` deletes what OAuth no longer needs, and nothing that still works or detects a theft."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core.management import call_command
from oauth2_provider.models import AccessToken, RefreshToken
from time_machine import TimeMachineFixture

from oauth.models import Application, DeviceGrant, Grant, TokenFamily
from tests.helpers import Api, sign_in
from tests.oauth.conftest import make_application
from tests.oauth.program import Program
from workspaces.models import User, Workspace

pytestmark = pytest.mark.usefixtures("_frozen_clock")

INVALID_GRANT = {"error": "invalid_grant"}


@pytest.fixture
def program(application: Application, owner: User, workspace: Workspace) -> Program:
    return Program(application, sign_in(owner))


@pytest.fixture
def terminal(owner: User, workspace: Workspace) -> Program:
    grant_type = Application.GRANT_DEVICE_CODE
    return Program(make_application("Terminal", authorization_grant_type=grant_type), sign_in(owner))


def rows() -> dict[str, int]:
    return {model.__name__: model.objects.count() for model in (AccessToken, RefreshToken, TokenFamily, Grant)}


def test_a_month_after_their_last_use_no_tokens_are_left(program: Program, time_machine: TimeMachineFixture) -> None:
    program.refresh(program.tokens()["refresh_token"])
    unused = program.tokens()
    program.revoke(program.tokens()["refresh_token"])
    assert rows() == {"AccessToken": 2, "RefreshToken": 4, "TokenFamily": 1, "Grant": 3}

    time_machine.shift(timedelta(days=30))
    call_command("housekeeping")
    assert rows() == {"AccessToken": 2, "RefreshToken": 2, "TokenFamily": 1, "Grant": 0}, "these can be refreshed"

    time_machine.shift(timedelta(hours=2))
    call_command("housekeeping")
    assert program.refresh(unused["refresh_token"]).json() == INVALID_GRANT
    assert rows() == {"AccessToken": 0, "RefreshToken": 0, "TokenFamily": 0, "Grant": 0}


def test_tokens_that_are_in_use_keep_working(program: Program, time_machine: TimeMachineFixture) -> None:
    tokens = program.tokens()
    call_command("housekeeping")
    assert Api(tokens["access_token"]).get("/me").status_code == 200

    time_machine.shift(timedelta(days=29))
    call_command("housekeeping")
    tokens = program.refresh(tokens["refresh_token"]).json()

    assert Api(tokens["access_token"]).get("/me").status_code == 200


def test_an_authorization_still_ends_after_90_days(program: Program, time_machine: TimeMachineFixture) -> None:
    """The first refresh tokens of the family are deleted meanwhile. Its start must not be."""
    tokens = program.tokens()
    for _ in range(3):
        time_machine.shift(timedelta(days=29))
        tokens = program.refresh(tokens["refresh_token"]).json()
        call_command("housekeeping")
    assert RefreshToken.objects.count() < 4

    time_machine.shift(timedelta(days=3))

    assert program.refresh(tokens["refresh_token"]).json() == INVALID_GRANT


def test_a_reused_refresh_token_is_detected_for_a_month(program: Program, time_machine: TimeMachineFixture) -> None:
    first = program.tokens()
    second = program.refresh(first["refresh_token"]).json()
    time_machine.shift(timedelta(days=28))
    call_command("housekeeping")

    assert program.refresh(first["refresh_token"]).json() == INVALID_GRANT
    assert program.refresh(second["refresh_token"]).json() == INVALID_GRANT, "its family is revoked"


def test_a_reused_code_is_detected_for_a_day(program: Program, time_machine: TimeMachineFixture) -> None:
    code = program.code()
    tokens = program.exchange(code).json()
    time_machine.shift(timedelta(minutes=50))
    call_command("housekeeping")

    assert program.exchange(code).json() == INVALID_GRANT
    assert Api(tokens["access_token"]).get("/me").status_code == 401, "the tokens of the code are revoked"

    time_machine.shift(timedelta(days=1))
    call_command("housekeeping")
    assert Grant.objects.count() == 0


def test_a_device_grant_is_deleted_a_day_after_it_expired(terminal: Program, time_machine: TimeMachineFixture) -> None:
    codes = terminal.start_device().json()
    time_machine.shift(timedelta(minutes=9))
    call_command("housekeeping")
    terminal.decide_device(codes["user_code"], allow="yes")
    assert terminal.poll(codes["device_code"]).json()["access_token"]

    expired = terminal.start_device().json()
    time_machine.shift(timedelta(hours=24))
    call_command("housekeeping")
    assert terminal.poll(expired["device_code"]).json() == {"error": "expired_token"}

    time_machine.shift(timedelta(minutes=11))
    call_command("housekeeping")
    assert DeviceGrant.objects.count() == 0
