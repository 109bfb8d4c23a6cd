"""A client may use a refresh token again within 10 seconds: its processes may share it, or a response may get lost."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from oauth2_provider.models import AccessToken, RefreshToken
from time_machine import TimeMachineFixture

from oauth.models import Application
from tests.helpers import Api, commits, sign_in
from tests.oauth.conftest import make_application
from tests.oauth.program import Program
from tests.processes import in_threads
from workspaces.models import AuditEvent, User, Workspace

Tokens = dict[str, str]


@pytest.fixture
def program(application: Application, owner: User, workspace: Workspace) -> Program:
    return Program(application, sign_in(owner))


def refreshed(program: Program, tokens: Tokens) -> Tokens:
    response = program.refresh(tokens["refresh_token"])
    assert response.status_code == 200, response.content
    return dict(response.json())


def is_rejected(program: Program, tokens: Tokens) -> bool:
    return bool(program.refresh(tokens["refresh_token"]).json() == {"error": "invalid_grant"})


def is_active(tokens: Tokens) -> bool:
    return bool(Api(tokens["access_token"]).get("/me").status_code == 200)


@commits
def test_simultaneous_refreshes_with_one_token_all_succeed(program: Program, caplog: pytest.LogCaptureFixture) -> None:
    first = program.tokens()

    responses: list[Any] = in_threads(*[lambda: program.refresh(first["refresh_token"])] * 6)

    assert [response.status_code for response in responses] == [200] * 6
    pairs = [response.json() for response in responses]
    assert len({pair["refresh_token"] for pair in pairs}) == 6
    assert [is_active(pair) for pair in pairs] == [True] * 6
    assert not is_active(first)
    assert "refresh token reused" not in caplog.text
    assert len({token.token_family for token in RefreshToken.objects.all()}) == 1


def test_a_repeated_request_has_the_scopes_of_the_first(program: Program) -> None:
    first = program.tokens("openid workspace:read")

    pairs = [refreshed(program, first) for _ in range(2)]
    wider = program.refresh(first["refresh_token"], scope="openid api-keys:manage")
    narrower = program.refresh(first["refresh_token"], scope="openid")

    assert [pair["scope"] for pair in pairs] == ["openid workspace:read"] * 2
    assert (wider.status_code, wider.json()) == (400, {"error": "invalid_scope"})
    assert narrower.json()["scope"] == "openid"


@pytest.mark.usefixtures("_frozen_clock")
@pytest.mark.parametrize("used", [0, 1])
def test_the_next_refresh_ends_the_other_tokens_of_repeated_requests(
    program: Program, used: int, time_machine: TimeMachineFixture, caplog: pytest.LogCaptureFixture
) -> None:
    """Otherwise a thief who repeats a request in time would have tokens of their own, and nobody would notice."""
    first = program.tokens()
    pairs = [refreshed(program, first) for _ in range(2)]
    time_machine.shift(timedelta(minutes=50))

    latest = refreshed(program, pairs[used])
    assert [is_active(pair) for pair in pairs] == [False, False]
    time_machine.shift(timedelta(seconds=11))
    assert is_active(latest)

    assert is_rejected(program, pairs[1 - used])
    assert not is_active(latest)
    assert "refresh token reused" in caplog.text


def test_a_thief_who_follows_the_client_is_noticed(program: Program, caplog: pytest.LogCaptureFixture) -> None:
    """The thief's access token ends with each refresh by the client, so the thief knows when the ten seconds begin."""
    stolen = program.tokens()
    client = refreshed(program, stolen)
    thief = refreshed(program, stolen)

    client = refreshed(program, client)
    assert not is_active(thief)

    assert is_rejected(program, thief)
    assert not is_active(client)
    assert "refresh token reused" in caplog.text


def test_a_token_can_not_be_used_again_after_the_one_that_replaced_it(program: Program) -> None:
    first = program.tokens()
    latest = refreshed(program, refreshed(program, first))

    assert is_rejected(program, first)
    assert not is_active(latest)


@pytest.mark.usefixtures("_frozen_clock")
def test_after_ten_seconds_a_used_token_revokes_its_family(
    program: Program, time_machine: TimeMachineFixture, caplog: pytest.LogCaptureFixture
) -> None:
    first = program.tokens()
    pairs = [refreshed(program, first)]
    time_machine.shift(timedelta(seconds=9))
    pairs.append(refreshed(program, first))
    time_machine.shift(timedelta(seconds=2))

    assert is_rejected(program, first)
    assert not any(is_active(pair) for pair in pairs)
    assert all(is_rejected(program, pair) for pair in pairs)
    assert "refresh token reused" in caplog.text


def test_a_used_token_in_the_hands_of_another_client_revokes_its_family_at_once(program: Program) -> None:
    first = program.tokens()
    pair = refreshed(program, first)

    assert is_rejected(Program(make_application("Another"), program.browser), first)
    assert not is_active(pair)


@pytest.mark.parametrize("name", ["access_token", "refresh_token"])
@pytest.mark.parametrize("revoked", [0, 1])
def test_revoking_one_token_ends_those_of_repeated_requests_too(program: Program, name: str, revoked: int) -> None:
    first = program.tokens()
    pairs = [refreshed(program, first) for _ in range(2)]

    program.revoke(pairs[revoked][name])

    assert not AccessToken.objects.exists()
    assert all(is_rejected(program, tokens) for tokens in (first, *pairs))
    assert AuditEvent.objects.filter(action__endswith="token.revoked").count() == 1


def test_revoking_a_used_token_ends_its_family(program: Program) -> None:
    """A process that signs the user out may not know yet that another one has refreshed."""
    first = program.tokens()
    latest = refreshed(program, refreshed(program, first))

    program.revoke(first["refresh_token"])

    assert not is_active(latest)
    assert is_rejected(program, latest)


def test_a_revoked_token_can_not_be_used_again_at_all(program: Program) -> None:
    tokens = program.tokens()

    program.revoke(tokens["refresh_token"])

    assert is_rejected(program, tokens)
