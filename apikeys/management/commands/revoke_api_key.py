import json
import sys
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from apikeys.models import ApiKey
from apikeys.serializers import ApiKeySerializer
from workspaces.management.arguments import refusal
from workspaces.models import Actor, Via


class Command(BaseCommand):
    help = "Revokes an API key, from the next request on."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "key",
            metavar="KEY_OR_SECRET",
            help="its id, its masked form or its secret; - reads it from standard input, out of the shell's history",
        )
        parser.add_argument("--reason", default="", help="kept in the key's history, where the workspace reads it")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, **options: Any) -> None:
        text = sys.stdin.readline() if options["key"] == "-" else options["key"]
        try:
            api_key = ApiKey.objects.look_up(text)
        except ApiKey.DoesNotExist:
            raise CommandError("There is no such API key.") from None
        try:
            changed = api_key.revoke(by=Actor(via=Via.COMMAND), reason=options["reason"])
        except ValidationError as error:
            raise refusal(error) from None
        if options["json"]:
            self.stdout.write(json.dumps({**ApiKeySerializer(api_key).data, "changed": changed}))
            return
        verb = "Revoked" if changed else "Was revoked already:"
        self.stdout.write(f"{verb} {api_key.masked} ({api_key.description}) of {api_key.workspace.name}.")
