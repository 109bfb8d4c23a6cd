import json
import sys
from typing import Any

from django.core.management.base import CommandError, CommandParser

from apikeys.models import StoredSecret
from apikeys.serializers import ApiKeySerializer
from workspaces.management.operators import OperatorCommand


class Command(OperatorCommand):
    help = "Revokes an API key. Its next request fails."
    permissions = ("apikeys.revoke_apikey",)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "key",
            metavar="KEY_OR_SECRET",
            help="id, key id, masked key or secret; - reads it from standard input (not kept in shell history)",
        )
        parser.add_argument(
            "--reason", default="", help="shown in the key's history to the workspace's owners and admins"
        )
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, **options: Any) -> None:
        by = self.actor(options)
        text = sys.stdin.readline() if options["key"] == "-" else options["key"]
        try:
            stored = StoredSecret.objects.look_up(text)
        except StoredSecret.DoesNotExist:
            raise CommandError("No API key matches.") from None
        api_key = stored.api_key
        if stored.has_ended:
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
