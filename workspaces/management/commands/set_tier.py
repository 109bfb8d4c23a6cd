from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from workspaces.management.arguments import workspace_named
from workspaces.models import Actor, Tier, Via


class Command(BaseCommand):
    help = "Moves a workspace to another tier, from its next request on."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("workspace", metavar="WORKSPACE", help="its id or slug")
        parser.add_argument("tier", metavar="NAME")

    def handle(self, **options: Any) -> None:
        workspace = workspace_named(options["workspace"])
        try:
            tier = Tier.objects.get(name=options["tier"])
        except Tier.DoesNotExist:
            known = ", ".join(Tier.objects.values_list("name", flat=True))
            raise CommandError(f"There is no tier {options['tier']!r}. There are: {known}.") from None
        workspace.change_tier(tier, by=Actor(Via.COMMAND))
        self.stdout.write(f"{workspace.name} is on {tier}.")
