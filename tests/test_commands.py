"""The management commands for operators. tests/system/test_commands.py runs them as processes."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.hashers import check_password
from django.contrib.sessions.models import Session
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection
from django.utils import timezone

from apikeys import keys
from apikeys.models import ApiKey
from oauth.models import Application, default_scopes
from oauth.server import DEVICE_CODE
from tests.helpers import BY_TEST, Api, commits, make_key, make_token, make_user, make_workspace
from workspaces.models import AuditEvent, Tier, User, Workspace

pytestmark = pytest.mark.django_db


@pytest.fixture
def acme(db: None) -> Workspace:
    return make_workspace(make_user("owner"))


@pytest.fixture
def full_workspace(acme: Workspace) -> Workspace:
    for number in range(20):
        make_key(acme, f"Service {number}")
    return acme


def error_message(*arguments: str, **options: Any) -> str:
    """Run a command that must fail, and return its error message, which must be a single line."""
    with pytest.raises(CommandError) as excinfo:
        call_command(*arguments, **options)
    assert excinfo.value.returncode == 1
    assert "\n" not in str(excinfo.value)
    return str(excinfo.value)


# ---- create_api_key ----


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        ("2031-01-31", datetime(2031, 1, 31, 23, 59, 59, 999_999, tzinfo=UTC)),
        ("2031-01-31T12:30", datetime(2031, 1, 31, 12, 30, tzinfo=UTC)),
        ("2031-01-31T12:30:00Z", datetime(2031, 1, 31, 12, 30, tzinfo=UTC)),
        ("2031-01-31T12:30:00+02:00", datetime(2031, 1, 31, 10, 30, tzinfo=UTC)),
    ],
)
def test_create_api_key_reads_an_expiry_as_utc_unless_it_has_an_offset(
    acme: Workspace, value: str, stored: datetime
) -> None:
    call_command("create_api_key", acme.pk, description="CI", expires_at=value)

    assert ApiKey.objects.get().expires_at == stored


def test_create_api_key_fails_with_one_sentence(acme: Workspace) -> None:
    def create_error(workspace: str = "acme", description: str = "CI", **options: str) -> str:
        return error_message("create_api_key", workspace, description=description, **options)

    assert create_error("nowhere") == "There is no workspace with the id or slug 'nowhere'."
    assert create_error("\udcff") == r"There is no workspace with the id or slug '\udcff'."
    assert create_error(description=" ") == "description: This field cannot be blank."
    assert "at most 100 characters (it has 101)" in create_error(description="a" * 101)
    assert create_error(description="a\nb") == "description: Remove line breaks and control characters."
    assert create_error(expires_at="2020-01-01") == "expires at: This must be in the future."
    assert not ApiKey.objects.exists()


@pytest.mark.parametrize("time", ["tomorrow", "", "2031-02-30", "2031-01-31T25:00", "9999-12-31T23:59:59-14:00"])
def test_create_api_key_rejects_an_invalid_time(acme: Workspace, time: str) -> None:
    with pytest.raises(CommandError, match=r"^Invalid --expires-at .*: use a time such as|after the year 9999"):
        call_command("create_api_key", "acme", description="CI", expires_at=time)

    assert not ApiKey.objects.exists()


def test_create_api_key_rejects_a_twenty_first_key(full_workspace: Workspace) -> None:
    message = error_message("create_api_key", "acme", description="One more")

    assert message == "This workspace has 20 active API keys, which is the limit: revoke one first."


def test_create_api_key_revokes_the_key_if_the_secret_can_not_be_written(acme: Workspace) -> None:
    with pytest.raises(OSError, match="No space left"), Path("/dev/full").open("w") as full_disk:
        message = error_message("create_api_key", "acme", description="CI", stdout=full_disk)

    api_key = ApiKey.objects.get()
    problem = "The secret could not be written to standard output (No space left on device)"
    assert message == f"{problem}, so {api_key.pk} is revoked. Run the command again."
    assert (api_key.status, api_key.revoke_reason) == ("revoked", "Its secret could not be printed")


# ---- rotate_api_key ----


def test_rotate_api_key_changes_nothing_if_the_secret_can_not_be_written(acme: Workspace) -> None:
    api_key, secret = make_key(acme)
    first = api_key.rotate(overlap=timedelta(hours=1), by=BY_TEST)
    before = AuditEvent.objects.count()

    with pytest.raises(OSError, match="No space left"), Path("/dev/full").open("w") as full_disk:
        message = error_message("rotate_api_key", api_key.pk, overlap="0", stdout=full_disk)

    problem = "The secret could not be written to standard output (No space left on device)"
    assert message == f"{problem}, so nothing was changed. Run the command again."
    assert [Api(text).get("/me").status_code for text in (secret, first)] == [200, 200]
    assert api_key.secrets.count() == 2
    assert AuditEvent.objects.count() == before


def test_rotate_api_key_fails_with_one_sentence(acme: Workspace) -> None:
    api_key, secret = make_key(acme)
    unknown = "No API key matches."

    for text in (keys.generate().secret, secret[:-1], "key_" + "0" * 26, "\udcff", ""):
        assert error_message("rotate_api_key", text) == unknown
    assert api_key.secrets.count() == 1


# ---- revoke_api_key ----


def test_revoke_api_key_twice_says_so_and_changes_nothing(acme: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    api_key, secret = make_key(acme)
    call_command("revoke_api_key", secret, reason="Leaked")
    capsys.readouterr()

    call_command("revoke_api_key", secret, reason="Again")

    assert capsys.readouterr().out == f"Already revoked: {api_key.masked} (CI, production) of Acme.\n"
    api_key.refresh_from_db()
    assert api_key.revoke_reason == "Leaked"
    assert api_key.audit_events.filter(action="api_key.revoked").count() == 1


def test_revoke_api_key_fails_with_one_sentence(acme: Workspace) -> None:
    api_key, secret = make_key(acme)
    unknown = "No API key matches."

    assert error_message("revoke_api_key", keys.generate().secret) == unknown
    assert error_message("revoke_api_key", secret[:-1]) == unknown
    assert error_message("revoke_api_key", "\udcff") == unknown
    too_long = "reason: Ensure this value has at most 200 characters (it has 201)."
    assert error_message("revoke_api_key", secret, reason="a" * 201) == too_long
    not_secret = "reason: Don't put a key in the reason; it isn't secret."
    assert error_message("revoke_api_key", secret, reason=f"Leaked: {secret}") == not_secret
    api_key.refresh_from_db()
    assert api_key.status == "active"


# ---- list_api_keys ----


def test_list_api_keys_shows_every_key_newest_first_and_no_secret(
    acme: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    used, used_secret = make_key(acme, "Used")
    revoked, revoked_secret = make_key(acme, "Revoked")
    expired, _ = make_key(acme, "Expired", expires_at=datetime(2031, 1, 1, tzinfo=UTC))
    revoked.revoke(by=BY_TEST)
    ApiKey.objects.filter(pk=expired.pk).update(expires_at=timezone.now())
    Api(used_secret).get("/me")

    capsys.readouterr()

    call_command("list_api_keys", "acme")

    output = capsys.readouterr().out
    lines = output.splitlines()
    assert len(lines) == 4
    for line, api_key, status in zip(
        lines[1:], (expired, revoked, used), ("expired", "revoked", "active"), strict=True
    ):
        assert line.split()[:3] == [api_key.pk, api_key.masked, status]
        assert line.endswith(f"  {api_key.description}")
    assert "never" in lines[1]
    assert "never" not in lines[3]
    for secret in (used_secret, revoked_secret):
        assert secret[17:] not in output
    assert "argon2" not in output


def test_list_api_keys_rejects_an_unknown_workspace(acme: Workspace) -> None:
    assert error_message("list_api_keys", "w_" + "0" * 26).startswith("There is no workspace with the id or slug 'w_00")


# ---- Django's commands for people ----


@pytest.mark.parametrize("email", ["owner@example.com", "Owner@Example.COM", " OWNER@EXAMPLE.COM"])
def test_changepassword_finds_an_email_in_any_case(
    email: str, acme: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("getpass.getpass", lambda prompt: "correct horse battery")

    call_command("changepassword", email)

    assert User.objects.get().check_password("correct horse battery")


def test_a_user_is_saved_and_found_with_an_email_in_any_case(acme: Workspace) -> None:
    call_command("createsuperuser", interactive=False, email="Root@Example.COM", name="Root")
    with pytest.raises(CommandError, match="already taken"):
        call_command("createsuperuser", interactive=False, email="OWNER@example.com", name="Owner")

    root = User.objects.get(email__in=["ROOT@example.com"])
    assert root.email == "root@example.com"
    root.email = "New@Example.com"
    root.save()
    assert User.objects.get(pk=root.pk).email == "new@example.com"


# ---- tiers ----


def test_each_tier_change_writes_one_audit_event(acme: Workspace) -> None:
    call_command("create_tier", "small", "4/900", "3/60")
    call_command("set_tier", "acme", "small")
    call_command("set_tier", "acme", "small")

    changed, created = AuditEvent.objects.all()[:2]
    assert (created.action, created.subject, created.via, created.actor) == ("tier.created", "small", "command", None)
    assert created.details["changes"]["burst_requests"] == [None, 3]
    assert (changed.action, changed.workspace, changed.via) == ("workspace.changed", acme, "command")
    assert changed.sentence == "tier: standard → small"


INVALID_TIERS = {
    ("small", "0/900", "40/60"): "requests: Ensure this value is greater than or equal to 1.",
    ("small", "200/900", "0/60"): "burst requests: Ensure this value is greater than or equal to 1.",
    ("small", "200/0", "40/60"): "seconds: Ensure this value is greater than or equal to 1.",
    ("small", "200/900", "40/0"): "burst seconds: Ensure this value is greater than or equal to 1.",
    ("small", "1000001/900", "40/60"): "requests: Ensure this value is less than or equal to 1000000.",
    ("small", "200/900", "1000001/60"): "burst requests: Ensure this value is less than or equal to 1000000.",
    ("small", "200/900", "40/901"): "The burst's window can't be longer than the main one.",
    ("small", "-1/900", "40/60"): "Invalid limit '-1/900': use REQUESTS/SECONDS, such as 200/900.",
    ("small", "200", "40/60"): "Invalid limit '200': use REQUESTS/SECONDS, such as 200/900.",
    ("small", "200/900/1", "40/60"): "Invalid limit '200/900/1': use REQUESTS/SECONDS, such as 200/900.",
    ("small", "2e2/900", "40/60"): "Invalid limit '2e2/900': use REQUESTS/SECONDS, such as 200/900.",
    ("small", "٢/900", "40/60"): "Invalid limit '٢/900': use REQUESTS/SECONDS, such as 200/900.",
    ("small", "200/9999999999", "40/60"): "Invalid limit '200/9999999999': use REQUESTS/SECONDS, such as 200/900.",
    ("standard", "200/900", "40/60"): "name: Tier with this Name already exists.",
    ("burst", "200/900", "40/60"): "name: “burst” is the name of every tier's short window.",
    ("a/b", "200/900", "40/60"): "name: Use lower-case letters, digits and hyphens. Start with a letter.",
    ("Small", "200/900", "40/60"): "name: Use lower-case letters, digits and hyphens. Start with a letter.",
    ("small\n", "200/900", "40/60"): "name: Use lower-case letters, digits and hyphens. Start with a letter.",
    ("", "200/900", "40/60"): "name: This field cannot be blank.",
}


@pytest.mark.parametrize(("arguments", "message"), INVALID_TIERS.items(), ids=" ".join)
def test_an_invalid_tier_is_rejected(arguments: tuple[str, str, str], message: str) -> None:
    assert error_message("create_tier", "--", *arguments) == message
    assert list(Tier.objects.values_list("name", "requests")) == [("standard", 200)]


def test_set_tier_fails_with_one_sentence(acme: Workspace) -> None:
    assert error_message("set_tier", "acme", "small") == "No tier is named 'small'. Available tiers: standard."
    assert error_message("set_tier", "nowhere", "standard").startswith("There is no workspace")


# ---- export_audit_events ----


def test_an_export_of_no_days_is_rejected(acme: Workspace) -> None:
    """Its empty output would look as if there were no events."""
    before = AuditEvent.objects.count()

    message = error_message("export_audit_events", "--from=2026-11-30", "--to=2026-11-01")

    assert message == "--from must not be later than --to."
    assert AuditEvent.objects.count() == before


# ---- migrate ----


@pytest.mark.parametrize("value", ["-1", "1.5", "soon", ""])
def test_migrate_rejects_a_lock_wait_that_is_no_number_of_seconds(value: str) -> None:
    message = error_message("migrate", f"--lock-wait={value}")

    assert message == f"Error: argument --lock-wait: {value!r} is not a number of seconds"


@commits
def test_a_migration_that_was_interrupted_can_be_repeated() -> None:
    """Also if the interruption comes after its last change, when Django records that it is applied."""

    def interrupt_record(execute: Any, sql: str, *arguments: Any) -> Any:
        if sql.startswith(("INSERT", "DELETE")) and '"django_migrations"' in sql:
            raise KeyboardInterrupt
        return execute(sql, *arguments)

    for target in ("zero", "0001"):  # this migration creates a table, and its index after all other changes
        with connection.execute_wrapper(interrupt_record), pytest.raises(KeyboardInterrupt):
            call_command("migrate", "sessions", target, verbosity=0)
        call_command("migrate", "sessions", target, verbosity=0)

    assert not Session.objects.exists()


# ---- seed_demo ----


@pytest.fixture
def _debug(settings: Any) -> None:
    settings.DEBUG = True


def seed_demo(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    call_command("seed_demo", "--json")
    printed: dict[str, Any] = json.loads(capsys.readouterr().out)
    return printed


@pytest.mark.usefixtures("_debug")
def test_seed_demo_keeps_a_changed_password_and_does_not_print_it(db: None, capsys: pytest.CaptureFixture[str]) -> None:
    first = seed_demo(capsys)
    owner = User.objects.get(email="owner@example.com")
    owner.set_password("correct horse battery")
    owner.save()
    token = make_token(owner)

    second = seed_demo(capsys)
    call_command("seed_demo")

    assert second["users"] == [first["users"][0] | {"password": None}, *first["users"][1:]]
    owner.refresh_from_db()
    assert owner.check_password("correct horse battery")
    assert Api(token).get("/me").status_code == 200
    for user in second["users"][1:]:
        assert User.objects.get(email=user["email"]).check_password(user["password"])
    assert "owner      owner@example.com  (unknown)\n" in capsys.readouterr().out


@pytest.mark.usefixtures("_debug")
def test_seed_demo_without_json_prints_text(db: None, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("seed_demo")

    output = capsys.readouterr().out
    assert output.startswith("workspace  w_")
    assert "API key    one_" in output
    assert "owner      owner@example.com" in output


@pytest.mark.parametrize("command", ["seed_demo", "quickstart"])
def test_a_demo_command_fails_if_debug_is_off(command: str, settings: Any) -> None:
    settings.DEBUG = False

    message = error_message(command)

    assert message == "This command creates demo users, so it works only while DEBUG is on."
    assert not User.objects.exists()


@pytest.mark.usefixtures("_debug")
def test_seed_demo_keeps_at_most_twenty_keys_and_revokes_its_oldest(
    db: None, capsys: pytest.CaptureFixture[str]
) -> None:
    demo_workspace = Workspace.objects.get(pk=seed_demo(capsys)["workspaceId"])
    service, _ = make_key(demo_workspace, "Somebody's own")
    created = [seed_demo(capsys)["apiKey"] for _ in range(25)]

    working = [secret for secret in created if Api(secret).get("/me").status_code == 200]
    assert working == created[-19:]
    assert demo_workspace.api_keys.active().count() == 20
    service.refresh_from_db()
    assert service.status == "active"


@pytest.mark.usefixtures("_debug")
def test_seed_demo_fails_instead_of_revoking_other_keys(db: None, capsys: pytest.CaptureFixture[str]) -> None:
    demo_workspace = Workspace.objects.get(pk=seed_demo(capsys)["workspaceId"])
    for number, api_key in enumerate(demo_workspace.api_keys.all()):
        api_key.rename(f"Somebody's own {number}", by=BY_TEST)
    for number in range(19):
        make_key(demo_workspace, f"Service {number}")

    message = error_message("seed_demo", "--json")

    assert message == "This workspace has 20 active API keys, which is the limit: revoke one first."
    assert demo_workspace.api_keys.active().count() == 20


# ---- createapplication ----


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nobody", "authorization-code", "--redirect-uris=https://a.example/"), "client type: Value 'nobody'"),
        (("public", "implicit", "--redirect-uris=https://a.example/"), "authorization grant type: Value 'implicit'"),
        (("public", "authorization-code"), "redirect uris: Enter a redirect URI"),
        (("public", "authorization-code", "--redirect-uris=https://a.example/"), "name: This field cannot be blank."),
        (
            ("public", "authorization-code", "--redirect-uris=http://a.example/"),
            "redirect uris: http://a.example/: Use",
        ),
        (("public", "authorization-code", "--redirect-uris=https://a.example/", "--scopes=all"), "scopes: Choose"),
        (("confidential", DEVICE_CODE, "--client-secret=short"), "client secret: Use at least 32 characters."),
        (("confidential", DEVICE_CODE, "--client-id=terminal"), "client id: Application with this"),
        (("confidential", DEVICE_CODE, "--name=\udcff"), "The arguments must be UTF-8."),
        (("confidential", DEVICE_CODE, "--client-id=\udcff"), "client id: Use printable ASCII characters"),
        (("confidential", DEVICE_CODE, "--client-id=a b"), "client id: Use printable ASCII characters"),
        (("confidential", DEVICE_CODE, "--client-id=a:b"), "client id: Use printable ASCII characters"),
        (("confidential", DEVICE_CODE, "--client-secret=argon2$argon2id$v=19$m=8,t=1,p=1$"), "client secret: This is"),
        (("public", DEVICE_CODE, f"--client-secret={'s' * 32}"), "client secret: A public client has none."),
    ],
)
def test_createapplication_says_what_is_invalid(arguments: tuple[str, ...], message: str) -> None:
    before = Application.objects.count()

    assert message in error_message("createapplication", *arguments)
    assert Application.objects.count() == before


def test_createapplication_has_the_default_scopes_and_accepts_a_secret(capsys: Any) -> None:
    call_command("createapplication", "confidential", DEVICE_CODE, client_secret="s" * 32, name="Server")

    application = Application.objects.get(name="Server")
    assert application.scopes == default_scopes()
    assert check_password("s" * 32, application.client_secret)
