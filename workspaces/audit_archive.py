"""The archive of audit events: gzip files of JSON Lines, in the format of exports."""

import gzip
import os
import tempfile
from collections.abc import Generator, Sequence
from datetime import timedelta
from pathlib import Path

from django.conf import settings
from django.utils import timezone

from workspaces.audit_export import as_lines
from workspaces.models import AuditEvent

EVENTS_PER_FILE = 10_000
BATCH = 1_000  # events per DELETE


def archive_events() -> Generator[int, None, None]:
    """Move events older than AUDIT_RETENTION_DAYS to files, and yield the number of deleted rows after each step.

    An event is deleted only when its file is on the disk. It can be interrupted after any step and repeated; an event
    can then be in two files. Raise `OSError` if a file can't be written.
    """
    if not settings.AUDIT_RETENTION_DAYS:
        return
    cutoff = timezone.now() - timedelta(days=settings.AUDIT_RETENTION_DAYS)
    old = AuditEvent.objects.created_before(cutoff)
    while events := list(old.select_related("actor").order_by("pk")[:EVENTS_PER_FILE]):
        write_file(settings.AUDIT_ARCHIVE_DIR, events)
        for start in range(0, len(events), BATCH):
            deleted, _ = AuditEvent.objects.filter(
                pk__in=[event.pk for event in events[start : start + BATCH]]
            ).delete()
            yield deleted


def write_file(directory: Path, events: Sequence[AuditEvent]) -> None:
    """Write the events to a file of their own, which is complete and on the disk when this returns.

    Its name has the first and the last id. After an interruption, the same events may replace a file with this name.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=directory, prefix=".audit-events-")  # only its owner can read it
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            with gzip.open(file, "wt", encoding="ascii") as lines:
                lines.writelines(as_lines(events))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(directory / f"audit-events-{events[0].pk}-{events[-1].pk}.jsonl.gz")
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync(directory)


def _sync(directory: Path) -> None:
    """Make the names of the files in the directory durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
