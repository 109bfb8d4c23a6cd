"""URLs, form data and text that are malformed, very long, or unusual never cause an error 500."""

from typing import Any
from urllib.parse import quote

import pytest
from django.db import transaction
from django.db.models import Model
from django.test import Client
from oauth2_provider.models import AccessToken, RefreshToken

from apikeys.admin import ApiKeyAdmin
from apikeys.models import ApiKey
from core.admin import change_url, changelist_url
from oauth.models import Application
from tests.admin.browser import Button, Page
from tests.admin.pages import FIND, INDEX, MODELS, REVOKE, action_url, add_url
from tests.helpers import make_key, make_token
from workspaces.models import AuditEvent, Tier, User, Workspace

QUERIES = [
    *("id__exact=abc", "nothing=1", "p=99999", "p=x", "o=x", "q=%00", "e=1", "e=1&p=99999", "_popup=x"),
    *("_to_field=", "_to_field=x", "_changelist_filters=%00%ff%3D"),
]
FILTERS: dict[type[Model], list[str]] = {
    ApiKey: ["status=x", "workspace=abc", "workspace=%00", "created_by=abc"],
    AuditEvent: ["action=x", "via=x", "via__exact=%00", "actor=abc", f"subject={'x' * 3000}"],
    User: ["is_active__exact=x", "is_active__exact=1&is_active__exact=x"],
}
IDS = ["abc", "9" * 30, "1.5", "%00", "%ff" + quote("💥"), "_5F"]


@pytest.fixture
def objects(workspace: Workspace, api_key: ApiKey, owner: User) -> list[Model]:
    """One object of each model."""
    make_token(owner)
    RefreshToken.objects.create(user=owner, token="r", application=Application.objects.get(client_id="tests"))
    return [model._default_manager.all()[0] for model in MODELS]


def test_a_malformed_url_is_no_error(admin_client: Client, objects: list[Model]) -> None:
    urls = [f"{changelist_url(model)}?{query}" for model in MODELS for query in QUERIES + FILTERS.get(model, [])]
    urls += [f"{changelist_url(model)}{object_id}/change/" for model in (AccessToken, Workspace) for object_id in IDS]
    urls += [f"{changelist_url(model)}abc/{verb}/" for model in MODELS for verb in ("change", "history", "delete")]
    urls += [f"{change_url(item)}?{query}" for item in objects for query in QUERIES if query.startswith("_")]
    urls += [f"{changelist_url(model)}%00/{verb}/" for model, verb in ((Workspace, "suspend"), (User, "password"))]
    urls += [f"{add_url(Workspace)}?{field}=%00" for field in ("name", "owner", "tier", "members", "nothing")]
    urls += [f"{REVOKE}?key=%00", f"{INDEX}r/1/1/", f"{INDEX}r/abc/1/"]
    field = "app_label=workspaces&model_name=membership&field_name=user"
    urls += [f"{INDEX}autocomplete/?{query}" for query in ("", f"{field}&term=%00", f"{field}&page=x", f"{field}x")]

    statuses = {url: status_of(admin_client, url) for url in urls}

    assert {url: status for url, status in statuses.items() if status not in (200, 302, 400, 403, 404)} == {}


def status_of(client: Client, url: str, **data: object) -> int:
    with transaction.atomic():  # PostgreSQL rejects a NUL character: roll back to here
        response = client.post(url, data) if data else client.get(url)
        transaction.set_rollback(True)
    return response.status_code


def test_a_page_that_a_list_does_not_have_leads_to_the_first_one(
    admin_client: Client, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ApiKeyAdmin, "list_per_page", 1)
    masked = [make_key(workspace)[0].masked for _ in range(2)]
    for query in ("p=99999", "p=99999&e=1"):
        response = admin_client.get(f"{changelist_url(ApiKey)}?{query}", follow=True)

        assert response.redirect_chain == [(f"{changelist_url(ApiKey)}?e=1", 302)]
        assert masked[-1] in response.content.decode()


def test_malformed_data_is_no_error(admin_client: Client, objects: list[Model]) -> None:
    statuses = []
    for item in objects:
        for url in (add_url(type(item)), change_url(item), action_url(item, "delete")):
            statuses += [status_of(admin_client, url, **{name: ""}) for name in ("_saveasnew", "_to_field")]
    for model, action in ((ApiKey, "revoke_selected"), (AccessToken, "revoke"), (AccessToken, "delete_selected")):
        for chosen in ("abc", "9" * 30, "\0", ""):
            fields = {"action": action, "_selected_action": chosen, "select_across": "x"}
            statuses += [
                status_of(admin_client, changelist_url(model), **fields, **index) for index in ({}, {"index": "x"})
            ]

    assert set(statuses) <= {200, 302, 400, 403}


def test_no_form_creates_a_copy_of_an_object(admin_client: Client, workspace: Workspace) -> None:
    form = Page.open(admin_client, change_url(workspace)).form()

    response = form.send(admin_client, Button("_saveasnew", "1", "Save as new"), slug="copy")

    assert response.status_code == 400
    assert Workspace.objects.count() == 1


TEXTS = ["é" * 5000, "e\u0301" * 60 + "\u202e💥", "\0", "9" * 5000, '"><script>']


@pytest.mark.parametrize("text", TEXTS)
def test_every_form_accepts_or_rejects_any_text(
    admin_client: Client, objects: list[Model], workspace: Workspace, text: str
) -> None:
    urls = [add_url(model) for model in (Workspace, User, Tier, Application)]
    urls += [change_url(item) for item in objects if not isinstance(item, AccessToken | RefreshToken)]
    urls += [action_url(workspace, "suspend"), f"{REVOKE}?key={ApiKey.objects.get().pk}", FIND]
    urls += [action_url(User.objects.get(name="Owner"), "password").replace("_5F", "_")]
    for url in urls:
        forms = Page.open(admin_client, url).forms[1:]  # the first one signs out
        for form in [form for form in forms if form.buttons]:
            names = [name for name, _ in form.fields if not name.startswith(("csrf", "memberships", "key", "initial"))]
            with transaction.atomic():
                entered: dict[str, Any] = dict.fromkeys(names, text)
                response = form.send(admin_client, **entered)
                transaction.set_rollback(True)
            assert response.status_code in (200, 400), url
            assert text not in response.content.decode() or "script" not in text
