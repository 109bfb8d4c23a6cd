from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from workspaces.management.arguments import workspace_named

COLUMNS = "{:<30}  {:<18}  {:<8}  {:<17}  {:<17}  {}"


class Command(BaseCommand):
    help = "Lists a workspace's API keys, newest first. Never a secret."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("workspace", metavar="WORKSPACE", help="its id or slug")

    def handle(self, **options: Any) -> None:
        workspace = workspace_named(options["workspace"])
        self.stdout.write(COLUMNS.format("id", "key", "status", "created (UTC)", "last used (UTC)", "description"))
        for api_key in workspace.api_keys.all():
            self.stdout.write(
                COLUMNS.format(
                    api_key.pk,
                    api_key.masked,
                    api_key.status,
                    _minute(api_key.created_at),
                    _minute(api_key.last_used_at),
                    api_key.description,
                )
            )


def _minute(time: datetime | None) -> str:
    return f"{time:%Y-%m-%d %H:%M}" if time else "never"
