import json
from typing import Any

from django.core.management.base import CommandError, CommandParser

from apikeys.management.arguments import KEY_HELP, get_stored_secret
from apikeys.serializers import ApiKeySerializer
from workspaces.management.operators import OperatorCommand


class Command(OperatorCommand):
    help = "Revokes an API key. Its next request fails."
    permissions = ("apikeys.revoke_apikey",)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("key", metavar="KEY_OR_SECRET", help=KEY_HELP)
        parser.add_argument(
            "--reason", default="", help="shown in the key's history to the workspace's owners and admins"
        )
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, **options: Any) -> None:
        by = self.actor(options)
        stored = get_stored_secret(options["key"])
        api_key = stored.api_key
        if stored.has_ended and api_key.is_active:
            raise CommandError(
                f"The secret {stored.masked} has ended, but {api_key.masked} of the same key works. "
                f"To revoke the key, run the command with its id, {api_key.pk}."
            )
        changed = api_key.revoke(by=by, reason=options["reason"])
        if options["json"]:
            self.stdout.write(json.dumps({**ApiKeySerializer(api_key).data, "changed": changed}))
            return
        verb = "Revoked" if changed else "Already revoked:"
        self.stdout.write(f"{verb} {api_key.masked} ({api_key.description}) of {api_key.workspace.name}.")
