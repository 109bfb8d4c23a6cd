from typing import Any

from django.core.management.base import CommandParser

from apikeys.models import ApiKey
from workspaces.management.arguments import get_workspace
from workspaces.management.operators import OperatorCommand


class Command(OperatorCommand):
    help = "Revokes all active API keys of a workspace. Their next requests fail."
    permissions = ("apikeys.revoke_apikey",)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("workspace", metavar="WORKSPACE", help="id or slug")
        parser.add_argument(
            "--reason", required=True, help="shown in each key's history to the workspace's owners and admins"
        )

    def handle(self, **options: Any) -> None:
        by = self.actor(options)
        workspace = get_workspace(options["workspace"])
        count = ApiKey.objects.revoke_all(workspace, by=by, reason=options["reason"])
        self.stdout.write(f"Revoked {count} API key{'' if count == 1 else 's'} of {workspace.name}.")
