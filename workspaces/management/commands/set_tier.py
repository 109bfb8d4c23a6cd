from typing import Any

from django.core.management.base import CommandError, CommandParser

from workspaces.management.arguments import get_workspace
from workspaces.management.operators import OperatorCommand
from workspaces.models import Tier


class Command(OperatorCommand):
    help = "Moves a workspace to another tier. Takes effect at its next request."
    permissions = ("workspaces.change_workspace",)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("workspace", metavar="WORKSPACE", help="id or slug")
        parser.add_argument("tier", metavar="NAME")

    def handle(self, **options: Any) -> None:
        by = self.actor(options)
        workspace = get_workspace(options["workspace"])
        try:
            tier = Tier.objects.get(name=options["tier"])
        except Tier.DoesNotExist:
            names = ", ".join(Tier.objects.values_list("name", flat=True))
            raise CommandError(f"No tier is named {options['tier']!r}. Available tiers: {names}.") from None
        workspace.change_tier(tier, by=by)
        self.stdout.write(f"{workspace.name} uses tier {tier}.")
