"""Audit events in a table that is partitioned by month, as docs/operations.md describes it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from time_machine import TimeMachineFixture

from apikeys.models import ApiKey
from core.admin import changelist_url
from tests.helpers import BY_TEST, make_key, sign_in
from tests.processes import ROOT
from workspaces.ids import first_id
from workspaces.models import AuditEvent, User, Workspace

SCRIPT = (ROOT / "docs/operations/partition_audit_events.sql").read_text()

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif(
        "connection.vendor != 'postgresql'",
        reason="partitions a table of PostgreSQL: set DATABASE_URL to a postgres:// URL",
    ),
]


def query(sql: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall() if cursor.description else []


@pytest.fixture
def _partitioned(api_key: ApiKey) -> None:
    """Partition the table with the events that exist. The test's transaction is rolled back at its end."""
    query("SET CONSTRAINTS ALL IMMEDIATE")
    query(SCRIPT)


def partitions() -> dict[str, int]:
    """Return the number of events in each partition."""
    return dict(query("SELECT tableoid::regclass::text, count(*) FROM workspaces_auditevent GROUP BY 1"))


@pytest.mark.usefixtures("_partitioned")
def test_every_page_reads_events_of_all_partitions(
    operator: User, owner: User, api_key: ApiKey, time_machine: TimeMachineFixture
) -> None:
    today = datetime.now(UTC)
    time_machine.move_to((today.replace(day=1) + timedelta(days=40)).replace(day=3), tick=False)
    api_key.rename("Renamed", by=BY_TEST)
    admin_client = sign_in(operator)
    events, workspace = changelist_url(AuditEvent), api_key.workspace_id

    assert len(partitions()) == 2
    for url in (
        events,
        f"{events}?workspace={workspace}",
        f"{events}?subject={api_key.pk}",
        f"{events}?via__exact=command",
    ):
        page = admin_client.get(url).content.decode()
        assert page.count("api_key.created") >= 2, url  # one is a filter
        assert page.count("api_key.renamed") >= 2, url
    history = sign_in(owner).get(f"/w/{workspace}/settings/developer/api-keys/{api_key.pk}/").content.decode()
    assert history.index("Renamed from") < history.index("Created as")


@pytest.mark.usefixtures("_partitioned")
def test_the_partitioned_table_keeps_its_indexes_and_rejects_unknown_workspaces() -> None:
    indexes = query("SELECT relname FROM pg_index JOIN pg_class ON oid = indexrelid WHERE relkind = 'I'")
    expected = {"workspaces_auditevent_pkey", *(index.name for index in AuditEvent._meta.indexes)}
    assert {name for (name,) in indexes} == expected
    assert query(
        "SELECT count(*) FROM pg_constraint WHERE conrelid = 'workspaces_auditevent'::regclass AND contype = 'f'"
    ) == [(2,)]


@pytest.mark.usefixtures("_partitioned")
def test_an_archived_month_can_be_dropped(
    settings: Any, tmp_path: Path, workspace: Workspace, time_machine: TimeMachineFixture
) -> None:
    settings.AUDIT_RETENTION_DAYS, settings.AUDIT_ARCHIVE_DIR = 60, tmp_path / "archive"
    time_machine.move_to(datetime.now(UTC) + timedelta(days=100), tick=False)
    make_key(workspace)

    call_command("housekeeping")
    query("SET CONSTRAINTS ALL IMMEDIATE")
    assert partitions() == {"workspaces_auditevent_other": 1}
    query("DROP TABLE workspaces_auditevent_first")

    assert [event.action for event in AuditEvent.objects.all()] == ["api_key.created"]


@pytest.mark.usefixtures("_partitioned")
@pytest.mark.parametrize("moment", ["2026-11-01T00:00:00Z", "2027-01-01T00:00:00Z", "2000-02-29T12:34:56.789Z"])
def test_bounds_of_partitions_are_the_first_ids_of_their_time(moment: str) -> None:
    [(bound,)] = query(f"SELECT audit_event_bound('{moment}')")

    assert bound + 16 * "0" == first_id("evt", datetime.fromisoformat(moment), timedelta())
