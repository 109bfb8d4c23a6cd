"""The commands create_api_key, rotate_api_key, revoke_api_key and list_api_keys: text, JSON and errors."""

import io
import json
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from apikeys.models import ApiKey
from tests.helpers import BY_TEST, Api, make_key
from workspaces.models import Workspace

pytestmark = pytest.mark.django_db

FIELDS = {
    "apiKeyId",
    "description",
    "maskedKey",
    "status",
    "createdAt",
    "createdBy",
    "lastUsedAt",
    "expiresAt",
    "revokedAt",
    "revokedBy",
    "previousSecret",
}


def run(*arguments: str) -> str:
    output = io.StringIO()
    call_command(*arguments, stdout=output, stderr=io.StringIO())
    return output.getvalue()


def set_stdin(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))


def test_create_api_key_prints_json(workspace: Workspace) -> None:
    created = json.loads(run("create_api_key", "acme", "--description", "CI", "--expires-at", "2999-01-31", "--json"))

    assert set(created) == FIELDS | {"secret"}
    assert created["expiresAt"] == "2999-01-31T23:59:59.999999Z"
    assert Api(created["secret"]).get("/me").json()["apiKeyId"] == created["apiKeyId"]


def test_create_api_key_prints_the_secret_alone(workspace: Workspace) -> None:
    secret = run("create_api_key", workspace.pk, "--description", "CI").strip()

    assert Api(secret).get("/me").status_code == 200


def test_list_api_keys_prints_json(workspace: Workspace, api_key: ApiKey, secret: str) -> None:
    other = make_key(workspace, "Other")[0]
    run("revoke_api_key", other.pk, "--reason", "Unused")

    text = run("list_api_keys", "acme", "--json")

    listed = json.loads(text)
    assert {name: listed[name] for name in ("activeCount", "activeLimit")} == {"activeCount": 1, "activeLimit": 20}
    assert [(key["apiKeyId"], key["status"]) for key in listed["apiKeys"]] == [
        (other.pk, "revoked"),
        (api_key.pk, "active"),
    ]
    assert all(set(key) == FIELDS for key in listed["apiKeys"])
    assert secret[17:40] not in text


def test_list_api_keys_prints_text(api_key: ApiKey) -> None:
    assert f"{api_key.pk}  {api_key.masked}  active" in run("list_api_keys", "acme")


def test_list_api_keys_shows_the_previous_secret(api_key: ApiKey, secret: str) -> None:
    Api(secret).get("/me")
    api_key.rotate(overlap=timedelta(hours=1), by=BY_TEST)
    previous = api_key.previous_secret
    assert previous is not None

    text, listed = run("list_api_keys", "acme"), json.loads(run("list_api_keys", "acme", "--json"))

    _, current_line, previous_line = text.splitlines()
    assert current_line.split()[:3] == [api_key.pk, api_key.masked, "active"]
    assert "  never  " in current_line
    assert previous_line.split()[:2] == [previous.masked, "previous"]
    assert "never" not in previous_line
    assert previous_line.endswith(f"  works until {previous.ends_at:%Y-%m-%d %H:%M:%S}")
    assert listed["apiKeys"][0]["previousSecret"]["maskedKey"] == previous.masked


# ---- rotate_api_key ----


def rotate(*arguments: str) -> tuple[str, str]:
    """Return the new secret, and what the command says about it."""
    output, errors = io.StringIO(), io.StringIO()
    call_command("rotate_api_key", *arguments, stdout=output, stderr=errors)
    return output.getvalue().strip(), errors.getvalue()


@pytest.mark.parametrize(
    ("overlap", "length"),
    [
        (None, timedelta(hours=24)),
        ("90s", timedelta(seconds=90)),
        ("30m", timedelta(minutes=30)),
        ("24h", timedelta(hours=24)),
        ("7d", timedelta(days=7)),
        ("168h", timedelta(days=7)),
    ],
)
def test_rotate_api_key_prints_the_new_secret_and_says_how_long_the_old_one_works(
    api_key: ApiKey, secret: str, overlap: str | None, length: timedelta
) -> None:
    old, before = api_key.masked, timezone.now()

    new_secret, message = rotate(api_key.pk, *(["--overlap", overlap] if overlap else []))

    assert [Api(text).get("/me").status_code for text in (secret, new_secret)] == [200, 200]
    api_key.refresh_from_db()
    previous = api_key.previous_secret
    assert previous is not None
    assert previous.ends_at is not None
    assert before + length <= previous.ends_at <= timezone.now() + length
    assert message.splitlines() == [
        f"Rotated {api_key.pk} of Acme. The secret can't be shown again.",
        f"The old secret {old} works until {previous.ends_at:%Y-%m-%d %H:%M:%S} UTC.",
    ]


@pytest.mark.parametrize("overlap", ["0", "0s"])
def test_an_overlap_of_zero_ends_the_old_secret_at_once(api_key: ApiKey, secret: str, overlap: str) -> None:
    old = api_key.masked

    new_secret, message = rotate(api_key.pk, "--overlap", overlap)

    assert [Api(text).get("/me").status_code for text in (secret, new_secret)] == [401, 200]
    assert message.splitlines()[1:] == [f"The old secret {old} ended."]


def test_rotate_api_key_prints_json(api_key: ApiKey) -> None:
    old = api_key.masked

    rotated = json.loads(rotate(api_key.pk, "--json")[0])

    assert set(rotated) == FIELDS | {"secret"}
    assert rotated["apiKeyId"] == api_key.pk
    assert rotated["previousSecret"]["maskedKey"] == old
    assert Api(rotated["secret"]).get("/me").json()["maskedKey"] == rotated["maskedKey"]


@pytest.mark.parametrize("template", ["{secret}", "{masked}", "{key_id}", "{id}"])
def test_rotate_api_key_reads_the_key_from_standard_input(
    api_key: ApiKey, secret: str, template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    key_id = api_key.current_secret.key_id
    set_stdin(monkeypatch, template.format(secret=secret, masked=api_key.masked, key_id=key_id, id=api_key.pk) + "\n")

    new_secret, _ = rotate("-")

    assert Api(new_secret).get("/me").json()["apiKeyId"] == api_key.pk


def test_another_rotation_says_that_it_ended_the_secret_before_the_old_one(api_key: ApiKey, secret: str) -> None:
    first = api_key.masked
    second_secret, _ = rotate(api_key.pk)

    third_secret, message = rotate(api_key.pk)

    assert [Api(text).get("/me").status_code for text in (secret, second_secret, third_secret)] == [401, 200, 200]
    assert message.splitlines()[1] == f"The secret before the old one, {first}, ended."


def test_an_overlap_does_not_outlive_the_key(workspace: Workspace) -> None:
    expires_at = timezone.now() + timedelta(hours=1)
    api_key, _ = make_key(workspace, expires_at=expires_at)

    _, message = rotate(api_key.pk, "--overlap", "7d")

    assert message.endswith(f"works until {expires_at:%Y-%m-%d %H:%M:%S} UTC.\n")


def test_a_secret_that_was_replaced_is_not_rotated(api_key: ApiKey, secret: str) -> None:
    """Otherwise someone who doesn't know of the other rotation would end a secret that is in use."""
    old = api_key.masked
    api_key.rotate(overlap=timedelta(hours=1), by=BY_TEST)

    with pytest.raises(CommandError) as while_it_works:
        rotate(secret)
    api_key.end_previous_secret(by=BY_TEST)
    with pytest.raises(CommandError) as after_its_end:
        rotate(old)

    advice = f"To rotate the key, run the command with its id, {api_key.pk}."
    message = str(while_it_works.value)
    assert message.startswith(f"{api_key.masked} replaced the secret {old}, which works until ")
    assert message.endswith(f" UTC. Another rotation would end it immediately. {advice}")
    assert str(after_its_end.value) == (
        f"The secret {old} has ended, but {api_key.masked} of the same key works. {advice}"
    )
    assert api_key.secrets.count() == 2


@pytest.mark.parametrize("overlap", ["", "1", "24", "h", "1w", "1.5h", "-1h", "24H", " 24h", "1h30m", "٢h", "9999999s"])
def test_rotate_api_key_rejects_an_invalid_overlap(api_key: ApiKey, overlap: str) -> None:
    with pytest.raises(CommandError) as error:
        rotate(api_key.pk, f"--overlap={overlap}")

    assert str(error.value) == f"Invalid --overlap {overlap!r}: use 0, or a time such as 90s, 30m, 24h or 7d."
    assert api_key.secrets.count() == 1


@pytest.mark.parametrize("overlap", ["8d", "169h", "604801s", "999999d"])
def test_rotate_api_key_rejects_an_overlap_over_seven_days(api_key: ApiKey, overlap: str) -> None:
    with pytest.raises(CommandError) as error:
        rotate(api_key.pk, "--overlap", overlap)

    assert str(error.value) == f"Invalid --overlap {overlap!r}: the maximum is 7d."
    assert api_key.secrets.count() == 1


def test_a_key_that_is_not_active_or_whose_workspace_is_suspended_is_not_rotated(workspace: Workspace) -> None:
    revoked, expired, suspended = (make_key(workspace, description)[0] for description in "abc")
    revoked.rotate(overlap=timedelta(hours=1), by=BY_TEST)
    ended = revoked.previous_secret
    assert ended is not None
    revoked.revoke(by=BY_TEST)
    ApiKey.objects.filter(pk=expired.pk).update(expires_at=timezone.now())
    workspace.suspend("Unpaid", by=BY_TEST)

    messages = []
    for reference in (revoked.pk, ended.masked, expired.pk, suspended.pk):
        with pytest.raises(CommandError) as error:
            rotate(reference)
        messages.append(str(error.value))

    not_active = "This key is {}, so it can't be rotated. Create a new key instead."
    assert messages == [
        not_active.format("revoked"),
        not_active.format("revoked"),
        not_active.format("expired"),
        "This workspace is suspended: “Unpaid”. You can rotate keys once it is resumed.",
    ]


# ---- revoke_api_key ----


def test_revoke_api_key_by_the_previous_secret_revokes_the_key(api_key: ApiKey, secret: str) -> None:
    new_secret = api_key.rotate(overlap=timedelta(hours=1), by=BY_TEST)

    run("revoke_api_key", secret)

    assert [Api(text).get("/me").status_code for text in (secret, new_secret)] == [401, 401]


def test_revoke_api_key_by_a_secret_that_has_ended_is_an_error(api_key: ApiKey, secret: str) -> None:
    """The current secret of the key may be in use, and nobody has found it."""
    old = api_key.masked
    new_secret = api_key.rotate(overlap=timedelta(), by=BY_TEST)

    with pytest.raises(CommandError) as error:
        run("revoke_api_key", secret)

    assert str(error.value) == (
        f"The secret {old} has ended, but {api_key.masked} of the same key works. "
        f"To revoke the key, run the command with its id, {api_key.pk}."
    )
    assert Api(new_secret).get("/me").status_code == 200


def test_an_ended_secret_of_a_revoked_key_is_already_revoked(api_key: ApiKey, secret: str) -> None:
    api_key.rotate(overlap=timedelta(), by=BY_TEST)
    api_key.revoke(by=BY_TEST)

    assert run("revoke_api_key", secret) == f"Already revoked: {api_key.masked} (CI, production) of Acme.\n"


@pytest.mark.parametrize("template", ["{secret}", "{masked}", "{id}"])
def test_revoke_api_key_reads_the_key_from_standard_input(
    api_key: ApiKey, secret: str, template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = template.format(secret=secret, masked=api_key.masked, id=api_key.pk)
    set_stdin(monkeypatch, f"{text}\n")

    output = run("revoke_api_key", "-", "--reason", "Leaked")

    api_key.refresh_from_db()
    assert output == f"Revoked {api_key.masked} (CI, production) of Acme.\n"
    assert api_key.revoke_reason == "Leaked"


def test_revoke_api_key_prints_json_that_says_whether_anything_changed(api_key: ApiKey) -> None:
    outputs: list[dict[str, Any]] = [json.loads(run("revoke_api_key", api_key.pk, "--json")) for _ in range(2)]

    assert [output.pop("changed") for output in outputs] == [True, False]
    assert all(output["status"] == "revoked" for output in outputs)


def test_an_unknown_key_is_an_error(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    set_stdin(monkeypatch, "one_000000000000_…\n")
    with pytest.raises(CommandError, match="No API key matches"):
        run("revoke_api_key", "-")


@pytest.mark.parametrize("reason", ["x" * 201, "two\nlines", "it was {secret}"])
def test_an_invalid_reason_is_an_error(api_key: ApiKey, secret: str, reason: str) -> None:
    with pytest.raises(CommandError, match="reason: "):
        run("revoke_api_key", api_key.pk, "--reason", reason.format(secret=secret))

    api_key.refresh_from_db()
    assert api_key.revoked_at is None


def test_an_unknown_workspace_is_an_error() -> None:
    with pytest.raises(CommandError, match="no workspace with the id or slug 'nowhere'"):
        run("list_api_keys", "nowhere")
