import json
from datetime import datetime
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from apikeys.serializers import ApiKeySerializer
from workspaces.management.arguments import get_workspace

COLUMNS = "{:<30}  {:<18}  {:<8}  {:<19}  {:<19}  {}"


class Command(BaseCommand):
    help = "Lists a workspace's API keys, newest first, without secrets."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("workspace", metavar="WORKSPACE", help="id or slug")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, **options: Any) -> None:
        workspace = get_workspace(options["workspace"])
        api_keys = workspace.api_keys.with_users().with_secrets()
        if options["json"]:
            output = {
                "apiKeys": [ApiKeySerializer(api_key).data for api_key in api_keys],
                "activeCount": api_keys.active().count(),
                "activeLimit": settings.APIKEYS_MAX_ACTIVE,
            }
            self.stdout.write(json.dumps(output))
            return
        self.stdout.write(COLUMNS.format("id", "key", "status", "created (UTC)", "last used (UTC)", "description"))
        for api_key in api_keys:
            self.stdout.write(
                COLUMNS.format(
                    api_key.pk,
                    api_key.masked,
                    api_key.status,
                    _second(api_key.created_at),
                    _second(api_key.current_secret.last_used_at),
                    api_key.description,
                )
            )
            if previous := api_key.previous_secret:
                end = f"works until {_second(previous.works_until)}"
                times = _second(previous.created_at), _second(previous.last_used_at)
                self.stdout.write(COLUMNS.format("", previous.masked, "previous", *times, end))


def _second(time: datetime | None) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S}" if time else "never"
