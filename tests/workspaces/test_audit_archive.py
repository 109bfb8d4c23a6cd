"""Audit events that are older than the retention are written to files, and only then deleted."""

from __future__ import annotations

import gzip
import json
import stat
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.utils import timezone

from workspaces import audit_archive, ids
from workspaces.models import Action, AuditEvent, User, Via, Workspace

DAYS = 30

pytestmark = pytest.mark.django_db


@pytest.fixture
def directory(settings: Any, tmp_path: Path) -> Path:
    settings.AUDIT_RETENTION_DAYS = DAYS
    settings.AUDIT_ARCHIVE_DIR = tmp_path / "new" / "archive"
    return tmp_path / "new" / "archive"


@pytest.fixture
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_archive, "EVENTS_PER_FILE", 4)
    monkeypatch.setattr(audit_archive, "BATCH", 2)


def create_events(count: int, age: timedelta, **fields: Any) -> list[str]:
    """Create events of this age, and return their ids in order of creation."""
    created_at = timezone.now() - age
    first = ids.first_id("evt", created_at, timedelta())
    events = [
        AuditEvent(
            id=f"{first[:-6]}{number:06}",
            created_at=created_at,
            action=Action.API_KEY_RENAMED,
            via=Via.PAGE,
            **fields,
        )
        for number in range(count)
    ]
    AuditEvent.objects.bulk_create(events)
    return [event.pk for event in events]


def archive() -> int:
    """Run housekeeping, and return the number of events that it has moved."""
    output = StringIO()
    call_command("housekeeping", stdout=output)
    [line] = [line for line in output.getvalue().splitlines() if line.startswith("audit_events: ")]
    return int(line.split()[1])


def archived(directory: Path) -> list[dict[str, Any]]:
    """Return the events in all files, in the order of their names."""
    files = sorted(directory.iterdir())
    return [json.loads(line) for file in files for line in gzip.open(file, "rt")]


def test_old_events_move_to_a_file_and_others_stay(directory: Path, workspace: Workspace, owner: User) -> None:
    AuditEvent.objects.all().delete()
    details = {"before": "CI", "after": "Grüße 🚀"}
    subject = ids.new_id("key")
    old = create_events(
        1, timedelta(days=DAYS, hours=1), workspace=workspace, actor=owner, subject=subject, details=details,
        client_ip="192.0.2.7",
    )  # fmt: skip
    new = create_events(2, timedelta(days=DAYS, hours=-1))

    assert archive() == 1

    assert sorted(AuditEvent.objects.values_list("pk", flat=True)) == new
    [event] = archived(directory)
    assert event.pop("createdAt").endswith("Z")
    assert event == {
        "auditEventId": old[0],
        "action": "api_key.renamed",
        "workspaceId": workspace.pk,
        "subject": subject,
        "actor": {"userId": owner.pk, "name": "Owner"},
        "via": "page",
        "clientIp": "192.0.2.7",
        "details": details,
    }


@pytest.mark.usefixtures("_small_batches")
def test_many_events_move_to_files_named_by_their_first_and_last_id(directory: Path) -> None:
    old = create_events(9, timedelta(days=DAYS + 1))

    archive()

    names = [f"audit-events-{old[first]}-{old[last]}.jsonl.gz" for first, last in ((0, 3), (4, 7), (8, 8))]
    assert sorted(file.name for file in directory.iterdir()) == names
    assert [event["auditEventId"] for event in archived(directory)] == old
    assert not AuditEvent.objects.exists()


@pytest.mark.usefixtures("directory")
def test_only_the_owner_can_read_the_archive(directory: Path) -> None:
    create_events(1, timedelta(days=DAYS + 1))

    archive()

    assert [stat.S_IMODE(path.stat().st_mode) for path in (directory, *directory.iterdir())] == [0o700, 0o600]


@pytest.mark.usefixtures("_small_batches")
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_no_event_is_lost_when_a_run_is_interrupted(directory: Path, steps: int) -> None:
    old = create_events(6, timedelta(days=DAYS + 1))
    run = audit_archive.archive_events()
    for _ in range(steps):
        next(run)
    run.close()

    archive()

    events = {event["auditEventId"]: event for event in archived(directory)}
    assert sorted(events) == old
    assert all(events[event["auditEventId"]] == event for event in archived(directory))
    assert not AuditEvent.objects.exists()


def test_events_that_were_written_but_not_deleted_are_not_archived_twice(directory: Path) -> None:
    old = create_events(3, timedelta(days=DAYS + 1))
    audit_archive.write_file(directory, list(AuditEvent.objects.order_by("pk")))

    archive()

    assert [event["auditEventId"] for event in archived(directory)] == old


def test_nothing_is_deleted_if_the_archive_cannot_be_written(directory: Path) -> None:
    create_events(1, timedelta(days=DAYS + 1))
    directory.parent.mkdir()
    directory.write_text("not a directory")

    with pytest.raises(FileExistsError):
        list(audit_archive.archive_events())

    assert AuditEvent.objects.count() == 1


def test_a_file_that_cannot_be_completed_leaves_nothing(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError("No space left on device")

    create_events(1, timedelta(days=DAYS + 1))
    monkeypatch.setattr("os.fsync", full)

    with pytest.raises(OSError, match="No space left on device"):
        list(audit_archive.archive_events())

    assert list(directory.iterdir()) == []
    assert AuditEvent.objects.count() == 1


def test_without_a_retention_events_are_kept_forever(settings: Any, directory: Path) -> None:
    settings.AUDIT_RETENTION_DAYS = 0
    create_events(1, timedelta(days=10_000))

    assert archive() == 0
    assert AuditEvent.objects.count() == 1
    assert not directory.exists()
