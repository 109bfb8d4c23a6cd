from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from workspaces.audit_archive import archive_events


class Command(BaseCommand):
    help = "Moves audit events older than AUDIT_RETENTION_DAYS to files in AUDIT_ARCHIVE_DIR. Safe to repeat."

    def handle(self, **options: Any) -> None:
        if not settings.AUDIT_RETENTION_DAYS:
            self.stdout.write("AUDIT_RETENTION_DAYS is not set: audit events are kept forever.")
            return
        try:
            count = sum(archive_events())
        except OSError as error:
            raise CommandError(f"The archive can't be written to {settings.AUDIT_ARCHIVE_DIR}: {error}.") from None
        self.stdout.write(f"{count} audit event{'' if count == 1 else 's'} moved to {settings.AUDIT_ARCHIVE_DIR}.")
