"""Audit events and log lines name the person and the application, and never a code or token."""

from __future__ import annotations

import json
import logging
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError
from oauth2_provider.models import AccessToken, RefreshToken
from time_machine import TimeMachineFixture

from core.admin import changelist_url
from core.logs import JsonFormatter, LineFormatter
from oauth.models import Application, Grant
from tests.helpers import BY_TEST, Api, failing_events, make_staff, sign_in
from tests.oauth.conftest import make_application
from tests.oauth.program import Program
from workspaces.models import AuditEvent, User, Workspace

SCOPE = "openid workspace:read"


@pytest.fixture
def program(application: Application, owner: User, workspace: Workspace) -> Program:
    return Program(application, sign_in(owner))


@pytest.fixture
def terminal(owner: User, workspace: Workspace) -> Program:
    return Program(Application.objects.get(client_id="terminal"), sign_in(owner))


def only_event(action: str) -> AuditEvent:
    return AuditEvent.objects.get(action=action)


def reuses(caplog: pytest.LogCaptureFixture) -> list[tuple[Any, ...]]:
    """Return the message, user, client and client IP of each line."""
    names = ("message", "user", "client", "clientIp")
    lines = [record for record in caplog.records if record.name == "onehorizon.oauth"]
    assert all(record.levelno == logging.WARNING for record in lines)
    return [tuple(getattr(record, name) for name in names) for record in lines]


def test_no_log_format_redacts_the_client(
    program: Program, workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    """A generated client id looks as random as a secret. The logs have its start, by which the admin finds it."""
    code = program.code()
    tokens = program.exchange(code).json()
    Api(tokens["access_token"]).get("/me")
    program.exchange(code)

    logged = [record for record in caplog.records if hasattr(record, "client")]
    start = program.client_id[:24]
    assert [record.name for record in logged] == ["onehorizon.requests", "onehorizon.oauth"]
    for record in logged:
        assert f" client={start} " in f"{LineFormatter().format(record)} "
        assert json.loads(JsonFormatter().format(record))["client"] == start
    operator = sign_in(make_staff("operator", "operators"))
    assert program.client_id in operator.get(changelist_url(Application, q=start)).content.decode()


def test_consent_writes_an_event(program: Program, owner: User) -> None:
    program.decide(SCOPE, allow="yes")

    event = only_event("application.allowed")
    assert (event.subject, event.actor, event.via, event.client_ip) == (owner.pk, owner, "page", "127.0.0.1")
    assert event.details == {"application": program.client_id, "scope": SCOPE}
    assert event.sentence == f"Allowed {program.client_id}: {SCOPE}"


def test_approving_a_terminal_writes_an_event(terminal: Program, owner: User) -> None:
    codes = terminal.start_device(SCOPE, REMOTE_ADDR="203.0.113.7").json()

    terminal.decide_device(codes["user_code"], allow="yes")

    event = only_event("device.allowed")
    assert (event.subject, event.actor, event.via, event.client_ip) == (owner.pk, owner, "page", "127.0.0.1")
    assert event.details == {"application": "terminal", "scope": SCOPE, "requested_from": "203.0.113.7"}


def test_a_denial_and_a_repeated_approval_write_no_event(program: Program, terminal: Program) -> None:
    codes = terminal.start_device(SCOPE).json()
    program.decide(SCOPE)
    terminal.decide_device(codes["user_code"])
    terminal.decide_device(codes["user_code"], allow="yes")

    assert not AuditEvent.objects.filter(action__endswith=".allowed").exists()


def test_nothing_is_granted_if_the_event_can_not_be_written(program: Program, terminal: Program) -> None:
    codes = terminal.start_device(SCOPE).json()

    with failing_events(), pytest.raises(IntegrityError, match="no event"):
        program.decide(SCOPE, allow="yes")
    with failing_events(), pytest.raises(IntegrityError, match="no event"):
        terminal.decide_device(codes["user_code"], allow="yes")

    assert not Grant.objects.exists()
    assert terminal.poll(codes["device_code"]).json()["error"] == "authorization_pending"


@pytest.mark.parametrize(
    ("name", "action"), [("access_token", "accesstoken.revoked"), ("refresh_token", "refreshtoken.revoked")]
)
def test_a_revocation_by_the_application_ends_both_tokens_with_one_event(
    program: Program, owner: User, name: str, action: str
) -> None:
    tokens = program.tokens()

    assert [program.revoke(tokens[name]).status_code for _ in range(2)] == [200, 200]

    event = only_event(action)
    assert (event.subject, event.actor, event.via, event.client_ip) == (owner.pk, owner, "api", "127.0.0.1")
    assert event.details == {"application": program.client_id}
    assert not AccessToken.objects.exists()
    assert RefreshToken.objects.get().revoked is not None


def test_an_application_can_not_revoke_anothers_token(program: Program) -> None:
    tokens = program.tokens()
    another = Program(make_application("Another"), program.browser)

    assert [another.revoke(token).status_code for token in tokens.values()] == [200] * len(tokens)

    assert AccessToken.objects.exists()
    assert not AuditEvent.objects.filter(action__endswith=".revoked").exists()


def test_a_reused_code_is_logged(program: Program, owner: User, caplog: pytest.LogCaptureFixture) -> None:
    code = program.code()
    program.exchange(code)

    program.exchange(code)

    assert reuses(caplog) == [("authorization code reused", owner.pk, program.client_id[:24], "127.0.0.1")]
    assert code not in caplog.text


@pytest.mark.usefixtures("_frozen_clock")
def test_a_reused_refresh_token_is_logged(
    program: Program, owner: User, caplog: pytest.LogCaptureFixture, time_machine: TimeMachineFixture
) -> None:
    tokens = program.tokens()
    program.refresh(tokens["refresh_token"])
    time_machine.shift(timedelta(seconds=11))

    program.refresh(tokens["refresh_token"])

    assert reuses(caplog) == [("refresh token reused", owner.pk, program.client_id[:24], "127.0.0.1")]
    assert tokens["refresh_token"] not in caplog.text


def test_unknown_and_revoked_codes_and_tokens_are_not_logged(
    program: Program, owner: User, caplog: pytest.LogCaptureFixture
) -> None:
    """An application does not know yet that its token was revoked."""
    tokens = program.tokens()
    owner.end_access(by=BY_TEST)

    for token in ("made up", tokens["refresh_token"]):
        assert program.refresh(token).json()["error"] == "invalid_grant"
    program.exchange("made up")

    assert reuses(caplog) == []
