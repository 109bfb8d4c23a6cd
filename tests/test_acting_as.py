"""Commands with `--as`: the operator is the actor of the audit event, and needs the admin's permission."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from django.core.management import CommandError, call_command, get_commands, load_command_class

from apikeys.models import ApiKey
from tests.helpers import BY_TEST, Api, make_key, make_staff, make_token, make_user, make_workspace
from workspaces import quota
from workspaces.management.operators import OperatorCommand
from workspaces.models import AuditEvent, Tier, User, Workspace

pytestmark = pytest.mark.django_db

PASSWORD = "correct horse battery"
APPS = ("workspaces", "apikeys", "oauth", "onehorizon")

# Each command of operators, its arguments, and its audit event.
COMMANDS: dict[str, tuple[list[str], str]] = {
    "create_api_key": (["acme", "--description", "CI"], "api_key.created"),
    "rotate_api_key": (["{key}"], "api_key.rotated"),
    "revoke_api_key": (["{key}"], "api_key.revoked"),
    "revoke_api_keys": (["acme", "--reason", "Leaked"], "api_key.revoked"),
    "create_tier": (["small", "4/900", "3/60"], "tier.created"),
    "set_tier": (["acme", "large"], "workspace.changed"),
    "clear_quota": (["acme"], "workspace.quota_cleared"),
    "createapplication": (
        ["public", "authorization-code", "--name", "App", "--redirect-uris", "https://example.com/"],
        "application.created",
    ),
    "export_audit_events": ([], "audit_events.exported"),
    "changepassword": (["member@example.com"], "user.password_set"),
    "createsuperuser": (["--no-input", "--email", "root@example.com", "--name", "Root"], "user.created"),
}
for_each_command = pytest.mark.parametrize("command", COMMANDS)


@pytest.fixture
def api_key(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> ApiKey:
    Tier.objects.create(name="large", requests=2000, seconds=900, burst_requests=400, burst_seconds=60)
    monkeypatch.setattr("getpass.getpass", lambda prompt: PASSWORD)
    return make_key(workspace)[0]


def run(command: str, *arguments: str) -> str:
    output = io.StringIO()
    call_command(command, *arguments, stdout=output, stderr=io.StringIO())
    return output.getvalue()


def run_as(email: str, command: str, api_key: ApiKey) -> AuditEvent:
    run(command, *(text.format(key=api_key.pk) for text in COMMANDS[command][0]), "--as", email)
    return AuditEvent.objects.latest("pk")


def error_as(email: str, command: str, api_key: ApiKey) -> str:
    """Run a command that must fail with one sentence and change nothing, and return the sentence."""
    before = AuditEvent.objects.count()
    with pytest.raises(CommandError) as raised:
        run_as(email, command, api_key)
    assert AuditEvent.objects.count() == before
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_every_command_of_operators_is_tested() -> None:
    commands = {name: load_command_class(app, name) for name, app in get_commands().items() if app in APPS}

    assert {name for name, command in commands.items() if isinstance(command, OperatorCommand)} == set(COMMANDS)


@for_each_command
def test_the_operator_is_the_actor_of_the_event(operator: User, api_key: ApiKey, command: str) -> None:
    if command == "createsuperuser":  # only superusers create superusers
        User.objects.filter(pk=operator.pk).update(is_superuser=True)

    event = run_as("Operator@Example.com", command, api_key)

    assert (event.action, event.actor, event.via, event.client_ip) == (COMMANDS[command][1], operator, "command", None)


@for_each_command
def test_someone_who_is_not_an_operator_or_not_active_is_rejected(
    operator: User, owner: User, api_key: ApiKey, command: str
) -> None:
    User.objects.filter(pk=operator.pk).update(is_active=False)

    for email in ("operator@example.com", "owner@example.com", "nobody@example.com", "\udcff"):
        sentence = f"--as: {email!r} is not the email of an active user who may use the admin."
        assert error_as(email, command, api_key) == sentence


@for_each_command
def test_the_operator_needs_the_permission(api_key: ApiKey, command: str) -> None:
    make_staff("support", "support")
    if command in ("revoke_api_key", "revoke_api_keys", "export_audit_events"):
        assert run_as("support@example.com", command, api_key).actor
    else:
        message = error_as("support@example.com", command, api_key)
        assert message.startswith("--as: support@example.com doesn't have the permissions for this: ")


def test_a_key_created_with_as_names_its_creator(operator: User, api_key: ApiKey) -> None:
    run_as(operator.email, "create_api_key", api_key)

    assert ApiKey.objects.latest("pk").created_by == operator


@pytest.mark.parametrize("command", ["changepassword", "clear_quota"])
def test_an_operator_cannot_change_a_superuser(operator: User, api_key: ApiKey, command: str) -> None:
    root = User.objects.create_superuser("root@example.com", "Root", "root-password")

    with pytest.raises(CommandError, match="Only superusers can change a superuser"):
        run(command, root.email, "--as", operator.email)

    root.refresh_from_db()
    assert root.check_password("root-password")


def test_an_operator_cannot_create_a_superuser(operator: User, api_key: ApiKey) -> None:
    assert error_as(operator.email, "createsuperuser", api_key) == "--as: operator@example.com is not a superuser."
    assert not User.objects.filter(is_superuser=True).exists()


# ---- Django's commands for people ----


def test_changepassword_writes_an_event_and_revokes_tokens(api_key: ApiKey, member: User) -> None:
    api = Api(make_token(member))
    assert api.get("/me").status_code == 200

    run("changepassword", member.email)

    member.refresh_from_db()
    event = AuditEvent.objects.latest("pk")
    assert member.check_password(PASSWORD)
    assert (event.action, event.subject, event.via, event.actor) == ("user.password_set", member.pk, "command", None)
    assert api.get("/me").status_code == 401


def test_createsuperuser_writes_an_event(db: None) -> None:
    run("createsuperuser", "--no-input", "--email", "Root@example.com", "--name", "Root")

    event = AuditEvent.objects.get()
    assert (event.action, event.subject, event.via) == ("user.created", User.objects.get().pk, "command")
    changes = {"email": [None, "root@example.com"], "name": [None, "Root"], "is_superuser": [None, True]}
    assert event.details == {"changes": changes}


# ---- quota ----


def test_a_persons_quota_is_shown_and_cleared(workspace: Workspace, member: User) -> None:
    api = Api(make_token(member))
    while api.get("/me").status_code == 200:
        pass
    shown = run("show_quota", "Member@example.com").splitlines()
    assert shown[:2] == [
        "standard: 160 of 200 requests left in 900 seconds",
        "burst: 0 of 40 requests left in 60 seconds",
    ]
    assert shown[2].startswith("Throttled for ")

    assert run("clear_quota", member.email) == "The quota of member@example.com is cleared.\n"

    event = AuditEvent.objects.latest("pk")
    assert (event.action, event.subject, event.workspace) == ("user.quota_cleared", member.pk, None)
    assert api.get("/me").status_code == 200


def test_a_workspaces_quota_is_shown_and_cleared(workspace: Workspace) -> None:
    quota.admit(workspace.pk, workspace.tier)
    assert "199 of 200" in run("show_quota", "acme")

    run("clear_quota", workspace.pk)

    assert "200 of 200" in run("show_quota", "acme")
    for holder, message in (("nowhere", "no workspace"), ("nobody@example.com", "no user with the email")):
        with pytest.raises(CommandError, match=message):
            run("show_quota", holder)


# ---- export ----


def export(*arguments: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run("export_audit_events", *arguments).splitlines()]


def test_export_audit_events_prints_json_lines_oldest_first(api_key: ApiKey, workspace: Workspace) -> None:
    make_workspace(make_user("second"), slug="second")
    api_key.rename("“Café”", by=BY_TEST)

    events = export("--workspace", "acme", "--action", "api_key.renamed", "--action", "api_key.created")

    assert [event["action"] for event in events] == ["api_key.created", "api_key.renamed"]
    assert events[1]["details"] == {"before": "CI, production", "after": "“Café”"}
    assert {event["workspaceId"] for event in events} == {workspace.pk}
    assert AuditEvent.objects.latest("pk").details == {
        "filters": {"workspace": workspace.pk, "action": "api_key.renamed, api_key.created"}
    }
    assert export("--from", "2999-01-01") == export("--to", "2000-01-01") == []
    assert len(export()) == AuditEvent.objects.count() - 1  # all but its own


@pytest.mark.parametrize(
    "arguments", [["--from", "yesterday"], ["--to", "2027-02-30"], ["--action", "nothing"], ["--workspace", "nowhere"]]
)
def test_export_audit_events_rejects_invalid_arguments(workspace: Workspace, arguments: list[str]) -> None:
    before = AuditEvent.objects.count()

    with pytest.raises(CommandError):
        run("export_audit_events", *arguments)

    assert AuditEvent.objects.count() == before
