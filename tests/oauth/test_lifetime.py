"""A user has to authorize an application again after 90 days, however often it refreshes its token."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from time_machine import TimeMachineFixture

from oauth.models import Application
from tests.helpers import sign_in
from tests.oauth.program import Program
from workspaces.models import User, Workspace


@pytest.fixture
def program(application: Application, owner: User, workspace: Workspace) -> Program:
    return Program(application, sign_in(owner))


def refresh_after(days: int, program: Program, tokens: dict[str, str], time_machine: TimeMachineFixture) -> Any:
    time_machine.shift(timedelta(days=days))
    return program.refresh(tokens["refresh_token"]).json()


@pytest.mark.usefixtures("_frozen_clock")
def test_a_refresh_token_expires_90_days_after_the_authorization(
    program: Program, time_machine: TimeMachineFixture
) -> None:
    tokens = program.tokens()

    for _ in range(3):
        tokens = refresh_after(29, program, tokens, time_machine)
        assert tokens["access_token"]

    assert refresh_after(3, program, tokens, time_machine) == {"error": "invalid_grant"}


@pytest.mark.usefixtures("_frozen_clock")
def test_a_refresh_token_that_is_not_used_expires_30_days_after_its_access_token(
    program: Program, time_machine: TimeMachineFixture
) -> None:
    tokens = program.tokens()

    assert refresh_after(31, program, tokens, time_machine) == {"error": "invalid_grant"}


@pytest.mark.usefixtures("_frozen_clock")
def test_another_authorization_has_its_own_lifetime(program: Program, time_machine: TimeMachineFixture) -> None:
    tokens = program.tokens()
    for _ in range(3):
        tokens = refresh_after(29, program, tokens, time_machine)
    program.browser.force_login(User.objects.get(name="Owner"))

    later = program.tokens()

    assert refresh_after(3, program, tokens, time_machine) == {"error": "invalid_grant"}
    assert refresh_after(0, program, later, time_machine)["access_token"]
