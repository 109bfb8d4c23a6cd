from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from workspaces import quota
from workspaces.management.arguments import get_quota_holder


class Command(BaseCommand):
    help = "Shows the quota of a workspace, or the one that a person's OAuth tokens use. Counts no request."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("holder", metavar="WORKSPACE_OR_EMAIL", help="a workspace's id or slug, or an email")

    def handle(self, **options: Any) -> None:
        status = quota.status_of(get_quota_holder(options["holder"]))
        for limit, remaining, _ in status.windows:
            self.stdout.write(f"{limit.name}: {remaining} of {limit.requests} requests left in {limit.seconds} seconds")
        if status.retry_after:
            self.stdout.write(f"Throttled for {status.retry_after} more seconds.")
