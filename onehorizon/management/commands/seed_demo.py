import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apikeys.models import KeyNotCreated
from onehorizon import demo


class Command(BaseCommand):
    help = (
        "Creates the demo workspace, its users and its tasks if they are missing, and always another API key. "
        "A password that was changed is kept and not printed. Works only while DEBUG is on."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, **options: Any) -> None:
        demo.require_debug()
        demo_data = demo.seed()
        try:
            secret = demo.create_key(demo_data.workspace)
        except KeyNotCreated as error:
            raise CommandError(str(error)) from None
        if options["json"]:
            output = {"workspaceId": demo_data.workspace.pk, "apiKey": secret, "users": demo_data.users}
            self.stdout.write(json.dumps(output))
            return
        self.stdout.write(f"workspace  {demo_data.workspace.pk}")
        self.stdout.write(f"API key    {secret}")
        for user in demo_data.users:
            self.stdout.write(f"{user['role']:<10} {user['email']}  {user['password'] or '(unknown)'}")
