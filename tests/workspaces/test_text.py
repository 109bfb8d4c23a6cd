"""Text in every interface: NFC, a length as browsers count it, and a search that ignores the case of all letters."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import Client

from apikeys.models import ApiKey
from core.admin import change_url, changelist_url
from oauth.models import Application
from tests.helpers import Api, make_key, make_token
from workspaces.models import AuditEvent, Task, User, Workspace

pytestmark = pytest.mark.django_db

TASKS = "/workspaces/current/tasks"
KEYS = "/workspaces/current/api-keys"

COMPOSED = "Café Ångström 각"  # NFC
DECOMPOSED = unicodedata.normalize("NFD", COMPOSED)  # as in macOS's file names
KEY = "\U0001f511"  # 🔑, two UTF-16 code units
TOO_LONG = "Ensure this value has at most {} characters. Emoji, among others, count as two."
MARKS = "e" + "\u0301" * 31


@pytest.fixture
def owner_api(owner: User, workspace: Workspace) -> Api:
    return Api(make_token(owner))


def new_key_form(description: str) -> dict[str, str]:
    return {"description": description, "expiry": "never", "idempotency_key": "0" * 32}


# ---- NFC ----


def test_rest_stores_and_returns_text_in_nfc(api: Api, owner_api: Api) -> None:
    created = api.post(TASKS, {"title": DECOMPOSED, "description": f"{DECOMPOSED}\n"}).json()
    changed = api.patch(f"{TASKS}/{created['taskId']}", {"title": f" {DECOMPOSED}!"}).json()
    key = owner_api.post(KEYS, {"description": DECOMPOSED}).json()
    renamed = owner_api.patch(f"{KEYS}/{key['apiKeyId']}", {"description": f"{DECOMPOSED}!"}).json()

    assert (created["title"], created["description"]) == (COMPOSED, f"{COMPOSED}\n")
    assert (changed["title"], key["description"], renamed["description"]) == (
        f"{COMPOSED}!",
        COMPOSED,
        f"{COMPOSED}!",
    )
    assert (Task.objects.get().title, ApiKey.objects.get(pk=key["apiKeyId"]).description) == (f"{COMPOSED}!",) * 2


def test_a_retry_in_another_normalization_form_is_the_same_request(owner_api: Api) -> None:
    headers = {"Idempotency-Key": "deploys-2026"}
    first = owner_api.post(KEYS, {"description": DECOMPOSED}, headers=headers)
    second = owner_api.post(KEYS, {"description": COMPOSED}, headers=headers)

    assert (first.status_code, second.status_code) == (201, 200)


def test_pages_and_commands_store_text_in_nfc(owner_client: Client, workspace: Workspace, keys_url: str) -> None:
    owner_client.post(f"{keys_url}add/", new_key_form(DECOMPOSED))
    call_command("create_api_key", "acme", description=DECOMPOSED)
    created = list(workspace.api_keys.all())
    owner_client.post(f"{keys_url}{created[0].pk}/rename/", {"description": f"{DECOMPOSED}!"})
    owner_client.post(f"{keys_url}{created[0].pk}/revoke/", {"reason": DECOMPOSED})
    call_command("revoke_api_key", created[1].pk, reason=DECOMPOSED)

    assert [key.description for key in created] == [COMPOSED, COMPOSED]
    assert {key.revoke_reason for key in workspace.api_keys.all()} == {COMPOSED}
    for event in AuditEvent.objects.filter(subject__in=[key.pk for key in created]):
        assert unicodedata.is_normalized("NFC", event.sentence)


def test_the_admin_stores_text_in_nfc(admin_client: Client, api_key: ApiKey, workspace: Workspace) -> None:
    admin_client.post(change_url(api_key), {"description": DECOMPOSED})
    admin_client.post(f"{change_url(workspace).removesuffix('change/')}suspend/", {"reason": DECOMPOSED})
    admin_client.post(
        "/admin/workspaces/user/add/", {"email": "a@example.com", "name": DECOMPOSED, "usable_password": "false"}
    )

    api_key.refresh_from_db()
    workspace.refresh_from_db()
    assert (api_key.description, workspace.suspend_reason) == (COMPOSED, COMPOSED)
    assert User.objects.get(email="a@example.com").name == COMPOSED


def test_a_model_stores_text_in_nfc_whoever_saves_it(workspace: Workspace) -> None:
    workspace.name = DECOMPOSED
    workspace.save()
    Workspace.objects.filter(pk=workspace.pk).update(suspend_reason=DECOMPOSED)
    application = Application.objects.create(name=DECOMPOSED, authorization_grant_type="authorization-code")
    Task.objects.create_task(workspace, title=DECOMPOSED, description=DECOMPOSED)

    workspace.refresh_from_db()
    task = Task.objects.get()
    assert [workspace.name, workspace.suspend_reason, task.title, task.description] == [COMPOSED] * 4
    assert Application.objects.get(pk=application.pk).name == COMPOSED


@pytest.mark.parametrize("text", [MARKS, "a" + "\u0315" * 40_000 + "\u0334" * 40_000, "\u0f73" * 31 + "a"])
def test_text_with_many_combining_marks_is_rejected_and_not_normalized(text: str, api: Api, owner_api: Api) -> None:
    """Their normalization takes quadratic time: 17 seconds for the second text."""
    for response in (
        api.post(TASKS, {"title": text}),
        api.post(TASKS, {"title": "Ship", "description": text}),
        owner_api.post(KEYS, {"description": text}),
    ):
        assert response.status_code == 400
        assert "Remove combining marks: at most 30 may follow each other." in response.content.decode()
    assert not Task.objects.exists()


def test_thirty_combining_marks_are_stored(api: Api) -> None:
    assert len(api.post(TASKS, {"title": MARKS[:-1]}).json()["title"]) == 30  # é is one character


# ---- length ----


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        (KEY * 50, True),
        (KEY * 51, False),
        (KEY * 60, False),
        ("a" + KEY * 50, False),
        ("é" * 100, True),
        ("e\u0301" * 100, True),  # 100 characters after NFC
        (f"  {KEY * 50}  ", True),
    ],
)
def test_every_interface_counts_the_length_as_browsers_do(
    text: str,
    fits: bool,
    owner_api: Api,
    owner_client: Client,
    admin_client: Client,
    workspace: Workspace,
    keys_url: str,
) -> None:
    too_long = TOO_LONG.format(100)
    api_key, _ = make_key(workspace)

    rest = owner_api.post(KEYS, {"description": text})
    rest_renamed = owner_api.patch(f"{KEYS}/{api_key.pk}", {"description": text})
    page = owner_client.post(f"{keys_url}add/", new_key_form(text))
    admin = admin_client.post(change_url(api_key), {"description": text})

    assert (rest.status_code, rest_renamed.status_code) == ((201, 200) if fits else (400, 400))
    for response in (page, admin):
        assert (too_long in response.content.decode()) is not fits
    if fits:
        call_command("create_api_key", "acme", description=text)
        stored = unicodedata.normalize("NFC", text.strip())
        assert [key.description for key in ApiKey.objects.all()] == [stored] * 4
    else:
        assert rest.json()["errors"] == rest_renamed.json()["errors"] == {"description": [too_long]}
        with pytest.raises(CommandError, match=too_long):
            call_command("create_api_key", "acme", description=text)
        assert ApiKey.objects.get().description == "CI, production"


def test_reasons_titles_and_descriptions_of_tasks_count_the_same_way(api: Api, api_key: ApiKey) -> None:
    for field, limit in (("title", 200), ("description", 20_000)):
        assert api.post(TASKS, {"title": "Ship", field: KEY * (limit // 2)}).status_code == 201
        response = api.post(TASKS, {"title": "Ship", field: KEY * (limit // 2 + 1)})
        assert response.json()["errors"] == {field: [TOO_LONG.format(limit)]}
    with pytest.raises(CommandError, match=TOO_LONG.format(200)):
        call_command("revoke_api_key", api_key.pk, reason=KEY * 101)


# ---- search ----

SEARCHES = [
    ("Émile's worker", "émile"),
    ("émile's worker", "ÉMILE"),
    ("Émile's worker", unicodedata.normalize("NFD", "éMILE")),
    ("ΟΔΟΣ", "οδος"),
    ("Жук, production", "жУК, PROD"),
    ("100 % é_\\", "100 % É_\\"),
]


@pytest.mark.parametrize(("description", "text"), SEARCHES)
def test_a_search_ignores_the_case_of_all_letters(
    description: str, text: str, owner_client: Client, admin_client: Client, workspace: Workspace, keys_url: str
) -> None:
    api_key, _ = make_key(workspace, description)
    make_key(workspace, "Other")
    Workspace.objects.filter(pk=workspace.pk).update(name=description)
    User.objects.filter(email="member@example.com").update(name=description)
    Application.objects.create(name=description, authorization_grant_type="authorization-code")

    found = owner_client.get(owner_client.post(f"{keys_url}find/", {"text": text})["Location"])
    assert [key.pk for key in found.context["page"]] == [api_key.pk]

    def results(model: Any) -> list[str]:
        page: Any = admin_client.get(changelist_url(model, q=text.split()[0]))
        return [str(item) for item in page.context["cl"].result_list]

    assert len(results(ApiKey)) == 2  # both are in the workspace with this name
    assert (results(Workspace), results(User)) == ([description], ["member@example.com"])
    assert results(Application) == [description]


def test_a_search_treats_wildcards_as_text(owner_client: Client, workspace: Workspace, keys_url: str) -> None:
    make_key(workspace, "100 % é")

    for text in ("_", "%É", "\\"):
        found = owner_client.get(keys_url, {"q": text})
        assert list(found.context["page"]) == []
