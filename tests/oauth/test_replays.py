"""The same authorization code is sent again, or its tokens are revoked, while the first request is still running."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection, transaction
from oauth2_provider.models import AccessToken, RefreshToken

from oauth.models import Application
from oauth.server import Validator
from tests.helpers import commits, sign_in
from tests.oauth.program import Program
from tests.processes import TIMEOUT, wait_until_blocked
from workspaces.models import User, Workspace

Send = Callable[[], Any]


@pytest.fixture
def program(application: Application, owner: User, workspace: Workspace) -> Program:
    return Program(application, sign_in(owner))


@pytest.fixture
def send(program: Program) -> Send:
    """Send the same code, as often as it is called."""
    code = program.code()
    return lambda: program.exchange(code)


def nothing() -> None:
    pass


def send_around_saving(monkeypatch: pytest.MonkeyPatch, *, before: Send = nothing, after: Send = nothing) -> None:
    """Call `before` and `after` around the next time that tokens are saved."""
    save_token = Validator.save_token

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        monkeypatch.setattr(Validator, "save_token", save_token)
        before()
        result = save_token(*args, **kwargs)
        after()
        return result

    monkeypatch.setattr(Validator, "save_token", wrapped)


def test_a_replay_can_revoke_the_tokens_before_they_are_sent(send: Send, monkeypatch: pytest.MonkeyPatch) -> None:
    replays: list[Any] = []
    send_around_saving(monkeypatch, after=lambda: replays.append(send()))

    responses = [send(), *replays]

    assert [(response.status_code, response.json()) for response in responses] == [
        (400, {"error": "invalid_grant"})
    ] * 2
    assert not AccessToken.objects.exists()
    assert not RefreshToken.objects.filter(revoked=None).exists()


def test_a_request_overtaken_by_a_replay_leaves_no_tokens(send: Send, monkeypatch: pytest.MonkeyPatch) -> None:
    replays: list[Any] = []
    send_around_saving(monkeypatch, before=lambda: replays.append(send()))

    response = send()

    assert [response.status_code, response.json()] == [400, {"error": "invalid_grant"}]
    assert replays[0].status_code == 200
    assert AccessToken.objects.count() == RefreshToken.objects.filter(revoked=None).count() == 1


def test_a_refresh_after_a_concurrent_revocation_leaves_no_tokens(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    refresh_token = program.tokens()["refresh_token"]
    send_around_saving(monkeypatch, before=lambda: program.revoke(refresh_token))

    response = program.refresh(refresh_token)

    assert [response.status_code, response.json()] == [400, {"error": "invalid_grant"}]
    assert not AccessToken.objects.exists()
    assert not RefreshToken.objects.filter(revoked=None).exists()


def revoke_the_refresh_token(program: Program, code: str, tokens: list[str]) -> None:
    assert program.revoke(tokens[-1]).status_code == 200


def reuse_a_refresh_token(program: Program, code: str, tokens: list[str]) -> None:
    assert program.refresh(tokens[0]).json() == {"error": "invalid_grant"}


def reuse_the_code(program: Program, code: str, tokens: list[str]) -> None:
    assert program.exchange(code).json() == {"error": "invalid_grant"}


@commits
@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="SQLite runs one such request at a time")
@pytest.mark.parametrize("end", [revoke_the_refresh_token, reuse_a_refresh_token, reuse_the_code])
def test_a_refresh_in_progress_does_not_outlive_the_end_of_its_family(
    program: Program, end: Callable[[Program, str, list[str]], None]
) -> None:
    """A thief who refreshes all the time would otherwise keep access."""
    code = program.code()
    tokens = [program.exchange(code).json()["refresh_token"]]
    for _ in range(2):
        tokens.append(program.refresh(tokens[-1]).json()["refresh_token"])

    def end_family() -> None:
        try:
            end(program, code, tokens)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as threads:
        with transaction.atomic():
            assert program.refresh(tokens[-1]).status_code == 200
            ending = threads.submit(end_family)
            wait_until_blocked()
        ending.result(TIMEOUT)

    assert not AccessToken.objects.exists()
    assert not RefreshToken.objects.filter(revoked=None).exists()


def test_a_refresh_token_that_is_deleted_while_its_user_is_locked_is_rejected(program: Program) -> None:
    refresh_token = program.tokens()["refresh_token"]

    def delete_first(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if '"workspaces_user"."is_active"' in sql.partition(" WHERE ")[2] and RefreshToken.objects.exists():
            RefreshToken.objects.all().delete()
        return execute(sql, params, many, context)

    with connection.execute_wrapper(delete_first):
        response = program.refresh(refresh_token)

    assert [response.status_code, response.json()] == [400, {"error": "invalid_grant"}]
