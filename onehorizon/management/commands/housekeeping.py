import logging
import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import close_old_connections

from onehorizon.housekeeping import PARTS, run_part
from onehorizon.models import HousekeepingRun

logger = logging.getLogger("onehorizon.housekeeping")


class Command(BaseCommand):
    help = "Deletes expired tokens, codes, sessions and the like, and archives old audit events. Run it daily."

    def handle(self, **options: Any) -> None:
        HousekeepingRun.objects.exists()  # raises if the database can't be used, before any part
        started = time.monotonic()
        rows: dict[str, int] = {}
        failed = []
        for name, part in PARTS.items():
            try:
                rows[name] = run_part(part)
            except Exception:  # the other parts must run
                logger.exception("%s failed", name)
                failed.append(name)
                close_old_connections()  # if the connection broke, the next part needs a new one
            else:
                self.stdout.write(f"{name}: {rows[name]} rows")
        if failed:
            raise CommandError(f"Failed: {', '.join(failed)}. The log has the reason. It is safe to run this again.")
        HousekeepingRun.objects.record(seconds=time.monotonic() - started, rows=rows)
