"""The commands of operators, run in processes: exit status, standard output and standard error."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import pytest
from django.contrib.auth.hashers import check_password
from django.core.management import call_command

from apikeys import keys
from apikeys.models import ApiKey
from oauth.models import Application
from onehorizon import demo
from tests.helpers import BY_TEST, Api, advance_quota_clock, commits, make_key, make_user, make_workspace
from tests.processes import ROOT, TIMEOUT, environment, manage, manage_into
from workspaces.models import AuditEvent, Role, User, Workspace

pytestmark = commits


@contextmanager
def closed_pipe() -> Iterator[TextIO]:
    """Yield the write end of a pipe that has no reader."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as output:
        yield output


@pytest.fixture
def acme(transactional_db: None) -> Workspace:
    return make_workspace(make_user("owner"))


@pytest.mark.parametrize(
    "arguments",
    [
        ("create_api_key", "acme", "--description", " "),
        ("rotate_api_key", "\udcff"),
        ("rotate_api_key", "\udcff", "--overlap", "8d"),
        ("revoke_api_key", "\udcff"),
        ("list_api_keys", "nowhere"),
        ("create_tier", "small", "0/900", "40/60"),
        ("set_tier", "\udcff", "standard"),
        ("createapplication", "public", "authorization-code", "--redirect-uris", "javascript:alert(1)"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_failed_command_prints_one_line_and_exits_with_1(acme: Workspace, arguments: tuple[str, ...]) -> None:
    result = manage(*arguments)

    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("CommandError: ")
    assert result.stderr.count("\n") == 1


def test_create_api_key_prints_the_secret_and_nothing_else(acme: Workspace) -> None:
    result = manage("create_api_key", "acme", "--description", " CI, production ")

    secret = result.stdout.removesuffix("\n")
    api_key = ApiKey.objects.get()
    assert (result.returncode, keys.parse(secret)) == (0, api_key.current_secret.key_id)
    assert result.stderr == f"Created {api_key.pk} in Acme. The secret can't be shown again.\n"
    assert (api_key.description, api_key.workspace, api_key.created_by) == ("CI, production", acme, None)
    assert (api_key.expires_at, Api(secret).get("/me").status_code) == (None, 200)
    event = AuditEvent.objects.get(subject=api_key.pk)
    assert (event.action, event.via, event.actor, event.client_ip) == ("api_key.created", "command", None, None)


def test_create_api_key_revokes_the_key_if_nobody_reads_the_secret(acme: Workspace) -> None:
    with closed_pipe() as stdout:
        result = manage_into(stdout, "create_api_key", "acme", "--description", "CI")

    api_key = ApiKey.objects.get()
    sentence = f"The secret could not be written to standard output (Broken pipe), so {api_key.pk} is revoked."
    assert (result.returncode, result.stderr) == (1, f"CommandError: {sentence} Run the command again.\n")
    assert (api_key.status, api_key.revoke_reason) == ("revoked", "Its secret could not be printed")


def test_rotate_api_key_prints_the_new_secret_and_nothing_else(acme: Workspace) -> None:
    api_key, old_secret = make_key(acme)

    result = manage("rotate_api_key", "-", "--overlap", "30m", stdin=f"{old_secret}\n")

    secret = result.stdout.removesuffix("\n")
    assert (result.returncode, secret.count("\n")) == (0, 0)
    assert "works until" in result.stderr
    assert secret not in result.stderr
    assert [Api(text).get("/me").json()["apiKeyId"] for text in (old_secret, secret)] == [api_key.pk] * 2
    event = AuditEvent.objects.get(action="api_key.rotated")
    assert (event.subject, event.via, event.actor, event.client_ip) == (api_key.pk, "command", None, None)


def test_rotate_api_key_changes_nothing_if_nobody_reads_the_secret(acme: Workspace) -> None:
    api_key, secret = make_key(acme)

    with closed_pipe() as stdout:
        result = manage_into(stdout, "rotate_api_key", api_key.pk, "--overlap", "0")

    sentence = "The secret could not be written to standard output (Broken pipe), so nothing was changed."
    assert (result.returncode, result.stderr) == (1, f"CommandError: {sentence} Run the command again.\n")
    assert Api(secret).get("/me").status_code == 200
    assert not AuditEvent.objects.filter(action="api_key.rotated").exists()


@pytest.mark.parametrize("arguments", [("export_audit_events",), ("help",)])
def test_a_command_whose_output_nobody_reads_ends_quietly(acme: Workspace, arguments: tuple[str, ...]) -> None:
    """As with `| head -1`, which exits after the first line."""
    with closed_pipe() as stdout:
        result = manage_into(stdout, *arguments)

    assert (result.returncode, result.stderr) == (1, "")


@pytest.mark.parametrize("arguments", [("export_audit_events",), ("help",)])
def test_a_command_that_can_not_write_its_output_prints_one_sentence(
    acme: Workspace, arguments: tuple[str, ...]
) -> None:
    with Path("/dev/full").open("w") as stdout:
        result = manage_into(stdout, *arguments)

    sentence = "onehorizon: The output can't be written: No space left on device.\n"
    assert (result.returncode, result.stderr) == (1, sentence)


def test_a_command_without_standard_output_prints_one_sentence(acme: Workspace) -> None:
    result = subprocess.run(
        ["sh", "-c", 'exec "$0" manage.py create_api_key acme --description CI >&-', sys.executable],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )

    assert (result.returncode, result.stderr) == (1, "onehorizon: Standard output is closed.\n")
    assert not ApiKey.objects.exists()


def test_a_command_prints_on_a_terminal_without_unicode(acme: Workspace) -> None:
    make_key(acme, "“CI” … 🔑")

    result = manage("list_api_keys", "acme", PYTHONIOENCODING="latin-1")

    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.endswith("  \\u201cCI\\u201d \\u2026 \\U0001f511\n")


def test_a_command_reads_input_in_another_encoding(acme: Workspace) -> None:
    result = manage("revoke_api_key", "-", stdin="one_…", PYTHONIOENCODING="ascii")

    assert (result.returncode, result.stderr) == (1, "CommandError: No API key matches.\n")


def test_revoke_api_key_accepts_id_key_id_masked_form_or_secret(acme: Workspace) -> None:
    created = [make_key(acme, f"Service {number}") for number in range(5)]
    references = [created[0][0].pk, created[1][0].current_secret.key_id, created[2][0].masked, created[3][1]]

    for reference in references:
        call_command("revoke_api_key", reference)
    piped = manage("revoke_api_key", "-", "--reason", "Leaked in a build log", stdin=f"{created[4][1]}\n")

    last = ApiKey.objects.get(pk=created[4][0].pk)
    assert piped.stdout == f"Revoked {last.masked} (Service 4) of Acme.\n"
    assert last.revoke_reason == "Leaked in a build log"
    assert acme.api_keys.active().count() == 0
    assert [Api(secret).get("/me").status_code for _, secret in created] == [401] * 5
    assert {event.via for event in AuditEvent.objects.filter(action="api_key.revoked")} == {"command"}


def test_a_new_tier_applies_from_the_workspaces_next_request_on(acme: Workspace) -> None:
    api = Api(make_key(acme)[1])
    assert [api.get("/me").status_code for _ in range(5)] == [200] * 5

    call_command("create_tier", "small", "4/900", "3/60")
    result = manage("set_tier", "acme", "small")

    advance_quota_clock(acme.pk, 10)
    response = api.get("/me")
    assert (result.returncode, result.stdout) == (0, "Acme uses tier small 4/900 3/60.\n")
    assert response.status_code == 429
    assert response.json()["message"].startswith("small rate limit exceeded, retry in 8")
    assert response["RateLimit-Policy"] == '"small";q=4;w=900, "burst";q=3;w=60'

    call_command("set_tier", acme.pk, "standard")
    assert api.get("/me").status_code == 200


@pytest.mark.parametrize("client_type", ["public", "confidential"])
def test_createapplication_prints_the_client_id_and_the_secret_of_a_confidential_client(
    transactional_db: None, client_type: str
) -> None:
    options = ("--redirect-uris", "https://app.example.com/callback", "--name", "Dashboards", "--scopes", "openid")
    result = manage("createapplication", client_type, "authorization-code", *options)

    application = Application.objects.get(name="Dashboards")
    printed = dict(line.split(": ") for line in result.stdout.splitlines())
    assert (result.returncode, printed.pop("client_id")) == (0, application.client_id)
    assert application.scopes == ["openid"]
    if client_type == "confidential":
        assert check_password(printed.pop("client_secret"), application.client_secret)
        assert result.stderr == "The client secret can't be shown again.\n"
    assert printed == {}
    event = AuditEvent.objects.get(action="application.created", subject=application.pk)
    assert (event.via, event.actor) == ("command", None)


def test_createapplication_creates_nothing_if_nobody_reads_the_secret(transactional_db: None) -> None:
    with closed_pipe() as stdout:
        options = ("--redirect-uris", "https://app.example.com/callback", "--name", "Dashboards")
        result = manage_into(stdout, "createapplication", "confidential", "authorization-code", *options)

    assert (result.returncode, result.stderr) == (1, "")
    assert not Application.objects.filter(name="Dashboards").exists()


def test_seed_demo_prints_one_json_object_with_working_credentials(transactional_db: None) -> None:
    first = json.loads(manage("seed_demo", "--json").stdout)
    second = json.loads(manage("seed_demo", "--json").stdout)

    assert list(first) == ["workspaceId", "apiKey", "users"]
    assert [list(user) for user in first["users"]] == [["email", "password", "role"]] * 4
    assert [user["role"] for user in first["users"]] == ["owner", "admin", "member", "outsider"]
    assert (first["workspaceId"], first["users"]) == (second["workspaceId"], second["users"])
    assert first["apiKey"] != second["apiKey"]

    workspace = Workspace.objects.get(pk=first["workspaceId"])
    for secret in (first["apiKey"], second["apiKey"]):
        tasks = Api(secret).get("/workspaces/current/tasks").json()["tasks"]
        assert {task["workspaceId"] for task in tasks} == {workspace.pk}
        assert len(tasks) == len(demo.TASKS)
    roles = {membership.user.email: membership.role for membership in workspace.memberships.select_related("user")}
    for user in first["users"]:
        person = User.objects.get(email=user["email"])
        assert roles.get(person.email, "outsider") == user["role"]
    outsider = User.objects.get(email=first["users"][3]["email"])
    assert [membership.role for membership in outsider.memberships.all()] == [Role.OWNER]
    assert Workspace.objects.count() == 2


def test_create_api_key_prints_why_a_workspace_is_suspended(acme: Workspace) -> None:
    acme.suspend("An invoice is three months late", by=BY_TEST)

    result = manage("create_api_key", "acme", "--description", "CI")

    assert result.returncode == 1
    assert "An invoice is three months late" in result.stderr
