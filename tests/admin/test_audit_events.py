"""The audit events in the admin: filtered by day, and exported as JSON Lines."""

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from time_machine import TimeMachineFixture

from core.admin import changelist_url
from tests.admin.browser import Page
from tests.helpers import make_key, sign_in
from workspaces import audit_export
from workspaces.models import AuditEvent, User, Workspace

EVENTS = changelist_url(AuditEvent)
EXPORT = reverse("admin:workspaces_auditevent_export")
NOON = datetime(2999, 3, 10, 12, tzinfo=UTC)


@pytest.fixture
def days(workspace: Workspace, time_machine: TimeMachineFixture) -> list[AuditEvent]:
    """Events in the last microsecond of a day, at noon of the next, and in the first of the day after that."""
    AuditEvent.objects.all().delete()
    started, midnight = datetime.now(UTC), datetime(2999, 3, 10, tzinfo=UTC)
    for time in (midnight - timedelta(microseconds=1), NOON, midnight + timedelta(days=1)):
        time_machine.move_to(time, tick=False)
        make_key(workspace, f"{time:%d}")
    time_machine.move_to(started)  # otherwise the operator's session is too old
    return list(AuditEvent.objects.order_by("pk"))


def shown(client: Client, **query: str) -> list[str]:
    response: Any = client.get(EVENTS, query)
    assert response.status_code == 200
    return [event.pk for event in response.context["cl"].result_list]


def export(client: Client, query: str = "") -> list[dict[str, Any]]:
    response: Any = client.post(f"{EXPORT}?{query}")
    assert response.status_code == 200
    return [json.loads(line) for line in response.getvalue().splitlines()]


# ---- the filter ----


def test_the_first_and_the_last_day_are_days_in_utc(admin_client: Client, days: list[AuditEvent]) -> None:
    before, at_noon, after = (event.pk for event in days)

    assert shown(admin_client, **{"from": "2999-03-10", "to": "2999-03-10"}) == [at_noon]
    assert shown(admin_client, **{"from": "2999-03-10"}) == [after, at_noon]
    assert shown(admin_client, **{"to": "2999-03-10", "from": ""}) == [at_noon, before]
    assert shown(admin_client, **{"from": "0001-01-01", "to": "9999-12-31"}) == [after, at_noon, before]


def test_the_filter_is_a_form_that_keeps_the_other_filters(admin_client: Client, days: list[AuditEvent]) -> None:
    page = Page.open(admin_client, f"{EVENTS}?via__exact=command&p=1")

    response = page.form("Filter").send(admin_client, to="2999-03-10")

    assert response.request["QUERY_STRING"] == "via__exact=command&from=&to=2999-03-10"
    assert [event.pk for event in response.context["cl"].result_list] == [days[1].pk, days[0].pk]
    assert 'value="2999-03-10"' in response.content.decode()


def test_an_event_is_found_by_its_time_although_the_clock_was_wrong_when_its_id_was_created(
    admin_client: Client, days: list[AuditEvent]
) -> None:
    AuditEvent.objects.filter(pk=days[0].pk).update(created_at=NOON)

    assert len(shown(admin_client, **{"from": "2999-03-10", "to": "2999-03-10"})) == 2


def test_a_time_is_shown_with_seconds_in_utc(admin_client: Client, days: list[AuditEvent]) -> None:
    for url in (EVENTS, f"{EVENTS}{days[1].pk}/change/"):
        assert "2999-03-10 12:00:00 UTC" in admin_client.get(url, follow=True).content.decode()


# ---- the export ----


def test_the_export_has_every_event_of_the_filtered_list_oldest_first(
    admin_client: Client, operator: User, days: list[AuditEvent], workspace: Workspace
) -> None:
    page = Page.open(admin_client, f"{EVENTS}?from=2999-03-10&action=api_key.created")

    response = page.form("Export as JSON Lines").send(admin_client)

    lines = response.getvalue().decode().splitlines()
    assert [json.loads(line)["auditEventId"] for line in lines] == [days[1].pk, days[2].pk]
    assert json.loads(lines[0]) == {
        "auditEventId": days[1].pk,
        "createdAt": "2999-03-10T12:00:00Z",
        "action": "api_key.created",
        "workspaceId": workspace.pk,
        "subject": days[1].subject,
        "actor": None,
        "via": "command",
        "clientIp": None,
        "details": {"description": "10"},
    }
    assert response["Content-Type"] == "application/jsonl"
    name = r'attachment; filename="audit-events-\d{4}-\d\d-\d\dT\d{6}Z\.jsonl"'
    assert re.fullmatch(name, response["Content-Disposition"])
    assert response["Cache-Control"] == "no-store"
    event = AuditEvent.objects.latest("pk")
    assert (event.action, event.actor, event.via) == ("audit_events.exported", operator, "admin")
    assert event.details == {"filters": {"from": "2999-03-10", "action": "api_key.created"}}
    assert event.sentence == "action: api_key.created; from: 2999-03-10"


def test_the_export_reads_events_in_batches(
    admin_client: Client, days: list[AuditEvent], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_export, "BATCH", 2)
    with CaptureQueriesContext(connection) as queries:
        exported = export(admin_client, "p=2")

    assert [event["auditEventId"] for event in exported] == [event.pk for event in days]
    batches = [item["sql"] for item in queries if "LIMIT 2" in item["sql"] and "auditevent" in item["sql"]]
    assert len(batches) == 3  # the last one is empty


def test_the_last_line_says_that_an_export_is_incomplete(
    admin_client: Client, days: list[AuditEvent], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def break_query(execute: Any, sql: str, *arguments: Any) -> Any:
        return execute(sql.replace("auditevent", "no_such_table"), *arguments)

    monkeypatch.setattr(audit_export, "BATCH", 2)
    response: Any = admin_client.post(EXPORT)
    lines = iter(response)
    first = next(lines)

    with transaction.atomic(), connection.execute_wrapper(break_query):
        second, last = lines
        transaction.set_rollback(True)

    assert [json.loads(line)["auditEventId"] for line in (first, second)] == [event.pk for event in days[:2]]
    assert "incomplete" in json.loads(last)["error"]
    assert "an export of audit events is incomplete" in caplog.text


def test_an_export_of_no_events_is_empty(admin_client: Client, days: list[AuditEvent]) -> None:
    assert export(admin_client, "to=2020-01-01") == []


def test_opening_the_url_of_the_export_shows_the_list(admin_client: Client, days: list[AuditEvent]) -> None:
    before = AuditEvent.objects.count()

    response = admin_client.get(f"{EXPORT}?action=api_key.created")

    assert (response.status_code, response["Location"]) == (302, EVENTS)
    assert AuditEvent.objects.count() == before


@pytest.mark.parametrize("query", ["from=yesterday", "actor__password=x"])
def test_an_export_with_an_invalid_filter_is_rejected(admin_client: Client, days: list[AuditEvent], query: str) -> None:
    assert admin_client.post(f"{EXPORT}?{query}").status_code == 400
    assert not AuditEvent.objects.filter(action="audit_events.exported").exists()


def test_only_staff_who_may_view_events_can_export_them(
    support: User, plain_staff: User, days: list[AuditEvent]
) -> None:
    assert len(export(sign_in(support))) == len(days)
    assert sign_in(plain_staff).post(EXPORT).status_code == 403


@pytest.mark.plants_secrets
def test_a_secret_in_a_filter_is_not_recorded(admin_client: Client, workspace: Workspace) -> None:
    _, secret = make_key(workspace)

    export(admin_client, f"subject={secret}")

    assert secret[17:] not in str(AuditEvent.objects.latest("pk").details)


def test_an_exported_event_names_its_actor(admin_client: Client, operator: User, workspace: Workspace) -> None:
    admin_client.post(f"/admin/workspaces/workspace/{workspace.pk}/suspend/", {"reason": "Unpaid"})

    event = next(item for item in export(admin_client) if item["action"] == "workspace.suspended")

    assert event["actor"] == {"userId": operator.pk, "name": "Operator"}
    assert event["clientIp"] == "127.0.0.1"
