"""All keys of a workspace are revoked at once, on its page in the admin and by command."""

import io
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from apikeys.models import ApiKey
from core.admin import change_url
from tests.admin.browser import Page
from tests.helpers import BY_TEST, Api, make_key, sign_in
from workspaces.models import Actor, AuditEvent, NotAllowed, User, Via, Workspace


def url_of(workspace: Workspace) -> str:
    return reverse("admin:apikeys_apikey_revoke_all", args=[workspace.pk])


def revocations() -> list[AuditEvent]:
    return list(AuditEvent.objects.filter(action="api_key.revoked").order_by("pk"))


def test_support_revokes_all_active_keys_with_an_event_for_each(
    support: User, workspace: Workspace, elsewhere: Workspace
) -> None:
    created = [make_key(workspace) for _ in range(4)]
    expired, other = created.pop()[0], make_key(elsewhere)
    ApiKey.objects.filter(pk=expired.pk).update(expires_at=timezone.now())
    created[0][0].revoke(by=BY_TEST, reason="Before")
    apis = [Api(secret) for _, secret in (*created[1:], other)]
    assert [api.get("/me").status_code for api in apis] == [200, 200, 200]
    client = sign_in(support)
    page = Page.open(client, change_url(workspace))
    assert url_of(workspace) in page.links
    confirmation = client.get(url_of(workspace)).content.decode()
    assert "It has 2 active keys." in confirmation

    response = Page(url_of(workspace), confirmation).form("Revoke all keys").send(client, reason=" Copied laptop ")

    assert "2 keys of Acme revoked." in response.content.decode()
    assert [api.get("/me").status_code for api in apis] == [401, 401, 200]
    before, *events = revocations()
    assert before.subject == created[0][0].pk
    assert {event.subject for event in events} == {key.pk for key, _ in created[1:]}
    assert {(event.actor, event.via, event.workspace, event.sentence) for event in events} == {
        (support, "admin", workspace, "Revoked: “Copied laptop”")
    }
    reasons = workspace.api_keys.order_by("pk").values_list("revoke_reason", "revoked_by")
    assert list(reasons) == [("Before", None), ("Copied laptop", support.pk), ("Copied laptop", support.pk), ("", None)]


def test_a_reason_is_required(admin_client: Client, api_key: ApiKey, workspace: Workspace) -> None:
    page = admin_client.post(url_of(workspace), {"reason": " "}).content.decode()

    assert "Enter a reason." in page
    assert "It has 1 active key." in page
    with pytest.raises(CommandError, match="reason: Enter a reason"):
        call_command("revoke_api_keys", "acme", reason=" ")
    assert workspace.api_keys.active().count() == 1


def test_a_workspace_without_active_keys_says_so(admin_client: Client, workspace: Workspace) -> None:
    assert "Acme has no active keys." in admin_client.get(url_of(workspace), follow=True).content.decode()
    assert admin_client.get(url_of(workspace).replace(workspace.pk, "nowhere")).status_code == 404


def test_staff_without_the_permission_cannot_revoke_all_keys(
    plain_staff: User, api_key: ApiKey, workspace: Workspace
) -> None:
    assert sign_in(plain_staff).post(url_of(workspace), {"reason": "Leaked"}).status_code == 403
    assert workspace.api_keys.active().exists()


def test_staff_who_may_not_see_workspaces_cannot_revoke_all_keys(
    plain_staff: User, api_key: ApiKey, workspace: Workspace
) -> None:
    plain_staff.user_permissions.add(Permission.objects.get(codename="revoke_apikey"))
    client = sign_in(plain_staff)

    assert [client.get(url_of(workspace)).status_code, client.post(url_of(workspace)).status_code] == [403, 403]
    assert workspace.api_keys.active().exists()


def test_an_owner_cannot_revoke_all_keys_at_once(owner: User, api_key: ApiKey, workspace: Workspace) -> None:
    with pytest.raises(NotAllowed):
        ApiKey.objects.revoke_all(workspace, by=Actor(Via.PAGE, owner), reason="Leaked")

    assert workspace.api_keys.active().exists()


def test_the_command_revokes_all_keys_with_few_statements(operator: User, workspace: Workspace) -> None:
    ApiKey.objects.bulk_create(ApiKey(workspace=workspace, description="CI") for _ in range(500))
    output = io.StringIO()

    with CaptureQueriesContext(connection) as queries:
        call_command("revoke_api_keys", "acme", "--reason", "Leaked", "--as", operator.email, stdout=output)

    assert output.getvalue() == "Revoked 500 API keys of Acme.\n"
    events = revocations()
    ids = workspace.api_keys.filter(revoke_reason="Leaked").values_list("pk", flat=True)
    assert sorted(event.subject for event in events) == sorted(ids)
    assert {(event.actor, event.via) for event in events} == {(operator, "command")}
    assert len(queries) < 30, [item["sql"][:80] for item in queries]


def test_no_key_is_revoked_if_an_event_cannot_be_written(workspace: Workspace) -> None:
    keys = [make_key(workspace)[0] for _ in range(2)]

    def fail(execute: Any, sql: str, *arguments: Any) -> Any:
        if sql.startswith('INSERT INTO "workspaces_auditevent"'):
            raise IntegrityError("no event")
        return execute(sql, *arguments)

    with connection.execute_wrapper(fail), pytest.raises(IntegrityError, match="no event"):
        call_command("revoke_api_keys", "acme", reason="Leaked")

    assert workspace.api_keys.filter(revoked_at=None).count() == len(keys)
