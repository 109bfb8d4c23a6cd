"""create_api_key, revoke_api_key, list_api_keys: sentences, JSON and exit codes."""

import io
import json
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from apikeys.models import ApiKey
from tests.helpers import Api, make_key
from workspaces.models import Workspace

pytestmark = pytest.mark.django_db

SHAPE = {
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
}


def run(*arguments: str) -> str:
    output = io.StringIO()
    call_command(*arguments, stdout=output, stderr=io.StringIO())
    return output.getvalue()


def from_stdin(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))


def test_a_made_key_as_json(workspace: Workspace) -> None:
    made = json.loads(run("create_api_key", "acme", "--description", "CI", "--expires-at", "2999-01-31", "--json"))

    assert set(made) == SHAPE | {"secret"}
    assert made["expiresAt"] == "2999-01-31T00:00:00Z"
    assert Api(made["secret"]).get("/me").json()["apiKeyId"] == made["apiKeyId"]


def test_a_made_keys_secret_alone(workspace: Workspace) -> None:
    secret = run("create_api_key", workspace.pk, "--description", "CI").strip()

    assert Api(secret).get("/me").status_code == 200


def test_the_list_as_json(workspace: Workspace, api_key: ApiKey, secret: str) -> None:
    other = make_key(workspace, "Other")[0]
    run("revoke_api_key", other.pk, "--reason", "Unused")

    text = run("list_api_keys", "acme", "--json")

    listed = json.loads(text)
    assert {name: listed[name] for name in ("activeCount", "activeLimit")} == {"activeCount": 1, "activeLimit": 20}
    assert [(key["apiKeyId"], key["status"]) for key in listed["apiKeys"]] == [
        (other.pk, "revoked"),
        (api_key.pk, "active"),
    ]
    assert all(set(key) == SHAPE for key in listed["apiKeys"])
    assert secret[17:40] not in text


def test_the_list_as_text(api_key: ApiKey) -> None:
    assert f"{api_key.pk}  {api_key.masked}  active" in run("list_api_keys", "acme")


@pytest.mark.parametrize("form", ["{secret}", "{masked}", "{id}"])
def test_a_key_is_revoked_by_what_standard_input_says(
    api_key: ApiKey, secret: str, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = form.format(secret=secret, masked=api_key.masked, id=api_key.pk)
    from_stdin(monkeypatch, f"{text}\n")

    told = run("revoke_api_key", "-", "--reason", "Leaked")

    api_key.refresh_from_db()
    assert told == f"Revoked {api_key.masked} (CI, production) of Acme.\n"
    assert api_key.revoke_reason == "Leaked"


def test_a_revocation_as_json_says_whether_it_changed_anything(api_key: ApiKey) -> None:
    told: list[dict[str, Any]] = [json.loads(run("revoke_api_key", api_key.pk, "--json")) for _ in range(2)]

    assert [each.pop("changed") for each in told] == [True, False]
    assert all(each["status"] == "revoked" for each in told)


def test_a_key_that_is_not_there_is_said(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    from_stdin(monkeypatch, "one_000000000000_…\n")
    with pytest.raises(CommandError, match="No API key matches"):
        run("revoke_api_key", "-")


@pytest.mark.parametrize("reason", ["x" * 201, "two\nlines", "it was {secret}"])
def test_a_reason_that_cannot_be_kept_is_refused(api_key: ApiKey, secret: str, reason: str) -> None:
    with pytest.raises(CommandError, match="reason: "):
        run("revoke_api_key", api_key.pk, "--reason", reason.format(secret=secret))

    api_key.refresh_from_db()
    assert api_key.revoked_at is None


def test_a_workspace_that_is_not_there_is_said() -> None:
    with pytest.raises(CommandError, match="no workspace with the id or slug 'nowhere'"):
        run("list_api_keys", "nowhere")
