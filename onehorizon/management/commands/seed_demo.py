import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apikeys.models import ActiveKeyLimitReached
from onehorizon import demo
from workspaces.models import WorkspaceSuspended


class Command(BaseCommand):
    help = "Makes the demo workspace with its people and tasks, and a new API key in it. Safe to repeat."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, **options: Any) -> None:
        try:
            seeded = demo.seed()
        except (ActiveKeyLimitReached, WorkspaceSuspended) as error:
            raise CommandError(str(error)) from None
        if options["json"]:
            answer = {"workspaceId": seeded.workspace.pk, "apiKey": seeded.secret, "users": seeded.users}
            self.stdout.write(json.dumps(answer))
            return
        self.stdout.write(f"workspace  {seeded.workspace.pk}")
        self.stdout.write(f"API key    {seeded.secret}")
        for user in seeded.users:
            self.stdout.write(f"{user['role']:<10} {user['email']}  {user['password']}")
