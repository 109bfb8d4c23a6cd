"""The commands create_api_key, revoke_api_key and list_api_keys: text, JSON and errors."""

import io
import json
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from apikeys.models import ApiKey
from tests.helpers import Api, make_key
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
